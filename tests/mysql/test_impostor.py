"""A server that only says that it is the right one does not get the password."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from celery_mysqllock.exceptions import CannotConnect, LoginRefused, UnverifiedServer
from celery_mysqllock.mysql import Address, Session
from celery_mysqllock.mysql.address import CLEARTEXT, SERVER_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "for the right one only"  # noqa: S105 - the tests'
SALT = b"12345678" + b"901234567890"
_CAPABILITIES = 0xFFFF_FFFF & ~(1 << 11)  # all but TLS


class Impostor:
    """Greets as MySQL, asks for the login in the way of a plugin, and keeps what it is given."""

    def __init__(self, plugin: bytes, *, in_greeting: bool = False) -> None:
        self._plugin, self._in_greeting = plugin, in_greeting
        key = rsa.generate_private_key(65537, 2048)
        self._key = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        self._private = key
        self.heard = b""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def has_password(self) -> bool:
        """Whether anything that it was sent is the password, as it is or under its own key."""
        return PASSWORD.encode() in self.heard or any(
            len(part) == 256
            for part in self._parts  # as long as its key: encrypted with it
        )

    _parts: list[bytes]

    def _serve(self) -> None:
        self._parts = []
        with contextlib.suppress(OSError):
            self._connection, _ = self._socket.accept()
            with self._connection:
                self._answer()

    def _answer(self) -> None:
        self._send(0, self._greeting())
        number = self._receive()
        if not self._in_greeting:
            number = self._ask(number, b"\xfe" + self._plugin + b"\0" + self._first())
        if self._plugin == b"caching_sha2_password":
            number = self._ask(number, b"\x01\x04")  # the whole password, please
        if b"sha" in self._plugin:
            number = self._ask(number, b"\x01" + self._key)
        self._send(number + 1, b"\0\0\0\x02\0\0\0")

    def _first(self) -> bytes:
        return b"\x04Password: " if self._plugin == b"dialog" else SALT + b"\0"

    def _greeting(self) -> bytes:
        plugin = self._plugin if self._in_greeting else b"mysql_native_password"
        return (
            b"\x0a8.0.36\0"
            + struct.pack("<I", 7)
            + SALT[:8]
            + b"\0"
            + struct.pack("<H", _CAPABILITIES & 0xFFFF)
            + b"\x2d"
            + struct.pack("<H", 2)
            + struct.pack("<H", _CAPABILITIES >> 16)
            + b"\x15"
            + b"\0" * 10
            + SALT[8:]
            + b"\0"
            + plugin
            + b"\0"
        )

    def _ask(self, number: int, question: bytes) -> int:
        self._send(number + 1, question)
        return self._receive()

    def _send(self, number: int, content: bytes) -> None:
        self._connection.sendall(struct.pack("<I", len(content))[:3] + bytes([number]) + content)

    def _receive(self) -> int:
        head = self._read(4)
        part = self._read(int.from_bytes(head[:3], "little"))
        self.heard += part
        self._parts.append(part)
        return head[3]

    def _read(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            more = self._connection.recv(size - len(found))
            if not more:
                raise OSError
            found += more
        return found


@pytest.fixture(params=["switched to", "greeted with"])
def in_greeting(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "greeted with")


@contextlib.contextmanager
def impostor(plugin: str, *, in_greeting: bool = False) -> Iterator[Impostor]:
    made = Impostor(plugin.encode(), in_greeting=in_greeting)
    try:
        yield made
    finally:
        made.close()


def login(server: Impostor, login_method: str | None = None) -> None:
    place = Address("127.0.0.1", "shop", "app", PASSWORD, server.port, login_method=login_method)
    Session(place).open()


@pytest.mark.parametrize("plugin", ["mysql_clear_password", "dialog"])
def test_it_is_not_given_in_clear_text(plugin: str) -> None:
    with impostor(plugin) as server:
        with pytest.raises(UnverifiedServer, match="ssl_mode=VERIFY_CA"):
            login(server)
        assert not server.has_password()


@pytest.mark.parametrize("plugin", ["caching_sha2_password", "sha256_password"])
def test_it_is_not_encrypted_with_the_impostors_key(plugin: str, *, in_greeting: bool) -> None:
    with impostor(plugin, in_greeting=in_greeting) as server:
        with pytest.raises(LoginRefused, match="ssl_mode=REQUIRED"):
            login(server)
        assert not server.has_password()


@pytest.mark.parametrize(
    ("plugin", "method"),
    [("mysql_clear_password", CLEARTEXT), ("caching_sha2_password", SERVER_KEY)],
)
def test_whoever_asks_for_it_trusts_the_server(plugin: str, method: str) -> None:
    with impostor(plugin) as server:
        with pytest.raises(CannotConnect):  # it plays no further
            login(server, method)
        assert server.has_password()

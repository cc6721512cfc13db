"""Encrypted connections, to servers that can and one that cannot."""

from __future__ import annotations

import _ssl
import ctypes
import select
import ssl
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from celery_mysqllock.exceptions import (
    CannotConnect,
    ConnectionLost,
    DatabaseError,
    LoginRefused,
    SettingsError,
)
from celery_mysqllock.mysql import Address, Session, Tls
from devserver.program import MARIADB
from tests.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from devserver import DevServer
    from devserver.program import Program

# library and reason of what OpenSSL's queue of errors may hold
BROKEN_PIPE, UNEXPECTED_END, BAD_MAC = (2, 32), (20, 294), (20, 281)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def encrypting(start_server: Callable[..., DevServer], authority: Authority) -> Address:
    """A server with a certificate of that authority, for 127.0.0.1."""
    return _serving(start_server, authority, "127.0.0.1")


@pytest.fixture(scope="module")
def misnamed(start_server: Callable[..., DevServer], authority: Authority) -> Address:
    """Likewise, but the certificate is another host's."""
    return _serving(start_server, authority, "db.example.org")


@pytest.fixture(scope="module")
def plain(start_server: Callable[..., DevServer], program: Program) -> Address:
    """A server that does not encrypt."""
    none = "--skip-ssl" if program.kind == MARIADB else "--tls-version="
    return Address.parse(start_server(none).url)


def _serving(start_server: Callable[..., DevServer], authority: Authority, host: str) -> Address:
    own = authority.sign(host)
    server = start_server(
        f"--ssl-ca={authority.ca}", f"--ssl-cert={own.cert}", f"--ssl-key={own.key}"
    )
    return Address.parse(server.url)


def cipher(address: Address, tls: Tls) -> str:
    with Session(replace(address, tls=tls)) as session:
        return str(session.query("SHOW STATUS LIKE 'Ssl_cipher'")[0][1])


@pytest.mark.parametrize(
    ("tls", "is_encrypted"),
    [(None, True), (Tls("PREFERRED"), True), (Tls("REQUIRED"), True), (Tls("DISABLED"), False)],
)
def test_the_connection_is_encrypted_as_the_mode_says(
    encrypting: Address, tls: Tls | None, *, is_encrypted: bool
) -> None:
    with Session(replace(encrypting, tls=tls)) as session:
        assert bool(session.query("SHOW STATUS LIKE 'Ssl_cipher'")[0][1]) == is_encrypted


def test_a_connection_that_checks_nothing_loads_no_authorities(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # OpenSSL holds locks meanwhile, and a child that another thread forks then hangs.
    def load(*_: object) -> None:
        raise AssertionError("authorities are loaded")

    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", load)
    with Session(Address.parse(url)) as session:
        assert session.value("SELECT 1") == 1


@pytest.mark.parametrize("mode", ["REQUIRED", "VERIFY_CA", "VERIFY_IDENTITY"])
def test_a_certificate_of_a_known_authority_is_accepted(
    encrypting: Address, authority: Authority, mode: str
) -> None:
    assert cipher(encrypting, Tls(mode, str(authority.ca)))


@pytest.mark.parametrize("mode", ["VERIFY_CA", "VERIFY_IDENTITY"])
def test_a_certificate_of_an_unknown_authority_is_refused(
    encrypting: Address, mode: str, tmp_path: Path
) -> None:
    other = Authority(tmp_path, "somebody else")
    for ca in (None, str(other.ca)):
        with pytest.raises(CannotConnect, match="certificate"):
            Session(replace(encrypting, tls=Tls(mode=mode, ca=ca))).open()


def test_another_hosts_certificate_is_refused_where_identity_is_verified(
    misnamed: Address, authority: Authority
) -> None:
    ca = str(authority.ca)
    assert cipher(misnamed, Tls("VERIFY_CA", ca))
    with pytest.raises(CannotConnect, match="certificate"):
        Session(replace(misnamed, tls=Tls("VERIFY_IDENTITY", ca))).open()


def test_a_client_may_prove_itself_with_a_certificate(
    encrypting: Address, authority: Authority
) -> None:
    with Session(encrypting) as session:
        session.execute("CREATE USER certified@'%' IDENTIFIED BY 'secret' REQUIRE X509")
        session.execute(f"GRANT ALL ON `{encrypting.database}`.* TO certified@'%'")
    certified = replace(encrypting, user="certified", password="secret")  # noqa: S106 - a throw-away user
    ca, own = str(authority.ca), authority.sign("client.example.org")
    assert cipher(certified, Tls("VERIFY_CA", ca, str(own.cert), str(own.key)))
    with pytest.raises(LoginRefused):
        Session(replace(certified, tls=Tls("VERIFY_CA", ca))).open()


def test_a_server_without_tls_is_refused_when_it_is_required(plain: Address) -> None:
    with pytest.raises(DatabaseError, match="SSL"):
        Session(replace(plain, tls=Tls(mode="REQUIRED"))).open()


@pytest.mark.parametrize(
    ("options", "tls"),
    [
        (None, None),
        ({}, None),
        (True, Tls()),
        ({"ssl_mode": "VERIFY_CA", "ssl_ca": "/ca"}, Tls("VERIFY_CA", ca="/ca")),
        (
            {"ca_certs": "/ca", "certfile": "/c", "keyfile": "/k", "cert_reqs": ssl.CERT_REQUIRED},
            Tls("VERIFY_IDENTITY", "/ca", "/c", "/k"),
        ),
        ({"cert_reqs": ssl.CERT_NONE}, Tls("REQUIRED")),
        ({"ca_certs": "/ca", "check_hostname": False}, Tls("VERIFY_CA", "/ca")),
    ],
)
def test_celerys_and_mysqls_names_are_understood(options: Any, tls: Tls | None) -> None:
    assert Tls.read(options, "broker_use_ssl") == tls


@pytest.mark.parametrize(
    ("options", "message"),
    [({"ssl_ma": "x"}, "unknown option 'ssl_ma'"), ({"ssl_mode": "MAYBE"}, "REQUIRED, VERIFY_CA")],
)
def test_what_is_not_understood_is_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Tls.read(options, "broker_use_ssl")


def test_a_url_says_the_same_when_it_is_written_again() -> None:
    url = "mysql://u:p@h:3306/d?ssl_mode=VERIFY_CA&ssl_ca=%2Fca.pem"
    assert Address.parse(url).tls == Tls("VERIFY_CA", "/ca.pem")
    assert Address.parse(url).url() == url


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        Tls(ca=str(tmp_path / "none.pem")).context()


@pytest.mark.parametrize("tls", [None, Tls("REQUIRED")])
def test_a_session_is_not_lost_with_another_one_of_its_thread(
    encrypting: Address, tls: Tls | None
) -> None:
    # Python leaves the error of a dead connection where OpenSSL looks first, 3.13 for one.
    address = replace(encrypting, tls=tls) if tls else encrypting
    with Session(address) as killer, Session(address) as healthy, Session(address) as late:
        assert killer.value("SHOW STATUS LIKE 'Ssl_cipher'")
        for end in ("select_int", "value"):
            with Session(address) as dead:
                killer.execute("KILL %s", (dead.connection_id,))
                assert select.select([dead], [], [], 20)[0]
                with pytest.raises(ConnectionLost):
                    getattr(dead, end)("SELECT 1")
                # the answer takes a moment, so that the socket has to wait for it
                assert healthy.value("SELECT SLEEP(0.1)") == 0
                assert healthy.select_int("SELECT SLEEP(0.1)") == 0
        assert late.value("SELECT SLEEP(0.1)") == 0


def test_an_error_that_another_library_left_is_not_the_sessions(encrypting: Address) -> None:
    openssl = ctypes.CDLL(_ssl.__file__)
    if not hasattr(openssl, "ERR_set_error"):
        pytest.skip("needs OpenSSL 3")

    def leave(library: int, reason: int) -> None:
        openssl.ERR_new()
        openssl.ERR_set_error(library, reason, None)

    with Session(encrypting) as session:
        left = [BROKEN_PIPE, BAD_MAC]
        if sys.version_info < (3, 14):  # which believes in an end for good
            left.append(UNEXPECTED_END)
        for library, reason in left:
            for ask in (session.select_int, session.value):
                leave(library, reason)
                assert ask("SELECT SLEEP(0.1)") == 0
                leave(library, reason)
                assert ask("SELECT 1") == 1


_IN_GREENLETS = """
import ctypes, sys, _ssl
from celery_mysqllock.mysql import Address, Session

openssl = ctypes.CDLL(_ssl.__file__)
with Session(Address.parse(sys.argv[1])) as session:
    for library, reason in [(2, 32), (20, 281)]:
        for ask in (session.select_int, session.value):
            openssl.ERR_new()
            openssl.ERR_set_error(library, reason, None)
            assert ask("SELECT SLEEP(0.1)") == 0
            openssl.ERR_new()
            openssl.ERR_set_error(library, reason, None)
            assert ask("SELECT 1") == 1
print("healthy")
"""


@pytest.mark.parametrize(
    ("library", "patch"), [("gevent", "monkey.patch_all"), ("eventlet", "monkey_patch")]
)
def test_it_is_not_the_sessions_among_greenlets_either(
    encrypting: Address, library: str, patch: str
) -> None:
    pytest.importorskip(library)
    if not hasattr(ctypes.CDLL(_ssl.__file__), "ERR_set_error"):
        pytest.skip("needs OpenSSL 3")
    module, _, function = f"{library}.{patch}".rpartition(".")
    program = f"import {module}; {module}.{function}()\n{_IN_GREENLETS}"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, encrypting.url()],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert (done.returncode, done.stdout) == (0, "healthy\n"), done.stderr

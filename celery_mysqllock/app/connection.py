"""Where a kombu connection logs in, however the application spells it."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kombu import Connection

from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.mysql import Address, Tls
from celery_mysqllock.mysql.address import DEFAULT_CONNECT_TIMEOUT, DEFAULT_PORT

if TYPE_CHECKING:
    from collections.abc import Iterable

# The scheme of a URL, and kombu's alias of the transport.
_SCHEME = "mysql"


def is_ours(transport: object) -> bool:
    """Whether a transport, given as an alias, a dotted path or a class, is this package's."""
    name = transport if isinstance(transport, str) else getattr(transport, "__module__", "")
    return name.lower() == _SCHEME or name.startswith("celery_mysqllock.")


def address_of(client: Connection) -> Address:
    """The server and the login of a connection with this package's transport.

    Raises:
        SettingsError: The user, the database or ``broker_use_ssl`` is missing or wrong.
    """
    host, is_path = client.hostname or "localhost", (client.hostname or "").startswith("/")
    address = Address(
        host="localhost" if is_path else host,
        port=client.port or DEFAULT_PORT,
        user=client.userid or "",
        password=client.password or "",
        database=(client.virtual_host or "").strip("/"),
        unix_socket=host if is_path else None,
        connect_timeout=float(client.connect_timeout or DEFAULT_CONNECT_TIMEOUT),
        login_method=client.login_method,
    ).checked()
    return replace(address, tls=Tls.read(client.ssl, "broker_use_ssl"))


def check_urls(urls: Iterable[str]) -> None:
    """Check the URLs of a list, to each of which kombu may switch.

    Raises:
        SettingsError: One of them is wrong. kombu would notice only when it switches to it.
    """
    for url in urls:
        if "://" not in url:
            continue
        if url != url.strip():
            # kombu would take the wrong part of it for the host, with the password
            raise SettingsError(
                "broker_url has a space before or after one of its URLs. Separate them by ';' "
                "alone, or write a list."
            )
        Address.parse(url)


def read_urls_at_once() -> None:
    """Make kombu split a mysql:// URL when a connection is made, as for other transports.

    For a transport that reads its URLs itself, kombu would leave the whole URL, with the password,
    in ``hostname`` until the first connect, and would not know ``unix_socket``.
    """
    inner = Connection._init_params  # noqa: SLF001 - no public way
    if hasattr(inner, "__wrapped__"):
        return

    @functools.wraps(inner)
    def init_params(self: Any, **parameters: Any) -> None:  # noqa: ANN401 - kombu's
        if is_ours(parameters.get("transport")):
            parameters = _in_parts(parameters)
        inner(self, **parameters)

    Connection._init_params = init_params  # noqa: SLF001 - as above


def _in_parts(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters of a connection, with the parts of its URL in place of the URL.

    Raises:
        SettingsError: The URL is wrong.
    """
    parts = {**parameters}
    socket = parts.pop("unix_socket", None)
    seconds = float(parts.get("connect_timeout") or DEFAULT_CONNECT_TIMEOUT)
    parts["connect_timeout"] = seconds
    if "://" not in (parts.get("hostname") or ""):
        # the user has given parts, or kombu has split the URL because it switches to it
        parts["hostname"] = socket or parts.get("hostname") or "localhost"
        parts["port"] = parts.get("port") or DEFAULT_PORT
        return parts
    address = Address.parse(parts["hostname"], connect_timeout=seconds)
    parts.update(
        hostname=address.unix_socket or address.host,
        port=address.port,
        userid=address.user,
        password=address.password,
        virtual_host=address.database,
        connect_timeout=address.connect_timeout,
        login_method=address.login_method or parts.get("login_method"),
    )
    if address.tls:
        parts["ssl"] = address.tls.as_options()
    return parts

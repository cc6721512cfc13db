"""What kombu's connection and its options say: where to log in, and how to work there."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kombu import Connection

from celery_mysqllock.mysql import Address, Tls
from celery_mysqllock.mysql.address import DEFAULT_CONNECT_TIMEOUT, DEFAULT_PORT
from celery_mysqllock.settings import BrokerSettings, read_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What a URL begins with, and kombu's name of the transport.
SCHEME = "mysql"
# Options that kombu and Celery read themselves, whatever the transport.
_KOMBU_OPTIONS = frozenset(
    {
        *("max_retries", "interval_start", "interval_step", "interval_max", "timeout"),
        *("errback", "callback", "on_revive", "retry_errors", "client_properties"),
        *("confirm_publish", "confirm_timeout", "queue_order_strategy", "failover_strategy"),
        *("deadletter_queue", "native_delayed_delivery_queue_type"),
    }
)


def address_of(client: Connection) -> Address:
    """Where kombu's connection is to log in.

    Raises:
        SettingsError: It cannot log in there.
    """
    host, is_path = client.hostname or "localhost", (client.hostname or "").startswith("/")
    address = Address(
        host="localhost" if is_path else host,
        port=client.port or DEFAULT_PORT,
        user=client.userid or "",
        password=client.password or "",
        database=(client.virtual_host or "").strip("/"),
        unix_socket=host if is_path else None,
        connect_timeout=_timeout(client),
        login_method=client.login_method,
    ).checked()
    return replace(address, tls=Tls.read(client.ssl, "broker_use_ssl"))


def read_broker_settings(options: Mapping[str, Any]) -> BrokerSettings:
    """Check ``broker_transport_options`` and make settings of them.

    Raises:
        SettingsError: One is unknown or not allowed.
    """
    return read_settings(
        BrokerSettings,
        options,
        source="broker_transport_options[{name!r}]",
        ignore=_KOMBU_OPTIONS,
    )


def read_urls_at_once() -> None:
    """Have kombu's connection take a mysql:// URL apart when it is made, as it does for others.

    It leaves that to a transport that reads its URLs itself: until the first connect its host would
    be the whole URL, with the password, and its port none. And it knows no ``unix_socket``.
    """
    inner = Connection._init_params  # noqa: SLF001 - no public way
    if hasattr(inner, "__wrapped__"):
        return

    @functools.wraps(inner)
    def init_params(self: Any, **parameters: Any) -> None:  # noqa: ANN401 - kombu's
        if _is_ours(parameters.get("transport")):
            parameters = _in_parts(parameters)
        inner(self, **parameters)

    Connection._init_params = init_params  # noqa: SLF001 - as above


def _is_ours(transport: object) -> bool:
    """Whether a connection's transport, a name or a class, is this package's."""
    name = transport if isinstance(transport, str) else getattr(transport, "__module__", "")
    return name == SCHEME or name.startswith("celery_mysqllock.")


def _in_parts(parameters: dict[str, Any]) -> dict[str, Any]:
    """What kombu's connection is made of, with the parts of the URL where there is one.

    Raises:
        SettingsError: The URL is wrong.
    """
    parts = {**parameters}
    socket = parts.pop("unix_socket", None)
    seconds = float(parts.get("connect_timeout") or DEFAULT_CONNECT_TIMEOUT)
    parts["connect_timeout"] = seconds
    if "://" not in (parts.get("hostname") or ""):
        # kombu has taken it apart when it switched to it, or has been given parts
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


def check_alternates(client: Connection) -> None:
    """Refuse a list of URLs that kombu could not switch to.

    Raises:
        SettingsError: One of them is wrong.
    """
    for url in client.alt:
        if "://" in url:
            Address.parse(url)


def _timeout(client: Connection) -> float:
    return float(client.connect_timeout or DEFAULT_CONNECT_TIMEOUT)

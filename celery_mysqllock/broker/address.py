"""What kombu's connection and its options say: where to log in, and how to work there."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.mysql import Address, Tls
from celery_mysqllock.mysql.address import DEFAULT_CONNECT_TIMEOUT, DEFAULT_PORT
from celery_mysqllock.settings import BrokerSettings, read_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kombu import Connection

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


def take_apart(client: Connection) -> None:
    """Put the parts of the URL into kombu's connection, which shows and logs its host.

    A password would be among it: ``celery inspect stats`` leaves out the password, and no host.
    """
    if "://" not in (client.hostname or ""):
        return
    address = Address.parse(client.hostname, connect_timeout=_timeout(client))
    client.hostname = address.unix_socket or address.host
    client.port = address.port
    client.userid, client.password = address.user, address.password
    client.virtual_host = address.database
    client.connect_timeout = address.connect_timeout
    if address.tls and not client.ssl:
        client.ssl = address.tls.as_options()


def check_alternates(client: Connection) -> None:
    """Refuse a list of URLs that kombu could not switch to.

    Raises:
        SettingsError: One of them is wrong.
    """
    for url in client.alt:
        if "://" in url and Address.parse(url).unix_socket:
            raise SettingsError(
                "unix_socket in one of several URLs is not possible: kombu drops it when it "
                "switches. Give host and port, or that URL alone."
            )


def _timeout(client: Connection) -> float:
    return float(client.connect_timeout or DEFAULT_CONNECT_TIMEOUT)

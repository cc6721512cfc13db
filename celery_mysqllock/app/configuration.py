"""What an application's configuration says of its broker and its locks, with one answer for all."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import uuid4
from weakref import WeakKeyDictionary

from celery_mysqllock.app.connection import address_of, check_urls, is_ours
from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.mysql import Address, Tls
from celery_mysqllock.mysql.address import DEFAULT_CONNECT_TIMEOUT
from celery_mysqllock.settings import BrokerSettings, LockSettings, read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from _typeshed import DataclassInstance
    from celery import Celery

    S = TypeVar("S", bound=DataclassInstance)

_ABSENT = object()
# Options that kombu and Celery read themselves, whatever the transport.
_KOMBU_OPTIONS = frozenset(
    {
        *("max_retries", "interval_start", "interval_step", "interval_max", "timeout"),
        *("errback", "callback", "on_revive", "retry_errors", "client_properties"),
        *("confirm_publish", "confirm_timeout", "queue_order_strategy", "failover_strategy"),
        *("deadletter_queue", "native_delayed_delivery_queue_type"),
    }
)
_known: WeakKeyDictionary[Celery, LockSettings] = WeakKeyDictionary()
_overrides: list[LockSettings] = []


@dataclass(frozen=True)
class Broker:
    """An application's MySQL broker.

    Attributes:
        addresses: Its servers, in the order in which kombu tries them.
        settings: Its job table and how it is used.
        is_written: Whether the application publishes to it; False when only its workers read it.
    """

    addresses: tuple[Address, ...]
    settings: BrokerSettings
    is_written: bool = True


def broker_of(app: Celery) -> Broker | None:
    """The application's MySQL broker, logged in to as kombu's own connections are.

    ``broker_write_url`` comes before ``broker_read_url``; by default both are ``broker_url``. URLs
    of other transports in a list are left out.

    Returns:
        None when no URL is for MySQL.

    Raises:
        SettingsError: A URL, ``broker_use_ssl`` or one of ``broker_transport_options`` is wrong.
    """
    conf = app.conf
    for urls, is_written in ((conf.broker_write_url, True), (conf.broker_read_url, False)):
        addresses = _broker_addresses(app, urls)
        if addresses:
            settings = read_broker_settings(conf.broker_transport_options or {})
            return Broker(addresses, settings, is_written)
    return None


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


def lock_settings(app: Celery) -> LockSettings:
    """The settings ``mysqllock_*``, completed by what the broker says; read once.

    Without ``mysqllock_url``, the locks are on the broker's first server, log in as the broker does
    and have its namespace unless ``mysqllock_namespace`` is set. A ``mysqllock_url`` of its own
    takes TLS, timeout and login method from the settings of a MySQL broker where it names none.

    Raises:
        SettingsError: One is not allowed, or there is no URL.
    """
    if _overrides:
        return _overrides[-1]
    settings = _known.get(app)
    if settings is None:
        settings = _known[app] = _read_lock_settings(app)
    return settings


def lock_address(settings: LockSettings) -> Address | None:
    """The server of the locks, None when they are in a process's memory.

    Raises:
        SettingsError: The URL is wrong.
    """
    url = settings.url or ""
    return None if url.startswith("memory://") else Address.parse(url)


@contextmanager
def locks_in_memory() -> Iterator[None]:
    """Keep the locks of all applications in this process's memory for the block, fresh ones."""
    _overrides.append(LockSettings(url="memory://", namespace=f"memory-{uuid4().hex[:8]}"))
    try:
        yield
    finally:
        _overrides.pop()


def read_prefixed_settings(app: Celery, kind: type[S], prefix: str) -> S:
    """Read settings whose names begin with the prefix, in lower case or, as of old, in capitals.

    Args:
        app: The application.
        kind: The settings' class.
        prefix: Such as ``mysqllock_``.

    Raises:
        SettingsError: One is not allowed.
    """
    given: dict[str, Any] = {}
    for known in fields(kind):
        name = f"{prefix}{known.name}"
        # get(), because "in" does not see names with the application's namespace before them
        value = app.conf.get(name, app.conf.get(name.upper(), _ABSENT))
        if value is not _ABSENT:
            given[known.name] = value
    return read_settings(kind, given, source=f"{prefix}{{name}}")


def _broker_addresses(app: Celery, configured: Any) -> tuple[Address, ...]:  # noqa: ANN401 - Celery's
    urls = configured.split(";") if isinstance(configured, str) else list(configured or [""])
    transport = app.conf.broker_transport
    ours = [url for url in urls if is_ours(transport or url.partition("://")[0].strip())]
    if len(urls) > 1:
        check_urls(ours)
    return tuple(address_of(app.connection_for_write(url)) for url in ours)


def _read_lock_settings(app: Celery) -> LockSettings:
    settings = read_prefixed_settings(app, LockSettings, "mysqllock_")
    broker = broker_of(app)
    if settings.url is None and broker is None:
        raise SettingsError(
            f"The application {app.main or app!r} has no server for its locks: its broker is not "
            "MySQL. Set mysqllock_url = 'mysql://user:password@host:3306/database' in its "
            "configuration, or 'memory://' in tests that run in one process."
        )
    if broker is None or (settings.url or "").startswith("memory://"):
        return settings
    if settings.url is None:
        namespace = settings.namespace or broker.settings.namespace
        return replace(settings, url=broker.addresses[0].url(), namespace=namespace)
    return replace(settings, url=_completed(app, settings.url).url())


def _completed(app: Celery, url: str) -> Address:
    """A URL of its own, with what it leaves out taken from the MySQL broker's settings."""
    seconds = float(app.conf.broker_connection_timeout or DEFAULT_CONNECT_TIMEOUT)
    address = Address.parse(url, connect_timeout=seconds)
    address = address.with_tls(Tls.read(app.conf.broker_use_ssl, "broker_use_ssl"))
    return replace(address, login_method=address.login_method or app.conf.broker_login_method)

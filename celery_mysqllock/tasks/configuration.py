"""Where an application's locks are kept, read from its Celery configuration once."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4
from weakref import WeakKeyDictionary

from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.mysql import Address, Tls
from celery_mysqllock.settings import LockSettings, read_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import DataclassInstance
    from celery import Celery

    S = TypeVar("S", bound=DataclassInstance)

_ABSENT = object()
_read: WeakKeyDictionary[Celery, LockSettings] = WeakKeyDictionary()
_instead: list[LockSettings] = []


def lock_settings(app: Celery) -> LockSettings:
    """The settings ``mysqllock_*`` of the application, with the URL filled in from its broker.

    Raises:
        SettingsError: One is not allowed, or there is no URL.
    """
    if _instead:
        return _instead[-1]
    settings = _read.get(app)
    if settings is None:
        settings = _read[app] = _settings_of(app)
    return settings


@contextmanager
def locks_in_memory() -> Iterator[None]:
    """Keep the locks of all applications in this process's memory for the block, fresh ones."""
    _instead.append(LockSettings(url="memory://", namespace=f"memory-{uuid4().hex[:8]}"))
    try:
        yield
    finally:
        _instead.pop()


def configured(app: Celery, kind: type[S], source: str) -> S:
    """Settings out of the application's configuration.

    Args:
        app: The application.
        kind: What settings.
        source: How a name is spelled, such as ``mysqllock_{name}``.

    Raises:
        SettingsError: One is not allowed.
    """
    # get(), because the configuration's "in" does not see names with the namespace in front.
    found = {
        known.name: app.conf.get(source.format(name=known.name), _ABSENT) for known in fields(kind)
    }
    given = {name: value for name, value in found.items() if value is not _ABSENT}
    return read_settings(kind, given, source=source)


def broker_addresses(app: Celery) -> list[Address]:
    """Where the application's broker is, encrypted as the broker's connections are.

    Returns:
        A place for each mysql:// URL of ``broker_url``.

    Raises:
        SettingsError: A URL or ``broker_use_ssl`` is wrong.
    """
    configured = app.conf.broker_write_url or ""
    urls = configured.split(";") if isinstance(configured, str) else list(configured)
    ours = [str(url) for url in urls if str(url).startswith("mysql://")]
    # another transport's setting may have words of its own
    tls = Tls.read(app.conf.broker_use_ssl, "broker_use_ssl") if ours else None
    return [Address.parse(url).with_tls(tls) for url in ours]


def _settings_of(app: Celery) -> LockSettings:
    settings, brokers = configured(app, LockSettings, "mysqllock_{name}"), broker_addresses(app)
    if not settings.url and not brokers:
        raise SettingsError(
            f"The application {app.main or app!r} has no server for its locks: its broker is not "
            "MySQL. Set mysqllock_url = 'mysql://user:password@host:3306/database' in its "
            "configuration, or 'memory://' in tests that run in one process."
        )
    if not settings.url:
        return replace(settings, url=brokers[0].url())
    if brokers and settings.url.startswith("mysql://"):
        tls = Tls.read(app.conf.broker_use_ssl, "broker_use_ssl")
        return replace(settings, url=Address.parse(settings.url).with_tls(tls).url())
    return settings

"""Where an application's locks are kept, read from its Celery configuration once."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import fields, replace
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4
from weakref import WeakKeyDictionary

from celery_mysqllock.exceptions import SettingsError
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


def broker_url(app: Celery) -> str | None:
    """The first mysql:// URL of the application's broker, None when there is none."""
    configured = app.conf.broker_write_url or ""
    several = configured.split(";") if isinstance(configured, str) else configured
    return next((str(url) for url in several if url.startswith("mysql://")), None)


def _settings_of(app: Celery) -> LockSettings:
    settings = configured(app, LockSettings, "mysqllock_{name}")
    if settings.url:
        return settings
    url = broker_url(app)
    if url is None:
        raise SettingsError(
            f"The application {app.main or app!r} has no server for its locks: its broker is not "
            "MySQL. Set mysqllock_url = 'mysql://user:password@host:3306/database' in its "
            "configuration, or 'memory://' in tests that run in one process."
        )
    return replace(settings, url=url)

"""Where an application's locks are kept, read from its Celery configuration once."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.settings import LockSettings, read_settings

if TYPE_CHECKING:
    from celery import Celery

_ABSENT = object()
_read: WeakKeyDictionary[Celery, LockSettings] = WeakKeyDictionary()


def lock_settings(app: Celery) -> LockSettings:
    """The settings ``mysqllock_*`` of the application, with the URL filled in from its broker.

    Raises:
        SettingsError: One is not allowed, or there is no URL.
    """
    settings = _read.get(app)
    if settings is None:
        settings = _read[app] = _settings_of(app)
    return settings


def _settings_of(app: Celery) -> LockSettings:
    # get(), because the configuration's "in" does not see names with the namespace in front.
    found = {
        known.name: app.conf.get(f"mysqllock_{known.name}", _ABSENT)
        for known in fields(LockSettings)
    }
    given = {name: value for name, value in found.items() if value is not _ABSENT}
    settings = read_settings(LockSettings, given, source="mysqllock_{name}")
    return settings if settings.url else replace(settings, url=_broker_url(app))


def _broker_url(app: Celery) -> str:
    configured = app.conf.broker_write_url or ""
    several = configured.split(";") if isinstance(configured, str) else configured
    for url in several:
        if url.startswith("mysql://"):
            return str(url)
    raise SettingsError(
        f"The application {app.main or app!r} has no server for its locks: its broker is not "
        "MySQL. Set mysqllock_url = 'mysql://user:password@host:3306/database' in its "
        "configuration, or 'memory://' in tests that run in one process."
    )

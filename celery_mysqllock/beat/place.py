"""Where the beats of an application keep their schedule and their lock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery_mysqllock.broker.address import read_broker_settings
from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.mysql import Address
from celery_mysqllock.settings import BrokerSettings
from celery_mysqllock.tasks.configuration import broker_addresses, lock_settings

if TYPE_CHECKING:
    from celery import Celery

    from celery_mysqllock.settings import LockSettings


@dataclass(frozen=True)
class Place:
    """The database of the schedule.

    Attributes:
        addresses: Where it is; several servers where the broker is a list, of which the first that
            takes writes is used.
        table: The job table's name, with which the names of the schedule's tables begin.
        locks: How the lock is held.
        has_jobs: Whether the broker's job table is in the same database.
    """

    addresses: list[Address]
    table: str
    locks: LockSettings
    has_jobs: bool


def find_place(app: Celery) -> Place:
    """The broker's database, where a tick and its job can be one transaction; else mysqllock_url's.

    Raises:
        SettingsError: A setting is wrong, or neither is a database.
    """
    brokers, locks = broker_addresses(app), lock_settings(app)
    if brokers:
        settings = read_broker_settings(app.conf.broker_transport_options or {})
        return Place(brokers, settings.table, locks, has_jobs=True)
    if (locks.url or "").startswith("memory://"):
        raise SettingsError(
            "mysqllock_url='memory://' is for tests of tasks; a beat keeps its schedule in a "
            "database. Set mysqllock_url to mysql://user:password@host:3306/database, or use "
            "Celery's own scheduler."
        )
    return Place([Address.parse(locks.url or "")], BrokerSettings.table, locks, has_jobs=False)

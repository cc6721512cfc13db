"""Where the beats of an application keep their schedule and their lock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from celery_mysqllock.broker.address import read_broker_settings
from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.mysql import Address, Tls
from celery_mysqllock.settings import BrokerSettings
from celery_mysqllock.tasks.configuration import broker_url, lock_settings

if TYPE_CHECKING:
    from celery import Celery

    from celery_mysqllock.settings import LockSettings


@dataclass(frozen=True)
class Place:
    """The database of the schedule.

    Attributes:
        address: Where it is.
        table: The job table's name, with which the names of the schedule's tables begin.
        locks: How the lock is held.
        broker: The mysql:// URL of the broker that is in the same database, None for another one.
    """

    address: Address
    table: str
    locks: LockSettings
    broker: str | None


def find_place(app: Celery) -> Place:
    """The broker's database, where a tick and its job can be one transaction; else mysqllock_url's.

    Raises:
        SettingsError: A setting is wrong, or neither is a database.
    """
    broker, locks = broker_url(app), lock_settings(app)
    if broker is None:
        if (locks.url or "").startswith("memory://"):
            raise SettingsError(
                "mysqllock_url='memory://' is for tests of tasks; a beat keeps its schedule in a "
                "database. Set mysqllock_url to mysql://user:password@host:3306/database, or use "
                "Celery's own scheduler."
            )
        address = Address.parse(locks.url or "")
        return Place(address, BrokerSettings.table, locks, None)
    address = Address.parse(broker)
    tls = Tls.read(app.conf.broker_use_ssl, "broker_use_ssl") or address.tls
    settings = read_broker_settings(app.conf.broker_transport_options or {})
    return Place(replace(address, tls=tls), settings.table, locks, broker)

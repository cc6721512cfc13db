"""A user's program that uses the whole public API: mypy checks it, and nothing runs it.

What `assert_type` says here is what a user's editor shows. `make lint` fails where that changes.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, assert_type

from prometheus_client import REGISTRY

import celery_mysqllock
from celery_mysqllock import (
    LockError,
    LockLost,
    LockNotOwned,
    LockTimeout,
    MySQLLock,
    MySQLLockError,
    OtherInstanceError,
    SingleInstanceTask,
    TransactionError,
    single_instance,
    transaction,
)
from celery_mysqllock.locks import Holder, MemoryLock, Process, new_lock
from celery_mysqllock.metrics import FleetCollector, fleet_collector
from celery_mysqllock.signals import (
    became_sweeper,
    consumer_died,
    job_claimed,
    job_dead,
    job_recovered,
    queue_paused,
    queue_resumed,
)
from celery_mysqllock.tasks import (
    current_lock,
    lock_acquired,
    lock_conflict,
    lock_for,
    lock_lost,
    lock_released,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    import pymysql
    from celery import Celery

URL = "mysql://user:password@127.0.0.1:3306/shop"


# -- tasks: a decorated function keeps its signature ----------------------------------------------


@single_instance
def plain(account: int, *, full: bool = False) -> str:
    return f"{account} {full}"


@single_instance(
    unique_on=["account"],
    wait=5.0,
    on_conflict="skip",
    skip_result="busy",
    retry_countdown=10,
    limit=2,
    on_lost="terminate",
    unique="queued",
)
def with_options(account: int, *, full: bool = False) -> str:
    return f"{account} {full}"


@single_instance(key="report:{account}", wait=None, limit=None)
def with_a_key(account: int) -> None: ...


def key_of(_: Any, account: int) -> str:
    return str(account)


@single_instance(key=key_of, include_args=False, on_conflict=lambda _, holder: holder)
def with_callables(account: int) -> None: ...


class ClassTask(SingleInstanceTask):
    lock = {"unique_on": ["account"]}  # noqa: RUF012 - as the documentation has it

    @single_instance
    def run(self, account: int) -> int:
        return account


def calls(task: SingleInstanceTask) -> None:
    assert_type(plain(7, full=True), str)
    assert_type(with_options(7), str)
    plain("7")  # type: ignore[arg-type]
    single_instance(on_conflicts="skip")  # type: ignore[call-overload]
    assert_type(task.lock_for(7), MySQLLock | MemoryLock)
    assert_type(lock_for(task, 7, full=True), MySQLLock | MemoryLock)
    assert_type(current_lock(), MySQLLock | MemoryLock)


# -- locks ----------------------------------------------------------------------------------------


def told(lock: MySQLLock | MemoryLock, error: LockLost) -> None:
    raise error from LockError(lock.name)


def locks() -> None:
    lock = MySQLLock("report", url=URL, namespace="shop", limit=1, session_timeout=30, note="now")
    assert_type(lock.acquire(), bool)
    assert_type(lock.acquire(wait=None), bool)
    assert_type(lock.name, str)
    assert_type(lock.waited, float)
    assert_type(lock.owned(), bool)
    assert_type(lock.locked(), bool)
    assert_type(lock.held_for, float)
    assert_type(lock.fence(), tuple[str, dict[str, Any]])
    assert_type(lock.reset(), bool)
    lock.check()
    lock.release()
    with lock as held:
        assert_type(held, MySQLLock)
    with lock.waiting(5):
        pass
    assert_type(new_lock("report", url=URL), MySQLLock | MemoryLock)


def holders(holder: Holder | None) -> None:
    if holder is None:
        return
    assert_type(holder.since, datetime | None)
    assert_type(holder.note, str | None)
    assert_type(holder.process, Process | None)


# -- transactions ---------------------------------------------------------------------------------


def transactions(connection: pymysql.Connection[Any]) -> None:
    with transaction(connection):
        pass


@celery_mysqllock.transaction(None)
def order(number: int) -> str:
    return str(number)


@celery_mysqllock.transaction(None)
async def order_later(number: int) -> str:
    return str(number)


async def orders() -> None:
    assert_type(order(7), str)
    assert_type(await order_later(7), str)


# -- errors and signals ---------------------------------------------------------------------------


def errors(work: Callable[[], object]) -> str:
    try:
        work()
    except OtherInstanceError as error:
        return error.name or str(error.holder)
    except (LockLost, LockNotOwned, LockTimeout, TransactionError) as error:
        return str(error)
    except MySQLLockError:
        return ""
    return "done"


def signals(receiver: Callable[..., None]) -> None:
    for signal in (lock_acquired, lock_conflict, lock_lost, lock_released):
        signal.connect(receiver)
    for signal in (job_claimed, job_recovered, job_dead, consumer_died):
        signal.connect(receiver)
    for signal in (became_sweeper, queue_paused, queue_resumed):
        signal.connect(receiver)


def metrics(app: Celery) -> None:
    collector = fleet_collector(app, idle_after=3600)
    assert_type(collector, FleetCollector)
    REGISTRY.register(collector)
    collector.close()


assert_type(celery_mysqllock.__version__, str)

"""All checks of one server; a check that cannot be made is a finding too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_mysqllock.cli.checks.check import STATEMENTS, Target, ok, problem, warning
from celery_mysqllock.cli.checks.connection import (
    check_clock,
    check_encryption,
    check_proxy,
    check_server,
)
from celery_mysqllock.cli.checks.durability import (
    check_durability,
    check_isolation,
    check_replication,
    check_writes,
)
from celery_mysqllock.cli.checks.locks import check_cluster, check_lock_holders, check_locks
from celery_mysqllock.cli.checks.privileges import check_lock_list, check_privileges
from celery_mysqllock.cli.checks.table import (
    check_ids,
    check_sizes,
    check_table,
    check_transactions,
)
from celery_mysqllock.cli.checks.variables import (
    check_connections,
    check_defaults,
    check_packet,
    check_session,
    check_timeouts,
)
from celery_mysqllock.exceptions import ConnectionLost, MySQLLockError
from celery_mysqllock.mysql import Session

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_mysqllock.cli.checks.check import Finding
    from celery_mysqllock.mysql import Address
    from celery_mysqllock.settings import BrokerSettings

    Check = Callable[[Target], Iterator[Finding]]

_READ_TIMEOUT = 20.0  # seconds for an answer

_OF_ANY: dict[str, Check] = {
    "server": check_server,
    "proxy": check_proxy,
    "encryption": check_encryption,
    "clock": check_clock,
    "cluster": check_cluster,
    "writes": check_writes,
    "replication": check_replication,
    "locks": check_locks,
    "privileges": check_privileges,
    "lock list": check_lock_list,
    "time-outs": check_timeouts,
    "session": check_session,
    "connections": check_connections,
}
_OF_JOBS: dict[str, Check] = {
    "job table": check_table,
    "size": check_sizes,
    "ids": check_ids,
    "lock holders": check_lock_holders,
    "transactions": check_transactions,
    "packet": check_packet,
    "durability": check_durability,
    "isolation": check_isolation,
    "defaults": check_defaults,
}


def examine(
    address: Address,
    broker: BrokerSettings | None,
    *,
    allow_multi_primary: bool,
    role: str = "worker",
) -> Iterator[Finding]:
    """Check a server.

    Args:
        address: The server.
        broker: The settings of its job table, None if it only has locks.
        allow_multi_primary: Whether the user accepts one of several primaries.
        role: The role of the user that logs in, one of ``ROLES``.
    """
    session = Session(address, read_timeout=_READ_TIMEOUT)
    try:
        session.open()
    except MySQLLockError as error:
        yield problem("connection", str(error), "")
        return
    yield ok("connection", f"logged in as {address.user}")
    with session:
        target = Target(
            session,
            None if broker is None else broker.table,
            broker is not None and broker.create_table,
            allow_multi_primary,
            dict(session.query(STATEMENTS["variables"])),
            dict(session.query(STATEMENTS["status"])),
            role,
        )
        for subject, check in (_OF_ANY if broker is None else _OF_ANY | _OF_JOBS).items():
            try:
                yield from check(target)
            except ConnectionLost as error:
                yield problem("connection", str(error), "")
                return
            except MySQLLockError as error:
                yield warning(subject, f"This could not be checked: {error}", "")

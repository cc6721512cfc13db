"""Logging in: the connection to a server, prepared, and what the server says of itself."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from pymysql.constants import CLIENT

from celery_mysqllock.exceptions import (
    CannotConnect,
    ConnectionLost,
    DatabaseError,
    MySQLLockError,
    UnsuitableServer,
)
from celery_mysqllock.mysql import driver, preparation
from celery_mysqllock.mysql.errors import DRIVER_ERRORS, translate
from celery_mysqllock.mysql.server import Server

if TYPE_CHECKING:
    from celery_mysqllock.mysql.address import Address

logger = logging.getLogger(__name__)

# The full version, and the server's spelling of the database: DATABASE() is as the client wrote it
# where the server keeps the case of names and ignores it.
_FACTS = """
SELECT CONCAT(VERSION(), ' ', @@version_comment),
       IF(@@lower_case_table_names = 2, LOWER(DATABASE()), DATABASE()),
       @@lower_case_table_names > 0
"""


class Facts(NamedTuple):
    """What a server says of itself and of a session.

    Attributes:
        server: The server's kind and version.
        database: The session's database, as the server spells it.
        folds_case: Whether names of databases and tables that differ in case only are one to it.
    """

    server: Server
    database: str
    folds_case: bool


def connect(address: Address) -> driver.Connection:
    """Connect and log in.

    Raises:
        CannotConnect: No server answers there, or it accepts no login just now.
        LoginRefused, UnknownDatabase: The server says no.
    """
    place: dict[str, Any] = {"host": address.host, "port": address.port}
    if address.unix_socket:
        place = {"unix_socket": address.unix_socket}
    tls = address.effective_tls
    options = {
        **place,
        "user": address.user,
        # the driver would take it for Latin-1
        "password": address.password.encode(),
        "database": address.database,
        "charset": "utf8mb4",
        "program_name": "celery-mysqllock",
        "client_flag": CLIENT.MULTI_STATEMENTS,
        "login_method": address.login_method,
        "ssl": tls.context(),
        "ssl_disabled": tls.mode == "DISABLED",
    }
    try:
        return driver.connect(options, address.connect_timeout)
    except DRIVER_ERRORS as error:
        raise worth_another_attempt(translate(error, address)) from error


def worth_another_attempt(error: MySQLLockError) -> MySQLLockError:
    """The error of a session that cannot be opened: CannotConnect where the cause may pass."""
    passes = isinstance(error, DatabaseError) and error.is_passing
    return CannotConnect(str(error)) if passes or isinstance(error, ConnectionLost) else error


def prepare(connection: driver.Connection, address: Address, idle_timeout: int) -> Facts:
    """Set all that a session needs; ``preparation`` says what that is.

    Args:
        connection: One that has just logged in.
        address: Where.
        idle_timeout: As for ``Session``.

    Raises:
        MissingPrivilege: The user may not set it.
        ConnectionLost: The session has ended.
        UnsuitableServer: It is neither MySQL nor MariaDB.
    """
    # the stubs leave this one untyped
    server = Server.from_greeting(connection.get_server_info())  # type: ignore[no-untyped-call]
    vital, rest = preparation.statements(server)
    rest.append(f"wait_timeout = {idle_timeout}")
    try:
        facts = _run(connection, address, f"{vital}; SET SESSION {', '.join(rest)}")
    except ConnectionLost:
        raise
    except DatabaseError:
        # The server does not know one of them: find out which.
        facts = _run(connection, address, vital)
        for assignment in rest:
            _try_to_set(connection, address, assignment)
    version, database, folds_case = facts
    if "tidb" in version.lower():
        raise UnsuitableServer(
            f"{address} is TiDB ({version}): it takes SKIP LOCKED and named locks, and "
            "ignores both. Use MySQL or MariaDB."
        )
    return Facts(server, database, folds_case)


def _run(connection: driver.Connection, address: Address, sql: str) -> tuple[str, str, bool]:
    """Run statements in one round trip; version, database and case as the server says them."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"{sql}; {_FACTS}")
            while cursor.nextset():
                continue
            ((version, database, folds_case),) = cursor.fetchall()
    except DRIVER_ERRORS as error:
        raise translate(error, address) from error
    return str(version), str(database), bool(folds_case)


def _try_to_set(connection: driver.Connection, address: Address, assignment: str) -> None:
    try:
        _run(connection, address, f"SET SESSION {assignment}")
    except ConnectionLost:
        raise
    except DatabaseError as error:
        logger.debug("The session goes without %s: %s", assignment, error)

"""Translates the driver's errors into ours, in this one place."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING

from pymysql.constants import ER

# Not as pymysql.err: where PyMySQL stands in for mysqlclient, that attribute may be a second copy.
from pymysql.err import Error, InterfaceError, InternalError, OperationalError

from celery_mysqllock import exceptions

if TYPE_CHECKING:
    from celery_mysqllock.mysql.address import Address

# The driver raises these when it reads something that no MySQL server sends (a proxy's page, zeros,
# half a packet), or when another thread has closed the connection.
_MALFORMED = (
    *(struct.error, AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError),
)
# All errors of the driver and its socket. RuntimeError: PyMySQL raises it when an authentication
# plugin needs a package, eventlet when another greenlet is reading.
DRIVER_ERRORS = (Error, OSError, RuntimeError, *_MALFORMED)
# Codes of client libraries and of proxies: whatever they mean, the connection has failed.
_OF_CONNECTION = (range(2000, 3000), range(9000, 9100))

_OF_IDS = re.compile(r"for key '(\S+\.)?PRIMARY'\W*$")

_BY_CODE: dict[int, type[exceptions.MySQLLockError]] = {
    code: error
    for error, codes in {
        exceptions.CannotConnect: (
            *(1040, 1042, 1043, 1129, 1135, 1203, 1226, 2002, 2003, 2005, 3032),
        ),
        exceptions.LoginRefused: (
            *(1045, 1130, 1251, 1524, 1698, 1820, 1862, 2058, 2059, 3118, 3159, 4151),
        ),
        exceptions.UnverifiedServer: (2061,),
        exceptions.UnknownDatabase: (1049,),
        exceptions.MissingPrivilege: (1044, 1095, 1142, 1143, 1227, 1370, 1410),
        exceptions.ReadOnlyServer: (1290, 1792, 1836),
        exceptions.ConnectionLost: (
            *(1053, 1077, 1079, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 1927, 3169, 4031),
            # a server that has lost its cluster (Galera; Group Replication at a COMMIT)
            *(1047, 3100, 3101),
        ),
        # 1020 and 1412: a row, or the table's definition, has changed since the transaction began
        exceptions.TransientError: (1020, 1213, 1412, 3058),
        exceptions.RowsLocked: (1205, 3572),
        exceptions.Interrupted: (1317,),
        exceptions.StatementTimeout: (1969, 3024),
        exceptions.NoSuchSession: (1094,),
        exceptions.DuplicateKey: (1062,),
        exceptions.MessageTooLarge: (1153, 2020),
        exceptions.AlreadyDone: (1050, 1060, 1061, 1304, 1359),
        exceptions.IdsUsedUp: (167, 1467),
        exceptions.ServerFull: (1021, 1041, 1114),
        exceptions.TableGone: (1146,),
        exceptions.TableMismatch: (1054,),
    }.items()
    for code in codes
}


def translate(error: Exception, address: Address) -> exceptions.MySQLLockError:
    """Return our error for one of the driver's; its message says what to do.

    Args:
        error: One of ``DRIVER_ERRORS``.
        address: The database, which the message names without its password.
    """
    if isinstance(error, RuntimeError) and "package is required" in str(error):
        return exceptions.LoginRefused(_sentence(exceptions.LoginRefused, address, str(error)))
    if isinstance(error, (InterfaceError, OSError, RuntimeError)):
        return exceptions.ConnectionLost(_sentence(exceptions.ConnectionLost, address, str(error)))
    if is_malformed_answer(error):
        detail = f"the answer makes no sense ({type(error).__name__}: {error})"
        return exceptions.ConnectionLost(_sentence(exceptions.ConnectionLost, address, detail))
    code, text = (*error.args, "", "")[:2]
    kind = _BY_CODE.get(code) or _of_unknown(code)
    if kind is exceptions.DuplicateKey and is_about_ids(error):
        kind = exceptions.IdsUsedUp
    return kind(_sentence(kind, address, f"error {code}: {text}"))


def is_malformed_answer(error: BaseException) -> bool:
    """Whether the driver could not parse what it read."""
    from_driver = isinstance(error, (InternalError, OperationalError))
    return isinstance(error, _MALFORMED) or (
        (from_driver or type(error) is Error) and not _code_of(error)
    )


def _code_of(error: BaseException) -> int:
    code = error.args[0] if error.args else 0
    return code if isinstance(code, int) else 0


def _of_unknown(code: object) -> type[exceptions.MySQLLockError]:
    is_of_connection = any(code in codes for codes in _OF_CONNECTION)
    return exceptions.ConnectionLost if is_of_connection else exceptions.DatabaseError


def is_duplicate_key(error: BaseException) -> bool:
    """Whether this is error 1062, from any driver, or wrapped by SQLAlchemy or Django."""
    arguments = getattr(error, "orig", error).args
    return bool(arguments) and arguments[0] == ER.DUP_ENTRY


def is_about_ids(error: BaseException) -> bool:
    """Whether a duplicate key is an AUTO_INCREMENT: MySQL says so when no id is left."""
    return _OF_IDS.search(str(getattr(error, "orig", error))) is not None


def _sentence(kind: type[Exception], address: Address, detail: str) -> str:
    advice = (kind.__doc__ or "").strip().splitlines()[0]
    return f"{advice} [{address}: {detail or 'the connection was closed'}]"

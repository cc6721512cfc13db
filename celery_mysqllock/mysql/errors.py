"""The one place where the driver's errors become ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pymysql.err
from pymysql.constants import ER

from celery_mysqllock import exceptions

if TYPE_CHECKING:
    from celery_mysqllock.mysql.address import Address

# Everything that the driver and the socket below it raise. RuntimeError: PyMySQL's way to say
# that an authentication plugin needs the cryptography package.
DRIVER_ERRORS = (pymysql.err.Error, OSError, RuntimeError)

_BY_CODE: dict[int, type[exceptions.MySQLLockError]] = {
    code: error
    for error, codes in {
        exceptions.CannotConnect: (1040, 1129, 1203, 2002, 2003, 2005),
        exceptions.LoginRefused: (1045, 1130, 1251, 1524, 1698, 1820, 2058, 2059, 2061),
        exceptions.UnknownDatabase: (1049,),
        exceptions.MissingPrivilege: (1044, 1095, 1142, 1143, 1227, 1370, 1410),
        exceptions.ReadOnlyServer: (1290, 1792, 1836),
        exceptions.ConnectionLost: (
            *(1053, 1077, 1079, 1080, 1152, 1158, 1159, 1160, 1161, 1184, 1927),
            *(2006, 2013, 2014, 2055, 3169, 4031),
        ),
        exceptions.TransientError: (1205, 1213, 3058, 3572),
        exceptions.Interrupted: (1317,),
        exceptions.StatementTimeout: (1969, 3024),
        exceptions.NoSuchSession: (1094,),
        exceptions.DuplicateKey: (1062,),
        exceptions.MessageTooLarge: (1153, 2020),
        exceptions.AlreadyDone: (1050, 1060, 1061, 1304),
        exceptions.ServerFull: (1021, 1041, 1114),
        exceptions.TableMissing: (1146,),
        exceptions.TableMismatch: (1054,),
    }.items()
    for code in codes
}


def translate(error: Exception, address: Address) -> exceptions.MySQLLockError:
    """Turn an error of the driver into one of ours that says what to do.

    Args:
        error: One of ``DRIVER_ERRORS``.
        address: The database in question; named in the message, without its password.
    """
    if isinstance(error, (pymysql.err.InterfaceError, OSError)):
        return exceptions.ConnectionLost(_sentence(exceptions.ConnectionLost, address, str(error)))
    if isinstance(error, RuntimeError):
        return exceptions.LoginRefused(_sentence(exceptions.LoginRefused, address, str(error)))
    code, text = (*error.args, "", "")[:2]
    kind = _BY_CODE.get(code, exceptions.DatabaseError) if isinstance(code, int) else None
    return (kind or exceptions.DatabaseError)(
        _sentence(kind or exceptions.DatabaseError, address, f"error {code}: {text}")
    )


def is_duplicate_key(error: BaseException) -> bool:
    """Whether the error, of any driver or wrapped by SQLAlchemy or Django, is the server's 1062."""
    arguments = getattr(error, "orig", error).args
    return bool(arguments) and arguments[0] == ER.DUP_ENTRY


def _sentence(kind: type[Exception], address: Address, detail: str) -> str:
    advice = (kind.__doc__ or "").strip().splitlines()[0]
    return f"{advice} [{address}: {detail or 'the connection was closed'}]"

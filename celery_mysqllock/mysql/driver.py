"""What PyMySQL's connection can do but does not offer in public."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
from typing import TYPE_CHECKING, Any

import pymysql
from pymysql.constants import COMMAND, CR
from pymysql.err import OperationalError, raise_mysql_exception

from celery_mysqllock.mysql.tls import trusting_context

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    # generic in its stubs only
    _PyMySQLConnection = pymysql.Connection[pymysql.cursors.Cursor]
else:
    _PyMySQLConnection = pymysql.Connection

# What answers a SELECT of one number, in MySQL's protocol; each with a header of its length and its
# place in the answer.
_PACKETS = ("count of columns", "column", "end of columns", "row", "end of rows")
_HEADER = 4
_ERROR, _NULL = 0xFF, 0xFB
_CHUNK = 4096

# ruff: noqa: SLF001 - this module is there to keep the driver's private names in one place


class Connection(_PyMySQLConnection):
    """A connection that is encrypted if the server can, unless it is told otherwise."""

    def _create_ssl_ctx(self, sslp: ssl.SSLContext | dict[str, Any]) -> ssl.SSLContext:
        return sslp if isinstance(sslp, ssl.SSLContext) else trusting_context()


def descriptor(connection: Connection) -> int:
    """The socket's file descriptor, -1 when there is none."""
    sock = getattr(connection, "_sock", None)
    return -1 if sock is None else int(sock.fileno())


def close_socket(connection: Connection) -> None:
    """Close the socket without a word to the server."""
    connection._force_close()  # type: ignore[attr-defined]


def forget(connection: Connection) -> None:
    """Close a forked child's copy of the socket; the parent's connection is not touched.

    PyMySQL's own way would wait for ever when another thread of the parent was reading at the
    moment of the fork: the reader's lock is held by a thread that the child does not have.
    """
    sock = getattr(connection, "_sock", None)
    connection._sock = None  # type: ignore[attr-defined]
    connection._rfile = None  # type: ignore[attr-defined]
    if sock is not None:
        number = sock.detach()
        if number >= 0:
            os.close(number)


def hang_up(connection: Connection) -> None:
    """End the connection under a thread that waits for an answer; that thread gets an error."""
    sock = getattr(connection, "_sock", None)
    if sock is not None:
        # It is gone already: that is what this is to bring about. The base class's method: a TLS
        # socket's own would drop the state that the waiting thread reads with.
        with contextlib.suppress(OSError):
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def set_patience(connection: Connection, seconds: float) -> None:
    """Change how long an answer, or the sending of a statement, may take from now on."""
    connection._read_timeout = seconds  # type: ignore[attr-defined]
    connection._write_timeout = seconds  # type: ignore[attr-defined]


def number(connection: Connection, sql: str, parameters: Sequence[object]) -> int | None:
    """Run a SELECT of one number and return it.

    Describing a result costs the driver more than running GET_LOCK costs the server. Here the
    packets of the answer are read in one go, and the description is skipped.
    """
    escape: Callable[[object], str] = connection.escape
    text = sql % tuple([escape(value) for value in parameters])
    connection._execute_command(COMMAND.COM_QUERY, text)  # type: ignore[attr-defined]
    answer, at = _first_bytes(connection), 0
    for number, packet in enumerate(_PACKETS, 1):
        while len(answer) < at + _HEADER or len(answer) < at + _HEADER + _length(answer, at):
            answer += _more_bytes(connection)
        length, at = _length(answer, at), at + _HEADER
        if answer[at - 1] != number:
            connection._force_close()  # type: ignore[attr-defined]
            raise OperationalError(CR.CR_SERVER_LOST, "The server ended the session.")
        if answer[at] == _ERROR:
            raise_mysql_exception(answer[at : at + length])
        if packet == "row":
            row = answer[at : at + length]
        at += length
    return None if row[0] == _NULL else int(row[1:])


def _first_bytes(connection: Connection) -> bytes:
    connection._sock.settimeout(connection._read_timeout)  # type: ignore[attr-defined]
    # where the driver notes what it has set
    connection._current_timeout = connection._read_timeout  # type: ignore[attr-defined]
    return _more_bytes(connection)


def _more_bytes(connection: Connection) -> bytes:
    try:
        found: bytes = connection._rfile.read1(_CHUNK)  # type: ignore[attr-defined]
    except OSError as error:
        connection._force_close()  # type: ignore[attr-defined]
        raise OperationalError(CR.CR_SERVER_LOST, f"The answer did not come: {error}") from error
    except BaseException:
        # An answer that is half read belongs to nobody.
        connection._force_close()  # type: ignore[attr-defined]
        raise
    if not found:
        connection._force_close()  # type: ignore[attr-defined]
        raise OperationalError(CR.CR_SERVER_LOST, "The server ended the session.")
    return found


def _length(answer: bytes, at: int) -> int:
    return answer[at] + (answer[at + 1] << 8) + (answer[at + 2] << 16)


def send(connection: Connection, sql: str | None) -> None:
    """Send a statement that returns no rows, or a ping for None; do not wait for the answer."""
    command = COMMAND.COM_PING if sql is None else COMMAND.COM_QUERY
    connection._execute_command(command, sql or "")  # type: ignore[attr-defined]


def receive(connection: Connection) -> None:
    """Read the answer to ``send``."""
    connection._read_ok_packet()  # type: ignore[attr-defined]

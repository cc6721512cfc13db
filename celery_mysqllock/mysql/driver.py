"""The only use of PyMySQL's private API, as ``connections.py`` of 1.2 has it."""

from __future__ import annotations

import _socket  # the class that neither gevent nor eventlet replaces
import contextlib
import os
import socket
import ssl
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import pymysql
from pymysql.constants import COMMAND, CR, ER, FIELD_TYPE
from pymysql.converters import conversions, convert_datetime
from pymysql.err import Error, OperationalError, raise_mysql_exception

from celery_mysqllock.exceptions import InvalidText
from celery_mysqllock.mysql.address import CLEARTEXT, SERVER_KEY
from celery_mysqllock.mysql.tls import trusting_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    # generic in its stubs only
    _PyMySQLConnection = pymysql.Connection[pymysql.cursors.Cursor]
else:
    _PyMySQLConnection = pymysql.Connection

#: The driver's release; its __version__ is the one of mysqlclient that it stands for.
VERSION = pymysql.VERSION_STRING

_HEADER = 4  # bytes before each packet: its length and its place in the answer
_ERROR, _NULL = 0xFF, 0xFB
_CHUNK = 4096
# Bytes above which a statement may be too large for the server; its default is 4 MiB or more.
_LARGE = 500_000

# ruff: noqa: SLF001 - this module is there to keep the driver's private names in one place


def _read_time(text: str | bytes) -> datetime:
    """A time, which PyMySQL gives as text when there is no such day, such as the server's zero."""
    found = convert_datetime(text)
    return found if isinstance(found, datetime) else _ZERO


_ZERO = datetime(1970, 1, 1)  # noqa: DTZ001 - as PyMySQL's, without a zone
_CONVERSIONS = {
    **conversions,
    FIELD_TYPE.TIMESTAMP: _read_time,
    FIELD_TYPE.DATETIME: _read_time,
}


# Plugins that send the password as it is.
_PLUGINS_IN_CLEAR = (b"mysql_clear_password", b"dialog")


class Connection(_PyMySQLConnection):
    """A connection that is encrypted if the server can, unless its options say otherwise.

    It does not give its password to a server that has not proved its identity. Like MySQL's own
    clients, and unlike PyMySQL, it refuses to send the password in clear text, or encrypted with a
    key that the server itself has sent.
    """

    _own_key: bytes | None = None

    def __init__(self, *args: Any, login_method: str | None = None, **kwargs: Any) -> None:  # noqa: ANN401 - PyMySQL's
        self._login_method = login_method
        super().__init__(*args, **{"conv": _CONVERSIONS, **kwargs})

    def _process_auth(self, plugin_name: bytes, *args: Any) -> Any:  # noqa: ANN401 - PyMySQL's
        is_asked_for = self._login_method == CLEARTEXT or self._is_verified()
        if plugin_name in _PLUGINS_IN_CLEAR and self.password and not is_asked_for:
            raise OperationalError(
                CR.CR_AUTH_PLUGIN_ERR,
                f"It wants the password in clear text ({plugin_name.decode()}). Have it prove "
                f"who it is with ssl_mode=VERIFY_CA, or trust it with login_method={CLEARTEXT}",
            )
        return super()._process_auth(plugin_name, *args)  # type: ignore[misc]  # not in its stubs

    def _is_verified(self) -> bool:
        if self.unix_socket:
            return True
        context = getattr(self, "ctx", None)
        secure = getattr(self, "_secure", False)
        return bool(secure and context and context.verify_mode == ssl.CERT_REQUIRED)

    @property
    def server_public_key(self) -> bytes | None:
        """The attribute in which the driver keeps the key that the server has sent."""
        return self._own_key

    @server_public_key.setter
    def server_public_key(self, key: bytes | None) -> None:
        if key is not None and self._login_method != SERVER_KEY:
            raise OperationalError(
                CR.CR_AUTH_PLUGIN_ERR,
                "It wants the password encrypted with a key of its own. Encrypt the connection "
                f"with ssl_mode=REQUIRED, or trust the server with login_method={SERVER_KEY}",
            )
        self._own_key = key

    def _create_ssl_ctx(self, sslp: ssl.SSLContext | dict[str, Any]) -> ssl.SSLContext:
        return sslp if isinstance(sslp, ssl.SSLContext) else trusting_context()


def descriptor(connection: Connection) -> int:
    """The socket's file descriptor, -1 when there is none."""
    sock = getattr(connection, "_sock", None)
    return -1 if sock is None else int(sock.fileno())


def close_socket(connection: Connection) -> None:
    """Close the socket without telling the server; a thread that reads from it gets an error."""
    try:
        connection._force_close()  # type: ignore[attr-defined]
    except RuntimeError:
        # another greenlet of this thread reads from it, which holds its buffer
        shutdown(connection)
        connection._sock = None  # type: ignore[attr-defined]
        connection._rfile = None  # type: ignore[attr-defined]


def detach_after_fork(connection: Connection) -> None:
    """Close a forked child's copy of the socket; the parent's connection is not touched.

    PyMySQL's own close would wait for ever if another thread of the parent was reading at the
    moment of the fork: the reader's lock is held by a thread that the child does not have.
    """
    sock = getattr(connection, "_sock", None)
    connection._sock = None  # type: ignore[attr-defined]
    connection._rfile = None  # type: ignore[attr-defined]
    if sock is not None:
        number = sock.detach()
        if number >= 0:
            os.close(number)


def shutdown(connection: Connection) -> None:
    """End the connection under a thread that waits for an answer; that thread gets an error."""
    sock = getattr(connection, "_sock", None)
    if sock is not None:
        # By its descriptor: a TLS socket's own shutdown drops the state that the waiting thread
        # reads with, and eventlet's sockets have no such method in their class.
        # OSError: it is gone already, which is what this is to bring about.
        with (
            contextlib.suppress(OSError),
            contextlib.closing(_socket.socket(fileno=os.dup(sock.fileno()))) as same,
        ):
            same.shutdown(socket.SHUT_RDWR)


def connect(options: Mapping[str, Any], timeout: float) -> Connection:
    """Log in; each answer of the server may take so many seconds, the greeting too.

    The driver's own ``connect_timeout`` ends with the socket's connection: a server that is frozen
    accepts it and never greets.
    """
    return Connection(
        **options,
        # whole seconds, for the driver
        connect_timeout=max(1, round(timeout)),
        read_timeout=timeout,
        write_timeout=timeout,
    )


def set_timeout(connection: Connection, seconds: float) -> None:
    """Set the seconds that an answer, or sending a statement, may take from now on."""
    connection._read_timeout = seconds  # type: ignore[attr-defined]
    connection._write_timeout = seconds  # type: ignore[attr-defined]


@contextlib.contextmanager
def timeout(connection: Connection, seconds: float) -> Iterator[None]:
    """Set them for the block."""
    before: float = connection._read_timeout  # type: ignore[attr-defined]
    set_timeout(connection, seconds)
    try:
        yield
    finally:
        set_timeout(connection, before)


def encoded(connection: Connection, sql: str, values: object) -> bytes:
    """The statement with its values, as it is sent.

    Raises:
        InvalidText: It has half of a surrogate pair in it.
    """
    escape: Callable[[object], str] = connection.escape
    if isinstance(values, Mapping):
        sql %= {name: escape(value) for name, value in values.items()}
    elif values is not None:
        sql %= tuple([escape(value) for value in cast("Iterable[object]", values)])
    try:
        return sql.encode()
    except UnicodeEncodeError as error:
        raise InvalidText(
            f"No server stores {sql[error.start : error.end]!a}: it is half of a surrogate pair."
        ) from None


def select_int(connection: Connection, statement: bytes) -> int | None:
    """Run a SELECT of one number and return it.

    Describing a result costs the driver more than running GET_LOCK costs the server. Here the
    packets of the answer are read in one go, and the description is skipped.
    """
    _query(connection, statement)
    return _read_number(_Packets(connection))


def insert(connection: Connection, statement: bytes) -> Inserted:
    """Run an INSERT and, in the same round trip, a SELECT of one number, as in ``select_int``."""
    _query(connection, statement)
    packets = _Packets(connection)
    stored = packets.next()
    rows, at = _whole_number(stored, 1)
    row_id, _ = _whole_number(stored, at)
    try:
        selected = _read_number(packets)
    except Error:
        # What is stored is stored. If the connection is gone, the next statement finds out.
        selected = None
    return Inserted(rows, row_id, selected)


class Inserted(NamedTuple):
    """What an INSERT has done.

    Attributes:
        rows: How many rows it stored.
        row_id: The AUTO_INCREMENT of the first.
        selected: The number that the SELECT after it returned, None when that failed.
    """

    rows: int
    row_id: int
    selected: int | None


def check_size(connection: Connection, statement: bytes) -> None:
    """Raise the server's error for a statement that is above its limit, without sending it.

    The server would drop the connection, usually before its own error can be read.
    """
    if len(statement) <= _LARGE:
        return
    limit = select_int(connection, b"SELECT @@max_allowed_packet")
    if limit is not None and len(statement) >= limit:
        text = f"The statement has {len(statement)} bytes, and the server reads less than {limit}."
        raise OperationalError(ER.NET_PACKET_TOO_LARGE, text)


def _query(connection: Connection, statement: bytes) -> None:
    check_size(connection, statement)
    connection._execute_command(COMMAND.COM_QUERY, statement)  # type: ignore[attr-defined]
    connection._sock.settimeout(connection._read_timeout)  # type: ignore[attr-defined]
    # where the driver notes what it has set
    connection._current_timeout = connection._read_timeout  # type: ignore[attr-defined]


def _read_number(packets: _Packets) -> int | None:
    for _ in ("count of columns", "the column", "end of columns"):
        packets.next()
    row = packets.next()
    packets.next()  # end of rows
    return None if row[0] == _NULL else int(row[1:])


def _whole_number(packet: bytes, at: int) -> tuple[int, int]:
    """A length-encoded number of MySQL's protocol, and where it ends."""
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}.get(packet[at], 0)
    if not size:
        return packet[at], at + 1
    return int.from_bytes(packet[at + 1 : at + 1 + size], "little"), at + 1 + size


class _Packets:
    """The packets of one answer."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._come = b""
        self._at = 0
        self._number = 0

    def next(self) -> bytes:
        """The next packet; an error of the server's is raised."""
        self._number += 1
        begin = self._at + _HEADER
        while len(self._come) < begin or len(self._come) < begin + self._length():
            self._come += self._more()
        number, self._at = self._come[begin - 1], begin + self._length()
        packet = self._come[begin : self._at]
        if not packet:
            raise self._gone("the packet is empty")
        if packet[0] == _ERROR:
            # Its number is another one where the server has not read all of the statement.
            raise_mysql_exception(packet)
        if number != self._number:
            raise self._gone("it is not the next packet of the answer")
        return packet

    def _length(self) -> int:
        come, at = self._come, self._at
        return come[at] + (come[at + 1] << 8) + (come[at + 2] << 16)

    def _more(self) -> bytes:
        try:
            found: bytes = self._connection._rfile.read1(_CHUNK)  # type: ignore[attr-defined]
        except OSError as error:
            raise self._gone(error) from error
        except BaseException:
            # The rest of a half-read answer would be taken for the next one.
            close_socket(self._connection)
            raise
        if not found:
            raise self._gone("the server has ended the session")
        return found

    def _gone(self, why: object) -> OperationalError:
        close_socket(self._connection)
        return OperationalError(CR.CR_SERVER_LOST, f"No answer comes: {why}")


def send(connection: Connection, sql: str | None) -> None:
    """Send a statement that returns no rows, or a ping for None; do not wait for the answer."""
    command = COMMAND.COM_PING if sql is None else COMMAND.COM_QUERY
    connection._execute_command(command, sql or "")  # type: ignore[attr-defined]


def receive(connection: Connection) -> None:
    """Read the answer to ``send``."""
    connection._read_ok_packet()  # type: ignore[attr-defined]

"""Sessions and connections of SQLAlchemy: their own commit is the transaction's."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from celery_mysqllock.exceptions import TransactionError
from celery_mysqllock.mysql.caller.connection import CallerConnection, Result
from celery_mysqllock.mysql.caller.wrapped import driver_connection_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Calls = dict[Callable[[], None], None]

_DRIVERS = frozenset({"pymysql", "mysqldb"})
# Keys in SQLAlchemy's ``info``, which is for such use. Calls of a transaction that was rolled back
# stay until the next commit: ringing in vain does no harm.
_WRITTEN = "celery_mysqllock.written"
_COMMITTED = "celery_mysqllock.committed"


def is_session(connection: object) -> bool:
    """Whether this is a Session, or a scoped_session."""
    orm = sys.modules.get("sqlalchemy.orm")
    return orm is not None and isinstance(connection, (orm.Session, orm.scoped_session))


def is_connection(connection: object) -> bool:
    """Whether this is a Connection."""
    engine = sys.modules.get("sqlalchemy.engine")
    return engine is not None and isinstance(connection, engine.Connection)


def is_async(connection: object) -> bool:
    """Whether this is one of the asyncio kinds."""
    extension = sys.modules.get("sqlalchemy.ext.asyncio")
    return extension is not None and isinstance(
        connection,
        (extension.AsyncSession, extension.async_scoped_session, extension.AsyncConnection),
    )


class SQLAlchemyConnection(CallerConnection):
    """A Connection, whose jobs are announced a little later than those of the others.

    SQLAlchemy's event of a Connection's commit comes before the commit. So committed jobs are
    announced when the connection goes back to its pool or begins another transaction.
    """

    def __init__(self, connection: Any) -> None:  # noqa: ANN401 - SQLAlchemy's
        self._connection = connection

    def check(self) -> None:  # noqa: D102 - as in CallerConnection
        dialect = self._connection.dialect
        if dialect.name not in ("mysql", "mariadb") or dialect.driver not in _DRIVERS:
            raise TransactionError(
                f"SQLAlchemy's connection is one of {dialect.name}+{dialect.driver}; it takes "
                "mysql+pymysql and mysql+mysqldb."
            )
        if self.driver_connection().get_autocommit():
            raise TransactionError(
                "SQLAlchemy's connection commits each statement (isolation level AUTOCOMMIT), and "
                "so it would each job. Use one with transactions."
            )

    def run(self, sql: str, values: Mapping[str, object]) -> Result:  # noqa: D102
        result = self._connection.exec_driver_sql(sql, dict(values))
        if result.returns_rows:
            return Result(result.rowcount, 0, [tuple(row) for row in result])
        return Result(result.rowcount, result.lastrowid or 0, [])

    def after_commit(self, call: Callable[[], None]) -> None:  # noqa: D102
        connection = self._connection
        _listen(connection, "begin", _ring_for_connection)
        _listen(connection, "commit", _note_commit)
        _listen(connection.engine.pool, "checkin", _ring_at_checkin)
        connection.info.setdefault(_WRITTEN, {})[call] = None

    def driver_connection(self) -> Any:  # noqa: ANN401, D102 - as in CallerConnection
        found = self._connection.connection.dbapi_connection
        return driver_connection_of(found) or found


class SQLAlchemySession(CallerConnection):
    """A Session, which has an event after its commit."""

    def __init__(self, session: Any) -> None:  # noqa: ANN401 - SQLAlchemy's, or a scoped_session
        self._given = session

    @property
    def _session(self) -> Any:  # noqa: ANN401 - SQLAlchemy's
        given = self._given
        return given if isinstance(given, sys.modules["sqlalchemy.orm"].Session) else given()

    @property
    def _connection(self) -> SQLAlchemyConnection:
        """The connection of the Session's transaction."""
        try:
            return SQLAlchemyConnection(self._session.connection())
        except sys.modules["sqlalchemy"].exc.UnboundExecutionError as error:
            raise TransactionError(
                "The Session has several binds, or none, and none is for all: give "
                "transaction() the Connection of the bind that is on the broker's server, "
                "session.connection(bind_arguments={'mapper': Order}) with one of its classes."
            ) from error

    def check(self) -> None:  # noqa: D102 - as in CallerConnection
        self._connection.check()

    def run(self, sql: str, values: Mapping[str, object]) -> Result:  # noqa: D102
        return self._connection.run(sql, values)

    def after_commit(self, call: Callable[[], None]) -> None:  # noqa: D102
        session = self._session
        _listen(session, "after_commit", _ring_for_session)
        session.info.setdefault(_WRITTEN, {})[call] = None

    def driver_connection(self) -> Any:  # noqa: ANN401, D102 - as in CallerConnection
        return self._connection.driver_connection()


def _listen(target: Any, event: str, call: Callable[..., None]) -> None:  # noqa: ANN401
    events = sys.modules["sqlalchemy"].event
    if not events.contains(target, event, call):
        events.listen(target, event, call)


def _ring_for_session(session: Any) -> None:  # noqa: ANN401
    _call(session.info, _WRITTEN)


def _note_commit(connection: Any) -> None:  # noqa: ANN401
    written: Calls = connection.info.pop(_WRITTEN, {})
    connection.info.setdefault(_COMMITTED, {}).update(written)


def _ring_for_connection(connection: Any) -> None:  # noqa: ANN401
    _call(connection.info, _COMMITTED)


def _ring_at_checkin(_: object, record: Any) -> None:  # noqa: ANN401
    _call(record.info, _COMMITTED)


def _call(info: dict[str, Any], key: str) -> None:
    calls: Calls = info.pop(key, {})
    for call in calls:
        call()

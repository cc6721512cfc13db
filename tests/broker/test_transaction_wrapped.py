"""Connections that tracers, pools and proxies have wrapped carry jobs as bare ones do."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pymysql
import pytest
import sqlalchemy
import sqlalchemy.orm

import celery_mysqllock
from tests.broker.app import note
from tests.broker.callers import ORDER, OutOfStockError, Plain, SQLAlchemy, login, sent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_mysqllock.mysql import Session

pytestmark = pytest.mark.usefixtures("producer_url")


class Proxy:
    """A program's own, which hands on what it does not know."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


def _opentelemetry(url: str) -> Any:
    module = pytest.importorskip("opentelemetry.instrumentation.pymysql")
    return module.PyMySQLInstrumentor().instrument_connection(pymysql.connect(**login(url)))


def _ddtrace(url: str) -> Any:
    module = pytest.importorskip("ddtrace.contrib.internal.pymysql.patch")
    return module.patch_conn(pymysql.connect(**login(url)))


def _wrapt(url: str) -> Any:
    return pytest.importorskip("wrapt").ObjectProxy(pymysql.connect(**login(url)))


def _dbutils(url: str) -> Any:
    return pytest.importorskip("dbutils.pooled_db").PooledDB(pymysql, **login(url)).connection()


def _dbutils_thread(url: str) -> Any:
    module = pytest.importorskip("dbutils.persistent_db")
    return module.PersistentDB(pymysql, **login(url)).connection()


def _pool_of_sqlalchemy(url: str) -> Any:
    return SQLAlchemy(url, "pymysql", core=True).engine.raw_connection()


def _queue_pool(url: str) -> Any:
    connect: Any = lambda: pymysql.connect(**login(url))  # noqa: E731 - of no type that it knows
    return sqlalchemy.QueuePool(connect).connect()


WRAPPERS: dict[str, Callable[[str], Any]] = {
    "OpenTelemetry": _opentelemetry,
    "ddtrace": _ddtrace,
    "wrapt": _wrapt,
    "DBUtils, pool": _dbutils,
    "DBUtils, thread": _dbutils_thread,
    "SQLAlchemy, raw": _pool_of_sqlalchemy,
    "SQLAlchemy, pool": _queue_pool,
    "proxy": lambda url: Proxy(pymysql.connect(**login(url))),
    "proxy of a proxy": lambda url: Proxy(Proxy(pymysql.connect(**login(url)))),
}


@pytest.fixture(params=WRAPPERS)
def wrapped(session: Session, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A connection of each kind."""
    session.execute("CREATE TABLE orders (entry VARCHAR(200))")
    connection = WRAPPERS[request.param](session.address.url())
    yield connection
    with suppress(Exception):
        connection.close()


def order(connection: Any, entry: str) -> None:
    cursor = connection.cursor()
    cursor.execute(ORDER, {"entry": entry})
    cursor.close()


def both(session: Session) -> tuple[list[str], list[str]]:
    """The entries of orders, and of jobs."""
    return (
        [row[0] for row in session.query("SELECT entry FROM orders ORDER BY entry")],
        sent(session),
    )


def test_a_wrapped_connection_carries_jobs(wrapped: Any, session: Session) -> None:
    with celery_mysqllock.transaction(wrapped) as given:
        assert given is wrapped
        order(wrapped, "kept")
        note.delay("kept")
        assert both(session) == ([], [])
    with suppress(OutOfStockError), celery_mysqllock.transaction(wrapped):
        order(wrapped, "undone")
        note.delay("undone")
        raise OutOfStockError
    assert both(session) == (["kept"], ["kept"])


def test_a_block_on_the_connection_and_one_on_its_wrapper_are_one_transaction(
    wrapped: Any, session: Session
) -> None:
    bare = wrapped.cursor().connection
    with suppress(OutOfStockError), celery_mysqllock.transaction(wrapped):
        with celery_mysqllock.transaction(bare):
            note.delay("undone")
        raise OutOfStockError
    assert both(session) == ([], [])


def test_a_pool_that_opens_another_connection_in_the_block_loses_no_half(session: Session) -> None:
    session.execute("CREATE TABLE orders (entry VARCHAR(200))")
    connection = _dbutils(session.address.url())

    def lose_the_session() -> None:
        with celery_mysqllock.transaction(connection):
            order(connection, "lost")
            note.delay("lost")
            session.execute("KILL %s", (connection.cursor().connection.thread_id(),))
            with suppress(pymysql.err.Error):
                order(connection, "on a new one")
            note.delay("too")

    with pytest.raises(pymysql.err.Error):
        lose_the_session()
    connection.close()
    assert both(session) == ([], [])


def test_a_tracer_below_sqlalchemy_does_not_matter(session: Session) -> None:
    url = session.address.url()
    engine = sqlalchemy.create_engine("mysql+pymysql://", creator=lambda: _opentelemetry(url))
    with engine.connect() as made:
        for commits in (True, False):
            with celery_mysqllock.transaction(made):
                note.delay(str(commits))
            if commits:
                made.commit()
    session.execute("CREATE TABLE orders (entry VARCHAR(200))")
    assert both(session) == ([], ["True"])


def test_a_proxy_of_a_sqlalchemy_session_carries_jobs(session: Session) -> None:
    wrapt = pytest.importorskip("wrapt")
    session.execute("CREATE TABLE orders (entry VARCHAR(200))")
    caller = SQLAlchemy(session.address.url(), "pymysql", core=False)
    with sqlalchemy.orm.Session(caller.engine) as made:
        proxy = wrapt.ObjectProxy(made)
        for commits in (True, False):
            with celery_mysqllock.transaction(proxy):
                note.delay(str(commits))
            if commits:
                proxy.commit()
    assert both(session) == ([], ["True"])


def test_the_class_of_a_driver_may_be_a_programs_own(session: Session) -> None:
    class Connection(pymysql.Connection):
        """A program's own."""

    session.execute("CREATE TABLE orders (entry VARCHAR(200))")
    own: Any = Connection(**login(session.address.url()))
    with celery_mysqllock.transaction(own):
        note.delay("kept")
    own.close()
    assert both(session) == ([], ["kept"])


def test_mysqlclient_in_a_wrapper_carries_jobs(session: Session) -> None:
    pytest.importorskip("MySQLdb.cursors", reason="mysqlclient is not installed")
    session.execute("CREATE TABLE orders (entry VARCHAR(200))")
    caller = Plain(session.address.url(), "mysqldb")
    with celery_mysqllock.transaction(Proxy(caller.connection)):
        note.delay("kept")
    caller.connection.close()
    assert both(session) == ([], ["kept"])

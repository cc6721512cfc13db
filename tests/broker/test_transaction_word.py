"""The transaction block keeps its word, or refuses: late bodies, other brokers, cursors."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import threading
from contextlib import asynccontextmanager, contextmanager, nullcontext, suppress
from itertools import starmap
from typing import TYPE_CHECKING, Any

import pymysql
import pytest
import sqlalchemy
from celery import Celery
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker
from sqlalchemy.orm import Session as ORMSession

import celery_mysqllock
from celery_mysqllock.exceptions import TransactionError
from tests.broker.app import app, note, once
from tests.broker.callers import DRIVERS, OutOfStockError, Plain, SQLAlchemy, sent

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from celery_mysqllock.mysql import Session

pytestmark = pytest.mark.usefixtures("producer_url")


@pytest.fixture(params=DRIVERS)
def engine(session: Session, request: pytest.FixtureRequest) -> Iterator[sqlalchemy.Engine]:
    engine = SQLAlchemy(session.address.url(), request.param, core=False).engine
    yield engine
    engine.dispose()


@pytest.fixture
def orders(session: Session) -> None:
    """300 rows, with ids from 1."""
    session.execute("CREATE TABLE orders (id INT PRIMARY KEY AUTO_INCREMENT, entry VARCHAR(200))")
    for number in range(300):
        session.execute("INSERT INTO orders (entry) VALUES (%s)", (str(number),))


# -- what is decorated ----------------------------------------------------------------------------


async def _order(entry: str, *, fails: bool) -> str:
    await asyncio.sleep(0)
    note.delay(entry)
    await asyncio.sleep(0)
    if fails:
        raise OutOfStockError
    return entry


class _AsyncCall:
    async def __call__(self, entry: str, *, fails: bool) -> str:
        return await _order(entry, fails=fails)


class _Methods:
    async def method(self, entry: str, *, fails: bool) -> str:
        return await _order(entry, fails=fails)


@pytest.mark.parametrize(
    "function",
    [_order, functools.partial(_order), _AsyncCall(), _Methods().method],
    ids=["async def", "partial", "async __call__", "method"],
)
def test_the_block_is_open_while_a_coroutine_runs(
    function: Callable[..., Any], plain: Plain, session: Session
) -> None:
    decorated = plain.transaction()(function)
    with pytest.raises(OutOfStockError):
        asyncio.run(decorated("undone", fails=True))
    assert sent(session) == []
    assert asyncio.run(decorated("kept", fails=False)) == "kept"
    assert sent(session) == ["kept"]


def test_a_coroutine_in_disguise_is_refused(plain: Plain, session: Session) -> None:
    @plain.transaction()  # type: ignore[untyped-decorator, unused-ignore]
    def order() -> Any:
        note.delay("undone")
        return _order("not begun", fails=False)

    with pytest.raises(TransactionError, match="returned a coroutine"):
        order()
    assert sent(session) == []


@contextmanager
def _ordering() -> Iterator[None]:
    note.delay("late")
    yield


@asynccontextmanager
async def _ordering_async() -> AsyncIterator[None]:
    note.delay("late")
    yield


@pytest.mark.parametrize(
    "function",
    [
        _ordering,
        _ordering_async,
        lambda: map(note.delay, ["late"]),
        lambda: filter(note.delay, ["late"]),
        lambda: starmap(note.delay, [("late",)]),
    ],
    ids=["contextmanager", "asynccontextmanager", "map", "filter", "starmap"],
)
def test_a_function_whose_result_would_send_after_the_block_is_refused(
    function: Callable[[], Any], plain: Plain
) -> None:
    with pytest.raises(TransactionError, match="whose body would run after the block"):
        plain.transaction()(function)()


def _rows() -> Iterator[int]:
    yield 1


async def _async_rows() -> AsyncIterator[int]:
    yield 1


class _Rows:
    def __call__(self) -> Iterator[int]:
        yield 1


@pytest.mark.parametrize(
    ("thing", "why"),
    [
        (_rows, "generator"),
        (_async_rows, "generator"),
        (functools.partial(_rows), "generator"),
        (_Rows(), "generator"),
        (_Rows, "for functions"),
        (3, "for functions"),
        (note, "below @app.task"),
    ],
)
def test_what_runs_outside_of_the_call_is_not_decorated(thing: Any, why: str, plain: Plain) -> None:
    with pytest.raises(TransactionError, match=why):
        plain.transaction()(thing)


def test_a_task_that_is_yet_to_be_made_is_not_decorated(plain: Plain) -> None:
    lazy = Celery("lazy", set_as_current=False)

    @lazy.task(name="later")
    def later() -> None:
        """Do nothing."""

    with pytest.raises(TransactionError, match=r"below @app\.task"):
        plain.transaction()(later)


def test_each_call_of_a_decorated_function_is_a_block(plain: Plain, session: Session) -> None:
    class Shop:
        @staticmethod
        @plain.transaction()
        def order(entry: str) -> None:
            note.delay(entry)

        @plain.transaction()
        @staticmethod
        def cancel(entry: str) -> None:
            note.delay(entry)
            raise OutOfStockError

    for entry in "ab":
        Shop.order(entry)
        with suppress(OutOfStockError):
            Shop.cancel(entry)
    assert sent(session) == ["a", "b"]


# -- where a block begins and ends ----------------------------------------------------------------


def test_a_block_of_another_asyncio_task_on_the_same_connection_is_refused(
    plain: Plain, session: Session
) -> None:
    async def both() -> None:
        begun, refused = asyncio.Event(), asyncio.Event()

        @plain.transaction()  # type: ignore[untyped-decorator, unused-ignore]
        async def first() -> None:
            note.delay("first")
            begun.set()
            await refused.wait()

        async def second() -> None:
            await begun.wait()
            with pytest.raises(TransactionError, match="a block open"), plain.transaction():
                note.delay("second")
            refused.set()

        await asyncio.gather(first(), second())

    asyncio.run(both())
    assert sent(session) == ["first"]


def test_a_block_of_another_thread_on_the_same_connection_is_refused(
    plain: Plain, session: Session
) -> None:
    found: list[str] = []

    def second() -> None:
        try:
            with plain.transaction():
                note.delay("second")
        except TransactionError as error:
            found.append(str(error))

    with plain.transaction():
        note.delay("first")
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(30)
    assert "a block open" in found[0]
    assert sent(session) == ["first"]


def test_an_inner_block_that_outlives_the_outer_rolls_all_back(
    plain: Plain, session: Session
) -> None:
    async def outer() -> None:
        begun, over = asyncio.Event(), asyncio.Event()

        async def inner() -> None:
            with plain.transaction():
                note.delay("inner")
                begun.set()
                await over.wait()

        with (  # noqa: PT012 - the end of the block raises
            pytest.raises(TransactionError, match="still open"),
            plain.transaction(),
        ):
            task = asyncio.create_task(inner())
            await begun.wait()
            note.delay("outer")
        over.set()
        with pytest.raises(Exception, match=r"SAVEPOINT|left in another context"):
            await task

    asyncio.run(outer())
    assert sent(session) == []


@contextmanager
def unit_of_work(caller: Plain) -> Iterator[None]:
    """What programs write round it."""
    with caller.transaction():
        yield


def test_a_block_may_be_in_a_context_manager_of_the_programs(
    plain: Plain, session: Session
) -> None:
    with unit_of_work(plain):
        note.delay("kept")
    with suppress(OutOfStockError), unit_of_work(plain):
        note.delay("undone")
        raise OutOfStockError
    assert sent(session) == ["kept"]


def test_a_block_that_is_entered_and_left_in_contexts_of_their_own_rolls_back(
    plain: Plain, session: Session
) -> None:
    # as web frameworks do with a dependency that yields, in two threads of a pool
    dependency = unit_of_work(plain)
    contextvars.copy_context().run(dependency.__enter__)
    plain.connection.query("SELECT 1")
    with pytest.raises(TransactionError, match="another context"):
        contextvars.copy_context().run(dependency.__exit__, None, None, None)
    note.delay("after")
    assert sent(session) == ["after"]


def test_blocks_that_are_not_left_in_the_reverse_order_roll_back(
    plain: Plain, session: Session
) -> None:
    other = Plain(session.address.url(), "pymysql")
    first, second = plain.transaction(), other.transaction()
    first.__enter__()
    note.delay("first")
    second.__enter__()
    with pytest.raises(TransactionError, match="before a block"):
        first.__exit__(None, None, None)
    note.delay("second")
    second.__exit__(None, None, None)
    note.delay("after")
    assert sent(session) == ["second", "after"]
    other.connection.close()


def test_a_block_is_entered_once(plain: Plain) -> None:
    block = plain.transaction()
    with block, pytest.raises(TransactionError, match="once"), block:
        pass


def test_a_connection_that_was_opened_anew_in_the_block_is_refused(session: Session) -> None:
    caller = Plain(session.address.url(), "pymysql")

    def lose_half() -> None:
        with caller.transaction():
            note.delay("lost")
            session.execute("KILL %s", (caller.connection.thread_id(),))
            caller.connection.ping(reconnect=True)
            with pytest.raises(TransactionError, match="opened anew"):
                note.delay("half")

    with pytest.raises(TransactionError, match="opened anew"):
        lose_half()
    assert sent(session) == []
    caller.connection.close()


# -- other brokers --------------------------------------------------------------------------------


@pytest.fixture
def elsewhere() -> Iterator[Celery]:
    """An application whose broker is no MySQL."""
    other = Celery("elsewhere", broker="memory://", set_as_current=False)
    other.conf.task_ignore_result = True
    yield other
    other.close()


@pytest.mark.parametrize("protocol", [1, 2])
def test_a_task_of_another_broker_is_refused_in_the_block(
    protocol: int, elsewhere: Celery, plain: Plain, session: Session
) -> None:
    # all of a process have the queues in its memory in common
    elsewhere.conf.update(task_protocol=protocol, task_default_queue=f"word-{protocol}")

    @elsewhere.task(name="ship")
    def ship(_: int) -> None:
        """Do nothing."""

    with (  # noqa: PT012 - and the block rolls back
        pytest.raises(TransactionError, match="The broker of task ship is memory"),
        plain.transaction(),
    ):
        note.delay("undone")
        ship.delay(1)
    with elsewhere.connection_for_read() as connection:
        queue = elsewhere.amqp.queues[f"word-{protocol}"](connection.default_channel)
        queue.declare()
        assert queue.get(no_ack=True) is None
        ship.delay(2)
        assert queue.get(no_ack=True) is not None
    assert sent(session) == []


def test_remote_control_of_another_broker_is_sent_at_once(elsewhere: Celery, plain: Plain) -> None:
    with plain.transaction():
        elsewhere.control.broadcast("shutdown")


# -- cursors --------------------------------------------------------------------------------------

READ = "SELECT entry FROM orders ORDER BY id"


def unbuffered(caller: Plain) -> Any:
    package = type(caller.connection).__module__.partition(".")[0]
    cursors = pymysql.cursors if package == "pymysql" else __import__("MySQLdb.cursors").cursors
    return caller.connection.cursor(cursors.SSCursor)


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("send", [note.delay, once.delay])
def test_rows_that_are_not_read_are_not_thrown_away(
    send: Callable[..., Any], session: Session
) -> None:
    caller = Plain(session.address.url(), "pymysql")
    with caller.transaction():
        note.delay("before")
        with unbuffered(caller) as cursor:
            cursor.execute(READ)
            assert cursor.fetchone() == ("0",)
            with pytest.raises(TransactionError, match="not read yet"):
                send("0")
            assert len(cursor.fetchall()) == 299
        send("x")
    assert sent(session) == ["before", "x"]
    caller.connection.close()


@pytest.mark.usefixtures("orders")
def test_a_loop_over_unread_rows_with_a_block_in_it_is_refused(session: Session) -> None:
    caller = Plain(session.address.url(), "pymysql", autocommit=True)
    for around in (nullcontext, caller.transaction):
        with around(), unbuffered(caller) as cursor:
            cursor.execute(READ)
            cursor.fetchone()
            with pytest.raises(TransactionError, match="not read yet"), caller.transaction():
                note.delay("0")
            assert len(cursor.fetchall()) == 299
    assert sent(session) == []
    caller.connection.close()


@pytest.mark.usefixtures("orders")
def test_a_loop_that_ends_with_the_error_leaves_nothing_open(
    plain: Plain, session: Session
) -> None:
    def loop() -> None:
        with plain.transaction():
            with plain.connection.cursor() as cursor:
                cursor.execute("INSERT INTO orders (entry) VALUES ('undone')")
            cursor = unbuffered(plain)
            cursor.execute(READ)
            for (entry,) in cursor:
                note.delay(entry)

    with pytest.raises(TransactionError, match="not read yet"):
        loop()
    with suppress(Exception):  # it may have been closed
        plain.connection.commit()
    assert session.value("SELECT COUNT(*) FROM orders WHERE entry = 'undone'") == 0
    assert sent(session) == []


@pytest.mark.usefixtures("orders")
@pytest.mark.parametrize("core", [True, False])
def test_yield_per_of_sqlalchemy_is_refused(
    core: bool, engine: sqlalchemy.Engine, session: Session
) -> None:
    made: Any = engine.connect() if core else ORMSession(engine)

    with (  # noqa: PT012 - the error leaves all of them
        pytest.raises(TransactionError, match="not read yet"),
        made,
        made.begin(),
        celery_mysqllock.transaction(made),
    ):
        rows = made.execute(sqlalchemy.text(READ), execution_options={"yield_per": 100})
        for row in rows:
            note.delay(row[0])
    assert sent(session) == []


def test_results_of_a_procedure_are_not_thrown_away(session: Session) -> None:
    session.execute("CREATE PROCEDURE two_results() BEGIN SELECT 1; SELECT 2; END")
    caller = Plain(session.address.url(), "pymysql")
    with caller.transaction(), caller.connection.cursor() as cursor:
        cursor.callproc("two_results")
        assert cursor.fetchall() == ((1,),)
        with pytest.raises(TransactionError, match="not read yet"):
            note.delay("refused")
        assert cursor.nextset()
        assert cursor.fetchall() == ((2,),)
        # what is left says no more than that it has ended
        note.delay("kept")
    assert sent(session) == ["kept"]
    caller.connection.close()


def test_a_forked_child_is_not_in_the_block(plain: Plain, session: Session) -> None:
    with plain.transaction():
        note.delay("parent")
        child = os.fork()
        if not child:
            try:
                note.delay("child")
            except TransactionError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
    assert sent(session) == ["parent"]


@pytest.mark.usefixtures("orders")
def test_last_insert_id_stays_the_callers(plain: Plain, session: Session) -> None:
    with plain.transaction(), plain.connection.cursor() as cursor:
        cursor.execute("INSERT INTO orders (entry) VALUES ('mine')")
        for send in (note.delay, once.delay, once.delay):
            send("x")
            cursor.execute("SELECT LAST_INSERT_ID()")
            assert cursor.fetchall() == ((301,),)
    assert sent(session) == ["x", "x"]


@pytest.mark.usefixtures("orders")
def test_last_insert_id_stays_that_of_a_session(engine: sqlalchemy.Engine) -> None:
    with ORMSession(engine) as made, made.begin(), celery_mysqllock.transaction(made):
        made.execute(sqlalchemy.text("INSERT INTO orders (entry) VALUES ('mine')"))
        note.delay("x")
        assert made.scalar(sqlalchemy.text("SELECT LAST_INSERT_ID()")) == 301


# -- sessions of SQLAlchemy -----------------------------------------------------------------------


class Base(DeclarativeBase):
    """Of this file's tables."""


class Order(Base):
    """An order."""

    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)


def test_a_session_with_several_binds_is_told_what_to_pass(
    engine: sqlalchemy.Engine, session: Session
) -> None:
    with ORMSession(binds={Order: engine}) as made:
        with celery_mysqllock.transaction(made), pytest.raises(TransactionError, match="mapper"):
            note.delay("refused")
        connection = made.connection(bind_arguments={"mapper": Order})
        with celery_mysqllock.transaction(connection):
            note.delay("kept")
        made.commit()
        with celery_mysqllock.transaction(made.connection(bind_arguments={"mapper": Order})):
            note.delay("undone")
        made.rollback()
    assert sent(session) == ["kept"]


def test_a_session_for_asyncio_is_refused_with_the_reason() -> None:
    block = celery_mysqllock.transaction(AsyncSession())
    with pytest.raises(TransactionError, match="one for asyncio"):
        block.__enter__()


def test_makers_and_engines_are_refused(engine: sqlalchemy.Engine) -> None:
    for thing in (engine, sessionmaker(engine), engine.pool, None, object(), app):
        with pytest.raises(TransactionError, match="cannot carry jobs"):
            celery_mysqllock.transaction(thing).__enter__()

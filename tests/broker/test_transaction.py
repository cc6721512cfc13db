"""Transactional enqueue: what a program sees that sends tasks in a transaction of its own."""

from __future__ import annotations

import contextvars
import json
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pymysql
import pytest
import sqlalchemy
from celery import chain, chord, group
from kombu import Queue
from sqlalchemy.orm import Session as ORMSession
from sqlalchemy.orm import scoped_session, sessionmaker

import celery_mysqllock
from celery_mysqllock.exceptions import MessageTooLarge, TransactionError
from celery_mysqllock.jobs import JobTable, Migrations
from celery_mysqllock.mysql import Address, Session
from tests.broker.app import add, app, hang, note, once, ordered, stamp
from tests.broker.callers import (
    DRIVERS,
    EACH_KIND,
    KINDS,
    OutOfStockError,
    Plain,
    SQLAlchemy,
    sent,
)
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from devserver import DevServer, GivenServer
    from tests.broker.listener import Listener
    from tests.broker.worker import Worker

pytestmark = pytest.mark.usefixtures("producer_url")

INSERT_UNDER_WAY = """
SELECT COUNT(*) FROM information_schema.processlist
WHERE info LIKE 'INSERT INTO %jobs%' AND time > 0
"""


@pytest.fixture
def engine(session: Session) -> Iterator[sqlalchemy.Engine]:
    engine = SQLAlchemy(session.address.url(), "pymysql", core=False).engine
    yield engine
    engine.dispose()


def ledger(session: Session) -> list[str]:
    return sorted(row[0] for row in session.query("SELECT entry FROM ledger"))


def ledger_in_order(session: Session) -> list[str]:
    return [row[0] for row in session.query("SELECT entry FROM ledger")]


def elsewhere(send: Callable[..., Any], *arguments: Any) -> Any:
    """Send a task from outside of this thread's block, as another program would."""
    return contextvars.Context().run(send, *arguments)


# -- the block ------------------------------------------------------------------------------------


def test_nobody_sees_a_job_before_its_commit(plain: Plain, session: Session) -> None:
    with plain.transaction():
        task_id = note.delay("a").id
        assert session.value("SELECT COUNT(*) FROM jobs") == 0
    message = session.value("SELECT message FROM jobs")
    assert json.loads(message)["headers"]["id"] == task_id


def test_what_is_sent_after_the_block_is_sent_at_once(plain: Plain, session: Session) -> None:
    with suppress(OutOfStockError), plain.transaction():
        raise OutOfStockError
    note.delay("after")
    assert sent(session) == ["after"]


@pytest.mark.parametrize("autocommit", [True, False])
def test_a_plain_block_commits_and_leaves_autocommit_as_it_was(
    autocommit: bool, session: Session
) -> None:
    caller = Plain(session.address.url(), "pymysql", autocommit=autocommit)
    session.execute("CREATE TABLE orders (entry VARCHAR(200))")
    with caller.transaction():
        caller.order("1")
        note.delay(1)
    with suppress(OutOfStockError), caller.transaction():
        caller.order("2")
        note.delay(2)
        raise OutOfStockError
    assert caller.connection.get_autocommit() is autocommit
    assert session.query("SELECT entry FROM orders") == [("1",)]
    assert sent(session) == ["1"]
    caller.connection.close()


def test_a_plain_block_in_another_is_a_savepoint(plain: Plain, session: Session) -> None:
    with plain.transaction():
        note.delay("outer")
        with suppress(OutOfStockError), plain.transaction():
            note.delay("undone")
            raise OutOfStockError
        with plain.transaction():
            note.delay("inner")
        assert sent(session) == []
    assert sent(session) == ["outer", "inner"]


def test_blocks_of_two_connections_are_two_transactions(plain: Plain, session: Session) -> None:
    other = Plain(session.address.url(), "pymysql")
    with suppress(OutOfStockError), plain.transaction():
        note.delay("undone")
        with other.transaction():
            note.delay("of the other")
        note.delay("undone too")
        raise OutOfStockError
    assert sent(session) == ["of the other"]
    other.connection.close()


def test_autocommit_switched_on_in_the_block_is_refused(plain: Plain) -> None:
    with plain.transaction():
        plain.connection.autocommit(True)  # noqa: FBT003 - the drivers' own
        with pytest.raises(TransactionError, match="committed at once"):
            note.delay(1)


def test_a_scheduled_task_wakes_the_sweeper_after_the_commit(
    plain: Plain, session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker(BROKER_OPTIONS='{"polling_interval": 60}')
    with plain.transaction():
        stamp.apply_async((0,), countdown=1)
    assert session.value("SELECT job_status FROM jobs") == 2
    eventually(lambda: ledger(session), within=20)


# -- groups, chains and chords --------------------------------------------------------------------


@pytest.fixture
def _results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A result backend for this process, which a chord cannot do without."""
    monkeypatch.setattr(app, "_local", threading.local())
    monkeypatch.setitem(app.conf, "result_backend", f"file://{tmp_path}")


@pytest.mark.parametrize(
    ("canvas", "jobs"),
    [
        (lambda: group(note.si(n) for n in range(20)), 20),
        (lambda: chain(note.si(1), note.si(2)), 1),
        (lambda: chain(group(note.si(1), note.si(2)), note.si(3), note.si(4)), 3),
        (lambda: chord([add.si(1, 1), add.si(2, 2)], note.si("sum")), 3),
    ],
    ids=["group", "chain", "group in a chain", "chord"],
)
@pytest.mark.usefixtures("_results")
def test_all_of_a_canvas_is_in_the_transaction(
    canvas: Callable[[], Any], jobs: int, plain: Plain, session: Session
) -> None:
    with suppress(OutOfStockError), plain.transaction():
        canvas().apply_async()
        raise OutOfStockError
    assert sent(session) == []
    with plain.transaction():
        assert canvas().apply_async().id
        assert sent(session) == []
    assert len(sent(session)) == jobs


CHORD = """
import pymysql, celery_mysqllock
from celery import chain, chord, group
from tests.broker.app import URL, add, note
from tests.broker.callers import login

total = note.s()
with pymysql.connect(**login(URL)) as connection:
    for fails in (True, False):
        try:
            with celery_mysqllock.transaction(connection):
                chord([add.s(i, int(fails)) for i in range(3)], total).delay()
                chain(add.s(40, 2), note.s()).delay()
                group(note.s(f"one of {n}") for n in range(2)).delay()
                assert not fails
        except AssertionError:
            pass
"""


def test_a_worker_runs_a_committed_canvas_and_nothing_of_one_rolled_back(
    session: Session,
    environment: dict[str, str],
    start_worker: Callable[..., Worker],
    tmp_path: Path,
) -> None:
    backend = {"RESULT_BACKEND": f"file://{tmp_path}"}
    start_worker(**backend)
    program = [sys.executable, "-c", CHORD]
    subprocess.run(program, env=environment | backend, check=True, timeout=60)
    expected = sorted(["[0, 1, 2]", "42", "one of 0", "one of 1"])
    eventually(lambda: ledger(session) == expected)


def test_a_retry_in_the_block_survives_its_rollback(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker()
    app.send_task("retry_in_transaction")
    eventually(lambda: ledger(session) == ["try 1"])


# -- SQLAlchemy -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["session", "scoped_session", "connection"])
def test_the_commit_of_sqlalchemy_is_the_users_own(
    kind: str, engine: sqlalchemy.Engine, session: Session
) -> None:
    made: Any = {
        "session": lambda: ORMSession(engine),
        "scoped_session": lambda: scoped_session(sessionmaker(engine)),
        "connection": engine.connect,
    }[kind]()
    for commits in (True, False):
        with celery_mysqllock.transaction(made):
            note.delay(str(commits))
        assert "False" not in sent(session)
        if commits:
            made.commit()
    made.close()
    assert sent(session) == ["True"]


@pytest.mark.parametrize("kind", ["session", "connection"])
def test_a_savepoint_of_sqlalchemy_takes_its_jobs_with_it(
    kind: str, engine: sqlalchemy.Engine, session: Session
) -> None:
    made: Any = ORMSession(engine) if kind == "session" else engine.connect()
    with made, made.begin(), celery_mysqllock.transaction(made):
        note.delay("outer")
        with suppress(OutOfStockError), made.begin_nested():
            note.delay("undone")
            raise OutOfStockError
        with made.begin_nested():
            note.delay("inner")
    assert sent(session) == ["outer", "inner"]


def test_a_commit_of_a_sqlalchemy_session_rings(
    engine: sqlalchemy.Engine, listener: Listener
) -> None:
    with ORMSession(engine) as made, celery_mysqllock.transaction(made):
        for _ in range(2):
            listener.fall_asleep()
            note.delay("undone")
            made.rollback()
            assert not listener.was_rung
            note.delay("x")
            made.commit()
            listener.hear()


def test_what_a_sqlalchemy_connection_has_committed_is_rung_for_when_it_goes_on(
    engine: sqlalchemy.Engine, listener: Listener
) -> None:
    with engine.connect() as made, celery_mysqllock.transaction(made):
        listener.fall_asleep()
        note.delay("undone")
        made.rollback()
        made.begin().close()
        assert not listener.was_rung
        note.delay("x")
        made.commit()
        made.begin().close()
        listener.hear()
        listener.fall_asleep()
        note.delay("x")
        made.commit()
    listener.hear()


def test_a_connection_that_commits_each_statement_is_refused(
    engine: sqlalchemy.Engine, session: Session
) -> None:
    commits_each = engine.execution_options(isolation_level="AUTOCOMMIT")
    with (
        ORMSession(commits_each) as made,
        celery_mysqllock.transaction(made),
        pytest.raises(TransactionError, match="AUTOCOMMIT"),
    ):
        note.delay(1)
    assert sent(session) == []


def test_another_kind_of_database_is_refused() -> None:
    with (
        ORMSession(sqlalchemy.create_engine("sqlite://")) as made,
        celery_mysqllock.transaction(made),
        pytest.raises(TransactionError, match="sqlite"),
    ):
        note.delay(1)


def test_another_kind_of_object_is_refused() -> None:
    engine = celery_mysqllock.transaction(sqlalchemy.create_engine("sqlite://"))
    with pytest.raises(TransactionError, match=r"sqlalchemy\.engine\S*Engine cannot carry jobs"):
        engine.__enter__()


# -- unique tasks ---------------------------------------------------------------------------------


def test_a_unique_job_that_came_after_the_snapshot_is_seen(plain: Plain, session: Session) -> None:
    with plain.transaction(), plain.connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM jobs")
        theirs = elsewhere(once.delay, "x")
        assert once.delay("x").id == theirs.id
    assert sent(session) == ["x"]


def test_a_key_that_the_block_itself_has_let_expire_is_free(plain: Plain, session: Session) -> None:
    with plain.transaction():
        first = once.apply_async(("x",), expires=1)
        with plain.connection.cursor() as cursor:
            cursor.execute("UPDATE jobs SET expires_at = UTC_TIMESTAMP(6)")
        assert once.delay("x").id != first.id
    assert sent(session) == ["x", "x"]


@pytest.mark.parametrize("driver", DRIVERS)
def test_the_id_of_a_unique_job_is_text_on_a_connection_that_decodes_none(
    driver: str, session: Session
) -> None:
    caller = Plain(session.address.url(), driver, use_unicode=False)
    with caller.transaction():
        assert once.delay("x").id == once.delay("x").id
    caller.connection.close()


def test_a_unique_job_that_is_there_is_not_locked(plain: Plain, session: Session) -> None:
    session.execute("SET SESSION innodb_lock_wait_timeout = 1")
    once.delay("x")
    jobs = JobTable(session)
    with plain.transaction():
        once.delay("x")
        (claimed,) = jobs.claims.claim("celery", 1, "a" * 32)
        jobs.claims.ack([claimed.id], "a" * 32)
        once.delay("x")
    assert sent(session) == ["x"]


@pytest.mark.parametrize("kind", [kind for kind in EACH_KIND if "Django" not in str(kind.id)])
def test_a_unique_task_waits_for_the_transaction_that_has_its_key(
    kind: str, session: Session
) -> None:
    caller, other = KINDS[kind](session.address.url()), Plain(session.address.url(), "pymysql")
    held = threading.Event()
    theirs = []

    def hold() -> None:
        with other.transaction():
            theirs.append(once.delay("x").id)
            held.set()
            eventually(lambda: session.value(INSERT_UNDER_WAY))

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    with caller.transaction():
        assert [once.delay("x").id] == theirs
        note.delay("y")
    thread.join(30)
    other.connection.close()
    assert sent(session) == ["x", "y"]


# -- ordered tasks --------------------------------------------------------------------------------


def test_jobs_of_a_key_run_in_order_while_one_more_is_not_committed(
    plain: Plain, session: Session, start_worker: Callable[..., Worker]
) -> None:
    start_worker()
    others = [f"{step} k/{number}" for number in (1, 2, 3) for step in ("begin", "end")]
    with plain.transaction():
        ordered.delay("k", 0)
        ordered.apply_async(("k", 9), countdown=0.1)
        for number in (1, 2, 3):
            elsewhere(ordered.delay, "k", number)
        eventually(lambda: ledger_in_order(session) == others)
    eventually(lambda: len(ledger(session)) == 10)
    assert ledger(session)[:5] == [f"begin k/{number}" for number in (0, 1, 2, 3, 9)]


def test_the_first_of_a_key_is_let_go_by_the_commit(
    plain: Plain, session: Session, listener: Listener
) -> None:
    listener.fall_asleep()
    with plain.transaction():
        for number in range(3):
            ordered.delay("k", number)
    listener.hear()
    assert session.query("SELECT job_status FROM jobs ORDER BY id") == [(0,), (4,), (4,)]


# -- servers, databases and settings --------------------------------------------------------------


def test_a_connection_to_another_server_is_refused(
    session: Session, start_server: Callable[..., DevServer]
) -> None:
    other = start_server().create_database()
    with Session(Address.parse(other)) as beside:
        Migrations(beside).apply()
        caller = Plain(other, "pymysql")
        with caller.transaction(), pytest.raises(TransactionError, match="another server"):
            note.delay(1)
        caller.connection.close()
        assert sent(beside) == sent(session) == []


def test_a_connection_may_use_another_database_of_the_server(
    server: DevServer | GivenServer, session: Session
) -> None:
    other = server.create_database()
    caller = Plain(other, "pymysql")
    with caller.transaction():
        note.delay("from beside")
    caller.connection.close()
    server.drop_database(Address.parse(other).database)
    assert sent(session) == ["from beside"]


@pytest.mark.parametrize(
    "statement",
    [
        "SET SESSION time_zone = '+09:00'",
        "SET SESSION sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
        "SET SESSION sql_mode = ''",
        "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET NAMES latin1",
    ],
)
def test_the_settings_of_the_connection_do_not_matter(
    statement: str, plain: Plain, session: Session
) -> None:
    with plain.connection.cursor() as cursor:
        cursor.execute(statement)
    texts = ["naïve", "漢字 🦆", "\\ ' \" % %s \n"]
    with plain.transaction():
        for text in texts:
            note.apply_async((text,), expires=3600, countdown=3600)
    assert sent(session) == texts
    assert session.value(
        "SELECT MIN(TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), due_at)) FROM jobs"
    ) in range(3500, 3601)


@pytest.mark.parametrize("cursor", [pymysql.cursors.DictCursor, pymysql.cursors.SSCursor])
def test_the_cursor_class_does_not_matter(cursor: Any, session: Session) -> None:
    caller = Plain(session.address.url(), "pymysql", charset="latin1", cursorclass=cursor)
    with caller.transaction():
        note.delay("漢字")
    caller.connection.close()
    assert sent(session) == ["漢字"]


# -- trouble --------------------------------------------------------------------------------------


def test_an_error_of_the_driver_comes_as_it_is_and_nothing_is_sent_again(
    session: Session,
) -> None:
    caller = Plain(session.address.url(), "pymysql")

    def lose_the_session() -> None:
        with caller.transaction():
            note.delay(1)
            session.execute("KILL %s", (caller.connection.thread_id(),))
            note.delay(2)

    with pytest.raises(pymysql.err.OperationalError):
        lose_the_session()
    assert sent(session) == []


def test_a_deadlock_is_the_callers_to_handle(session: Session) -> None:
    session.execute("CREATE TABLE account (id INT PRIMARY KEY, n INT NOT NULL DEFAULT 0)")
    for number in range(1, 301):
        session.execute("INSERT INTO account (id) VALUES (%s)", (number,))
    one, two = (Plain(session.address.url(), "pymysql") for _ in range(2))
    mine, theirs = threading.Event(), threading.Event()

    def lock(caller: Plain, first: int, last: int) -> None:
        # MariaDB 11.8 would read, and lock, the whole of so small a table
        update = "UPDATE account FORCE INDEX (PRIMARY) SET n = n + 1 WHERE id BETWEEN %s AND %s"
        with caller.connection.cursor() as cursor:
            cursor.execute(update, (first, last))

    def cross() -> None:
        # the server ends the one that has changed less
        lock(two, 2, 300)
        mine.set()
        theirs.wait(30)
        lock(two, 1, 1)

    def be_crossed() -> None:
        with one.transaction():
            note.delay("undone")
            lock(one, 1, 1)
            thread.start()
            mine.wait(30)
            theirs.set()
            lock(one, 2, 2)

    thread = threading.Thread(target=cross)
    with pytest.raises(pymysql.err.OperationalError, match="1213"):
        be_crossed()
    thread.join(30)
    assert sent(session) == []
    for caller in (one, two):
        caller.connection.close()


def test_a_message_that_is_too_large_leaves_the_transaction_whole(
    plain: Plain, session: Session
) -> None:
    limit = session.value("SELECT @@max_allowed_packet")
    with plain.transaction():
        note.delay("before")
        with pytest.raises(MessageTooLarge):
            note.delay("x" * limit)
        note.delay("behind")
    assert sent(session) == ["before", "behind"]


def test_a_task_for_a_queue_that_passes_is_a_job_like_others(
    plain: Plain, session: Session
) -> None:
    queue = Queue("passing", auto_delete=True)
    with suppress(OutOfStockError), plain.transaction():
        note.apply_async(("rolled back",), queue=queue)
        raise OutOfStockError
    with plain.transaction():
        note.apply_async(("a",), queue=queue)
        note.delay("b")
    assert sent(session) == ["a", "b"]


def test_remote_control_works_in_a_block(plain: Plain, start_worker: Callable[..., Worker]) -> None:
    start_worker()
    with plain.transaction():
        assert app.control.ping(timeout=3)


def test_a_thread_with_a_copy_of_the_context_is_refused(plain: Plain, session: Session) -> None:
    errors: list[Exception] = []

    def send() -> None:
        app.control.broadcast("remote control is no part of a transaction")
        try:
            note.delay("in a thread")
        except TransactionError as error:
            errors.append(error)

    with plain.transaction():
        copied = contextvars.copy_context()
        thread = threading.Thread(target=copied.run, args=(send,))
        thread.start()
        thread.join(30)
        alone = threading.Thread(target=elsewhere, args=(note.delay, "on its own"))
        alone.start()
        alone.join(30)
        assert "another thread's" in str(errors.pop())
        assert sent(session) == ["on its own"]
    copied.run(send)
    assert not errors
    assert sent(session) == ["on its own", "in a thread"]


def test_a_bell_is_rung_though_the_publishers_session_has_ended(
    plain: Plain, session: Session, listener: Listener
) -> None:
    listener.fall_asleep()
    with plain.transaction():
        note.delay("a")
        with app.pool.acquire() as connection:
            own = connection.connection.sessions.main
            session.execute("KILL %s", (own.connection_id,))
    listener.hear()


def test_a_bell_that_cannot_be_rung_is_a_warning_as_the_job_is_committed(
    plain: Plain, session: Session, caplog: pytest.LogCaptureFixture
) -> None:
    with plain.transaction():
        note.delay("a")
        with app.pool.acquire() as connection:
            sessions = connection.connection.sessions
            session.execute("KILL %s", (sessions.main.connection_id,))
            sessions.address = replace(sessions.address, port=1, unix_socket=None)
    assert sent(session) == ["a"]
    assert "found within polling_interval (0.2 s)" in caplog.text


# -- others ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("claim_method", ["skip_locked", "compare_and_set"])
def test_a_transaction_that_stays_open_keeps_nobody_from_working(
    claim_method: str, plain: Plain, session: Session, start_worker: Callable[..., Worker]
) -> None:
    if claim_method == "skip_locked" and not session.server.has_skip_locked:
        pytest.skip(f"{session.server} has no SKIP LOCKED")
    options = f'{{"claim_method": "{claim_method}"}}'
    start_worker(BROKER_OPTIONS=options)
    dying = start_worker("-Q", "doomed", BROKER_OPTIONS=options)
    numbers = [str(number) for number in range(20)]
    with plain.transaction():
        note.delay("held")
        note.apply_async(("held and scheduled",), countdown=0.1)
        hang.apply_async(("held and doomed",), queue="doomed")
        for number in numbers:
            elsewhere(note.delay, number)
        elsewhere(lambda: note.apply_async(("due",), countdown=0.5))
        elsewhere(lambda: hang.apply_async(("x",), queue="doomed"))
        eventually(lambda: "begin x" in ledger(session))
        dying.kill()
        start_worker("-Q", "doomed", BROKER_OPTIONS=options)
        eventually(lambda: {*numbers, "due", "again x"} <= {*ledger(session)})
        assert not any("held" in entry for entry in ledger(session))
        # all is acknowledged, too
        eventually(lambda: session.value("SELECT COUNT(*) FROM jobs") == 0)
    eventually(lambda: {"held", "held and scheduled"} <= {*ledger(session)})

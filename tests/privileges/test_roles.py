"""Each role of the page on privileges can do its part with what the page grants, and no more."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from celery_mysqllock.exceptions import DatabaseError, MissingPrivilege
from celery_mysqllock.jobs import JobTable, NewJob, OrderKey
from celery_mysqllock.mysql import Session
from tests.cli.test_deployment import run
from tests.jobs.schemas import make_schema_8
from tests.privileges.grants import roles
from tests.waiting import eventually

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from celery_mysqllock.mysql import Address
    from tests.privileges.conftest import Ledger, Program
    from tests.privileges.grants import Users

PLAIN = """
from kombu import Exchange, Queue
note.delay("first")
note.apply_async(("later",), countdown=1, priority=7, expires=600)
note.apply_async(("elsewhere",), queue="other")
topic = Queue("topic", Exchange("news", type="topic"), routing_key="news.#")
note.apply_async(("routed",), queue=topic, routing_key="news.today")
"""
UNIQUE = """
once.delay("once"); once.delay("once")
queue_once.delay("queued"); queue_once.delay("queued")
queue_once.apply_async(("expired",), expires=0.01)
time.sleep(0.1)
queue_once.delay("expired")
"""
IN_ORDER = """
in_order.delay("key", "1"); in_order.delay("key", "2")
in_order.apply_async(("key", "3"), countdown=1)
import pymysql
from celery_mysqllock.mysql import Address
to = Address.parse(app.conf.broker_url)
login = {"host": to.host, "port": to.port, "user": to.user, "password": to.password}
with (
    pymysql.connect(**login, database=to.database) as connection,
    celery_mysqllock.transaction(connection),
):
    in_order.delay("other", "1"); in_order.delay("other", "2")
"""
#: What each role may not, as statements that do nothing when they may.
FORBIDDEN = {
    "producer": [
        "SELECT message FROM jobs WHERE FALSE",
        "UPDATE jobs SET job_status = 3 WHERE FALSE",
        "DELETE FROM jobs WHERE FALSE",
        "INSERT INTO jobs_ephemeral_messages (queue) SELECT '' FROM DUAL WHERE FALSE",
        "INSERT INTO jobs_queues (queue) SELECT '' FROM DUAL WHERE FALSE",
        "INSERT INTO jobs_schedule (name, task, schedule) SELECT '', '', '' FROM DUAL WHERE FALSE",
        "DELETE FROM jobs_bindings WHERE FALSE",
    ],
    "unique_producer": [
        "SELECT message FROM jobs WHERE FALSE",
        "SELECT reason FROM jobs WHERE FALSE",
        "UPDATE jobs SET message = '' WHERE FALSE",
        "DELETE FROM jobs WHERE FALSE",
        "DELETE FROM jobs_order_locks WHERE FALSE",
    ],
    "inserting": [
        "SELECT message FROM jobs WHERE FALSE",
        "INSERT INTO jobs (job_status) SELECT 3 FROM DUAL WHERE FALSE",
    ],
    "calling": ["SELECT message FROM jobs WHERE FALSE", "INSERT INTO jobs (message) VALUES ('x')"],
    "worker": [
        "DROP TABLE jobs",
        "ALTER TABLE jobs COMMENT = 'mine'",
        "UPDATE jobs_queues SET paused_at = NULL WHERE FALSE",
        "DELETE FROM jobs_schedule WHERE FALSE",
    ],
    "beat": ["SELECT message FROM jobs WHERE FALSE", "DELETE FROM jobs WHERE FALSE"],
    "looking": [
        "UPDATE jobs SET job_status = 0 WHERE FALSE",
        "DELETE FROM jobs WHERE FALSE",
        "DELETE FROM jobs_queues WHERE FALSE",
    ],
    "acting": [
        "INSERT INTO jobs (message) VALUES ('x')",
        "DROP TABLE jobs",
        "INSERT INTO jobs_ephemeral_messages (queue, claim_order, message) VALUES ('', 0, '')",
    ],
    "migrating": ["CREATE USER nobody", "SELECT * FROM mysql.user"],
    "locking": [],
}


@pytest.mark.parametrize("role", list(FORBIDDEN))
def test_a_role_may_not_do_what_is_not_its_part(user: Callable[[str], Address], role: str) -> None:
    address = user(role)
    if role == "locking":
        with pytest.raises(DatabaseError):
            Session(address).open()
        return
    with Session(address) as session:
        for statement in FORBIDDEN[role]:
            with pytest.raises(MissingPrivilege):
                session.execute(statement)


def test_each_role_is_tried() -> None:
    assert roles().keys() == FORBIDDEN.keys()


@pytest.mark.parametrize(
    ("role", "code"),
    [("producer", PLAIN), ("unique_producer", PLAIN + UNIQUE + IN_ORDER), ("beat", PLAIN)],
)
def test_a_producer_sends(
    role: str,
    code: str,
    user: Callable[[str], Address],
    session: Session,
    python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    done = python(code, user(role))
    assert (done.returncode, done.stderr) == (0, "")
    assert session.value("SELECT COUNT(*) FROM jobs") == (4 if code == PLAIN else 13)


def test_a_plain_producer_is_told_what_a_unique_task_needs(
    user: Callable[[str], Address],
    session: Session,
    python: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    address = user("producer")
    for code in ("once.delay('x'); once.delay('x')", "in_order.delay('key', '1')"):
        done = python(code, address)
        assert "MissingPrivilege" in done.stderr
    assert session.value("SELECT COUNT(*) FROM jobs") == 1


def test_sql_programs_store_jobs(user: Callable[[str], Address], session: Session) -> None:
    with Session(user("inserting")) as inserting:
        inserting.execute("INSERT INTO jobs (message, queue) VALUES ('one', 'q')")
    with Session(user("calling")) as calling:
        calling.query("CALL mysqllock_publish('q', 'two')")
    assert session.query("SELECT message FROM jobs ORDER BY id") == [("one",), ("two",)]


def test_a_worker_does_all_that_a_worker_does(
    user: Callable[[str], Address],
    session: Session,
    python: Callable[..., subprocess.CompletedProcess[str]],
    start: Callable[..., Program],
    ledger: Ledger,
) -> None:
    worker = user("worker")
    words = ("worker", "--pool=solo", "-Q", "celery,other,topic", "-E")
    # what housekeeping has to do: sums, messages and queues whose time is over, a line that stands
    session.execute(
        "INSERT INTO jobs_throughput VALUES ('q', UTC_TIMESTAMP() - INTERVAL 1 HOUR, 'x', 3)"
    )
    session.execute(
        "INSERT INTO jobs_ephemeral_queues (queue, auto_delete, expires, touched_at) "
        "VALUES ('old', 1, 1, NOW(6) - INTERVAL 2 HOUR)"
    )
    session.execute(
        "INSERT INTO jobs_ephemeral_messages (queue, claim_order, message, expires_at) "
        "VALUES ('old', 9, '', UTC_TIMESTAMP(6) - INTERVAL 1 HOUR)"
    )
    session.execute("INSERT INTO jobs (message, queue) VALUES ('left', 'old')")
    JobTable(session).publisher.put(NewJob("celery", "{}", lifetime=0.001))
    assert python("hang.delay()", session.address).returncode == 0
    first = start(worker, *words, "-n", "first@test")
    ledger.wait_for("hangs")
    first.kill()
    code = PLAIN + UNIQUE + IN_ORDER + "alone.delay('x')"
    assert python(code, session.address).returncode == 0
    second = start(worker, *words, "-n", "second@test")
    ledger.wait_for(
        *("hung twice", "first", "later", "elsewhere", "routed", "once", "queued", "alone x"),
        *("key 1", "key 2", "key 3", "other 1", "other 2", "expired"),
    )

    def is_tidy() -> bool:
        left = (
            "SELECT (SELECT COUNT(*) FROM jobs WHERE job_status <> 3)"
            " + (SELECT COUNT(*) FROM jobs_ephemeral_messages WHERE queue = 'old')"
            " + (SELECT COUNT(*) FROM jobs_throughput WHERE consumer = 'x')"
            " + ABS((SELECT COUNT(*) FROM jobs_consumers) - 1)"
        )
        return bool(session.value(left) == 0)

    eventually(is_tidy, 60, "all is tidied up")
    # replies are consumed, and who consumes takes its turn in the housekeeping
    ping = python("print(app.control.inspect(timeout=20, limit=1).ping())", worker)
    assert "second@test" in ping.stdout, ping.stderr
    assert ping.stderr == ""
    assert python("app.control.shutdown()", worker).returncode == 0
    assert second.wait() == 0
    assert "command denied" not in second.log
    assert "could not" not in second.log


def test_a_beat_sends(
    user: Callable[[str], Address], session: Session, start: Callable[..., Program]
) -> None:
    beat = start(
        user("beat"), "beat", "-S", "mysqllock", "--pidfile=", SCHEDULE=json.dumps({"tick": 0.3})
    )
    eventually(lambda: session.value("SELECT COUNT(*) FROM jobs") > 1, 60, "two ticks")
    session.execute("DELETE FROM jobs_schedule")
    assert "command denied" not in beat.log


def command(address: Address, *words: str, code: int = 0) -> Any:
    done = run(*words, MYSQLLOCK_URL=address.url())
    assert done.returncode == code, done.stderr + done.stdout
    return done


def test_who_looks_sees_all(users: Users, session: Session) -> None:
    JobTable(session).publisher.put(NewJob("q", "secret text"))
    looking = users.make("looking")
    assert "secret text" in command(looking, "jobs", "show", "1").stdout
    for words in (
        *(("jobs", "list"), ("queues", "list"), ("consumers",), ("stats", "--json")),
        *(("locks",), ("metrics", "--once")),
    ):
        command(looking, *words)
    users.grant_more("looking")
    with Session(looking) as reading:
        assert reading.value("SELECT ready FROM jobs_status WHERE queue = 'q'") == 1


def test_who_acts_does_all(user: Callable[[str], Address], session: Session) -> None:
    acting = user("acting")
    ids = [JobTable(session).publisher.put(NewJob("q", "x")) for _ in range(3)]
    session.execute("UPDATE jobs SET job_status = 3 WHERE id = %s", (ids[0],))
    # those behind it are let go
    line = [
        JobTable(session).publisher.put(NewJob("q", "x", order=OrderKey("task:line")))
        for _ in range(2)
    ]
    session.execute("INSERT INTO jobs_bindings VALUES ('', 'empty', 'empty')")
    for words in (
        ("jobs", "retry", str(ids[0])),
        ("jobs", "move", str(ids[0]), "--to", "r"),
        ("jobs", "discard", str(ids[0]), str(line[0]), "--yes"),
        ("queues", "pause", "q"),
        ("queues", "resume", "q"),
        ("queues", "move", "q", "--to", "r"),
        ("queues", "purge", "r", "--yes"),
        ("queues", "delete", "empty"),
        ("jobs", "list"),
        ("queues", "list"),
    ):
        command(acting, *words)
    assert session.query("SELECT queue FROM jobs UNION ALL SELECT queue FROM jobs_bindings") == []


@pytest.mark.parametrize("before", ["nothing", "a table of the first release"])
def test_who_migrates_makes_the_tables(before: str, users: Users, session: Session) -> None:
    migrating = users.make("migrating")
    for name, _ in session.query("SHOW FULL TABLES WHERE Table_type = 'BASE TABLE'"):
        session.execute(f"DROP TABLE `{name}`")
    session.execute("DROP VIEW jobs_status")
    session.execute("DROP PROCEDURE mysqllock_publish")
    with Session(users.make("migrating", "earlier")) as earlier:
        # to replace what somebody else has made is a privilege of its own
        earlier.execute("CREATE PROCEDURE mysqllock_publish() DO 1")
    if before != "nothing":
        session.execute(
            "CREATE TABLE jobs (id INT AUTO_INCREMENT PRIMARY KEY, message TEXT, job_status INT)"
        )
        session.execute("INSERT INTO jobs (message, job_status) VALUES ('kept', 0)")
    command(migrating, "migrate")
    assert command(migrating, "migrate").stdout == "jobs is up to date.\n"
    if before != "nothing":
        users.grant_more("migrating")
        command(migrating, "migrate", "--wide-ids")
        assert session.value("SELECT message FROM jobs") == "kept"


def test_a_migrating_user_upgrades_what_an_administrator_has_made(
    users: Users, session: Session
) -> None:
    migrating = users.make("migrating")
    for name, kind in session.query("SHOW FULL TABLES"):
        session.execute(f"DROP {'VIEW' if kind == 'VIEW' else 'TABLE'} `{name}`")
    session.execute("DROP PROCEDURE mysqllock_publish")
    make_schema_8(session)
    assert command(migrating, "migrate").stdout == "jobs: upgrade\n"
    assert command(migrating, "migrate").stdout == "jobs is up to date.\n"


def test_locks_need_a_login_and_nothing_else(
    user: Callable[[str], Address],
    python: Callable[..., subprocess.CompletedProcess[str]],
    ledger: Ledger,
) -> None:
    locking = replace(user("locking"), database="information_schema")
    done = python(
        "from celery_mysqllock.locks import MySQLLock\n"
        "url = os.environ['LOCK_URL']\n"
        "lock = MySQLLock('x', url=url)\n"
        "assert alone.apply(('x',)).state == 'SUCCESS'\n"
        "with lock: assert not MySQLLock('x', url=url).acquire()\n",
        "memory://",
        LOCK_URL=locking.url(),
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert ledger.entries() == ["alone x"]
    done = command(locking, "run", "nightly", "--", "true")


def test_who_may_write_control_messages_shuts_a_worker_down(
    user: Callable[[str], Address],
    session: Session,
    python: Callable[..., subprocess.CompletedProcess[str]],
    start: Callable[..., Program],
) -> None:
    session.execute("INSERT INTO jobs_ephemeral_queues (queue, auto_delete) VALUES ('spy', 0)")
    session.execute("INSERT INTO jobs_bindings VALUES ('celery.pidbox', '', 'spy')")
    assert python("app.control.shutdown()", session.address).returncode == 0
    message = session.value("SELECT message FROM jobs_ephemeral_messages WHERE queue = 'spy'")
    worker = start(user("worker"), "worker", "--pool=solo", "-n", "w@test")
    worker.await_log(" ready.")
    put = (
        "INSERT INTO jobs_ephemeral_messages (queue, claim_order, message) "
        "VALUES ('w@test.celery.pidbox', 9, %s)"
    )
    little = user("inserting")
    with Session(little) as other:
        with pytest.raises(MissingPrivilege):
            other.execute(put, (message,))
        session.execute(
            "GRANT INSERT ON jobs_ephemeral_messages TO %s@'%%'",
            (little.user,),
        )
        other.execute(put, (message,))
    assert worker.wait() == 0

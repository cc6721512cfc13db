"""``mysqllock queues``, ``consumers`` and ``stats`` as a user runs them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.jobs import NewJob
from celery_mysqllock.jobs.lock_names import LockNames
from celery_mysqllock.jobs.registry import Registry
from celery_mysqllock.mysql import Address, Session, get_lock

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from celery_mysqllock.jobs import JobTable

    Command = Callable[..., subprocess.CompletedProcess[str]]

ME = "a" * 32


@pytest.fixture
def filled(jobs: JobTable, session: Session) -> JobTable:
    """A queue with three ready jobs, one that runs and one that is dead."""
    for number in range(5):
        jobs.publisher.put(NewJob("emails", str(number)))
    dead, _ = jobs.claims.claim("emails", 2, ME)
    jobs.claims.bury(dead.id, ME, "why")
    Registry(session).add(ME, "celery@host-one.example", ["celery", "emails"])
    return jobs


@pytest.mark.usefixtures("filled")
def test_queues_are_listed_on_lines_of_80_columns(mysqllock: Command, jobs: JobTable) -> None:
    jobs.publisher.put(NewJob("a-queue-with-quite-a-long-name-that-does-not-fit", "x"))
    done = mysqllock("queues", "list")
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == [
        *("queue", "ready", "sched.", "waiting", "running", "dead", "done", "oldest", "jobs/s"),
        "paused",
    ]
    (line,) = (line.split() for line in lines if line.startswith("emails"))
    assert line[:7] == ["emails", "3", "0", "0", "1", "1", "0"]


@pytest.mark.usefixtures("filled")
def test_queues_are_listed_for_programs(mysqllock: Command) -> None:
    (queue,) = json.loads(mysqllock("queues", "list", "--json").stdout)
    assert (queue["queue"], queue["ready"], queue["paused_at"]) == ("emails", 3, None)


@pytest.mark.usefixtures("filled")
def test_a_queue_is_paused_and_resumed(mysqllock: Command, jobs: JobTable) -> None:
    done = mysqllock("queues", "pause", "emails")
    assert (done.returncode, done.stdout, done.stderr) == (0, "emails is paused.\n", "")
    assert jobs.claims.claim("emails", 1, ME) == []
    assert mysqllock("queues", "list").stdout.splitlines()[1].split()[-1] == "s"  # 0 s ago
    assert mysqllock("queues", "resume", "emails").stdout == "emails is resumed.\n"
    assert len(jobs.claims.claim("emails", 1, ME)) == 1
    assert mysqllock("queues", "resume", "emails").stdout == "emails was not paused.\n"


def test_pausing_what_nobody_knows_says_so(mysqllock: Command) -> None:
    done = mysqllock("queues", "pause", "emials")
    assert done.returncode == 0
    assert "Nobody has declared a queue emials" in done.stderr


def test_purging_asks_first(mysqllock: Command, filled: JobTable) -> None:
    assert mysqllock("queues", "purge", "emails", answer="n\n").returncode == 1
    assert filled.maintenance.count_ready("emails") == 3
    done = mysqllock("queues", "purge", "emails", "--yes")
    assert (done.returncode, done.stdout) == (0, "emails: 3 purged.\n")
    assert filled.maintenance.count_ready("emails") == 0
    again = mysqllock("queues", "purge", "emails", "--yes", "--json")
    assert json.loads(again.stdout) == {"purged": 0}


def test_a_queue_is_moved(mysqllock: Command, filled: JobTable) -> None:
    done = mysqllock("queues", "move", "emails", "--to", "slow")
    assert (done.returncode, done.stdout) == (0, "emails: 3 moved to slow.\n")
    assert filled.maintenance.count_ready("slow") == 3
    same = mysqllock("queues", "move", "slow", "--to", "slow")
    assert same.returncode == 1
    assert "in slow already" in same.stderr


def test_a_queue_that_is_used_no_more_is_deleted(
    mysqllock: Command, session: Session, filled: JobTable
) -> None:
    def known() -> list[str]:
        return [
            queue["queue"] for queue in json.loads(mysqllock("queues", "list", "--json").stdout)
        ]

    bindings = "INSERT INTO jobs_bindings (exchange, routing_key, queue) VALUES (%s, %s, %s)"
    for queue in ("tenant 1", "tenant 2", "lives"):
        for exchange in ("", "news"):
            session.execute(bindings, (exchange, queue, queue))
    mysqllock("queues", "pause", "tenant 1")
    Registry(session).add("b" * 32, "celery@two", ["lives"])
    get_lock(session, LockNames.of(session, "jobs").consumer("b" * 32), 0)
    done = mysqllock("queues", "delete", "tenant 1", "tenant 2", "lives", "emails", "tenant 9")
    assert done.returncode == 1
    assert done.stdout == "tenant 1 is deleted.\ntenant 2 is deleted.\n"
    assert "lives is not deleted: celery@two consumes from it." in done.stderr
    assert "emails is not deleted: it has jobs: purge, discard or move them first." in done.stderr
    assert "tenant 9 is not deleted: there is no such queue." in done.stderr
    assert known() == ["emails", "lives"]
    assert session.value("SELECT COUNT(*) FROM jobs_bindings WHERE queue LIKE 'tenant%%'") == 0
    filled.publisher.put(NewJob("tenant 1", "x"))
    assert known() == ["emails", "lives", "tenant 1"]
    mysqllock("queues", "purge", "tenant 1", "--yes")
    mysqllock("queues", "pause", "tenant 2")
    assert mysqllock("queues", "delete", "tenant 2", "--json").returncode == 0
    assert known() == ["emails", "lives"]


@pytest.mark.usefixtures("filled")
def test_consumers_are_listed(mysqllock: Command, session: Session) -> None:
    dead = mysqllock("consumers").stdout.splitlines()
    assert dead[0].split() == ["name", "identity", "alive", "claims", "since", "queues"]
    assert dead[1].split()[:4] == ["celery@host-one.example", ME[:12], "no", "1"]
    get_lock(session, LockNames.of(session, "jobs").consumer(ME), 0)
    (one,) = json.loads(mysqllock("consumers", "--json").stdout)
    assert (one["name"], one["identity"], one["is_alive"]) == ("celery@host-one.example", ME, True)
    assert one["queues"] == ["celery", "emails"]


def test_who_only_listens_is_no_dead_worker(mysqllock: Command, session: Session) -> None:
    Registry(session).add("b" * 32, "host:123", [])
    Registry(session).add("c" * 32, "celery@about-to-consume", [])
    (waits,) = json.loads(mysqllock("consumers", "--json").stdout)
    assert (waits["name"], waits["is_alive"]) == ("celery@about-to-consume", False)
    get_lock(session, LockNames.of(session, "jobs").consumer("b" * 32), 0)
    listens = json.loads(mysqllock("consumers", "--json").stdout)[1]
    assert (listens["name"], listens["is_alive"], listens["is_worker"]) == ("host:123", True, False)
    assert mysqllock("consumers").stdout.splitlines()[2].split()[-1] == "(listens)"
    assert json.loads(mysqllock("stats", "--json").stdout)["consumers"] == 0


def ageless(output: str) -> list[str]:
    """The words of an output; ages differ, and so does the width of their column."""
    return re.sub(r"\d+(\.\d+)?", "0", output).split()


@pytest.mark.usefixtures("filled")
@pytest.mark.parametrize("group", ["queues", "jobs"])
@pytest.mark.parametrize("options", [(), ("--json",), ("--limit", "2")], ids=" ".join)
def test_a_group_alone_lists(mysqllock: Command, group: str, options: tuple[str, ...]) -> None:
    options = options if group == "jobs" or options != ("--limit", "2") else ("--exact",)
    alone, listed = mysqllock(group, *options), mysqllock(group, "list", *options)
    assert (alone.returncode, alone.stderr) == (0, listed.stderr)
    assert ageless(alone.stdout) == ageless(listed.stdout)
    assert "emails" in alone.stdout


@pytest.mark.usefixtures("filled")
def test_stats_are_the_totals_and_the_servers_health(mysqllock: Command, url: str) -> None:
    with Session(Address.parse(url)) as forgotten:
        forgotten.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        forgotten.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        forgotten.query("SELECT * FROM jobs")
        done = mysqllock("stats")
        stats = json.loads(mysqllock("stats", "--json").stdout)
    assert done.returncode == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "3 ready, 0 scheduled, 0 waiting, 1 running, 1 dead, 0 done" in done.stdout
    # this one, or one that is older
    assert re.search(r"open for \d+ s, by session \d+ of ", done.stdout)
    assert stats["totals"]["ready"] == 3
    oldest = stats["server"]["oldest_transaction"]
    assert oldest["connection_id"] <= forgotten.connection_id


@pytest.mark.parametrize("command", ["jobs", "queues"])
def test_help_needs_no_server(command: str, mysqllock: Command) -> None:
    done = mysqllock("--url", "mysql://nobody@127.0.0.1:1/none", command, "--help")
    assert done.returncode == 0
    assert "list" in done.stdout

"""``mysqllock jobs`` as a user runs it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.jobs import NewJob

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

    from celery_mysqllock.jobs import JobTable
    from celery_mysqllock.mysql import Session

    Command = Callable[..., subprocess.CompletedProcess[str]]

ME = "a" * 32
REASON = "ValueError: no such account\n\nTraceback (most recent call last):\n  ..."
MESSAGE = '{"body": [[7], {}, {}], "headers": {"task": "shop.pay", "id": "id-7"}, "properties": {}}'


@pytest.fixture
def dead(jobs: JobTable) -> int:
    return bury(jobs)


def bury(jobs: JobTable) -> int:
    job_id = jobs.publisher.put(NewJob("q", MESSAGE))
    jobs.claims.claim("q", 1, ME)
    jobs.claims.bury(job_id, ME, REASON)
    return job_id


def rows(session: Session) -> list[tuple[int, str, int]]:
    found = session.query("SELECT id, queue, job_status FROM jobs ORDER BY id")
    return [(row[0], row[1], row[2]) for row in found]


def test_jobs_are_listed_on_lines_of_80_columns(
    mysqllock: Command, jobs: JobTable, dead: int
) -> None:
    jobs.publisher.put(NewJob("a-queue-with-quite-a-long-name", '{"task": "shop.ship"}'))
    jobs.publisher.put(NewJob("q", "text"))
    done = mysqllock("jobs", "list")
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert lines[0].split() == ["id", "queue", "status", "age", "task", "reason"]
    assert max(map(len, lines)) <= 80
    (dead_line,) = (line for line in lines if "dead" in line)
    assert dead_line.split()[:3] == [str(dead), "q", "dead"]
    assert "ValueError: no such acc" in dead_line


def test_jobs_are_listed_for_programs_by_what_is_asked(
    mysqllock: Command, jobs: JobTable, session: Session, dead: int
) -> None:
    old = jobs.publisher.put(NewJob("q", '{"task": "shop.ship"}'))
    session.execute("UPDATE jobs SET created_at = NOW(6) - INTERVAL 2 HOUR WHERE id = %s", (old,))
    jobs.publisher.put(NewJob("other", "text"))

    def ids(*options: str) -> list[int]:
        listed = json.loads(mysqllock("jobs", "list", "--json", *options).stdout)
        return [job["id"] for job in listed]

    assert ids("--status", "dead") == [dead]
    assert ids("--queue", "q") == [old, dead]
    assert ids("--task", "shop.ship", "--older-than", "1h") == [old]
    assert ids("--older-than", "3h") == []
    assert ids("--queue", "q", "--limit", "1") == [old]
    assert "There are more than these 1" in mysqllock("jobs", "list", "--limit", "1").stderr


def test_a_job_is_shown_with_its_reason_and_a_readable_message(
    mysqllock: Command, dead: int
) -> None:
    by_row, by_task = mysqllock("jobs", "show", str(dead)), mysqllock("jobs", "show", "id-7")
    assert by_row.returncode == 0
    assert by_row.stdout == by_task.stdout
    assert f"\n{REASON}\n" in by_row.stdout
    assert '    "task": "shop.pay"' in by_row.stdout
    (shown,) = json.loads(mysqllock("jobs", "show", "id-7", "--json").stdout)
    assert (shown["status"], shown["message"], shown["reason"]) == ("dead", MESSAGE, REASON)


def test_a_text_is_shown_as_it_is(mysqllock: Command, jobs: JobTable) -> None:
    job_id = jobs.publisher.put(NewJob("q", "no {json}"))
    assert mysqllock("jobs", "show", str(job_id)).stdout.endswith("\n\nno {json}\n")


def test_a_job_that_is_not_there_is_an_error(mysqllock: Command) -> None:
    done = mysqllock("jobs", "show", "99")
    assert (done.returncode, done.stderr) == (1, "Error: There is no job 99.\n")


def test_dead_jobs_are_retried_by_row_by_task_or_all(
    mysqllock: Command, jobs: JobTable, session: Session, dead: int
) -> None:
    assert mysqllock("jobs", "retry", str(dead)).stdout == "1 job retried.\n"
    jobs.claims.claim("q", 1, ME)
    jobs.claims.bury(dead, ME, REASON)
    assert mysqllock("jobs", "retry", "id-7").stdout == "1 job retried.\n"
    jobs.claims.claim("q", 1, ME)
    jobs.claims.bury(dead, ME, REASON)
    other = bury(jobs)
    kept = mysqllock("jobs", "retry", "--all-dead", "--task", "shop.ship")
    assert kept.stdout == "0 jobs retried.\n"
    done = mysqllock("jobs", "retry", "--all-dead", "--queue", "q", "--json")
    assert (done.returncode, json.loads(done.stdout)) == (0, {"retried": 2})
    assert rows(session) == [(dead, "q", 0), (other, "q", 0)]


def test_what_cannot_be_retried_is_said_and_the_rest_is_done(
    mysqllock: Command, jobs: JobTable, session: Session, dead: int
) -> None:
    ready = jobs.publisher.put(NewJob("q", "x"))
    done = mysqllock("jobs", "retry", str(ready), str(dead))
    assert (done.returncode, done.stdout) == (1, "1 job retried.\n")
    assert "1 of 2 could not be retried" in done.stderr
    assert rows(session) == [(dead, "q", 0), (ready, "q", 0)]


def test_discarding_asks_first(
    mysqllock: Command, jobs: JobTable, session: Session, dead: int
) -> None:
    jobs.publisher.put(NewJob("q", "kept"))
    for answer in ("n\n", ""):
        refused = mysqllock("jobs", "discard", "--status", "dead", answer=answer)
        assert refused.returncode == 1
        assert "Delete 1 job? [y/N]" in refused.stderr
    assert rows(session)[0] == (dead, "q", 3)
    done = mysqllock("jobs", "discard", "--status", "dead", answer="y\n")
    assert (done.returncode, done.stdout) == (0, "1 job discarded.\n")
    assert len(rows(session)) == 1


def test_a_job_that_runs_is_not_discarded(
    mysqllock: Command, jobs: JobTable, session: Session
) -> None:
    running = jobs.publisher.put(NewJob("q", "x"))
    jobs.claims.claim("q", 1, ME)
    done = mysqllock("jobs", "discard", str(running), "--yes")
    assert done.returncode == 1
    assert "1 of 1 could not be discarded" in done.stderr
    assert rows(session) == [(running, "q", 1)]


def test_jobs_are_moved(mysqllock: Command, jobs: JobTable, session: Session, dead: int) -> None:
    ready = jobs.publisher.put(NewJob("q", "x"))
    done = mysqllock("jobs", "move", "--queue", "q", "--status", "ready", "--to", "other")
    assert (done.returncode, done.stdout) == (0, "1 job moved.\n")
    assert rows(session) == [(dead, "q", 3), (ready, "other", 0)]


@pytest.mark.parametrize(
    "words",
    [
        ("retry",),
        ("retry", "1", "--all-dead"),
        ("retry", "1", "--queue", "q"),
        ("discard", "--yes"),
        ("discard", "1", "--queue", "q"),
        ("move", "1"),
        ("move", "--to", "q"),
        ("list", "--status", "lost"),
        ("list", "--older-than", "soon"),
        ("list", "--older-than", "²"),
        ("list", "--limit", "0"),
        ("list", "--limit", "99999999999999999999"),
    ],
    ids=" ".join,
)
def test_a_wrong_usage_is_told_and_changes_nothing(
    words: tuple[str, ...], mysqllock: Command, session: Session, dead: int
) -> None:
    done = mysqllock("jobs", *words)
    assert done.returncode == 2
    assert "Error: " in done.stderr
    assert rows(session) == [(dead, "q", 3)]


def test_a_table_that_is_not_migrated_is_an_error(mysqllock: Command, session: Session) -> None:
    session.execute("ALTER TABLE jobs COMMENT = 'celery-mysqllock schema 3'")
    done = mysqllock("jobs", "list")
    assert done.returncode == 1
    assert "mysqllock migrate" in done.stderr

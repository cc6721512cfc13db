"""The two-process demonstration."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from celery_mysqllock import MySQLLock
from example_proj import glock, settings

if TYPE_CHECKING:
    import pytest

    from example_proj.demo.programs import Program, Programs

WORK = 0.5
LINES = [
    "The lock 'queue' was obtained successfully.",
    "You can do some synchronization work across processes!",
    "The lock 'queue' was released.",
]
LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) \[\d+\] (.*)")


def parsed(program: Program) -> list[tuple[datetime, str]]:
    found = [LINE.fullmatch(line) for line in program.said("")]
    assert all(found), program.tail()
    return [
        (datetime.strptime(match[1], "%Y-%m-%d %H:%M:%S,%f").astimezone(), match[2])
        for match in found
        if match
    ]


def test_the_second_process_works_after_the_first_has_released_the_lock(programs: Programs) -> None:
    both = [programs.start(name, "example_proj.glock", str(WORK)) for name in ("one", "two")]
    programs.until(lambda: all(one.exit_code == 0 for one in both), "both have ended", 30)
    first, second = sorted(parsed(one) for one in both)
    assert [text for _, text in first] == LINES
    assert [text for _, text in second] == LINES
    assert second[0][0] >= first[0][0] + timedelta(seconds=WORK)


def test_a_process_that_waits_in_vain_goes_on(
    url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(settings, "broker_url", url)
    with MySQLLock("queue", url=url):
        glock.work_together("queue", wait=1, work=60)
    assert "The lock 'queue' was not obtained in 1 s; going on without it." in caplog.text
    assert LINES[0] not in caplog.text


def test_a_killed_process_lets_the_next_one_work(programs: Programs) -> None:
    first = programs.start("first", "example_proj.glock", "60")
    programs.until(lambda: bool(first.said(LINES[0])), "the first has the lock", 30, [first])
    second = programs.start("second", "example_proj.glock", "0")
    first.kill()
    programs.until(lambda: second.exit_code == 0, "the second has ended", 30)
    assert [text for _, text in parsed(second)] == LINES

"""`make demo` as a whole, and what it leaves behind when it is ended."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.example.conftest import PATIENCE
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.example.conftest import Demo

    Start = Callable[..., Demo]


def test_every_scene_comes_out_right(demo: Start) -> None:
    running = demo("--jobs", "40")
    running.read_until("c ")
    command_lines = running.command_lines()
    assert running.finish() == 0, running.output
    rows = [line for line in running.output.splitlines() if line.rstrip().endswith(" ok")]
    assert [row.split()[0] for row in rows] == ["a", "b", "c", "d"]
    assert "Each figure is right." in running.output
    eventually(running.leaves_nothing)  # its watchdog is a process of its own
    # its passwords are not for every user of the machine
    assert sum(" worker " in line for line in command_lines) >= 2
    assert not [line for line in command_lines if "mysql://" in line]


@pytest.mark.parametrize(
    ("moment", "number"),
    [("a ", signal.SIGINT), ("- two", signal.SIGTERM), ("b ", signal.SIGHUP)],
)
def test_a_signal_ends_all_of_it_and_leaves_nothing(
    demo: Start, moment: str, number: signal.Signals
) -> None:
    running = demo("--jobs", "40")
    running.read_until(moment)
    running.process.send_signal(number)
    assert running.finish() == 128 + number
    assert f"Stopped by {number.name}" in running.output
    eventually(running.leaves_nothing)  # its watchdog is a process of its own


@pytest.mark.parametrize("moment", ["a ", "b "])
def test_sigkill_of_the_demo_leaves_nothing(demo: Start, moment: str) -> None:
    running = demo("--jobs", "40")
    running.read_until(moment)
    running.process.kill()
    running.process.wait(PATIENCE)
    eventually(running.leaves_nothing)


def test_too_few_jobs_are_refused(demo: Start) -> None:
    running = demo("--jobs", "1")
    assert running.finish() == 2
    assert "--jobs must be 40 or more" in running.output

"""An exception is raised in a block that runs elsewhere, and never after the block."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock import LockLost
from celery_mysqllock.tasks.interrupt import MainThreadInterrupt, ThreadInterrupt, interrupt_here

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType


@pytest.fixture
def chained() -> Iterator[list[int]]:
    """Another handler of the signal, as the user's program may have one."""
    seen: list[int] = []

    def handle(number: int, _: FrameType | None) -> None:
        seen.append(number)

    before = signal.signal(MainThreadInterrupt.SIGNAL, handle)
    yield seen
    signal.signal(MainThreadInterrupt.SIGNAL, before)


def _in_a_thread(target: object) -> threading.Thread:
    thread = threading.Thread(target=target)  # type: ignore[arg-type]
    thread.start()
    return thread


class TestTheMainThread:
    def test_is_taken_out_of_a_blocking_call(self) -> None:
        interrupt = interrupt_here()
        assert isinstance(interrupt, MainThreadInterrupt)
        interrupt.arm()
        with pytest.raises(LockLost, match="now"):  # noqa: PT012 - what it is raised into
            _in_a_thread(lambda: interrupt.fire(LockLost("now")))
            time.sleep(60)
        interrupt.disarm()

    def test_is_left_alone_after_the_block(self, chained: list[int]) -> None:
        interrupt = MainThreadInterrupt()
        interrupt.arm()
        interrupt.disarm()
        _in_a_thread(lambda: interrupt.fire(LockLost())).join()
        # the handler of the signal runs before this does
        signal.raise_signal(MainThreadInterrupt.SIGNAL)
        assert chained

    def test_is_left_alone_before_the_block(self) -> None:
        interrupt = MainThreadInterrupt()
        _in_a_thread(lambda: interrupt.fire(LockLost())).join()
        interrupt.arm()
        interrupt.disarm()

    def test_gets_the_error_of_an_outer_block_in_an_inner_one(self) -> None:
        outer, inner = MainThreadInterrupt(), MainThreadInterrupt()
        outer.arm()
        inner.arm()
        with pytest.raises(LockLost, match="outer"):  # noqa: PT012 - as above
            _in_a_thread(lambda: outer.fire(LockLost("outer")))
            time.sleep(60)
        inner.disarm()
        outer.disarm()

    def test_keeps_the_handler_that_was_there_before(self, chained: list[int]) -> None:
        interrupt = MainThreadInterrupt()
        interrupt.arm()
        signal.raise_signal(MainThreadInterrupt.SIGNAL)
        interrupt.disarm()
        assert chained == [MainThreadInterrupt.SIGNAL]


class TestAThread:
    def test_is_taken_out_of_python_code(self) -> None:
        armed, errors = threading.Event(), []
        blocks: list[ThreadInterrupt] = []

        def run() -> None:
            interrupt = interrupt_here()
            assert isinstance(interrupt, ThreadInterrupt)
            blocks.append(interrupt)
            interrupt.arm()
            armed.set()
            end = time.monotonic() + 60
            try:
                while time.monotonic() < end:
                    time.sleep(0.001)
            except LockLost as error:
                errors.append(error)
            interrupt.disarm()

        thread = _in_a_thread(run)
        assert armed.wait(30)
        blocks[0].fire(LockLost("not seen"))
        thread.join(30)
        assert len(errors) == 1

    def test_is_left_alone_after_the_block(self) -> None:
        """What is fired too late is raised neither there nor in what the thread does next."""
        seen: list[str] = []

        def run() -> None:
            interrupt = ThreadInterrupt()
            fire = threading.Thread(target=interrupt.fire, args=(LockLost(),))
            try:
                interrupt.arm()
                # it fires while this one ends the block
                fire.start()
                interrupt.disarm()
            except LockLost:
                seen.append("in the block")
                interrupt.disarm()
            fire.join()
            seen.append("after the block")

        for _ in range(100):
            _in_a_thread(run).join(30)
        assert seen.count("after the block") == 100

    def test_can_be_traced_afterwards(self) -> None:
        """CPython 3.11 stands still when an exception was called off with NULL."""
        done = subprocess.run(
            [sys.executable, "-c", _TRACED],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.stdout.split() == ["interrupted", "traced"], done.stderr


_TRACED = """
import sys, time
from celery_mysqllock import LockLost
from celery_mysqllock.tasks.interrupt import ThreadInterrupt

def traced():
    pass

interrupt = ThreadInterrupt()
interrupt.arm()
try:
    interrupt.fire(LockLost())
    time.sleep(0)
except LockLost:
    print("interrupted")
interrupt.disarm()
sys.settrace(lambda *_: None)
traced()
print("traced")
"""

_GREENLETS = """
import {library}
{patch}
import threading, time
from celery_mysqllock import LockLost
from celery_mysqllock.tasks.interrupt import interrupt_here

def block(kind, events):
    interrupt = interrupt_here()
    assert type(interrupt).__name__ == kind, interrupt
    interrupt.arm()
    events.append(interrupt)
    try:
        time.sleep(60)
    except LockLost as error:
        events.append(str(error))
    interrupt.disarm()
    interrupt.fire(LockLost("too late"))
    time.sleep(0.05)
    events.append("went on")

for number in range(2):
    events = []
    running = {spawn}(block, "{kind}", events)
    while not events:
        time.sleep(0.01)
    firing = threading.Thread(target=events[0].fire, args=(LockLost("now"),))
    firing.start()
    {wait}
    assert events[1:] == ["now", "went on"], events
print("fine")
"""


@pytest.mark.parametrize(
    ("library", "patch", "spawn", "kind", "wait"),
    [
        (
            "gevent.monkey",
            "gevent.monkey.patch_all()",
            "gevent.spawn",
            "GreenletInterrupt",
            "running.get()",
        ),
        (
            "eventlet",
            "eventlet.monkey_patch()",
            "eventlet.spawn",
            "GreenletInterrupt",
            "running.wait()",
        ),
    ],
    ids=["gevent", "eventlet"],
)
def test_a_greenlet_is_taken_out_of_where_it_waits(
    library: str, patch: str, spawn: str, kind: str, wait: str
) -> None:
    pytest.importorskip(library)
    script = _GREENLETS.format(library=library, patch=patch, spawn=spawn, kind=kind, wait=wait)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "fine\n", done.stderr

"""Locks in a process that eventlet has patched, where one greenlet alone may listen to a socket."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PROGRAM = """
import eventlet
eventlet.monkey_patch()
import sys
from celery_mysqllock.exceptions import LockLost
from celery_mysqllock.locks import MySQLLock

def lock(name, **options):
    return MySQLLock(name, url=sys.argv[1], session_timeout=3, **options)

inside, most = [], []
def work(number):
    with lock("one at a time").waiting(30):
        inside.append(number)
        most.append(len(inside))
        eventlet.sleep(0.6)       # longer than a round of the watch
        inside.remove(number)
for greenlet in [eventlet.spawn(work, number) for number in range(5)]:
    greenlet.wait()
assert most == [1] * 5, most

told = []
held = [lock(f"held {number}", on_lost=told.append) for number in range(5)]
for one in held:
    assert one.acquire()
ticks = []
def tick():
    while True:
        ticks.append(1)
        eventlet.sleep(0.05)
eventlet.spawn(tick)
eventlet.sleep(5)
assert len(ticks) > 50, ticks     # nothing kept the other greenlets from running
for one in held:
    assert one.owned()
    one.check()
assert lock("held 2").reset()
with eventlet.Timeout(5):
    while not told:
        eventlet.sleep(0.01)
assert told == [held[2]]
try:
    held[2].release()
except LockLost:
    print("lost")
for one in held[:2] + held[3:]:
    one.release()
"""


def test_locks_are_held_watched_and_released(url: str) -> None:
    pytest.importorskip("eventlet")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _PROGRAM, url],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "lost\n"), done.stderr
    assert "Traceback" not in done.stderr

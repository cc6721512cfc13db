"""Locks in a process that gevent or eventlet has patched."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Each makes `green`, with what both libraries have, and `join`.
_LIBRARIES = {
    "gevent": """
from gevent import monkey
monkey.patch_all()
import gevent as green
join = green.Greenlet.get
""",
    "eventlet": """
import eventlet as green
green.monkey_patch()
def join(greenlet): greenlet.wait()
""",
}
_PROGRAM = """
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
        green.sleep(0.01 if number % 2 else 0.6)  # also longer than a round of KeepAlive
        inside.remove(number)
for greenlet in [green.spawn(work, number) for number in range(10)]:
    join(greenlet)
assert most == [1] * 10, most

told = []
held = [lock(f"held {number}", on_lost=told.append) for number in range(5)]
for one in held:
    assert one.acquire()
ticks = []
def tick():
    while True:
        ticks.append(1)
        green.sleep(0.05)
green.spawn(tick)
green.sleep(5)
assert len(ticks) > 50, ticks     # nothing kept the other greenlets from running
for one in held:
    assert one.owned()
    one.check()
assert lock("held 2").reset()
with green.Timeout(5):
    while not told:
        green.sleep(0.01)
assert told == [held[2]]
try:
    held[2].release()
except LockLost:
    print("lost")
for one in held[:2] + held[3:]:
    one.release()

assert held[0].acquire()
waiter = green.spawn(lock("held 0").acquire, 60)
green.sleep(0.3)
waiter.kill()                     # the exception comes out of the waiting GET_LOCK
held[0].release()
assert lock("held 0").acquire(20)
print("done")
"""


@pytest.mark.parametrize("library", _LIBRARIES)
def test_locks_work_in_greenlets(library: str, url: str) -> None:
    pytest.importorskip(library)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _LIBRARIES[library] + _PROGRAM, url],
        check=False,
        timeout=100,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout.split()) == (0, ["lost", "done"]), done.stderr
    assert "Traceback" not in done.stderr

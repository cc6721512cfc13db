"""Locks in a process that gevent has patched."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
from gevent import monkey
monkey.patch_all()
import sys, time
import gevent
from celery_mysqllock.exceptions import LockLost
from celery_mysqllock.locks import MySQLLock

def lock(name, **options):
    return MySQLLock(name, url=sys.argv[1], session_timeout=3, **options)

inside, most = [], []
def work(number):
    with lock("one at a time").waiting(30):
        inside.append(number)
        most.append(len(inside))
        gevent.sleep(0.01)
        inside.remove(number)
greenlets = [gevent.spawn(work, number) for number in range(10)]
gevent.joinall(greenlets, raise_error=True)
assert most == [1] * 10, most

told = []
held = [lock(f"held {number}", on_lost=told.append) for number in range(5)]
for one in held:
    assert one.acquire()
ticks = []
def tick():
    while True:
        ticks.append(1)
        gevent.sleep(0.05)
ticker = gevent.spawn(tick)
gevent.sleep(5)
assert len(ticks) > 50, ticks     # nothing kept the other greenlets from running
for one in held:
    assert one.owned()
    one.check()
assert lock("held 2").reset()
with gevent.Timeout(5):
    while not told:
        gevent.sleep(0.01)
assert told == [held[2]]
try:
    held[2].release()
except LockLost:
    print("lost")
for one in held[:2] + held[3:]:
    one.release()

assert held[0].acquire()
waiter = gevent.spawn(lock("held 0").acquire, 60)
gevent.sleep(0.3)
waiter.kill()                     # the exception comes out of the waiting GET_LOCK
held[0].release()
assert lock("held 0").acquire(20)
print("done")
"""


def test_locks_work_in_greenlets(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, url],
        check=False,
        timeout=100,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["lost", "done"], done.stderr

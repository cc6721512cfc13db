"""A session in a process that gevent has patched."""

from __future__ import annotations

import subprocess
import sys

_PROGRAM = """
from gevent import monkey
monkey.patch_all()
import sys
import gevent
from celery_mysqllock.exceptions import ConnectionLost
from celery_mysqllock.mysql import Address, Session

session = Session(Address.parse(sys.argv[1])).open()

def wait():
    try:
        session.query("SELECT SLEEP(30)")
    except ConnectionLost:
        print("lost")

waiting = gevent.spawn(wait)
gevent.sleep(0.3)
session.close()
waiting.join(10)
print("over" if waiting.ready() else "waits")
"""


def test_a_session_that_another_greenlet_waits_in_can_be_closed(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, url], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "lost\nover\n"), done.stderr

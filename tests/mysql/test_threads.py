"""A background thread never ends in silence, and gets no signal."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading

import pytest

from celery_mysqllock.mysql.threads import start_thread


@pytest.mark.parametrize("error", [ValueError("odd"), RuntimeError(), OSError(5, "odd")])
def test_any_error_at_all_is_logged_and_handed_on(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    crashes: list[BaseException] = []

    def run() -> None:
        raise error

    with caplog.at_level(logging.CRITICAL):
        start_thread(run, "fragile", crashes.append).join(30)
    assert crashes == [error]
    (record,) = caplog.records
    assert "fragile" in record.getMessage()
    assert record.exc_info is not None
    assert record.exc_info[1] is error


def test_an_end_without_an_error_is_none_of_anybody_s_business(
    caplog: pytest.LogCaptureFixture,
) -> None:
    crashes: list[BaseException] = []
    start_thread(lambda: None, "done", crashes.append).join(30)
    assert crashes == []
    assert caplog.records == []


def test_signals_are_for_other_threads() -> None:
    blocked: set[int] = set()
    start_thread(lambda: blocked.update(signal.pthread_sigmask(signal.SIG_BLOCK, ())), "deaf").join(
        30
    )
    assert {signal.SIGTERM, signal.SIGINT, signal.SIGURG} <= blocked
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert threading.current_thread() is threading.main_thread()


_GREENLETS = """
import {library}
{patch}
import signal
from celery_mysqllock.mysql.threads import start_thread

ended = []
def start():
    start_thread(lambda: ended.append(1), "short")
greenlets = [{library}.spawn(start) for _ in range(20)]
while len(ended) < 20:
    {library}.sleep(0.01)
{library}.sleep(0.1)
print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
"""


@pytest.mark.parametrize(
    ("library", "patch"),
    [
        ("gevent", "from gevent import monkey; monkey.patch_all()"),
        ("eventlet", "eventlet.monkey_patch()"),
    ],
)
def test_greenlets_that_start_threads_at_once_leave_no_signal_blocked(
    library: str, patch: str
) -> None:
    pytest.importorskip(library)
    program = _GREENLETS.format(library=library, patch=patch)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout == "[]\n", done.stderr

"""``mysqllock top`` as a user sees it, in a terminal of 80 columns and 24 lines."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock import MySQLLock
from celery_mysqllock.cli.deployment import Deployment
from celery_mysqllock.cli.overview import OverviewReader
from celery_mysqllock.jobs import NewJob
from celery_mysqllock.mysql import Address, Session
from tests.cli.conftest import PROGRAM
from tests.cli.fleet import NAME, fleet
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_mysqllock.cli.overview import Overview
    from celery_mysqllock.jobs import JobTable
    from devserver import DevServer

    Command = Callable[..., subprocess.CompletedProcess[str]]

_SIZE = struct.pack("HHHH", 24, 80, 0, 0)
_INSERT = (
    "INSERT INTO jobs (job_status, queue, message) SELECT %s, 'emails', 'x' "
    "FROM information_schema.COLUMNS LIMIT 100"
)
_CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """``mysqllock top`` in a terminal.

    Args:
        url: Where it looks.
        words: Its options.
    """

    def __init__(self, url: str, *words: str) -> None:
        self._screen, inner = pty.openpty()
        fcntl.ioctl(inner, termios.TIOCSWINSZ, _SIZE)
        self._before = termios.tcgetattr(inner)
        self._inner = inner
        self._said = b""
        self.process = subprocess.Popen(
            [PROGRAM, "top", *words],
            env={**os.environ, "MYSQLLOCK_URL": url, "TERM": "xterm-256color"},
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
        )
        os.set_blocking(self._screen, False)

    @property
    def said(self) -> str:
        """All that was written so far."""
        try:
            while more := os.read(self._screen, 65536):
                self._said += more
        except (BlockingIOError, OSError):
            pass
        return self._said.decode(errors="replace")

    def await_text(self, text: str, since: int = 0) -> int:
        """Wait until it is on the screen; return how much has been written."""
        eventually(
            lambda: text in _CODES.sub("", self.said[since:]) or self.process.poll() is not None,
            what=text,
        )
        assert text in _CODES.sub("", self.said[since:]), self.said
        return len(self.said)

    def type(self, keys: bytes) -> None:
        os.write(self._screen, keys)

    def ended(self) -> int:
        """The exit code; the terminal must be as it was before."""
        while self.process.poll() is None:
            self.said  # noqa: B018 - reads, so that it can write
            time.sleep(0.02)
        assert termios.tcgetattr(self._inner) == self._before
        assert self.said.rfind("\x1b[?1049l") > self.said.rfind("\x1b[?1049h") >= 0
        assert self.said.rfind("\x1b[?25h") > self.said.rfind("\x1b[?25l")
        return self.process.returncode

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._screen)
        os.close(self._inner)


@contextmanager
def top(url: str, *words: str) -> Iterator[Terminal]:
    terminal = Terminal(url, *words)
    try:
        yield terminal
    finally:
        terminal.close()


@pytest.fixture
def url(telling_url: str) -> str:
    """A database on a server that shows what sessions tell of themselves."""
    return telling_url


# -- one frame -------------------------------------------------------------------------------------


def test_one_frame_shows_all_on_80_columns_and_24_lines(
    session: Session, mysqllock: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINES", "24")
    url, slow = session.address.url(), "a-queue-with-quite-a-long-name-that-does-not-fit"
    with fleet(session), MySQLLock("nightly", url=url), Session(session.address) as forgotten:
        forgotten.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
        forgotten.query("SELECT * FROM jobs")
        session.execute("INSERT INTO jobs (message, queue) VALUES ('x', %s)", (slow,))
        done = eventually(
            lambda: found if "nightly" in (found := mysqllock("top", "--once")).stdout else None
        )
        assert done is not None
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 24
    text = done.stdout
    (queue,) = (line.split() for line in lines if line.startswith("emails"))
    assert queue[1:6] == ["2", "1", "0", "1", "1"]
    # this one, or one that is older
    assert re.search(r"oldest transaction \d+ s, session \d+", lines[1])
    for shown in ("slow  paused", "shop.pay", NAME, "ValueError: no <b>such</b>", "alive"):
        assert shown in text
    assert re.search(r"^nightly +0 ", text, re.MULTILINE)


def test_what_does_not_fit_is_counted(
    session: Session, jobs: JobTable, mysqllock: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINES", "24")
    for number in range(30):
        jobs.publisher.put(NewJob(f"queue-{number}", "x"))
    with fleet(session):
        lines = mysqllock("top", "--once").stdout.splitlines()
    assert len(lines) <= 24
    shown = sum(line.startswith(("queue-", "emails", "slow")) for line in lines)
    assert 5 < shown < 20
    assert f"queues 32, {32 - shown} not shown" in "\n".join(lines)


def test_a_missing_table_is_an_error_in_words(mysqllock: Command, session: Session) -> None:
    session.execute("DROP TABLE jobs")
    done = mysqllock("top", "--once")
    assert done.returncode == 1
    assert "mysqllock migrate" in done.stderr


def test_without_a_terminal_it_says_what_to_do(mysqllock: Command) -> None:
    done = mysqllock("top")
    assert done.returncode == 2
    assert "--once" in done.stderr


def test_a_look_asks_the_server_little_however_much_there_is(session: Session) -> None:
    url = session.address.url()

    def asked() -> int:
        before = questions()
        reader.read()
        return questions() - before - 1

    def held(overview: Overview) -> int:
        return overview.locks.held if overview.locks else 0

    def questions() -> int:
        return int(session.query("SHOW GLOBAL STATUS LIKE 'Questions'")[0][1])

    with fleet(session), MySQLLock("one", url=url), MySQLLock("two", url=url):
        for job_status in (0, 2, 3):
            session.execute(_INSERT, (job_status,))
        reader = OverviewReader(Deployment(url=url), rows=3)
        overview = eventually(lambda: found if held(found := reader.read()) == 2 else None)
        assert overview is not None
        assert (len(overview.dead), overview.queues[0].dead) == (3, 101)
        assert min(asked() for _ in range(3)) <= 30
        reader.close()


# -- live ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [b"q", b"\x03"], ids=["q", "Ctrl-C"])
def test_it_goes_on_until_a_key_ends_it(session: Session, jobs: JobTable, key: bytes) -> None:
    with fleet(session), top(session.address.url(), "--interval", "0.2") as terminal:
        seen = terminal.await_text("emails")
        jobs.publisher.put(NewJob("brand-new", "x"))
        terminal.await_text("brand-new", seen)
        if key == b"\x03":  # a terminal's own session would turn it into the signal
            terminal.process.send_signal(signal.SIGINT)
        else:
            terminal.type(b"x" + key)
        assert terminal.ended() == 0


def test_sigterm_restores_the_terminal_too(session: Session) -> None:
    with fleet(session), top(session.address.url()) as terminal:
        terminal.await_text("emails")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.ended() == 0


def test_a_lost_server_is_shown_and_it_goes_on_when_it_is_back(
    start_server: Callable[..., DevServer],
) -> None:
    server = start_server()
    url = server.create_database()
    with Session(Address.parse(url)) as session, fleet(session):
        terminal = Terminal(url, "--interval", "0.2")
        seen = terminal.await_text("emails")
    try:
        server.stop()
        seen = terminal.await_text("cannot be reached", seen)
        server.start()
        with Session(Address.parse(url)) as session:
            session.execute("INSERT INTO jobs (message, queue) VALUES ('x', 'after')")
        terminal.await_text("after", seen)
        terminal.type(b"q")
        assert terminal.ended() == 0
    finally:
        terminal.close()

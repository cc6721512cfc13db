"""The program that a private server runs, and ways to see whether a server still lives."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.exceptions import CannotConnect, ConnectionLost
from celery_mysqllock.mysql import Address, Session
from devserver import DevServer
from devserver.choice import URL_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devserver.program import Program


@pytest.fixture
def temporary(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The temporary folder of this test's servers, empty at first."""
    folder = tmp_path_factory.mktemp("t")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def own(program: Program, temporary: Path) -> Iterator[DevServer]:
    """A running private server that the test may break."""
    assert not any(temporary.iterdir())
    with DevServer(program) as server:
        yield server


@pytest.fixture
def command(
    program: Program, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `python -m devserver` as a user does."""
    assert program
    assert temporary
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    started: list[subprocess.Popen[str]] = []

    def start(
        *arguments: str,
        stdin: int | None = subprocess.DEVNULL,
        hangup: signal.Handlers = signal.SIG_DFL,
    ) -> subprocess.Popen[str]:
        # What a signal does is inherited, and the tests may run under nohup.
        before = signal.signal(signal.SIGHUP, hangup)
        try:
            process = subprocess.Popen(
                [sys.executable, "-m", "devserver", *arguments],
                stdin=stdin,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        finally:
            signal.signal(signal.SIGHUP, before)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def answers(url: str) -> bool:
    """Tell whether a server answers a query at `url`."""
    try:
        with Session(Address.parse(url)) as session:
            return bool(session.value("SELECT 1") == 1)
    except (CannotConnect, ConnectionLost):  # it ends at this very moment
        return False


def command_lines() -> dict[int, str]:
    """The command line of every process that can be seen, by process id."""
    if not Path("/proc/self/cmdline").exists():
        listing = subprocess.run(
            ["ps", "-axww", "-o", "pid=,args="], stdout=subprocess.PIPE, text=True, check=True
        )
        split = (line.split(maxsplit=1) for line in listing.stdout.splitlines())
        return {int(pid): args for pid, *rest in split for args in rest}
    lines = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
            lines[int(path.parent.name)] = path.read_text(errors="replace").replace("\0", " ")
    return lines

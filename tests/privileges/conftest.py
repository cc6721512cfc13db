"""A migrated table, users of the roles, and programs that log in as one of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.privileges.grants import Users
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_mysqllock.mysql import Address, Session

_ROOT = Path(__file__).parents[2]


@pytest.fixture
def users(session: Session) -> Iterator[Users]:
    """The users of the roles; those that are made go with the test."""
    users = Users(session)
    yield users
    users.drop()


@pytest.fixture
def user(users: Users) -> Callable[[str], Address]:
    """Makes the user of a role."""
    return users.make


class Ledger:
    """What the tasks have written."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []

    def wait_for(self, *entries: str) -> None:
        eventually(lambda: set(entries) <= set(self.entries()), 60, f"{entries} in the ledger")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def environment(ledger: Ledger) -> dict[str, str]:
    return {**os.environ, "LEDGER": str(ledger.path)}


@pytest.fixture
def python(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs code that has the app of these tests, whose broker is at an address."""

    def run(code: str, broker: Address | str, **variables: str) -> subprocess.CompletedProcess[str]:
        url = broker if isinstance(broker, str) else broker.url()
        return subprocess.run(
            [sys.executable, "-c", f"from tests.privileges.app import *\n{code}"],
            cwd=_ROOT,
            env={**environment, "BROKER_URL": url, **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


class Program:
    """A ``celery`` process of the app of these tests."""

    def __init__(self, log: Path, *words: str, **environment: str) -> None:
        self._log = log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "celery", "-A", "tests.privileges.app"),
                    *(*words, "--loglevel=INFO"),
                ],
                cwd=_ROOT,
                env=environment,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def await_log(self, text: str) -> None:
        def seen() -> bool:
            found = text in self.log
            assert found or self._process.poll() is None, self.log
            return found

        eventually(seen, 60, f"{text!r} in a log")

    def kill(self) -> None:
        """SIGKILL to it and its children."""
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def wait(self) -> int:
        return self._process.wait(90)


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Starts ``celery`` with these words, as the user of an address."""
    programs: list[Program] = []

    def begin(broker: Address, *words: str, **variables: str) -> Program:
        log = tmp_path / f"program-{len(programs)}.log"
        own = {**environment, "BROKER_URL": broker.url(), **variables}
        programs.append(Program(log, *words, **own))
        return programs[-1]

    yield begin
    for program in programs:
        program.kill()

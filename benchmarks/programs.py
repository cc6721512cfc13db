"""The programs that a benchmark starts, freezes and kills, each in a process group of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

_ROOT = Path(__file__).resolve().parent.parent
_TAIL = 15  # lines of a log that an error quotes
_LOOK = 0.02  # seconds between two looks at what gives no event
_END = 10.0  # seconds for the kernel to end what was killed


class ProgramFailed(Exception):
    """A program did not do what the benchmark needs; the message says what, with its log."""


class Program:
    """One ``python -m`` and its log.

    Args:
        name: What the benchmark calls it; its log is ``<name>.log``.
        arguments: The module and its arguments, which every user of the machine may see.
        environment: What is added to this process's environment: the place for URLs.
        folder: Where the log goes.
    """

    def __init__(
        self, name: str, arguments: tuple[str, ...], environment: Mapping[str, str], folder: Path
    ) -> None:
        self.name = name
        self.is_frozen = False
        self._log = folder / f"{name}.log"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own modules
                [sys.executable, "-u", "-m", "benchmarks.leash", *arguments],
                env={**os.environ, **environment},
                cwd=_ROOT,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.pid = self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code, minus the number for a signal; None while it runs."""
        return self._process.poll()

    @property
    def log(self) -> str:
        """All that it has written."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def tail(self) -> str:
        """The last lines of its log, to be quoted."""
        return f"The log of {self.name} ends:\n" + "\n".join(self.log.splitlines()[-_TAIL:])

    def freeze(self) -> None:
        """SIGSTOP to it and its children."""
        self.is_frozen = True
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT to it and its children."""
        self._signal(signal.SIGCONT)
        self.is_frozen = False

    def stop(self) -> None:
        """SIGTERM to it alone; it ends in good order."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> float:
        """SIGKILL to it and its children; return when, on the clock of ``time.monotonic``."""
        at = time.monotonic()
        self._signal(signal.SIGKILL)
        self._process.wait(_END)
        if self._process.stdin is not None:
            self._process.stdin.close()
        return at

    def wait(self, seconds: float) -> int:
        """Wait for its end and return its exit code.

        Raises:
            ProgramFailed: It has not ended in that time.
        """
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise ProgramFailed(f"{self.name} ran for {seconds:g} s.\n{self.tail()}") from None

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):  # nothing of it is left
            os.killpg(self.pid, number)


class Programs:
    """All programs of one benchmark; whatever still runs is killed when the block is left.

    Args:
        folder: Where their logs go.
        environment: What all of them get.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self._environment = dict(environment)
        self._started: list[Program] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for program in self._started:
            program.kill()

    def start(self, name: str, *arguments: str, **environment: str) -> Program:
        """Start ``python -m`` with the arguments and more environment."""
        program = Program(name, arguments, {**self._environment, **environment}, self.folder)
        self._started.append(program)
        return program

    def run(self, name: str, *arguments: str, seconds: float, **environment: str) -> str:
        """Run one to its end and return what it wrote.

        Raises:
            ProgramFailed: It failed, or took longer.
        """
        program = self.start(name, *arguments, **environment)
        if program.wait(seconds):
            raise ProgramFailed(f"{name} failed ({program.exit_code}).\n{program.tail()}")
        return program.log

    def until(self, done: Callable[[], bool], what: str, seconds: float) -> None:
        """Return when ``done()`` is true.

        Raises:
            ProgramFailed: The time is over.
        """
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                tails = [one.tail() for one in self._started if one.exit_code is None]
                raise ProgramFailed("\n".join([f"Not within {seconds:g} s: {what}.", *tails]))
            time.sleep(_LOOK)

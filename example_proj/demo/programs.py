"""The programs that the demo starts: their logs, their ends, and waiting for their effects."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Self

_KEEPER = Path(__file__).with_name("keeper.py")
_TAIL = 15  # lines of a log that an error quotes
_END = 10.0  # seconds for the kernel to end a killed process
# Each check is a query, and a busy worker logs a thousand lines a second.
_REST = 0.05
# Check without a new line, too: the condition may come true after the last line.
_LOOK = 0.5


class DemoFailed(Exception):
    """The demo cannot go on; the message says why."""


class Program:
    """One program and its log.

    Args:
        name: Its name in the demo.
        command: The program and its arguments, which every user of the machine may see.
        environment: Its environment.
        heard: Set whenever it logs a line, and when it has ended.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        heard: threading.Event,
    ) -> None:
        self.name = name
        #: 128 + the number for a signal; None while it runs, or its log is not at its end.
        self.exit_code: int | None = None
        self._lines: list[str] = []
        self._heard = heard
        self._keeper = subprocess.Popen(  # noqa: S603 - our own command
            # -I: neither the working directory nor PYTHON* variables have a say in the keeper
            [sys.executable, "-I", str(_KEEPER), *command],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,  # Ctrl-C and signals to the demo's group do not reach it
        )
        self._reader = threading.Thread(target=self._read, name=f"log of {name}", daemon=True)
        self._reader.start()

    def said(self, text: str) -> list[str]:
        """The lines of its log that hold the text."""
        return [line for line in list(self._lines) if text in line]

    def tail(self) -> str:
        """The last lines of its log, to be quoted in an error."""
        return "\n".join((f"The last lines of the log of {self.name}:", *self._lines[-_TAIL:]))

    def kill(self) -> None:
        """End it and all that it has started with SIGKILL; returns at once."""
        _pipe(self._keeper.stdin).close()

    def wait(self) -> None:
        """Wait until it has ended.

        Raises:
            DemoFailed: That takes more than 10 s.
        """
        self._reader.join(_END)
        if self._reader.is_alive():
            raise DemoFailed(f"{self.name} did not end in {_END:g} s.\n{self.tail()}")

    def _read(self) -> None:
        with _pipe(self._keeper.stdout) as log:
            for line in log:
                self._lines.append(line.rstrip())
                self._heard.set()
        self.exit_code = self._keeper.wait()
        self._heard.set()


class Programs:
    """All programs of one demo; whatever still runs is killed when the block is left.

    Args:
        environment: What they all get as their environment: the place for URLs with passwords,
            which must not be arguments.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._heard = threading.Event()
        self._started: list[Program] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for program in self._started:
            program.kill()
        for program in self._started:
            program.wait()

    def start(self, name: str, *arguments: str) -> Program:
        """Start ``python -m`` with the arguments."""
        # -u: the log is a pipe, and its lines are awaited
        command = [sys.executable, "-u", "-m", *arguments]
        program = Program(name, command, self._environment, self._heard)
        self._started.append(program)
        return program

    def until(
        self, done: Callable[[], bool], what: str, seconds: float, running: Sequence[Program] = ()
    ) -> None:
        """Return when ``done()`` is true; it is asked whenever a program has logged something.

        Args:
            done: The condition.
            what: The same in words, for the error.
            seconds: For how long.
            running: The programs that it needs.

        Raises:
            DemoFailed: One of them has ended, or the time is over.
        """
        deadline = time.monotonic() + seconds
        while True:
            self._heard.clear()
            ended = [program for program in running if program.exit_code is not None]
            if done():
                return
            for program in ended:
                raise DemoFailed(
                    f"{program.name} ended (exit code {program.exit_code}) before this: {what}.\n"
                    f"{program.tail()}"
                )
            left = deadline - time.monotonic()
            if left <= 0:
                tails = (program.tail() for program in running)
                raise DemoFailed("\n".join((f"Not within {seconds:g} s: {what}.", *tails)))
            time.sleep(_REST)
            self._heard.wait(min(left, _LOOK))

    def run(self, name: str, *arguments: str, seconds: float) -> None:
        """Run ``python -m`` with the arguments to its end.

        Raises:
            DemoFailed: It failed, or took longer.
        """
        program = self.start(name, *arguments)
        self.until(lambda: program.exit_code is not None, f"{name} has ended", seconds)
        if program.exit_code:
            raise DemoFailed(f"{name} failed (exit code {program.exit_code}).\n{program.tail()}")


def _pipe(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise DemoFailed("A program was started without a pipe.")
    return pipe

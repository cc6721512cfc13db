"""The programs of the example project, started as a user starts them, and what they leave."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest

from example_proj.demo.programs import Programs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 30.0  # seconds until what should happen at once counts as not happening
_PROC = Path("/proc")


class Demo:
    """`python -m example_proj.demo` with a temporary folder of its own, and its descendants."""

    def __init__(self, temporary: Path, *arguments: str) -> None:
        self.temporary = temporary
        self._mark = f"DEMO_OF_TEST={uuid.uuid4()}".encode()
        name, _, value = self._mark.decode().partition("=")
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-m", "example_proj.demo", *arguments],
            env={**os.environ, "TMPDIR": str(temporary), name: value},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""

    @property
    def _log(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def read_until(self, beginning: str) -> None:
        for line in self._log:
            self.output += line
            if line.startswith(beginning):
                return
        pytest.fail(f"the demo ended before {beginning!r}:\n{self.output}")

    def finish(self) -> int:
        self.output += self._log.read()
        return self.process.wait(PATIENCE)

    def command_lines(self) -> list[str]:
        """Of every process that lives and descends from this demo."""
        lines = []
        for folder in _PROC.glob("[0-9]*"):
            try:
                if self._mark in (folder / "environ").read_bytes().split(b"\0"):
                    lines.append((folder / "cmdline").read_text().replace("\0", " "))
            except OSError:  # gone meanwhile, or somebody else's
                continue
        return [line for line in lines if line]

    def leaves_nothing(self) -> bool:
        return not self.command_lines() and not any(self.temporary.iterdir())


@pytest.fixture
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Demo]]:
    """Start the demo."""
    if not _PROC.exists():
        pytest.skip("without /proc nothing tells which processes a demo has left")
    started: list[Demo] = []

    def start(*arguments: str) -> Demo:
        started.append(Demo(tmp_path_factory.mktemp("t"), *arguments))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.communicate()


@pytest.fixture
def programs(url: str) -> Iterator[Programs]:
    """Programs of the example project on a database of their own."""
    with Programs({**os.environ, "MYSQLLOCK_URL": url}) as started:
        yield started

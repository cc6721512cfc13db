"""Nothing is left behind, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from devserver import (
    DevServer,
    ServerFailed,
)
from tests.devserver.conftest import answers
from tests.waiting import eventually

if TYPE_CHECKING:
    from devserver.program import Program


def test_a_watchdog_that_is_killed_takes_the_server_with_it(
    program: Program, temporary: Path
) -> None:
    with DevServer(program) as server:
        status = Path(f"/proc/{server.pid}/status")
        if not status.exists():
            pytest.skip("the kernel's help for this is Linux's own")
        parent = next(line for line in status.read_text().splitlines() if line.startswith("PPid"))
        os.kill(int(parent.split()[1]), signal.SIGKILL)
        eventually(lambda: not answers(server.url))
        with pytest.raises(ServerFailed, match="watchdog"):
            server.start()
    assert not any(temporary.iterdir())


def test_a_forked_child_neither_ends_the_server_nor_keeps_it(
    program: Program, temporary: Path
) -> None:
    """An owner forks, its child leaves the `with` block and lives on; then the owner is killed."""
    assert program
    script = (
        "import os, sys, time\n"
        "from devserver import private_server\n"
        "with private_server() as server:\n"
        "    if os.fork():\n"
        "        os.wait()\n"
        "        child = os.fork()\n"
        "        if child:\n"
        "            print(server.url, child, flush=True)\n"
        "        time.sleep(600)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "MYSQLLOCK_URL"}
    owner = subprocess.Popen(
        [sys.executable, "-c", script],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert owner.stdout is not None
    url, child = owner.stdout.readline().split()
    try:
        assert answers(url)
        owner.kill()
        owner.wait()
        eventually(lambda: not any(temporary.iterdir()))
        os.kill(int(child), 0)
    finally:
        os.kill(int(child), signal.SIGKILL)
        owner.stdout.close()


def test_what_a_power_failure_left_is_removed_by_the_next_start(
    program: Program, temporary: Path
) -> None:
    left, young = temporary / "mysqllock-left", temporary / "mysqllock-young"
    for folder in (left, young):
        folder.mkdir()
        (folder / "in-use").touch()
    hour_ago = time.time() - 3600
    os.utime(left / "in-use", (hour_ago, hour_ago))
    with DevServer(program) as first:
        (running,) = [one for one in temporary.iterdir() if one not in (left, young)]
        os.utime(running / "in-use", (hour_ago, hour_ago))
        with DevServer(program) as second:
            assert answers(first.url)
            assert answers(second.url)
            assert not left.exists()
            assert young.exists()

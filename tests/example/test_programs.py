"""The programs of the demo: how their ends and silences are told, and that they end together."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from example_proj.demo.programs import DemoFailed, Programs
from tests.example.conftest import PATIENCE
from tests.waiting import eventually

SERVER = ("http.server", "--bind", "127.0.0.1", "0")  # runs until it is ended, and says so


def test_the_end_of_a_program_that_is_needed_is_told_with_its_log() -> None:
    with Programs(os.environ) as programs:
        program = programs.start("clock", "example_proj.glock", "noon")
        with pytest.raises(DemoFailed, match=r"clock ended.*before this: it struck") as failed:
            programs.until(lambda: False, "it struck", PATIENCE, [program])
    assert "could not convert string to float: 'noon'" in str(failed.value)


def test_the_end_of_the_patience_is_told_with_the_log() -> None:
    with Programs(os.environ) as programs:
        program = programs.start("server", *SERVER)
        programs.until(lambda: bool(program.said("Serving")), "it serves", PATIENCE, [program])
        with pytest.raises(DemoFailed, match=r"Not within 0.1 s: it rained\.") as failed:
            programs.until(lambda: False, "it rained", 0.1, [program])
    assert "Serving HTTP" in str(failed.value)


def test_a_command_that_fails_is_told_with_its_log() -> None:
    with (
        Programs(os.environ) as programs,
        pytest.raises(DemoFailed, match=r"(?s)clock failed.*exit code 1.*'noon'"),
    ):
        programs.run("clock", "example_proj.glock", "noon", seconds=PATIENCE)


def test_a_killed_program_ends_with_all_that_it_started(tmp_path: Path) -> None:
    if not Path("/proc").exists():
        pytest.skip("without /proc nothing tells a dead process from a zombie")
    # the child ignores every polite signal, and would outlive its parent
    tmp_path.joinpath("family.py").write_text(
        "import os, signal, time\n"
        "child = os.fork()\n"
        "for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):\n"
        "    signal.signal(number, signal.SIG_IGN)\n"
        "os.write(1, f'member {os.getpid()}\\n'.encode())\n"
        "time.sleep(600)\n"
    )
    with Programs({**os.environ, "PYTHONPATH": str(tmp_path)}) as programs:
        family = programs.start("family", "family")
        programs.until(lambda: len(family.said("member")) == 2, "both live", PATIENCE, [family])
        family.kill()
        family.wait()
    pids = [int(line.split()[1]) for line in family.said("member")]
    eventually(lambda: not any(map(alive, pids)))
    assert family.exit_code == 128 + 9


def alive(pid: int) -> bool:
    try:
        # empty for a zombie, which only waits for somebody to take note of its end
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except FileNotFoundError:
        return False

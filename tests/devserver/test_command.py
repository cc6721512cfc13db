"""`python -m devserver`, run as a user runs it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.devserver.conftest import answers, command_lines
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from devserver import DevServer

    Start = Callable[..., subprocess.Popen[str]]


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_the_printed_url_answers_queries(command: Start) -> None:
    assert answers(first_line(command()))


def test_stdout_holds_the_url_and_nothing_else(command: Start) -> None:
    process = command()
    url = first_line(process)
    process.terminate()
    rest, progress = process.communicate()
    assert url.startswith("mysql://")
    assert rest == ""
    assert "is ready" in progress


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_server_and_removes_its_files(
    command: Start, temporary: Path, number: signal.Signals
) -> None:
    process = command()
    url = first_line(process)
    process.send_signal(number)
    assert process.wait(20) == 0
    assert not answers(url)
    assert not any(temporary.iterdir())


def test_under_nohup_a_hangup_ends_nothing(command: Start) -> None:
    process = command(hangup=signal.SIG_IGN)
    url = first_line(process)
    process.send_signal(signal.SIGHUP)
    assert answers(url)
    assert process.poll() is None


def test_sigkill_of_the_command_ends_the_server_and_removes_its_files(
    command: Start, temporary: Path
) -> None:
    process = command()
    url = first_line(process)
    process.kill()
    eventually(lambda: not any(temporary.iterdir()))
    assert not answers(url)


def test_sigkill_during_the_start_leaves_nothing(command: Start, temporary: Path) -> None:
    process = command()
    eventually(lambda: any(temporary.glob("*/in-use")))
    process.kill()
    eventually(lambda: not any(temporary.iterdir()))


@pytest.mark.usefixtures("command")
def test_the_command_ends_with_a_parent_that_is_killed(temporary: Path) -> None:
    script = (
        "import subprocess, sys, time\n"
        "subprocess.Popen([sys.executable, '-m', 'devserver'])\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    url = first_line(parent)
    assert answers(url)
    parent.kill()
    parent.communicate()
    eventually(lambda: not any(temporary.iterdir()))
    assert not answers(url)


def test_closing_its_stdin_ends_the_command(command: Start, temporary: Path) -> None:
    process = command(stdin=subprocess.PIPE)
    assert answers(first_line(process))
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(20) == 0
    assert not any(temporary.iterdir())


def test_a_stdin_closed_from_the_start_ends_nothing(command: Start) -> None:
    # so it is under some CI runners
    read, write = os.pipe()
    os.close(write)
    process = command(stdin=read)
    os.close(read)
    url = first_line(process)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(2)
    assert answers(url)


def test_two_commands_at_once_have_a_server_each(command: Start) -> None:
    one, two = command(), command()
    urls = {first_line(one), first_line(two)}
    assert len(urls) == 2
    assert all(map(answers, urls))


def test_the_command_says_so_when_its_server_dies(command: Start, temporary: Path) -> None:
    process = command()
    first_line(process)
    for pid, text in command_lines().items():
        if f"--tmpdir={temporary}/" in text:
            os.kill(pid, signal.SIGKILL)
    assert process.wait(20) == 1
    assert process.stderr is not None
    assert "is not running (signal 9)" in process.stderr.read()


def test_a_given_url_is_used_as_it_is_and_its_server_lives_on(
    own: DevServer, command: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"{own.url}?connect_timeout=7"
    monkeypatch.setenv("MYSQLLOCK_URL", url)
    process = command()
    assert first_line(process) == url
    process.terminate()
    assert process.wait(20) == 0
    assert answers(own.url)


def test_an_unknown_kind_is_refused(command: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MYSQLLOCK_SERVER", "postgres")
    out, error = command().communicate(timeout=60)
    assert out == ""
    assert "'postgres' is no kind of server" in error
    assert "mariadb or mysql" in error
    assert "Traceback" not in error


def test_an_unknown_option_is_refused(command: Start) -> None:
    process = command("--sever", "mysql")
    _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "--sever" in error

"""``mysqllock run`` as a user runs it: real processes, killed in every way."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Any

import pytest

from celery_mysqllock.locks import MySQLLock
from celery_mysqllock.mysql import Address, Session, used_by
from tests.cli.test_deployment import PROGRAM
from tests.cli.test_deployment import run as mysqllock
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PATIENCE = 30.0
_CONFLICT, _UNAVAILABLE, _LOST = 1, 69, 75
_ENDING = ["TERM", "INT", "HUP", "QUIT", "USR1", "USR2"]


class Running:
    """A ``mysqllock run`` and what its command says."""

    def __init__(self, url: str, *words: str) -> None:
        self.process = subprocess.Popen(
            [PROGRAM, "run", *words],
            env={**os.environ, "MYSQLLOCK_URL": url, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.pid = self.process.pid
        self._lines: Queue[str] = Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))

    def heard(self) -> str:
        """The next line of the command."""
        return self._lines.get(timeout=_PATIENCE)

    def has_said_nothing(self) -> bool:
        return self._lines.empty()

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def guard(self) -> int:
        """The process id of its guard."""
        (guard,) = children(self.pid)
        return guard

    def ended(self) -> int:
        """Its exit code."""
        return self.process.wait(_PATIENCE)

    def errors(self) -> str:
        """What it wrote to stderr, to the end."""
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def close(self) -> None:
        if self.process.poll() is None:
            self.signal(signal.SIGCONT)
            self.process.terminate()
            self.process.wait(_PATIENCE)
        self._reader.join(_PATIENCE)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()


def children(pid: int) -> list[int]:
    threads = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for thread in threads for child in thread.read_text().split()]


def is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def start(url: str) -> Iterator[Callable[..., Running]]:
    """Starts ``mysqllock run`` with these words."""
    started: list[Running] = []

    def start(*words: str) -> Running:
        started.append(Running(url, *words))
        return started[-1]

    yield start
    for running in started:
        running.close()


@pytest.fixture
def section(tmp_path: Path) -> Callable[..., tuple[str, ...]]:
    """The words of a command that notices when it runs twice at a time."""
    file = str(tmp_path / "section")
    return lambda *flags: ("--", sys.executable, "-m", "tests.cli.section", file, *flags)


# -- exit codes, and what passes through -----------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        (["sh", "-c", "exit 7"], 7, ""),
        (["sh", "-c", "kill -TERM $$"], 143, ""),
        (["sh", "-c", "kill -KILL $$"], 137, ""),
        (["no-such-command"], 127, "mysqllock run: there is no command 'no-such-command'.\n"),
        (
            ["/etc/passwd"],
            126,
            "mysqllock run: the command '/etc/passwd' cannot run: Permission denied.\n",
        ),
    ],
)
def test_the_exit_code_is_the_commands_as_in_a_shell(
    url: str, command: list[str], code: int, said: str
) -> None:
    done = mysqllock("run", "it", "--", *command, MYSQLLOCK_URL=url)
    assert (done.returncode, done.stdout, done.stderr) == (code, "", said)


def test_a_command_is_not_found_where_path_cannot_be_searched(url: str, tmp_path: Path) -> None:
    for name, is_folder in (("folder-only", True), ("no-program", False)):
        (tmp_path / name).mkdir() if is_folder else (tmp_path / name).touch(0o644)
    # the kernel says the same of a folder as of one that this user may not look into
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    for name, code, said in (("folder-only", 127, "no command"), ("no-program", 126, "denied")):
        done = mysqllock("run", "it", "--", name, MYSQLLOCK_URL=url, PATH=path)
        assert done.returncode == code
        assert said in done.stderr


def test_stdin_and_stdout_pass_through_untouched(url: str) -> None:
    data = bytes(range(256)) * 1000
    done = subprocess.run(
        [PROGRAM, "--url", url, "run", "it", "--", "cat"],
        input=data,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, data, b"")


def test_options_behind_the_dashes_are_the_commands(url: str) -> None:
    done = mysqllock("run", "it", "--", "echo", "-n", "--", "-w", MYSQLLOCK_URL=url)
    assert (done.returncode, done.stdout) == (0, "-- -w")


@pytest.mark.parametrize("option", ["--wait", "--grace"])
@pytest.mark.parametrize("seconds", ["nan", "inf", "-1", "soon"])
def test_seconds_that_are_none_are_refused(url: str, option: str, seconds: str) -> None:
    done = mysqllock("run", option, seconds, "it", "--", "echo", "ran", MYSQLLOCK_URL=url)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Error: Invalid value for '{'-w' if option == '--wait' else option}'" in done.stderr


@pytest.mark.parametrize("words", [["it"], ["it", "--"], ["it", "true"], ["-n", "-w", "1", "it"]])
def test_what_cannot_be_understood_is_refused(url: str, words: list[str]) -> None:
    done = mysqllock("run", *words, MYSQLLOCK_URL=url)
    assert done.returncode == 2
    assert "Usage: mysqllock run [OPTIONS] NAME -- COMMAND [ARGUMENT]..." in done.stderr


def test_a_server_that_is_down_is_no_conflict() -> None:
    url = "mysql://jane:secret@127.0.0.1:1/shop"
    done = mysqllock("run", "it", "--", "echo", "ran", MYSQLLOCK_URL=url)
    assert (done.returncode, done.stdout) == (_UNAVAILABLE, "")
    assert "cannot be reached" in done.stderr
    assert "secret" not in done.stderr


def test_the_command_has_the_files_of_its_caller_and_not_the_locks_socket(url: str) -> None:
    inside, outside = os.pipe()
    program = (
        f"import os; os.write({outside}, b'it')\n"
        "for n in os.listdir('/proc/self/fd'):\n"
        "  try: print(n, os.readlink(f'/proc/self/fd/{n}'))\n"
        "  except OSError: pass  # the listing's own"
    )
    done = subprocess.run(
        [PROGRAM, "run", "it", "--", sys.executable, "-c", program],
        env={**os.environ, "MYSQLLOCK_URL": url},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        pass_fds=[outside],
        check=False,
    )
    os.close(outside)
    with os.fdopen(inside) as pipe:
        assert pipe.read() == "it"
    assert "socket:" not in done.stdout
    assert {int(line.split()[0]) for line in done.stdout.splitlines()} == {0, 1, 2, outside}


# -- one at a time ---------------------------------------------------------------------------------


def test_a_conflict_has_its_exit_code_and_says_who_holds_the_lock(
    url: str, start: Callable[..., Running]
) -> None:
    first = start("it", "--", "sh", "-c", "echo on; exec sleep 60")
    assert first.heard() == "on"
    at_once = mysqllock("run", "-n", "it", "--", "echo", "ran", MYSQLLOCK_URL=url)
    assert (at_once.returncode, at_once.stdout) == (_CONFLICT, "")
    assert ":it' is held by session " in at_once.stderr
    chosen = mysqllock("run", "it", "-w", "0.2", "-E", "9", "-q", "--", "true", MYSQLLOCK_URL=url)
    assert (chosen.returncode, chosen.stderr) == (9, "")
    other = mysqllock("run", "-n", "other", "--", "echo", "ran", MYSQLLOCK_URL=url)
    assert other.stdout == "ran\n"


def test_the_lock_is_the_one_that_python_knows(url: str) -> None:
    with MySQLLock("it", url=url):
        assert mysqllock("run", "-n", "it", "--", "true", MYSQLLOCK_URL=url).returncode == _CONFLICT
    assert mysqllock("run", "-n", "it", "--", "true", MYSQLLOCK_URL=url).returncode == 0


def test_those_who_wait_run_one_after_another(
    start: Callable[..., Running], section: Callable[..., tuple[str, ...]]
) -> None:
    runs = [start("it", *section("--brief")) for _ in range(3)]
    assert [run.ended() for run in runs] == [0, 0, 0]
    assert [run.heard() for run in runs] == ["on", "on", "on"]


def test_one_that_is_ended_while_it_waits_runs_nothing(
    url: str, start: Callable[..., Running]
) -> None:
    with MySQLLock("it", url=url):
        waiting = start("it", "--", "echo", "ran")
        eventually(lambda: _waits(url))
        waiting.signal(signal.SIGTERM)
        assert waiting.ended() == -signal.SIGTERM
    assert waiting.has_said_nothing()


def _waits(url: str) -> bool:
    with Session(Address.parse(url)) as session:
        return bool(
            session.value(
                "SELECT COUNT(*) FROM information_schema.processlist"
                " WHERE db = DATABASE() AND state = 'User lock'"
            )
        )


# -- signals ---------------------------------------------------------------------------------------


@contextmanager
def handling(number: int, handler: Any) -> Iterator[None]:
    """Have this process, and what it starts, handle a signal so; a function is not inherited."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("name", _ENDING)
def test_a_signal_is_passed_on(start: Callable[..., Running], name: str) -> None:
    script = f"trap 'echo got; exit 3' {name}; echo on; while :; do sleep 0.05; done"
    number = getattr(signal, f"SIG{name}")
    with handling(number, lambda *_: None):  # nor ignored, as it may be in the background
        running = start("it", "--", "sh", "-c", script)
    assert running.heard() == "on"
    running.signal(number)
    assert running.heard() == "got"
    assert running.ended() == 3


def test_ctrl_c_reaches_the_command_once(url: str) -> None:
    counts = (
        "import signal, time; n = []\n"
        "signal.signal(signal.SIGINT, lambda *_: n.append(1))\n"
        "print('on', flush=True)\n"
        "while not n: time.sleep(0.02)\n"
        "time.sleep(0.3); print('interrupted', len(n), flush=True)"
    )
    pid, terminal = pty.fork()
    if pid == 0:
        os.environ["MYSQLLOCK_URL"] = url
        words = [PROGRAM, "run", "it", "--", sys.executable, "-c", counts]
        os.execv(PROGRAM, words)  # noqa: S606 - as a user would type it
    with os.fdopen(terminal, "rb+", buffering=0) as screen:
        said = b""
        while b"on" not in said:
            said += screen.read(100)
        screen.write(b"\x03")
        while b"interrupted" not in said or not said.endswith(b"\n"):
            said += screen.read(100)
    assert b"interrupted 1\r\n" in said
    assert os.waitpid(pid, 0)[1] == 0


def test_what_nohup_ignores_stays_ignored(start: Callable[..., Running]) -> None:
    with handling(signal.SIGHUP, signal.SIG_IGN):
        running = start("it", "--", "sh", "-c", "kill -HUP $$; kill -HUP $PPID; echo there")
    assert running.heard() == "there"
    assert running.ended() == 0


# -- process 1, and streams that take nothing ------------------------------------------------------

_IN_A_CONTAINER = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def can_be_process_1() -> bool:
    unshare = shutil.which("unshare")
    return unshare is not None and not subprocess.call([*_IN_A_CONTAINER, "true"])


@pytest.fixture
def contained(url: str) -> Iterator[Callable[..., tuple[subprocess.Popen[str], int]]]:
    """Starts ``mysqllock`` as process 1 of a container; the process, and its id out here."""
    if not can_be_process_1():
        pytest.skip("this user may not make a namespace of processes (unshare --pid)")
    started = []

    def start(*words: str) -> tuple[subprocess.Popen[str], int]:
        process = subprocess.Popen(
            [*_IN_A_CONTAINER, PROGRAM, *words],
            env={**os.environ, "MYSQLLOCK_URL": url},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        (inner,) = eventually(lambda: children(process.pid))
        return process, inner

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("name", _ENDING)
def test_as_process_1_a_signal_ends_it_while_it_waits(
    url: str, contained: Callable[..., tuple[subprocess.Popen[str], int]], name: str
) -> None:
    number = getattr(signal, f"SIG{name}")
    with MySQLLock("it", url=url), handling(number, lambda *_: None):
        process, inner = contained("run", "it", "--", "echo", "ran")
        eventually(lambda: _waits(url))
        os.kill(inner, number)
        assert process.wait(_PATIENCE) == 128 + number
        eventually(lambda: not _waits(url))
    assert process.stdout is not None
    assert process.stdout.read() == ""


@pytest.mark.parametrize("name", _ENDING)
def test_as_process_1_it_passes_a_signal_on(
    contained: Callable[..., tuple[subprocess.Popen[str], int]], name: str
) -> None:
    number = getattr(signal, f"SIG{name}")
    script = f"trap 'echo got; exit 3' {name}; echo on; while :; do sleep 0.05; done"
    with handling(number, lambda *_: None):
        process, inner = contained("run", "it", "--", "sh", "-c", script)
    assert process.stdout is not None
    assert process.stdout.readline() == "on\n"
    os.kill(inner, number)
    assert process.stdout.readline() == "got\n"
    assert process.wait(_PATIENCE) == 3


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_as_process_1_what_serves_ends_too(
    contained: Callable[..., tuple[subprocess.Popen[str], int]], name: str
) -> None:
    number = getattr(signal, f"SIG{name}")
    with handling(number, lambda *_: None):
        process, inner = contained("web", "--port", "0")
    assert process.stdout is not None
    assert process.stdout.readline().startswith("mysqllock web: http://")
    os.kill(inner, number)
    assert process.wait(_PATIENCE) == 0


def test_as_process_1_it_ignores_what_nohup_ignores(
    url: str, contained: Callable[..., tuple[subprocess.Popen[str], int]]
) -> None:
    with MySQLLock("it", url=url), handling(signal.SIGHUP, signal.SIG_IGN):
        process, inner = contained("run", "-w", "2", "-q", "it", "--", "true")
        eventually(lambda: _waits(url))
        os.kill(inner, signal.SIGHUP)
        assert process.wait(_PATIENCE) == _CONFLICT


_BROKEN = "2> a pipe that nobody reads"
STREAMS = ["2>&-", "2>/dev/full", "<&- >&- 2>&-", _BROKEN]


def in_a_shell(url: str, streams: str, *words: str) -> subprocess.Popen[bytes]:
    inside, outside = os.pipe()
    os.close(inside)
    redirection = "" if streams == _BROKEN else streams
    process = subprocess.Popen(
        ["sh", "-c", f'exec "$0" "$@" {redirection}', PROGRAM, *words],
        env={**os.environ, "MYSQLLOCK_URL": url},
        stdout=subprocess.DEVNULL,
        stderr=outside,
    )
    os.close(outside)
    return process


@pytest.mark.parametrize("streams", STREAMS)
@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["-n", "it", "--", "true"], _CONFLICT),
        (["-n", "-E", "9", "it", "--", "true"], 9),
        (["other", "--", "sh", "-c", "exit 7"], 7),
        (["other", "--", "no-such-command"], 127),
        (["other", "--", "/etc/passwd"], 126),
        (["other"], 2),
    ],
)
def test_a_stderr_that_takes_nothing_changes_no_exit_code(
    url: str, streams: str, words: list[str], code: int
) -> None:
    with MySQLLock("it", url=url):
        process = in_a_shell(url, streams, "run", *words)
        assert process.wait(_PATIENCE) == code


@pytest.mark.parametrize("streams", STREAMS)
def test_nor_does_it_when_the_server_is_down(streams: str) -> None:
    process = in_a_shell("mysql://jane@127.0.0.1:1/shop", streams, "run", "it", "--", "true")
    assert process.wait(_PATIENCE) == _UNAVAILABLE


@pytest.mark.parametrize("streams", STREAMS)
def test_nor_does_it_when_the_lock_is_lost(url: str, streams: str, tmp_path: Path) -> None:
    on = tmp_path / "on"
    process = in_a_shell(url, streams, "run", "it", "--", "sh", "-c", f"> {on}; exec sleep 60")
    eventually(on.exists)
    end_session(url)
    assert process.wait(_PATIENCE) == _LOST


def test_a_lost_lock_ends_the_command_although_nobody_reads_stderr(
    url: str, tmp_path: Path
) -> None:
    on, (inside, outside) = tmp_path / "on", os.pipe()
    os.set_blocking(outside, False)
    with suppress(BlockingIOError):
        while os.write(outside, bytes(4096)):
            pass
    os.set_blocking(outside, True)
    process = subprocess.Popen(
        [PROGRAM, "run", "it", "--", "sh", "-c", f"> {on}; exec sleep 60"],
        env={**os.environ, "MYSQLLOCK_URL": url},
        stderr=outside,
    )
    try:
        eventually(on.exists)
        end_session(url)
        assert process.wait(_PATIENCE) == _LOST
    finally:
        process.kill()
        process.wait()
        os.close(inside)
        os.close(outside)


def test_the_command_gets_the_streams_as_they_were_given_and_no_socket_for_one(
    url: str, tmp_path: Path
) -> None:
    file = tmp_path / "open"
    words = ("run", "it", "--", "sh", "-c", f"ls -l /proc/$$/fd > {file}")
    process = in_a_shell(url, "<&- >&- 2>&-", *words)
    assert process.wait(_PATIENCE) == 0
    assert "/dev/null" not in file.read_text()
    assert "socket:" not in file.read_text()


# -- kills, and the loss of the lock ---------------------------------------------------------------


@pytest.mark.parametrize("flags", [[], ["--deaf"], ["--deaf", "--family"]])
@pytest.mark.parametrize("victim", ["main", "guard"])
def test_after_a_sigkill_the_next_runs_when_the_command_is_gone(
    start: Callable[..., Running],
    section: Callable[..., tuple[str, ...]],
    victim: str,
    flags: list[str],
) -> None:
    # the grace: time for the next one to begin, were it let
    first = start("it", "--grace", "2", *section(*flags))
    assert first.heard() == "on"
    second, third = (start("it", *section("--brief")) for _ in range(2))
    guard = first.guard()
    os.kill(first.pid if victim == "main" else guard, signal.SIGKILL)
    assert (second.heard(), third.heard()) == ("on", "on")
    assert (second.ended(), third.ended()) == (0, 0)
    assert first.ended() == (-signal.SIGKILL if victim == "main" else 137)
    eventually(lambda: not is_there(guard))


def end_session(url: str, name: str = "it") -> None:
    with Session(Address.parse(url)) as session:
        session.execute("KILL IS_USED_LOCK(%s)", (f"{Address.parse(url).database}:{name}",))


def test_when_the_lock_is_lost_the_command_is_ended(
    url: str, start: Callable[..., Running]
) -> None:
    script = "trap 'echo term; exit 3' TERM; echo on; while :; do sleep 0.05; done"
    running = start("it", "--", "sh", "-c", script)
    assert running.heard() == "on"
    end_session(url)
    assert running.heard() == "term"
    assert running.ended() == _LOST
    assert re.fullmatch(
        r"mysqllock run: the lock '.*:it' is lost, and the command is ended.\n", running.errors()
    )


def test_a_command_that_will_not_end_is_killed_after_the_grace(
    url: str, start: Callable[..., Running], section: Callable[..., tuple[str, ...]]
) -> None:
    running = start("it", "--grace", "0.3", *section("--deaf", "--family"))
    assert running.heard() == "on"
    end_session(url)
    assert running.ended() == _LOST
    assert start("it", *section("--brief")).heard() == "on"


def test_a_loss_ends_the_command_of_a_frozen_one(url: str, start: Callable[..., Running]) -> None:
    running = start(
        "it", "--", "sh", "-c", "trap 'echo term; exit 3' TERM; echo on; sleep 60 & wait"
    )
    assert running.heard() == "on"
    running.signal(signal.SIGSTOP)
    end_session(url)
    assert running.heard() == "term"
    running.signal(signal.SIGCONT)
    assert running.ended() == _LOST


# -- what the command leaves behind ----------------------------------------------------------------


def test_what_a_killed_command_leaves_behind_is_ended(
    start: Callable[..., Running], section: Callable[..., tuple[str, ...]]
) -> None:
    first = start("it", "--grace", "0.5", *section("--family"))
    assert first.heard() == "on"
    first.signal(signal.SIGTERM)
    second = start("it", *section("--brief"))
    assert second.heard() == "on"
    assert first.ended() == 143


def test_what_a_command_leaves_in_the_background_goes_on_without_the_lock(
    url: str, start: Callable[..., Running]
) -> None:
    running = start("it", "--", "sh", "-c", "sleep 60 >&- 2>&- & echo $!")
    left = int(running.heard())
    assert running.ended() == 0
    try:
        assert is_there(left)
        with Session(Address.parse(url)) as session:
            assert used_by(session, f"{Address.parse(url).database}:it") is None
    finally:
        os.kill(left, signal.SIGKILL)

"""The guard: a process that runs a command under a lock, and ends it before the lock gets free.

``mysqllock run`` holds the lock. Its child, the guard, has a copy of the socket of the session that
holds it, and the command is the guard's child. As long as one copy of the socket is open the
server keeps the session, so whoever of the two is killed:

- ``mysqllock run``: the guard ends the command, and only then itself, and the lock gets free;
- the guard: the kernel ends the command, and ``mysqllock run`` what the command leaves behind,
  before it releases the lock.

The command has no copy of the socket: one that goes on in the background would keep the lock.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import shutil
import signal
import socket
import time
from dataclasses import dataclass
from typing import NoReturn

from celery_mysqllock.cli.descent import adopt_orphans, children, die_with, end_children, reap
from celery_mysqllock.cli.process import ENDING, end_as_process_1
from celery_mysqllock.cli.process import say as say_to_stderr

_PASSED_ON = set(ENDING)
_CANNOT_RUN, _NOT_FOUND = 126, 127  # exit codes, as a shell has them
# Seconds between two looks whether the server has ended the session, for when mysqllock run is
# stopped (SIGSTOP) and cannot say so.
_LOOK = 0.5


@dataclass(frozen=True)
class Command:
    """What is run, and how it is ended when it must not go on.

    Attributes:
        words: The program and its arguments.
        grace: Seconds from SIGTERM to SIGKILL when the lock is lost.
        grace_alone: The same when ``mysqllock run`` has died: fewer than the server keeps a
            session that nobody keeps alive.
    """

    words: tuple[str, ...]
    grace: float
    grace_alone: float


class Guard:
    """The guard as seen by ``mysqllock run``.

    It is forked here, before there is a session or a thread, and waits to be told to start.

    Args:
        command: What it is going to run.
    """

    def __init__(self, command: Command) -> None:
        # SIGRTMIN is ours: "end the command". Ignored ones stay ignored, as nohup wants it.
        self._awaited: set[int | signal.Signals] = _PASSED_ON | {signal.SIGCHLD, signal.SIGRTMIN}
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        end_as_process_1()
        adopt_orphans()
        ours, its = socket.socketpair()
        main = os.getpid()
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._awaited)
        self._pid = os.fork()
        if self._pid == 0:
            ours.close()
            _Watch(command, main, self._mask, self._awaited).run(its)
        its.close()
        self._socket = ours
        # Until the lock is there a signal ends this process as it would end any other.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON - self._mask)

    def run(self, descriptor: int) -> int:
        """Have it run the command; return the command's exit code when it has ended.

        Signals that come meanwhile are passed on, except those that a terminal has sent to the
        command as well.

        Args:
            descriptor: The socket of the session that holds the lock.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, self._awaited)
        with contextlib.suppress(BrokenPipeError):  # it was killed, as is found out below
            socket.send_fds(self._socket, [b"run"], [descriptor])
        while True:
            come = signal.sigwaitinfo(self._awaited)
            if come.si_signo == signal.SIGCHLD:
                code = reap()[0].get(self._pid)
                if code is not None:
                    if code < 0:
                        end_children()
                        say("its guard was killed, and the command with it.")
                    return _as_a_shell(code)
            elif _is_from_a_process(come):
                os.kill(self._pid, come.si_signo)

    def end_command(self) -> None:
        """Have the command ended; from any thread."""
        # To itself: only the thread that waits for the guard knows whether it is still there.
        os.kill(os.getpid(), signal.SIGRTMIN)

    def dismiss(self) -> None:
        """End the guard without having run anything."""
        self._socket.close()
        os.waitpid(self._pid, 0)


class _Watch:
    """The guard as seen by itself."""

    def __init__(
        self,
        command: Command,
        main: int,
        mask: set[int | signal.Signals],
        awaited: set[int | signal.Signals],
    ) -> None:
        self._command = command
        self._main = main
        self._mask = mask
        self._awaited = awaited
        self._child = 0
        self._code: int | None = None
        self._kill_at = math.inf
        self._told: set[int] = set()

    def run(self, orders: socket.socket) -> NoReturn:
        """Wait for the lock, run the command, and end with its exit code."""
        code = 1
        try:
            has_main = die_with(self._main, signal.SIGRTMIN)
            _, descriptors, _, _ = socket.recv_fds(orders, 16, 1)
            if descriptors and has_main:
                code = self._tend(descriptors[0])
        except Exception as error:  # noqa: BLE001 - nobody above it could say so
            end_children()
            say(f"the guard failed: {error!r}")
        finally:
            # No handler of this copy of the process may run, no buffer of it be written.
            os._exit(code)

    def _tend(self, session: int) -> int:
        adopt_orphans()
        os.set_inheritable(session, False)  # noqa: FBT003 - its only argument
        self._child = self._start()
        poll = select.poll()
        poll.register(session, select.POLLRDHUP)
        while self._is_on():
            wait = max(0.0, min(_LOOK, self._kill_at - time.monotonic()))
            come = signal.sigtimedwait(self._awaited, wait)
            if come is not None and come.si_signo in _PASSED_ON:
                if come.si_pid == self._main and _is_from_a_process(come):
                    self._pass_on(come.si_signo)
            elif come is not None and come.si_signo == signal.SIGCHLD:
                continue
            elif come is not None or poll.poll(0):
                self._end()
        return _as_a_shell(-signal.SIGKILL if self._code is None else self._code)

    def _is_on(self) -> bool:
        """Whether there is something to wait for; see to what is left of the command."""
        dead, is_over = reap()
        self._code = dead.get(self._child, self._code)
        if self._code is not None and self._code < 0:
            self._end()  # what a killed command leaves behind goes on by mistake
        if is_over or (self._code is not None and self._kill_at == math.inf):
            return False
        if time.monotonic() >= self._kill_at:
            end_children()
            return False
        if self._code is not None:
            for orphan in children() - self._told:
                self._tell(orphan, signal.SIGTERM)
        return True

    def _end(self) -> None:
        """Begin to end the command: SIGTERM now, SIGKILL to all that is left of it later."""
        if self._kill_at < math.inf:
            return
        is_alone = os.getppid() != self._main
        grace = self._command.grace_alone if is_alone else self._command.grace
        self._kill_at = time.monotonic() + grace
        if self._code is None:
            self._tell(self._child, signal.SIGTERM)
        if is_alone:
            say("it was killed itself, and ends the command.")

    def _pass_on(self, number: int) -> None:
        for process in children() if self._code is not None else {self._child}:
            self._tell(process, number)

    def _tell(self, process: int, number: int) -> None:
        self._told.add(process)
        try:
            os.kill(process, number)
        except PermissionError:
            say(f"the command runs as another user, so it cannot be sent signal {number}.")

    def _start(self) -> int:
        guard = os.getpid()
        child = os.fork()
        if child == 0:
            try:
                if die_with(guard, signal.SIGKILL):
                    self._become_the_command()
            finally:
                os._exit(_CANNOT_RUN)
        return child

    def _become_the_command(self) -> None:
        program = self._command.words[0]
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # Python ignores them
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        try:
            os.execvp(program, self._command.words)  # noqa: S606 - what it is for; no shell
        except OSError as error:
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as for this program's own lines
            if _is_nowhere(program, error):
                say(f"there is no command {program!r}.")
                os._exit(_NOT_FOUND)
            say(f"the command {program!r} cannot run: {error.strerror}.")


def _is_nowhere(program: str, error: OSError) -> bool:
    if isinstance(error, PermissionError):
        # which may mean a folder of PATH that this user may not look into
        return os.sep not in program and shutil.which(program, os.F_OK) is None
    return isinstance(error, (FileNotFoundError, NotADirectoryError))


def say(text: str, *, patience: float = 1.0) -> None:
    """Write one line for the user, to stderr: stdout is the command's.

    Args:
        text: What there is to say.
        patience: Seconds to wait where nobody reads what was written before.
    """
    say_to_stderr(f"mysqllock run: {text}", patience)


def _as_a_shell(code: int) -> int:
    return code if code >= 0 else 128 - code


def _is_from_a_process(come: signal.struct_siginfo) -> bool:
    """Whether kill(2) has sent it; what the terminal sends, it sends to the command as well."""
    return come.si_code <= 0

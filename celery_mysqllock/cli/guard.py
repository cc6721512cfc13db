"""The guard: a process that runs a command under a lock, and ends it before the lock is freed.

``mysqllock run`` holds the lock. Its child, the guard, has a copy of the socket of the session that
holds the lock, and the command is the guard's child. The server keeps the session as long as one
copy of the socket is open. So if one of the two processes is killed:

- ``mysqllock run``: the guard ends the command and then itself, which frees the lock;
- the guard: the kernel ends the command, and ``mysqllock run`` ends the command's descendants
  before it releases the lock.

The command has no copy of the socket, because a command that goes on in the background would keep
the lock.
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

from celery_mysqllock.cli.process import ENDING, end_as_process_1
from celery_mysqllock.cli.process import say as say_to_stderr
from celery_mysqllock.cli.process_tree import adopt_orphans, children, die_with, end_children, reap

_PASSED_ON = set(ENDING)
_CANNOT_RUN, _NOT_FOUND = 126, 127  # exit codes, as a shell has them
# Seconds between two checks whether the server has ended the session: mysqllock run may be stopped
# (SIGSTOP), and then cannot tell.
_CHECK = 0.5


@dataclass(frozen=True)
class Command:
    """A command, and how it is ended.

    Attributes:
        words: The program and its arguments.
        grace: Seconds from SIGTERM to SIGKILL when the lock is lost.
        grace_alone: The same if ``mysqllock run`` has died: less than the server's time-out for a
            session that nothing keeps alive.
    """

    words: tuple[str, ...]
    grace: float
    grace_alone: float


class GuardedCommand:
    """A command as seen by ``mysqllock run``, which talks to its guard.

    Forks the guard at once, before there is a session or a thread. The guard waits for ``run``.

    Args:
        command: The command.
    """

    def __init__(self, command: Command) -> None:
        # SIGRTMIN tells the guard to end the command. Ignored signals stay ignored, as for nohup.
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
            _Guard(command, main, self._mask, self._awaited).run(its)
        its.close()
        self._socket = ours
        # Until the lock is held, a signal ends this process as usual.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON - self._mask)

    def run(self, descriptor: int) -> int:
        """Run the command; its exit code.

        Signals are passed on to the command, except those that a terminal has sent to it as well.

        Args:
            descriptor: The socket of the session that holds the lock.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, self._awaited)
        with contextlib.suppress(BrokenPipeError):  # it was killed, which is noticed below
            socket.send_fds(self._socket, [b"run"], [descriptor])
        while True:
            received = signal.sigwaitinfo(self._awaited)
            if received.si_signo == signal.SIGCHLD:
                code = reap()[0].get(self._pid)
                if code is not None:
                    if code < 0:
                        end_children()
                        say("its guard was killed, and the command with it.")
                    return _shell_code(code)
            elif _is_from_process(received):
                os.kill(self._pid, received.si_signo)

    def end_command(self) -> None:
        """End the command; callable from any thread."""
        # A signal to this process: only the thread in run() knows whether the guard still lives.
        os.kill(os.getpid(), signal.SIGRTMIN)

    def dismiss(self) -> None:
        """End the guard without having run anything."""
        self._socket.close()
        os.waitpid(self._pid, 0)


class _Guard:
    """The guard itself, in its own process."""

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
        self._signalled: set[int] = set()

    def run(self, orders: socket.socket) -> NoReturn:
        """Wait for the lock, run the command, and end with its exit code."""
        code = 1
        try:
            has_main = die_with(self._main, signal.SIGRTMIN)
            _, descriptors, _, _ = socket.recv_fds(orders, 16, 1)
            if descriptors and has_main:
                code = self._watch_over(descriptors[0])
        except Exception as error:  # noqa: BLE001 - nothing above would report it
            end_children()
            say(f"the guard failed: {error!r}")
        finally:
            # This copy of the process must run no exit handler and flush no buffer.
            os._exit(code)

    def _watch_over(self, session: int) -> int:
        adopt_orphans()
        os.set_inheritable(session, False)  # noqa: FBT003 - its only argument
        self._child = self._start()
        poll = select.poll()
        poll.register(session, select.POLLRDHUP)
        while self._is_on():
            wait = max(0.0, min(_CHECK, self._kill_at - time.monotonic()))
            received = signal.sigtimedwait(self._awaited, wait)
            if received is not None and received.si_signo in _PASSED_ON:
                if received.si_pid == self._main and _is_from_process(received):
                    self._pass_on(received.si_signo)
            elif received is not None and received.si_signo == signal.SIGCHLD:
                continue
            elif received is not None or poll.poll(0):
                self._end()
        return _shell_code(-signal.SIGKILL if self._code is None else self._code)

    def _is_on(self) -> bool:
        """Whether there is something to wait for; end what is left of the command."""
        dead, is_over = reap()
        self._code = dead.get(self._child, self._code)
        if self._code is not None and self._code < 0:
            self._end()  # a killed command did not mean to leave processes behind
        if is_over or (self._code is not None and self._kill_at == math.inf):
            return False
        if time.monotonic() >= self._kill_at:
            end_children()
            return False
        if self._code is not None:
            for orphan in children() - self._signalled:
                self._tell(orphan, signal.SIGTERM)
        return True

    def _end(self) -> None:
        """Begin to end the command: SIGTERM now, and SIGKILL to what is left after the grace."""
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
        self._signalled.add(process)
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
                    self._exec_command()
            finally:
                os._exit(_CANNOT_RUN)
        return child

    def _exec_command(self) -> None:
        program = self._command.words[0]
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)  # Python ignores them
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)
        try:
            os.execvp(program, self._command.words)  # noqa: S606 - its purpose; no shell
        except OSError as error:
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # for this program's own output
            if _is_nowhere(program, error):
                say(f"there is no command {program!r}.")
                os._exit(_NOT_FOUND)
            say(f"the command {program!r} cannot run: {error.strerror}.")


def _is_nowhere(program: str, error: OSError) -> bool:
    if isinstance(error, PermissionError):
        # perhaps of a folder of PATH that this user may not read
        return os.sep not in program and shutil.which(program, os.F_OK) is None
    return isinstance(error, (FileNotFoundError, NotADirectoryError))


def say(text: str, *, patience: float = 1.0) -> None:
    """Write one line for the user, to stderr: stdout is the command's.

    Args:
        text: The line.
        patience: Seconds to wait until earlier output has been read.
    """
    say_to_stderr(f"mysqllock run: {text}", patience)


def _shell_code(code: int) -> int:
    return code if code >= 0 else 128 - code


def _is_from_process(received: signal.struct_siginfo) -> bool:
    """Whether kill(2) has sent it; a terminal sends its signals to the command as well."""
    return received.si_code <= 0

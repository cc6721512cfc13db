"""What a command is as a process: its standard streams may be closed, and it may be process 1."""

from __future__ import annotations

import io
import os
import select
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from celery_mysqllock.cli.visible import visible_lines

if TYPE_CHECKING:
    from typing_extensions import Buffer

#: The signals that end a process which does not handle them, and may come from an operator.
ENDING = (
    *(signal.SIGTERM, signal.SIGINT, signal.SIGHUP),
    *(signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2),
)
_STDOUT, _STDERR = 1, 2


def settle_in() -> None:
    """Be a process that a closed stream or being process 1 does no harm; to be called first."""
    _hold_numbers()
    if sys.stderr is sys.__stderr__ and sys.stderr is not None:
        sys.stderr = _VisibleText(
            io.BufferedWriter(_Stderr()),
            sys.stderr.encoding,
            errors="backslashreplace",
            write_through=True,
        )
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    end_as_process_1()


def end_as_process_1() -> None:
    """Have signals end process 1 too, for which the kernel ignores those that nobody handles.

    The exit code is 128 and the signal's number. What is ignored on purpose, or handled, stays so.
    """
    if os.getpid() != 1:
        return
    for number in ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _exit)


def say(text: str, patience: float) -> None:
    """Write one line to stderr, unless it is closed, or full and read by nobody.

    Args:
        text: The line.
        patience: Seconds to wait for somebody to read what was written before.
    """
    if sys.stderr is None:
        return
    with suppress(OSError, ValueError):
        poll = select.poll()
        poll.register(_STDERR, select.POLLOUT)
        if not poll.poll(patience * 1000):
            return
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def leave_stdout() -> None:
    """Write nothing more to stdout, nor what is left in its buffer: it takes nothing."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDOUT)
    os.close(nowhere)


def _hold_numbers() -> None:
    """Open the standard streams that are closed, so that no socket gets their numbers.

    What this process starts has them closed, as it was asked for.
    """
    for number in range(_STDERR + 1):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.close(opened)


class _VisibleText(io.TextIOWrapper):
    """Text in which nothing acts on a terminal: errors tell of names that others have given."""

    def write(self, text: str, /) -> int:
        super().write(visible_lines(text))
        self.flush()
        return len(text)


class _Stderr(io.RawIOBase):
    """Stderr as a file that takes whatever it is given: its errors are none of the command."""

    def fileno(self) -> int:
        return _STDERR

    def isatty(self) -> bool:
        return os.isatty(_STDERR)

    def writable(self) -> bool:
        return True

    def write(self, content: Buffer, /) -> int:
        left = memoryview(content).cast("B")
        size = len(left)
        with suppress(OSError):
            while left:
                left = left[os.write(_STDERR, left) :]
        return size


def _exit(number: int, _: object) -> NoReturn:
    os._exit(128 + number)

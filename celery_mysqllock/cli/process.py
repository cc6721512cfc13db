"""The process of a command: its standard streams, its signals, and its arguments in ``ps``."""

from __future__ import annotations

import ctypes
import io
import os
import re
import select
import signal
import sys
from contextlib import suppress
from pathlib import Path
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
_PASSWORD = re.compile(rb"(mysql://[^:@/\0]*:)([^\0]*)(?=@)")
# Fields 48 and 49 of proc_pid_stat(5), counted from the third, which is the first behind the name.
_ARG_START, _ARG_END = 45, 46


def settle_in() -> None:
    """Prepare for closed standard streams and for being process 1; call this first."""
    _reserve_descriptors()
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


def hide_passwords() -> None:
    """Overwrite the passwords of URLs in this process's arguments, as ``ps`` shows them.

    The kernel reads them from the process's own memory. Python's copy, ``sys.argv``, stays as it
    is. Does nothing on systems other than Linux.
    """
    with suppress(OSError, ValueError, IndexError):  # not Linux, or no /proc
        # pid (name) state ..., and the name may hold anything
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
        if not start < end:
            return
        for found in _PASSWORD.finditer(ctypes.string_at(start, end - start)):
            ctypes.memset(start + found.start(2), ord("*"), len(found[2]))


def end_as_process_1() -> None:
    """Make signals end process 1 too, for which the kernel ignores those without a handler.

    The exit code is 128 plus the signal's number. Signals that are ignored or handled stay so.
    """
    if os.getpid() != 1:
        return
    for number in ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _exit)


def say(text: str, patience: float) -> None:
    """Write one line to stderr, unless it is closed, or full and not read.

    Args:
        text: The line.
        patience: Seconds to wait until earlier output has been read.
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
    """Discard what is written to stdout from now on, and its buffer, since writes to it fail."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDOUT)
    os.close(nowhere)


def _reserve_descriptors() -> None:
    """Open closed standard streams on /dev/null, so that no socket gets their descriptors.

    Child processes have them closed as before.
    """
    for number in range(_STDERR + 1):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != number:
                os.close(opened)


class _VisibleText(io.TextIOWrapper):
    """Text without terminal escapes: errors may quote names from other programs."""

    def write(self, text: str, /) -> int:
        super().write(visible_lines(text))
        self.flush()
        return len(text)


class _Stderr(io.RawIOBase):
    """Stderr as a file whose errors are ignored: a command must not fail because of them."""

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

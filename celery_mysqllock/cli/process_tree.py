"""The descendants of this process on Linux: adopting, reaping and ending them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from pathlib import Path

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h


def die_with(parent: int, number: int) -> bool:
    """Make the kernel send this process a signal when its parent dies, however it dies.

    Args:
        parent: The parent's process id.
        number: The signal.

    Returns:
        False if the parent has died already; then no signal is sent.
    """
    _prctl(_PR_SET_PDEATHSIG, number)
    return os.getppid() == parent


def adopt_orphans() -> None:
    """Become the parent of each descendant whose own parent dies, as init would."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_children() -> None:
    """Kill all children, and those adopted meanwhile; return when none is left.

    With ``adopt_orphans`` these are all descendants. A process of another user cannot be killed; it
    is waited for.
    """
    while True:
        for child in children():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(child, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def reap() -> tuple[dict[int, int], bool]:
    """Reap the children that have died.

    Returns:
        Their exit codes by process id, negative for the number of a signal; and whether no child is
        left.
    """
    dead: dict[int, int] = {}
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return dead, True
        if pid == 0:
            return dead, False
        dead[pid] = os.waitstatus_to_exitcode(status)


def children() -> set[int]:
    """The process ids of all children, including dead ones that were not reaped."""
    me = os.getpid()
    processes = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return {pid for pid in processes if _parent(pid) == me}


def _parent(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None  # it has just ended
    # pid (name) state parent ..., and the name may hold anything
    return int(stat.rpartition(")")[2].split()[1])


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

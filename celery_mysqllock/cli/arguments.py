"""The arguments of this process as others see them, in ``ps``: without the passwords of URLs."""

from __future__ import annotations

import ctypes
import re
from contextlib import suppress
from pathlib import Path

_PASSWORD = re.compile(rb"(mysql://[^:@/\0]*:)([^\0]*)(?=@)")
# Fields 48 and 49 of proc_pid_stat(5), counted from the third, which is the first behind the name.
_ARG_START, _ARG_END = 45, 46


def hide_passwords() -> None:
    """Overwrite the passwords in this process's own arguments; nothing where that cannot be done.

    The kernel reads what it shows to others from the process's own memory. What Python has read of
    it before, ``sys.argv``, is a copy and stays as it is.
    """
    with suppress(OSError, ValueError, IndexError):  # not Linux, or no /proc
        # pid (name) state ..., and the name may hold anything
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
        if not start < end:
            return
        for found in _PASSWORD.finditer(ctypes.string_at(start, end - start)):
            ctypes.memset(start + found.start(2), ord("*"), len(found[2]))

"""Notes that processes write while they are tortured: lines of JSON, in a file for each process.

A file survives the SIGKILL of its writer and the crash of the server that is under test, costs
microseconds, and a line of less than a page that is appended by one write is there or is not.
"""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Writer:
    """Writes the notes of one process; opens its file with the first, after any fork.

    Args:
        folder: Where the files are.
        author: Who writes; each note holds it.
    """

    def __init__(self, folder: Path, author: str) -> None:
        self._folder = folder
        self._author = author
        self._file = -1
        self._pid = 0

    def write(self, kind: str, **values: object) -> None:
        """Write one note with the time of ``time.monotonic``, the same clock for all processes."""
        if self._pid != os.getpid():
            path = self._folder / f"{self._author}-{os.getpid()}.notes"
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            # last, for another thread may look
            self._pid = os.getpid()
        note = {"kind": kind, "at": time.monotonic(), "by": self._author, **values}
        os.write(self._file, json.dumps(note).encode() + b"\n")


class Reader:
    """Reads what all writers of a folder have written since the last look.

    Args:
        folder: Where the files are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[Path, int] = {}

    def news(self) -> Iterator[dict[str, Any]]:
        """The notes that are new, those of one process in their order."""
        for path in sorted(self._folder.glob("*.notes")):
            with path.open("rb") as file:
                file.seek(self._seen.get(path, 0))
                data = file.read()
            whole = data.rfind(b"\n") + 1
            self._seen[path] = self._seen.get(path, 0) + whole
            for line in data[:whole].splitlines():
                note: dict[str, Any] = json.loads(line)
                yield note

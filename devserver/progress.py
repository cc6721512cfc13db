"""Progress on stderr while a server is being prepared."""

from __future__ import annotations

import sys

STEP = 20  # percent between two lines when stderr is not a terminal


def say(text: str) -> None:
    """Write one line of progress to stderr."""
    print(f"devserver: {text}", file=sys.stderr, flush=True)  # noqa: T201 - progress is for stderr


class Percent:
    """The progress of one download: redrawn in place on a terminal, a line every 20 % elsewhere."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._shown = 0
        self._terminal = sys.stderr.isatty()

    def show(self, percent: float) -> None:
        """Show how far the download is; values smaller than the last one are ignored."""
        step = 1 if self._terminal else STEP
        now = int(percent) // step * step
        if now <= self._shown:
            return
        self._shown = now
        if self._terminal:
            print(f"\rdevserver: {self._what}: {now} %", end="", file=sys.stderr, flush=True)  # noqa: T201 - as above
        else:
            say(f"{self._what}: {now} %")

    def close(self) -> None:
        """End the line that is redrawn, if there is one."""
        if self._terminal and self._shown:
            print(file=sys.stderr, flush=True)  # noqa: T201 - as above

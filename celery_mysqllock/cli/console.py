"""Where tables for people are printed: as wide as the terminal, unfolded for another program."""

from __future__ import annotations

from rich.console import Console

_UNFOLDED = 1000  # columns


def stdout() -> Console:
    """The console that writes to this process's stdout."""
    console = Console()
    return console if console.is_terminal else Console(width=_UNFOLDED)

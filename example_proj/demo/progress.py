"""The live progress: redrawn in place on a terminal, plain lines elsewhere."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    SpinnerColumn,
    TaskID,
    TextColumn,
)
from rich.progress import Progress as Bars

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from rich.console import Console


class Progress:
    """The steps of the demo, each with how far it is.

    Args:
        console: Where they are shown.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Bars(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}"),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    @contextmanager
    def step(self, title: str, parts: int, note: str = "") -> Iterator[Step]:
        """Show one step, complete when the block is left in good order.

        Args:
            title: The step.
            parts: How many parts it has.
            note: More about it.
        """
        step = Step(self._bars, self._bars.add_task(title, total=parts, note=note))
        step.say(f"{title}: {note}" if note else title)
        yield step
        step.show(parts)


class Step:
    """One step of the demo.

    Args:
        bars: Where it is shown.
        task: The step's number there.
    """

    def __init__(self, bars: Bars, task: TaskID) -> None:
        self._bars = bars
        self._task = task

    def show(self, done: int) -> None:
        """Show how many parts are done."""
        self._bars.update(self._task, completed=done)

    def note(self, text: str) -> None:
        """Replace the note: this is how it goes, or how it has ended."""
        self._bars.update(self._task, note=text)
        self.say(f"  {text}")

    def say(self, line: str) -> None:
        """Print a line where nothing can be redrawn."""
        if self._bars.disable:
            self._bars.console.print(line, highlight=False)

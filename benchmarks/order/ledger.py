"""The ledger: which jobs of each key ran when, and whether that was in order and one at a time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass
class Run:
    """One run of a job; ``end`` is None when the run was killed."""

    number: int
    worker: str
    begin: float
    end: float | None = None


@dataclass
class Ledger:
    """All that is known of the runs, by key."""

    runs: dict[int, list[Run]] = field(default_factory=lambda: defaultdict(list))
    ended: set[tuple[int, int]] = field(default_factory=set)

    def add(self, notes: Iterable[dict[str, Any]]) -> None:
        """Take notes of workers in."""
        for note in notes:
            runs = self.runs[note["key"]]
            if note["kind"] == "begin":
                runs.append(Run(note["number"], note["by"], note["at"]))
                continue
            self.ended.add((note["key"], note["number"]))
            for run in reversed(runs):
                if (run.number, run.worker, run.end) == (note["number"], note["by"], None):
                    run.end = note["at"]
                    break

    def in_time(self, key: int) -> list[Run]:
        """The runs of a key in the order in which they began."""
        return sorted(self.runs[key], key=lambda run: run.begin)

    def disorders(self) -> list[str]:
        """Where a job began after a later one of its key."""
        return [
            f"key {key}: {later.number} began after {earlier.number}"
            for key in self.runs
            for earlier, later in pairwise(self.in_time(key))
            if later.number < earlier.number
        ]

    def overlaps(self, killed: Mapping[str, float]) -> list[str]:
        """Where a run began before the one before it was over.

        Args:
            killed: When each of the killed workers was, which is when its runs were over.
        """
        found = []
        for key in self.runs:
            for earlier, later in pairwise(self.in_time(key)):
                over = earlier.end or killed.get(earlier.worker, float("inf"))
                if later.begin < over:
                    found.append(
                        f"key {key}: {later.number} by {later.worker} began at {later.begin:.3f}, "
                        f"{earlier.number} by {earlier.worker} was over at {over:.3f}"
                    )
        return found

    def repeats(self, killed: Mapping[str, float]) -> tuple[int, int]:
        """How many jobs ran again after their worker was killed, and after no such thing."""
        pairs = [
            earlier
            for key in self.runs
            for earlier, later in pairwise(self.in_time(key))
            if earlier.number == later.number
        ]
        explained = sum(run.worker in killed for run in pairs)
        return explained, len(pairs) - explained

    def rate(self, warm: float) -> float:
        """Jobs a second, without the first part of them."""
        ends = sorted(run.end for runs in self.runs.values() for run in runs if run.end)
        first = round(len(ends) * warm)
        return (len(ends) - 1 - first) / (ends[-1] - ends[first])

"""What the contenders noted of their sections, and which of them overlapped."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Row = tuple[str, str, int]


@dataclass
class Section:
    """One critical section, as its process noted it.

    Attributes:
        name: The lock's name.
        author: The process.
        begin: When its lock had been taken, on the clock of ``time.monotonic``.
        end: When its lock was about to be released; infinite while it has not ended.
        reported: When its process was told that the lock was lost, None when it never was.
    """

    name: str
    author: str
    begin: float
    end: float = float("inf")
    reported: float | None = None


class Sections:
    """All sections, put together out of notes."""

    def __init__(self) -> None:
        self.events: Counter[str] = Counter()
        self._all: dict[str, Section] = {}

    @property
    def done(self) -> int:
        """How many sections came to their end."""
        return self.events["end"]

    def add(self, notes: Iterable[dict[str, Any]]) -> None:
        """Take notes of contenders in."""
        for note in notes:
            kind, at = note["kind"], note["at"]
            self.events[kind] += 1
            if kind == "begin":
                section = Section(note["name"], note["by"], at)
                self._all[note["section"]] = section
            elif kind == "end":
                self._all[note["section"]].end = at
            elif kind in ("told", "lost"):
                # on_lost may be faster than the note of the begin
                section = self._all.setdefault(note["section"], Section("", note["by"], at, at))
                section.reported = min(at, section.reported or at)

    def cut(self, killed: Mapping[str, float]) -> None:
        """End the sections of the processes that were killed, each at its time."""
        for section in self._all.values():
            if section.end == float("inf") and section.author in killed:
                section.end = max(section.begin, killed[section.author])

    def overlaps(self) -> list[tuple[Section, Section]]:
        """Each section that began before an earlier one of its name had ended, with that one."""
        found = []
        by_name: dict[str, list[Section]] = defaultdict(list)
        for section in sorted(self._all.values(), key=lambda one: one.begin):
            earlier = by_name[section.name] = [
                one for one in by_name[section.name] if one.end > section.begin
            ]
            found += [(one, section) for one in earlier]
            earlier.append(section)
        return found


def fenced_overlaps(rows: Sequence[Row]) -> list[str]:
    """The sections that wrote their end after another one of their name had written something.

    Args:
        rows: Name, section and step of all rows in the order of their ids.
    """
    last: dict[str, str] = {}
    wrong = []
    for name, section, step in rows:
        if step > 1 and last.get(name) != section:
            wrong.append(section)
        last[name] = section
    return wrong

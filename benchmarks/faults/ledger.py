"""The ledger: what was confirmed, what ran where and when, and how the faults explain the rest."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from benchmarks.campaign import Fault

# Seconds in which an ack may wait for the transaction that it shares with others.
_ACK_DELAY = 2.0
# Seconds in which a worker may still begin what it had claimed when its session was lost.
_CLAIMED_AHEAD = 15.0


@dataclass
class Run:
    """One run of a message; ``end`` is None when the run was killed."""

    message: str
    worker: str
    begin: float
    end: float | None = None


@dataclass
class Ledger:
    """All that is known of the messages."""

    confirmed: dict[str, float] = field(default_factory=dict)
    unsure: dict[str, str] = field(default_factory=dict)
    runs: dict[str, list[Run]] = field(default_factory=lambda: defaultdict(list))
    ended: set[str] = field(default_factory=set)

    def add(self, notes: Iterable[dict[str, Any]]) -> None:
        """Take notes of producers and workers in."""
        for note in notes:
            message = note["message"]
            if note["kind"] == "confirmed":
                self.confirmed[message] = note["at"]
            elif note["kind"] == "unsure":
                self.unsure[message] = note["error"]
            elif note["kind"] == "begin":
                self.runs[message].append(Run(message, note["by"], note["at"]))
            else:
                self._end(message, note["by"], note["at"])

    def _end(self, message: str, worker: str, at: float) -> None:
        self.ended.add(message)
        for run in reversed(self.runs[message]):
            if run.worker == worker and run.end is None:
                run.end = at
                return

    def lost(self) -> list[str]:
        """The confirmed messages that have never run to their end."""
        return [message for message in self.confirmed if message not in self.ended]

    def duplicates(self) -> list[tuple[Run, Run]]:
        """Each run to the end that came after another one of its message, with that one."""
        pairs = []
        for runs in self.runs.values():
            whole = sorted((run for run in runs if run.end is not None), key=lambda run: run.begin)
            pairs += list(pairwise(whole))
        return pairs

    def explained(
        self, faults: Sequence[Fault]
    ) -> tuple[list[tuple[Run, Fault]], list[tuple[Run, Run]]]:
        """The first runs of duplicates with the fault that explains each, and what none explains.

        Of several faults it is the one that is nearest to the first run's end.
        """
        explained, unexplained = [], []
        for first, second in self.duplicates():
            found = [fault for fault in faults if _explains(fault, first, second)]
            if found:
                explained.append((first, min(found, key=partial(_distance, first))))
            else:
                unexplained.append((first, second))
        return explained, unexplained

    def redeliveries(self, faults: Sequence[Fault]) -> list[tuple[float, bool]]:
        """How soon the jobs that a killed worker was running began again.

        Returns:
            For each of them the seconds, and whether the server was down for a part of them.
        """
        down = [(fault.at, fault.until) for fault in faults if fault.kind == "server killed"]
        found = []
        for fault in faults:
            if fault.kind != "worker killed":
                continue
            for after in self._runs_after(fault):
                disturbed = any(
                    start < after.begin and end > fault.at - _ACK_DELAY for start, end in down
                )
                found.append((after.begin - fault.at, disturbed))
        return found

    def _runs_after(self, fault: Fault) -> list[Run]:
        again = []
        for runs in self.runs.values():
            ordered = sorted(runs, key=lambda run: run.begin)
            again += [
                two
                for one, two in pairwise(ordered)
                if one.end is None and one.worker in fault.victims and two.begin > fault.at
            ]
        return again


def _explains(fault: Fault, first: Run, second: Run) -> bool:
    """Whether the first run had not been acknowledged when the fault hit its worker."""
    return (
        first.worker in fault.victims
        and fault.at - _ACK_DELAY <= (first.end or fault.at)
        and first.begin <= max(fault.at, fault.until) + _CLAIMED_AHEAD
        and fault.at <= second.begin
    )


def _distance(first: Run, fault: Fault) -> float:
    return abs(fault.at - (first.end or first.begin))

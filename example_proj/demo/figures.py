"""The figures of the runs in a ledger, and whether they are right."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import accumulate, pairwise
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from example_proj.demo.ledger import Run

_NEVER = datetime.max  # noqa: DTZ901 - the server's times come without a zone, too
_MILLISECOND = timedelta(milliseconds=1)
# Far more than a slow machine takes, far less than a lock or a job that is never returned.
_LONGEST_HANDOVER = 2000.0
_LONGEST_REDELIVERY = 20.0


@dataclass(frozen=True)
class Figures:
    """The measurements of one scene; None for those that it does not have.

    Attributes:
        scene: The scene's letter.
        title: A description.
        jobs_in: How many jobs were sent.
        run: How many of them ran to their end.
        duplicates: How many runs to the end there were beyond one for each job.
        overlaps: How many runs began while another one that they exclude had not ended.
        handover: Milliseconds from one holder of the lock to the next.
        redelivery: Seconds from the death of a worker to the first run of a job it had.
        shares: How many runs each of the participants had; each must have one.
    """

    scene: str
    title: str
    jobs_in: int | None = None
    run: int | None = None
    duplicates: int | None = None
    overlaps: int | None = None
    handover: float | None = None
    redelivery: float | None = None
    shares: dict[str, int] = field(default_factory=dict)

    def wrong(self) -> list[str]:
        """Return the problems as sentences; none if everything is right."""
        return [f"{self.scene}: {what}" for what, holds in self._checks() if not holds]

    def _checks(self) -> list[tuple[str, bool]]:
        handover, redelivery = self.handover or 0.0, self.redelivery or 0.0
        return [
            (f"{self.run} of {self.jobs_in} jobs ran.", self.run == self.jobs_in),
            (f"{self.duplicates} runs were duplicates.", not self.duplicates),
            (f"{self.overlaps} runs overlapped another.", not self.overlaps),
            (f"The hand-over took {handover:.0f} ms.", 0 <= handover <= _LONGEST_HANDOVER),
            (f"The redelivery took {redelivery:.1f} s.", 0 <= redelivery <= _LONGEST_REDELIVERY),
            *((f"{name} had no part in it.", share > 0) for name, share in self.shares.items()),
        ]


def jobs_run(runs: Sequence[Run]) -> int:
    """How many jobs ran to their end."""
    return len({run.job for run in _ended(runs)})


def duplicates(runs: Sequence[Run]) -> int:
    """How many runs to the end there were beyond one for each job."""
    return len(_ended(runs)) - jobs_run(runs)


def shares(runs: Sequence[Run], workers: Iterable[str]) -> dict[str, int]:
    """How many runs each of the workers brought to the end."""
    counted = Counter(run.worker for run in _ended(runs))
    return {worker: counted[worker] for worker in workers}


def overlaps(runs: Sequence[Run]) -> int:
    """How many of the runs, the first begun first, began before all earlier ones had ended."""
    ends = accumulate((run.ended or _NEVER for run in runs), max)
    return sum(run.started < busy_until for busy_until, run in zip(ends, runs[1:], strict=False))


def handover(runs: Sequence[Run]) -> float:
    """The median of the milliseconds from the end of one run to the begin of the next."""
    return median(milliseconds(one.ended, two.started) for one, two in pairwise(runs) if one.ended)


def cut(runs: Sequence[Run], killed: datetime) -> list[Run]:
    """The runs, with an end for those that were killed before they came to it."""
    return [run if run.ended else run._replace(ended=killed) for run in runs]


def milliseconds(start: datetime, end: datetime) -> float:
    """The time between the two."""
    return (end - start) / _MILLISECOND


def _ended(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.ended is not None]

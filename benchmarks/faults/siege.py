"""The siege: publishes under fault until enough are confirmed, then waits for the last to run."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.campaign import Campaign
from benchmarks.faults.ledger import Ledger
from celery_mysqllock.mysql import Address, Session

if TYPE_CHECKING:
    import argparse

    from rich.console import Console

    from benchmarks.campaign import Fault
    from benchmarks.fleet import Fleet
    from benchmarks.notes import Reader
    from devserver import DevServer
    from devserver.network import Network

SESSION_TIMEOUT = 5  # seconds; short, so that a frozen worker need not be frozen for long
# Seconds beyond session_timeout for which a frozen worker is frozen: its jobs go to others.
_BEYOND = 5
_PLAN = (
    *("worker killed",) * 4,
    *("session killed",) * 5,
    *("producer killed",) * 2,
    *("worker frozen",) * 2,
    *("table renamed",) * 2,
    *("network silent", "network nonsense", "table locked", "server killed"),
)
_TICK = 0.1  # seconds between two looks
_STARTUP = 60.0  # seconds for the workers' start
_STATUS = {0: "queued", 1: "claimed", 2: "scheduled", 3: "dead"}


class Siege:
    """One siege of a fleet.

    Args:
        options: Of the command line.
        server: The fleet's server.
        fleet: Workers and producers.
        reader: Reads their notes.
        network: What they reach the server through.

    Attributes:
        ledger: What was confirmed and what ran.
        fallen: Who ended without having been killed, each with the end of its log.
        is_complete: Whether enough publishes were confirmed in the time.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        server: DevServer,
        fleet: Fleet,
        reader: Reader,
        network: Network,
    ) -> None:
        self.ledger = Ledger()
        self.fallen: list[str] = []
        self.is_complete = False
        self._options = options
        self._server = server
        self._fleet = fleet
        self._reader = reader
        self._campaign = Campaign(
            *(fleet, server),
            plan=_PLAN,
            frozen_for=SESSION_TIMEOUT + _BEYOND,
            gap=options.gap,
            spare=1,
            network=network,
        )

    @property
    def faults(self) -> list[Fault]:
        """What was injected."""
        return self._campaign.faults

    def lay(self, console: Console) -> None:
        """Inject faults while the producers publish, then wait until all that was stored has run.

        Args:
            console: Where the progress is shown.
        """
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
            for title, total in (
                ("confirmed", self._options.messages),
                ("run", self._options.messages),
                ("faults", None),
            ):
                progress.add_task(title, total=total)
            self._fleet.fill_all()
            until = time.monotonic() + _STARTUP + 3 * self._options.messages / self._options.rate
            while time.monotonic() < until and not self.is_complete:
                self._look(progress, publishing=True)
                self.is_complete = len(self.ledger.confirmed) >= self._options.messages
            until = time.monotonic() + self._options.drain
            while time.monotonic() < until and not self._is_over():
                self._campaign.retire("producer")
                self._look(progress, publishing=False)
        self.ledger.add(self._reader.news())

    def _look(self, progress: Progress, *, publishing: bool) -> None:
        time.sleep(_TICK)
        self.ledger.add(self._reader.news())
        for place, program in self._fleet.fallen():
            self.fallen.append(f"{program.name} (exit code {program.exit_code}). {program.tail()}")
            if publishing or place.startswith("worker"):
                self._fleet.fill(place)
        self._campaign.step(more=publishing)
        confirmed = len(self.ledger.confirmed)
        shown = (confirmed, confirmed - len(self.ledger.lost()), len(self.faults))
        for task, completed in zip(progress.task_ids, shown, strict=True):
            progress.update(task, completed=completed)

    def _is_over(self) -> bool:
        """Whether no job is queued or claimed: whatever was to run twice has."""
        if self.ledger.lost() or not self._campaign.is_over:
            return False
        left = rows_left(self._server.url)
        return not left.get("queued") and not left.get("claimed")


def rows_left(url: str) -> dict[str, int]:
    """The rows that are in the job table, by status."""
    with Session(Address.parse(url)) as session:
        rows = session.query("SELECT job_status, COUNT(*) FROM jobs GROUP BY job_status")
    return {_STATUS.get(status, str(status)): int(number) for status, number in rows}

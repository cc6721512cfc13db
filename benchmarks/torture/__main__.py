"""``python -m benchmarks.torture``: torture the locks; exit with 0 when no sections overlapped."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.campaign import Campaign
from benchmarks.fleet import Fleet
from benchmarks.notes import Reader
from benchmarks.programs import Programs
from benchmarks.torture.contender import CREATE, SESSION_TIMEOUT
from benchmarks.torture.report import report
from benchmarks.torture.sections import Sections
from celery_mysqllock.mysql import Address, Session
from devserver import DevServer
from devserver.choice import choose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.campaign import Fault

_PLAN = (
    *("contender killed",) * 8,
    *("session killed",) * 12,
    *("contender frozen",) * 8,
    *("server killed", "server restarted"),
)
# Seconds beyond session_timeout for which a holder is frozen: its lock goes to others.
_BEYOND = 1.5
_TICK = 0.05  # seconds between two looks
_SETTLE = 2.0  # seconds at the end for what was thawed to notice its loss


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the torture that the command line describes; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.torture", description=__doc__)
    parser.add_argument("--sections", type=int, default=20_000, help="critical sections (20000)")
    parser.add_argument("--processes", type=int, default=16, help="contending processes (16)")
    parser.add_argument("--gap", type=float, default=0.6, help="mean seconds between faults (0.6)")
    parser.add_argument("--limit", type=float, default=600, help="seconds at most (600)")
    parser.add_argument("--server", help="mariadb, mysql, or a release: mariadb-11.8")
    parser.add_argument("--seed", type=int, default=None, help="of the random faults")
    parser.add_argument("--keep", action="store_true", help="keep logs and notes")
    options = parser.parse_args(arguments)
    random.seed(options.seed)
    console = Console()
    notes = Path(tempfile.mkdtemp(prefix="torture-"))
    try:
        with DevServer(choose(options.server)) as server:
            return run(console, options, server, notes)
    finally:
        if options.keep:
            console.print(f"Logs and notes are in {notes}")
        else:
            shutil.rmtree(notes, ignore_errors=True)


def run(console: Console, options: argparse.Namespace, server: DevServer, notes: Path) -> int:
    """Start the contenders, inject the faults until enough sections are done, and report."""
    began = time.monotonic()
    with Session(Address.parse(server.url)) as session:
        session.execute(CREATE)
        version = session.server
    command = {
        f"contender-{number}": ("benchmarks.torture.contender",)
        for number in range(options.processes)
    }
    with Programs(notes, {"TORTURE_URL": server.url, "NOTES": str(notes)}) as programs:
        fleet = Fleet(programs, command)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, TimeElapsedColumn(), console=console) as progress:
            sections, faults = _torture(options, server, fleet, notes, progress)
    with Session(Address.parse(server.url)) as session:
        rows: list[Any] = session.query("SELECT name, section, step FROM sections ORDER BY id")
    title = f"torture on {version}, {time.monotonic() - began:.0f} s"
    enough = sections.done >= options.sections
    if not enough:
        console.print(f"[red]Only {sections.done} of {options.sections} sections in the time.")
    is_right = report(console, title, sections, faults, rows)
    return 0 if enough and is_right else 1


def _torture(
    options: argparse.Namespace, server: DevServer, fleet: Fleet, notes: Path, progress: Progress
) -> tuple[Sections, list[Fault]]:
    sections, reader = Sections(), Reader(notes)
    done = progress.add_task("sections", total=options.sections)
    injected = progress.add_task("faults", total=None)
    fleet.fill_all()
    campaign = Campaign(
        *(fleet, server),
        plan=_PLAN,
        frozen_for=SESSION_TIMEOUT + _BEYOND,
        gap=options.gap,
        spare=options.processes // 2,
    )
    deadline, more = time.monotonic() + options.limit, True
    while more or not campaign.is_over:
        time.sleep(_TICK)
        sections.add(reader.news())
        more = sections.done < options.sections and time.monotonic() < deadline
        campaign.step(more=more)
        for place, program in fleet.fallen():
            progress.console.print(f"[red]{program.name} ended by itself.[/] {program.tail()}")
            fleet.fill(place)
        progress.update(done, completed=sections.done)
        progress.update(injected, completed=len(campaign.faults))
    time.sleep(_SETTLE)
    killed = dict.fromkeys(fleet.names(), time.monotonic())
    campaign.retire("contender")
    sections.add(reader.news())
    for fault in campaign.faults:
        if fault.kind == "contender killed":
            killed.update(dict.fromkeys(fault.victims, fault.at))
    sections.cut(killed)
    return sections, campaign.faults


if __name__ == "__main__":
    sys.exit(main())

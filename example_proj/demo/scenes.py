"""The four scenes: each makes something happen, waits for its end and measures it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from example_proj import produce_sql
from example_proj.demo import figures
from example_proj.demo.figures import Figures
from example_proj.demo.programs import DemoFailed
from example_proj.demo.stage import TIMEOUT, WORKERS
from example_proj.demo.tasks import exclusive, record

if TYPE_CHECKING:
    from example_proj.demo.programs import Program
    from example_proj.demo.stage import Stage

_LOCK_WORK = 1.5  # seconds with the lock: by then both processes have started
_SHARED_WORK = 6.0  # seconds for all jobs: one worker cannot have done them before the other looks
_EXCLUSIVE_JOBS = 20
_EXCLUSIVE_WORK = 0.1  # seconds
_FATAL_JOB = 3  # while this one runs, its worker is killed
_FATAL_WORK = 2.0  # seconds: by then both workers have claimed jobs


def two_processes(stage: Stage) -> Figures:
    """Two processes want one lock at once; the second gets it when the first lets go."""
    title = "two processes, one lock"
    with stage.progress.step(f"a {title}", 2, "the second waits for the first") as step:
        glocks = [
            stage.programs.start(f"glock {number}", "example_proj.glock", str(_LOCK_WORK))
            for number in (1, 2)
        ]

        def done() -> bool:
            step.show(sum(bool(glock.said("was released")) for glock in glocks))
            return all(glock.exit_code is not None for glock in glocks)

        stage.programs.until(done, "both processes have had the lock", TIMEOUT)
        turns = sorted((_stamp(glock, "obtained"), _stamp(glock, "released")) for glock in glocks)
        (first, released), (second, _) = turns
        # "Released" is logged after the fact; the other may have logged "obtained" just before.
        handover = max(0.0, figures.milliseconds(released, second))
        step.note(f"the second had it {handover:.0f} ms after the first")
    overlap = second < first + timedelta(seconds=_LOCK_WORK)
    return Figures("a", title, overlaps=int(overlap), handover=handover)


def two_workers(stage: Stage, jobs: int) -> Figures:
    """Two workers share jobs that come half from plain SQL and half from ``.delay()``."""
    title = "two workers share jobs"
    with stage.progress.step(f"b {title}", jobs, "half by .delay(), half by SQL") as step:
        arguments = [("b", job, _SHARED_WORK / jobs) for job in range(jobs)]
        by_sql, by_delay = arguments[::2], arguments[1::2]
        produce_sql.insert(
            stage.url, [json.dumps({"task": record.name, "args": args}) for args in by_sql]
        )
        for args in by_delay:
            record.delay(*args)
        stage.finish("b", jobs, step)
        runs = stage.ledger.runs("b")
        shares = figures.shares(runs, WORKERS)
        step.note(_in_words(shares))
    return Figures(
        "b",
        title,
        jobs_in=jobs,
        run=figures.jobs_run(runs),
        duplicates=figures.duplicates(runs),
        shares=shares,
    )


def one_at_a_time(stage: Stage) -> Figures:
    """A single-instance task is sent many times, and both workers have some of it."""
    title = "single-instance task"
    with stage.progress.step(f"c {title}", _EXCLUSIVE_JOBS, "never two at a time") as step:
        for job in range(_EXCLUSIVE_JOBS):
            exclusive.delay("c", job, _EXCLUSIVE_WORK)
        stage.finish("c", _EXCLUSIVE_JOBS, step)
        runs = stage.ledger.runs("c")
        shares = figures.shares(runs, WORKERS)
        step.note(_in_words(shares))
    return Figures(
        "c",
        title,
        jobs_in=_EXCLUSIVE_JOBS,
        run=figures.jobs_run(runs),
        duplicates=figures.duplicates(runs),
        overlaps=figures.overlaps(runs),
        handover=figures.handover(runs),
        shares=shares,
    )


def killed_worker(stage: Stage) -> Figures:
    """The worker that holds the lock and has unacknowledged jobs is killed with SIGKILL."""
    title = "lock holder killed"
    with stage.progress.step(f"d {title}", _EXCLUSIVE_JOBS, "with SIGKILL") as step:
        for job in range(_EXCLUSIVE_JOBS):
            exclusive.delay("d", job, _FATAL_WORK if job == _FATAL_JOB else _EXCLUSIVE_WORK)
        victim = _await_victim(stage)
        killed = stage.ledger.now()
        stage.kill_worker(victim)
        orphans = _orphans(stage)
        step.note(f"worker {victim} died with {len(orphans)} jobs")
        stage.finish("d", _EXCLUSIVE_JOBS, step)
    runs = stage.ledger.runs("d")
    after = [run for run in runs if run.started > killed]
    again = next(run.started for run in after if run.job in orphans)
    return Figures(
        "d",
        title,
        jobs_in=_EXCLUSIVE_JOBS,
        run=figures.jobs_run(runs),
        duplicates=figures.duplicates(runs),
        overlaps=figures.overlaps(figures.cut(runs, killed)),
        handover=figures.milliseconds(killed, after[0].started),
        redelivery=(again - killed).total_seconds(),
        shares=figures.shares(after, stage.workers),
    )


def _await_victim(stage: Stage) -> str:
    """Return the worker that runs the fatal job, once the other one has claimed jobs as well."""
    found: list[str] = []

    def done() -> bool:
        runs, claimed = stage.ledger.runs("d"), stage.ledger.claimed()
        found[:] = [run.worker for run in runs if run.job == _FATAL_JOB and run.ended is None]
        both_have_jobs = len({row.owner for row in claimed}) == len(WORKERS)
        # A job that has run and is not acknowledged yet would rightly run again.
        settled = {run.job for run in runs if run.ended}.isdisjoint(row.job for row in claimed)
        return bool(found) and both_have_jobs and settled

    stage.until(done, "one worker runs the fatal job, and both have claimed jobs")
    return found[0]


def _orphans(stage: Stage) -> set[int]:
    """Return the jobs that the killed worker had claimed, the fatal one among them."""
    claimed = stage.ledger.claimed()
    owners = {row.owner for row in claimed if row.job == _FATAL_JOB}
    if not owners:
        raise DemoFailed("The killed worker's jobs went back before they could be counted.")
    return {row.job for row in claimed if row.owner in owners}


def _in_words(shares: dict[str, int]) -> str:
    return ", ".join(f"{name} ran {count}" for name, count in shares.items())


def _stamp(glock: Program, text: str) -> datetime:
    """Return when the process logged the line with that text.

    Raises:
        DemoFailed: It never did.
    """
    lines = glock.said(text)
    if not lines:
        raise DemoFailed(f"{glock.name} never logged {text!r}.\n{glock.tail()}")
    day, time, _ = lines[0].split(maxsplit=2)
    return datetime.strptime(f"{day} {time}", "%Y-%m-%d %H:%M:%S,%f").astimezone()

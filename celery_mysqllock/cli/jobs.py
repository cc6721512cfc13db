"""``jobs``: list, show, retry, discard and move jobs."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

import click

from celery_mysqllock.cli.parameters import ListGroup, selection_options
from celery_mysqllock.cli.tables import (
    echo,
    json_option,
    print_facts,
    print_json,
    print_table,
    records,
    report,
    since,
    time_of,
)
from celery_mysqllock.jobs import JobStatus, Selection, counted

if TYPE_CHECKING:
    from celery_mysqllock.cli.deployment import Deployment
    from celery_mysqllock.jobs import Inspection, Job


@click.group(cls=ListGroup)
def jobs() -> None:
    """List and show jobs, retry dead ones, discard and move jobs.

    Without a command it lists them, with the options of 'list'.
    """


@jobs.command("list")
@selection_options(status=True)
@click.option(
    "--limit", type=click.IntRange(1, 10**9), default=50, show_default=True, help="Most to list."
)
@json_option
@click.pass_obj
def list_jobs(deployment: Deployment, *, selection: Selection, limit: int, as_json: bool) -> None:
    """List jobs by queue: in the order in which they run, dead and done ones the newest first.

    No index has the task's name: among millions of jobs, give --queue and --status too.
    """
    with deployment.inspection() as inspection:
        found = inspection.jobs(selection, limit + 1)
    shown, has_more = found[:limit], len(found) > limit
    if as_json:
        print_json(records(shown))
        return
    print_table(
        [">id", "queue", "status", ">age", "task", "reason"],
        (
            [job.id, job.queue, job.status.value, since(job.created_at), job.task, _brief(job)]
            for job in shown
        ),
    )
    if has_more:
        click.echo(f"There are more than these {limit}; see --limit.", err=True)


def _brief(job: Job) -> str:
    return (job.reason or "").strip().partition("\n")[0]


@jobs.command()
@click.argument("job_id", metavar="ID")
@json_option
@click.pass_obj
def show(deployment: Deployment, *, job_id: str, as_json: bool) -> None:
    """Show a job with its message, by the id of its row or of its task.

    The reason of a dead job contains the traceback if its task failed. The exit code is 1 if there
    is no such job.
    """
    with deployment.inspection() as inspection:
        found = inspection.find(job_id)
    if as_json:
        print_json(records(found))
    for number, job in enumerate(() if as_json else found):
        if number:
            click.echo()
        _show(job)
    if not found:
        raise click.ClickException(f"There is no job {job_id}.")


def _show(job: Job) -> None:
    print_facts(
        (field.name.replace("_", " "), _for_people(getattr(job, field.name)))
        for field in dataclasses.fields(job)
        if field.name not in ("message", "reason")
    )
    if job.reason:
        echo(f"\n{job.reason.rstrip()}")
    echo(f"\n{readable(job.message or '')}")


def _for_people(value: object) -> object:
    if isinstance(value, JobStatus):
        return value.value
    return time_of(value) if hasattr(value, "tzinfo") else value  # type: ignore[arg-type]


def readable(message: str) -> str:
    """The message for people: JSON with a line for each value."""
    try:
        return json.dumps(json.loads(message), ensure_ascii=False, indent=2)
    except (ValueError, RecursionError):
        return message


@jobs.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--all-dead", is_flag=True, help="All dead jobs, or those that the options select.")
@selection_options(status=False)
@json_option
@click.pass_obj
def retry(
    deployment: Deployment,
    *,
    ids: tuple[str, ...],
    all_dead: bool,
    selection: Selection,
    as_json: bool,
) -> None:
    """Queue dead jobs again, as if they had never been delivered.

    The exit code is 1 if one of the ids is not that of a dead job; the others are retried.
    """
    if all_dead == bool(ids) or (ids and selection != Selection()):
        raise click.UsageError("Give either ids, or --all-dead and what narrows it.")
    selection = dataclasses.replace(selection, status=JobStatus.DEAD)
    with deployment.inspection() as inspection, deployment.control() as control:
        chosen = _chosen(inspection, ids, selection)
        done = control.retry(chosen)
    _report("retried", done, ids, as_json=as_json)


@jobs.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@selection_options(status=True)
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def discard(
    deployment: Deployment, *, ids: tuple[str, ...], selection: Selection, yes: bool, as_json: bool
) -> None:
    """Delete jobs, except those that a worker has claimed. Asks first.

    The exit code is 1 if one of the ids is not that of a job that can be discarded; the others are.
    """
    _check_choice(ids, selection)
    with deployment.inspection() as inspection, deployment.control() as control:
        chosen = _chosen(inspection, ids, selection)
        if not yes and chosen:
            click.confirm(f"Delete {counted(len(chosen), 'job')}?", abort=True, err=True)
        done = control.discard(chosen)
    _report("discarded", done, ids, as_json=as_json)


@jobs.command()
@click.argument("ids", metavar="[ID]...", nargs=-1)
@selection_options(status=True)
@click.option("--to", required=True, help="The queue to move them to.")
@json_option
@click.pass_obj
def move(
    deployment: Deployment, *, ids: tuple[str, ...], selection: Selection, to: str, as_json: bool
) -> None:
    """Move jobs to another queue, except those that a worker has claimed or that are done.

    The exit code is 1 if one of the ids is not that of a job that can be moved; the others are.
    """
    _check_choice(ids, selection)
    with deployment.inspection() as inspection, deployment.control() as control:
        chosen = _chosen(inspection, ids, selection)
        done = control.move(chosen, to)
    _report("moved", done, ids, as_json=as_json)


def _check_choice(ids: tuple[str, ...], selection: Selection) -> None:
    if bool(ids) == (selection != Selection()):
        raise click.UsageError(
            "Give either ids, or options such as --queue or --status that say which jobs."
        )


def _chosen(inspection: Inspection, ids: tuple[str, ...], selection: Selection) -> list[int]:
    if not ids:
        return inspection.ids(selection)
    return [row_id for one in ids for row_id in _row_ids(inspection, one)]


def _row_ids(inspection: Inspection, one: str) -> list[int]:
    return [int(one)] if one.isdigit() else [job.id for job in inspection.find(one)]


def _report(what: str, done: int, ids: tuple[str, ...], *, as_json: bool) -> None:
    report(f"{counted(done, 'job')} {what}.", {what: done}, as_json=as_json)
    if done < len(ids):
        raise click.ClickException(
            f"{len(ids) - done} of {len(ids)} could not be {what}; see 'mysqllock jobs show ID'."
        )

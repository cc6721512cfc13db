"""``queues``: list, pause, resume, purge, move and delete queues."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from celery_mysqllock.cli.parameters import ListGroup
from celery_mysqllock.cli.tables import (
    echo,
    json_option,
    print_json,
    print_table,
    records,
    report,
    since,
    span,
)
from celery_mysqllock.jobs import COUNT_LIMIT

if TYPE_CHECKING:
    from celery_mysqllock.cli.deployment import Deployment
    from celery_mysqllock.jobs import QueueStatus


@click.group(cls=ListGroup)
def queues() -> None:
    """List, pause, resume, purge, move and delete queues.

    Without a command it lists them, with the options of 'list'.
    """


@queues.command("list")
@click.option("--exact", is_flag=True, help=f"Count beyond {COUNT_LIMIT} jobs, which takes longer.")
@json_option
@click.pass_obj
def list_queues(deployment: Deployment, *, exact: bool, as_json: bool) -> None:
    """List the queues: how many jobs they have, how long these wait, and how fast they end."""
    with deployment.inspection() as inspection:
        found = inspection.queues(None if exact else COUNT_LIMIT)
    if as_json:
        print_json(records(found))
        return
    print_queues(found, None if exact else COUNT_LIMIT)


def print_queues(found: list[QueueStatus], count_limit: int | None) -> None:
    """Print a table of queues; a count at the limit ends with ``+``."""

    def count(jobs: int) -> str:
        return f"{jobs}+" if count_limit is not None and jobs >= count_limit else str(jobs)

    print_table(
        [
            *("queue", ">ready", ">sched.", ">waiting", ">running", ">dead", ">done"),
            *(">oldest", ">jobs/s", "paused"),
        ],
        (
            [
                queue.queue,
                *map(count, (queue.ready, queue.scheduled, queue.waiting, queue.running)),
                *map(count, (queue.dead, queue.done)),
                span(queue.oldest_age),
                f"{queue.rate:.1f}",
                since(queue.paused_at) or "",
            ]
            for queue in found
        ),
    )


@queues.command()
@click.argument("queue")
@click.pass_obj
def pause(deployment: Deployment, *, queue: str) -> None:
    """Make workers stop claiming from a queue, from their next claim on.

    Jobs that are running or prefetched go on, and jobs can still be published.
    """
    with deployment.inspection() as inspection, deployment.control() as control:
        is_known = queue in {known.queue for known in inspection.queues(1)}
        control.pause(queue)
    echo(f"{queue} is paused.")
    if not is_known:
        click.echo(f"Nobody has declared a queue {queue} so far.", err=True)


@queues.command()
@click.argument("queue")
@click.pass_obj
def resume(deployment: Deployment, *, queue: str) -> None:
    """Make workers claim from a paused queue again, at once."""
    with deployment.control() as control:
        was_paused = control.resume(queue)
    echo(f"{queue} is resumed." if was_paused else f"{queue} was not paused.")


@queues.command()
@click.argument("queue")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def purge(deployment: Deployment, *, queue: str, yes: bool, as_json: bool) -> None:
    """Delete all ready, scheduled and waiting jobs of a queue. Asks first."""
    if not yes:
        click.confirm(f"Delete all jobs that wait in {queue}?", abort=True, err=True)
    with deployment.control() as control:
        purged = control.purge(queue)
    report(f"{queue}: {purged} purged.", {"purged": purged}, as_json=as_json)


@queues.command()
@click.argument("queue")
@click.option("--to", required=True, help="The queue to move them to.")
@json_option
@click.pass_obj
def move(deployment: Deployment, *, queue: str, to: str, as_json: bool) -> None:
    """Move all ready, scheduled and waiting jobs of a queue to another one."""
    with deployment.control() as control:
        moved = control.move_queue(queue, to)
    report(f"{queue}: {moved} moved to {to}.", {"moved": moved}, as_json=as_json)


@queues.command()
@click.argument("names", metavar="QUEUE...", nargs=-1, required=True)
@json_option
@click.pass_obj
def delete(deployment: Deployment, *, names: tuple[str, ...], as_json: bool) -> None:
    """Delete queues that are no longer used, with their bindings, pauses and totals.

    A queue with jobs, even finished or dead ones, or with a living consumer is not deleted, and the
    exit code is 1; the others are deleted. Declaring such a queue creates it again.
    """
    with deployment.inspection() as inspection, deployment.control() as control:
        known = {queue.queue: queue for queue in inspection.queues(1)}
        used = {
            queue: one for one in inspection.consumers() if one.is_alive for queue in one.queues
        }
        stays: dict[str, str] = {}
        for name in dict.fromkeys(names):
            if name not in known:
                stays[name] = "there is no such queue"
            elif name in used:
                stays[name] = f"{used[name].name or used[name].identity} consumes from it"
            elif not control.delete_queue(name):
                stays[name] = "it has jobs: purge, discard or move them first"
    deleted = [name for name in dict.fromkeys(names) if name not in stays]
    if as_json:
        print_json({"deleted": deleted, "left": stays})
    else:
        for name in deleted:
            echo(f"{name} is deleted.")
    if stays:
        raise click.ClickException(
            "\n".join(f"{name} is not deleted: {why}." for name, why in stays.items())
        )

"""``queues``: look at queues, pause and resume, purge and move them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from celery_mysqllock.cli.tables import json_option, print_json, print_table, records, since, span
from celery_mysqllock.jobs import COUNT_LIMIT

if TYPE_CHECKING:
    from celery_mysqllock.cli.place import Place
    from celery_mysqllock.jobs import QueueStatus


@click.group()
def queues() -> None:
    """Look at queues, pause and resume, purge and move them."""


@queues.command("list")
@click.option("--exact", is_flag=True, help=f"Count beyond {COUNT_LIMIT} jobs, which takes longer.")
@json_option
@click.pass_obj
def list_queues(place: Place, *, exact: bool, as_json: bool) -> None:
    """List the queues: what waits in each, for how long, and how fast jobs end."""
    with place.inspection() as inspection:
        found = inspection.queues(None if exact else COUNT_LIMIT)
    if as_json:
        print_json(records(found))
        return
    print_queues(found, None if exact else COUNT_LIMIT)


def print_queues(found: list[QueueStatus], count_limit: int | None) -> None:
    """Print a table of queues, in which a count at the limit has a ``+`` behind it."""

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
def pause(place: Place, *, queue: str) -> None:
    """Have no worker claim from a queue, from the next claim of each on.

    What is running or prefetched goes on, and publishing too.
    """
    with place.inspection() as inspection, place.control() as control:
        is_known = queue in {known.queue for known in inspection.queues(1)}
        control.pause(queue)
    click.echo(f"{queue} is paused.")
    if not is_known:
        click.echo(f"Nobody has declared a queue {queue} so far.", err=True)


@queues.command()
@click.argument("queue")
@click.pass_obj
def resume(place: Place, *, queue: str) -> None:
    """Have a paused queue claimed from again, at once."""
    with place.control() as control:
        was_paused = control.resume(queue)
    click.echo(f"{queue} is resumed." if was_paused else f"{queue} was not paused.")


@queues.command()
@click.argument("queue")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@click.pass_obj
def purge(place: Place, *, queue: str, yes: bool, as_json: bool) -> None:
    """Delete all ready, scheduled and waiting jobs of a queue. Asks first."""
    if not yes:
        click.confirm(f"Delete all jobs that wait in {queue}?", abort=True, err=True)
    with place.control() as control:
        purged = control.purge(queue)
    if as_json:
        print_json({"purged": purged})
    else:
        click.echo(f"{queue}: {purged} purged.")


@queues.command()
@click.argument("queue")
@click.option("--to", required=True, help="The queue to put them into.")
@json_option
@click.pass_obj
def move(place: Place, *, queue: str, to: str, as_json: bool) -> None:
    """Put all ready, scheduled and waiting jobs of a queue into another one."""
    with place.control() as control:
        moved = control.move_queue(queue, to)
    if as_json:
        print_json({"moved": moved})
    else:
        click.echo(f"{queue}: {moved} moved to {to}.")

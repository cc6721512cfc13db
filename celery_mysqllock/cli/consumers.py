"""``consumers``: the workers and other programs that consume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from celery_mysqllock.cli.tables import (
    json_option,
    print_json,
    print_table,
    queues_of,
    records,
    since,
)

if TYPE_CHECKING:
    from celery_mysqllock.cli.deployment import Deployment


@click.command()
@json_option
@click.pass_obj
def consumers(deployment: Deployment, *, as_json: bool) -> None:
    """List the consumers: those that claim jobs, and those that only listen.

    A consumer whose liveness lock is free is dead; its jobs return to their queues after the grace.
    One that only listens, such as celery inspect or Flower, has "(listens)" for its queues.
    """
    with deployment.inspection() as inspection:
        found = inspection.consumers()
    if as_json:
        print_json(records(found))
        return
    print_table(
        ["name", "identity", "alive", ">claims", ">since", "queues"],
        (
            [
                consumer.name,
                consumer.identity[:12],
                "yes" if consumer.is_alive else "no",
                consumer.claims,
                since(consumer.started_at),
                queues_of(consumer),
            ]
            for consumer in found
        ),
    )

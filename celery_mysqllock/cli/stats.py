"""``stats``: the queues, their totals, and the server's health."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from celery_mysqllock.cli.queues import print_queues
from celery_mysqllock.cli.tables import json_option, print_facts, print_json, records, span
from celery_mysqllock.jobs import COUNT_LIMIT, counted

if TYPE_CHECKING:
    from celery_mysqllock.cli.deployment import Deployment
    from celery_mysqllock.jobs import QueueStatus, ServerHealth

_COUNTS = ("ready", "scheduled", "waiting", "running", "dead", "done", "rate")
_UNKNOWN = "unknown: needs the privilege PROCESS"


@click.command()
@click.option("--exact", is_flag=True, help=f"Count beyond {COUNT_LIMIT} jobs, which takes longer.")
@json_option
@click.pass_obj
def stats(deployment: Deployment, *, exact: bool, as_json: bool) -> None:
    """Show queues, totals and the server's health.

    An old open transaction (a backup, a forgotten session) keeps the server from purging deleted
    rows, which every claim then has to skip.
    """
    with deployment.inspection() as inspection:
        queues = inspection.queues(None if exact else COUNT_LIMIT)
        living = [one for one in inspection.consumers() if one.is_worker and one.is_alive]
        health = inspection.server()
    if as_json:
        print_json(
            {
                "queues": records(queues),
                "totals": {name: _total(queues, name) for name in _COUNTS},
                "consumers": len(living),
                "server": dataclasses.asdict(health),
            }
        )
        return
    print_queues(queues, None if exact else COUNT_LIMIT)
    click.echo()
    totals = ", ".join(f"{_total(queues, name):g} {name}" for name in _COUNTS[:-1])
    print_facts(
        [
            ("total", totals),
            ("rate", f"{_total(queues, 'rate'):.1f} jobs/s in the last minute"),
            ("consumers", f"{len(living)} alive"),
            ("server", health.server),
            ("history list", _history(health)),
            ("oldest transaction", _oldest(health)),
        ]
    )


def _total(queues: list[QueueStatus], name: str) -> float:
    return float(sum(getattr(queue, name) for queue in queues))


def _history(health: ServerHealth) -> str:
    if health.history_list_length is None:
        return _UNKNOWN
    return f"{counted(health.history_list_length, 'transaction')} not purged"


def _oldest(health: ServerHealth) -> str:
    oldest = health.oldest_transaction
    if oldest is None:
        return "none is open" if health.knows_transactions else _UNKNOWN
    who = f"{oldest.user or '?'} from {oldest.host or '?'}"
    return f"open for {span(oldest.age)}, by session {oldest.connection_id} of {who}"

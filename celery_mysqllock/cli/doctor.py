"""``doctor``: checks what would fail with this server and user, and says why and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from rich.table import Table
from rich.text import Text

from celery_mysqllock.app import lock_address
from celery_mysqllock.cli.checks import ROLES, Finding, Level, examine
from celery_mysqllock.cli.tables import cell_of, json_option, print_json, records, show
from celery_mysqllock.exceptions import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from celery_mysqllock.cli.deployment import Deployment
    from celery_mysqllock.mysql import Address
    from celery_mysqllock.settings import BrokerSettings

_STYLES = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "bold red"}


@click.command()
@click.option(
    "--for",
    "role",
    type=click.Choice(sorted(ROLES)),
    default="worker",
    show_default=True,
    help="The role of the user that logs in.",
)
@json_option
@click.pass_obj
def doctor(deployment: Deployment, *, role: str, as_json: bool) -> None:
    """Check the servers of the jobs and of the locks; report what would fail, and why.

    It changes nothing. The exit code is 1 if there is a problem.
    """
    found: list[tuple[Address, list[Finding]]] = []
    multi = deployment.locks.allow_multi_primary
    for address, broker in servers_of(deployment).items():
        findings = list(examine(address, broker, allow_multi_primary=multi, role=role))
        found.append((address, findings))
        if not as_json:
            click.echo(address)
            show(_table(findings))
    everything = [finding for _, findings in found for finding in findings]
    problems = _count(everything, Level.PROBLEM)
    warnings = _count(everything, Level.WARNING)
    if as_json:
        servers = [_as_json(address, findings) for address, findings in found]
        report = {"problems": problems, "warnings": warnings, "servers": servers}
        print_json(report)
    else:
        click.echo(f"{_number(problems, 'problem')}, {_number(warnings, 'warning')}.")
    click.get_current_context().exit(1 if problems else 0)


def servers_of(deployment: Deployment) -> dict[Address, BrokerSettings | None]:
    """Each server with the settings of its job table, None for a server that only has locks."""
    address = lock_address(deployment.locks)
    found: dict[Address, BrokerSettings | None] = {}
    if deployment.has_jobs:
        found = dict.fromkeys(deployment.addresses, deployment.settings)
    if address is not None:
        found.setdefault(address, None)
    if not found:
        raise SettingsError("The locks are in memory, and the broker is not MySQL: no server.")
    return found


def _table(findings: Iterable[Finding]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in findings:
        # Text, because a server's words may look like markup
        level = Text(f"  {finding.level.value}", style=_STYLES[finding.level])
        table.add_row(level, cell_of(finding.subject), cell_of(finding.text))
        if finding.advice:
            table.add_row("", "", cell_of(f"-> {finding.advice}", style="italic"))
    return table


def _count(findings: Iterable[Finding], level: Level) -> int:
    return sum(finding.level is level for finding in findings)


def _number(count: int, what: str) -> str:
    return f"{count or 'no'} {what}{'' if count == 1 else 's'}"


def _as_json(address: Address, findings: Iterable[Finding]) -> dict[str, Any]:
    return {"server": str(address), "findings": records(findings)}

"""``top``: the fleet and its server, live in a terminal."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

import click
from rich.console import Console
from rich.live import Live

from celery_mysqllock.cli.frame import frame
from celery_mysqllock.cli.overview import OverviewReader
from celery_mysqllock.cli.parameters import Seconds
from celery_mysqllock.exceptions import MySQLLockError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_mysqllock.cli.deployment import Deployment
    from celery_mysqllock.cli.overview import Overview

_QUIT = frozenset("qQ\x04")


@click.command()
@click.option(
    *("--interval", "-i"),
    type=Seconds(0.2, 3600),
    default=2.0,
    show_default=True,
    help="Seconds between two frames.",
)
@click.option("--once", is_flag=True, help="Print one frame and end.")
@click.pass_obj
def top(deployment: Deployment, *, interval: float, once: bool) -> None:
    """Show queues, consumers, running jobs, locks and dead jobs, live. q or Ctrl-C ends it.

    It also shows the server's health, says when the server is lost, and goes on when it is back.
    """
    reader, console = OverviewReader(deployment), Console(highlight=False)
    if once:
        _print(console, reader.read())
        reader.close()
        return
    if not (sys.stdin.isatty() and console.is_terminal):
        raise click.UsageError("This is not a terminal; --once prints one frame.")
    with _quiet_end(), _keys() as keys:
        # before the screen is switched, so that an error is printed as usual
        overview = reader.read()
        with Live(console=console, screen=True, auto_refresh=False) as live:
            _run(reader, live, keys, overview, interval)
    reader.close()


def _print(console: Console, overview: Overview) -> None:
    with console.capture() as lines:
        console.print(frame(overview, height=console.height))
    for line in lines.get().splitlines():
        click.echo(line.rstrip())


def _run(
    reader: OverviewReader, live: Live, keys: int, overview: Overview, interval: float
) -> None:
    problem: str | None = None
    while True:
        height = live.console.height
        live.update(frame(overview, height=height, problem=problem), refresh=True)
        if _is_quit(keys, interval):
            return
        try:
            overview, problem = reader.read(), None
        except MySQLLockError as error:
            problem = _in_one_line(error)


def _in_one_line(error: MySQLLockError) -> str:
    return " ".join(str(error).split())


def _is_quit(keys: int, seconds: float) -> bool:
    """Wait for a key that ends it; False after that many seconds."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        if select.select([keys], [], [], left)[0]:
            typed = os.read(keys, 64)
            if not typed or _QUIT & set(typed.decode(errors="replace")):
                return True
    return False


@contextmanager
def _keys() -> Iterator[int]:
    """Read keys one by one and without echo; restore the terminal afterwards."""
    keys = sys.stdin.fileno()
    before = termios.tcgetattr(keys)
    tty.setcbreak(keys)
    try:
        yield keys
    finally:
        termios.tcsetattr(keys, termios.TCSADRAIN, before)


@contextmanager
def _quiet_end() -> Iterator[None]:
    """Make Ctrl-C and SIGTERM end the block as q does, so that the terminal is restored."""

    def end(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, end) for number in numbers]
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)

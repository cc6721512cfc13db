"""A beat goes on when its server is back."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.mysql import Session
from devserver import DevServer
from tests.beat.conftest import Sent
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devserver import GivenServer
    from tests.beat.beat import Beat


@contextmanager
def away(server: DevServer | GivenServer) -> Iterator[None]:
    """Have the server killed meanwhile."""
    if not isinstance(server, DevServer):
        pytest.skip("the server of MYSQLLOCK_URL is not ours to restart")
    server.kill()
    try:
        yield
    finally:
        server.start()


def test_a_beat_that_starts_without_a_server_waits_for_it(
    session: Session, server: DevServer | GivenServer, start_beat: Callable[..., Beat]
) -> None:
    with away(server):
        beat = start_beat("only", {"tick": 0.5})
        beat.await_log("tries again in")
    beat.await_active()
    with Session(session.address) as fresh:
        eventually(lambda: Sent(fresh)("tick") >= 2)


def test_what_was_due_while_the_server_was_away_is_sent(
    session: Session, server: DevServer | GivenServer, start_beat: Callable[..., Beat], sent: Sent
) -> None:
    beat = start_beat("only", {"tick": 0.5})
    eventually(lambda: sent("tick") >= 2)
    with away(server):
        beat.await_log("tries again in")
    beat.await_active(2)
    with Session(session.address) as fresh:
        sent = Sent(fresh)
        so_far = sent("tick")
        eventually(lambda: sent("tick") > so_far + 2)
        beat.kill()
        sent.assert_each_tick_once("tick", 0.5)

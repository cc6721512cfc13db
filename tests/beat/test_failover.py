"""A beat goes along the broker's list of URLs, as workers do.

The two servers know nothing of each other: only what a user would notice is looked at, whether
ticks are sent on the server that is in use.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.beat import scheduler as beat_scheduler
from celery_mysqllock.jobs import Migrations
from celery_mysqllock.mysql import Address, Session
from devserver import DevServer
from tests.beat.conftest import InProcess, Sent
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from devserver.program import Program
    from tests.beat.beat import Beat


class Pair:
    """Two servers with a database each, in the order of the broker's list."""

    def __init__(self, *servers: DevServer) -> None:
        self.servers = servers
        self.urls = [server.create_database() for server in servers]
        for url in self.urls:
            with Session(Address.parse(url)) as session:
                Migrations(session).apply()

    def await_ticks(self, number: int, more: int = 2) -> None:
        """Wait until more ticks have been sent on the server of that number."""
        with Session(Address.parse(self.urls[number])) as session:
            sent = Sent(session)
            so_far = sent("tick")
            eventually(lambda: sent("tick") >= so_far + more, what=f"ticks at server {number}")


@pytest.fixture
def pair(program: Program) -> Iterator[Pair]:
    """Two servers that a test may kill."""
    with ExitStack() as servers:
        yield Pair(*(servers.enter_context(DevServer(program)) for _ in range(2)))


def test_the_beat_goes_on_at_the_next_server_and_comes_back_when_that_one_is_killed(
    pair: Pair, start_beat: Callable[..., Beat]
) -> None:
    first, second = pair.servers
    beat = start_beat("only", {"tick": 0.5}, broker=";".join(pair.urls))
    pair.await_ticks(0)
    first.kill()
    pair.await_ticks(1)
    first.start()
    # it stays where it works
    pair.await_ticks(1)
    second.kill()
    pair.await_ticks(0)
    assert beat.process.poll() is None


@pytest.mark.parametrize("urls", ["{own}", "{own};{nowhere}", "{nowhere};{own}"])
def test_the_tables_are_checked_once_at_the_start(
    monkeypatch: pytest.MonkeyPatch,
    session: Session,
    scheduler: Callable[..., InProcess],
    urls: str,
) -> None:
    checked: list[int] = []
    monkeypatch.setattr(
        beat_scheduler, "check_schedule", lambda session, _: checked.append(session.address.port)
    )
    nowhere = "mysql://user:password@127.0.0.1:1/nowhere"
    scheduler(broker=urls.format(own=session.address.url(), nowhere=nowhere))
    assert checked == [session.address.port]


def test_a_list_whose_first_server_does_not_answer_is_gone_along_at_the_start(
    pair: Pair, start_beat: Callable[..., Beat]
) -> None:
    pair.servers[0].kill()
    start_beat("only", {"tick": 0.5}, broker="", broker_url=pair.urls)
    pair.await_ticks(1)


def test_one_of_two_beats_goes_on_at_the_next_server(
    pair: Pair, start_beat: Callable[..., Beat]
) -> None:
    beats = [start_beat(name, {"tick": 0.5}, broker=";".join(pair.urls)) for name in "ab"]
    pair.await_ticks(0)
    eventually(lambda: any("stands by" in beat.log for beat in beats))
    pair.servers[0].kill()
    pair.await_ticks(1, more=4)
    with Session(Address.parse(pair.urls[1])) as session:
        Sent(session).assert_each_tick_once("tick", 0.5)


@pytest.mark.parametrize("lost", ["database", "tables"])
def test_a_server_that_refuses_a_beat_which_had_worked_there_is_passed_over(
    pair: Pair, start_beat: Callable[..., Beat], lost: str
) -> None:
    """It came back without its data, say."""
    first = pair.servers[0]
    start_beat("only", {"tick": 0.5}, broker=";".join(pair.urls))
    pair.await_ticks(0)
    database = Address.parse(pair.urls[0]).database
    first.drop_database(database)
    if lost == "tables":
        with Session(Address.parse(first.url)) as session:
            session.execute(f"CREATE DATABASE `{database}`")
    pair.await_ticks(1)


@pytest.mark.parametrize("which", [0, 1])
def test_a_wrong_url_of_the_list_is_said_at_the_start(
    pair: Pair, start_beat: Callable[..., Beat], which: int
) -> None:
    urls = [*pair.urls]
    urls[which] = f"{urls[which]}?nonsense=1"
    beat = start_beat("only", {"tick": 0.5}, broker=";".join(urls))
    assert beat.process.wait(60) != 0
    assert "unknown option 'nonsense' in the URL" in beat.log


def test_a_first_server_that_has_no_tables_is_said_at_the_start(
    pair: Pair, start_beat: Callable[..., Beat]
) -> None:
    urls = [pair.servers[0].create_database(), pair.urls[1]]
    beat = start_beat("only", {"tick": 0.5}, broker=";".join(urls))
    assert beat.process.wait(60) != 0
    assert "There is no table jobs_schedule" in beat.log

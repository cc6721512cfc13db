"""What only informs people costs no lock: program names, host names, notes, logs."""

from __future__ import annotations

import logging
import os
import socket
import sys
from typing import TYPE_CHECKING, Any

import pytest

from celery_mysqllock.exceptions import Interrupted
from celery_mysqllock.locks import holder as holders
from celery_mysqllock.locks import session_hold
from celery_mysqllock.mysql import Address, Session
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.locks.conftest import MakeMySQLLock

ODD = os.fsdecode(b"caf\xe9")


@pytest.fixture(autouse=True)
def _renamed() -> Iterator[None]:
    """This process's name is found out anew, and again afterwards."""
    holders._running_process.cache_clear()  # noqa: SLF001 - a process has one name
    yield
    holders._running_process.cache_clear()  # noqa: SLF001 - as above


@pytest.fixture
def url(telling_url: str) -> str:
    """A database on a server that shows what sessions tell of themselves."""
    return telling_url


@pytest.fixture
def session(url: str) -> Iterator[Session]:
    """One that looks."""
    with Session(Address.parse(url)) as session:
        yield session


def _set_arguments(monkeypatch: pytest.MonkeyPatch, arguments: Any) -> None:
    monkeypatch.setattr(sys, "argv", arguments)


def _fail(*_: object) -> Any:
    raise RuntimeError("broken")


@pytest.mark.parametrize(
    ("arguments", "host", "note"),
    [
        ([ODD], "host", "note"),
        ([f"/opt/{ODD}/__main__.py"], "host", "note"),
        ([], "host", "note"),
        ([""], "host", "note"),
        (["python"], ODD, "note"),
        (["python"], "host", f"{ODD} \ud83e \x00 \x1f"),
    ],
    ids=["program", "folder", "no arguments", "no name", "host", "note"],
)
def test_a_name_that_is_no_utf8_costs_no_lock(
    arguments: list[str],
    host: str,
    note: str,
    mysql_lock: MakeMySQLLock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _set_arguments(monkeypatch, arguments)
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    lock = mysql_lock(note=note)
    lock.acquire()
    shown: Any = eventually(lambda: (found := lock.holder()) and found.since and found)
    assert shown.process.pid == os.getpid()
    assert str(shown).encode()
    assert lock.owned()
    lock.check()
    lock.release()


@pytest.mark.parametrize("broken", ["process", "introduction"])
def test_an_introduction_that_cannot_be_written_costs_no_lock(
    broken: str, mysql_lock: MakeMySQLLock, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    if broken == "process":
        monkeypatch.setattr(socket, "gethostname", _fail)
    else:
        monkeypatch.setattr(session_hold, "introduction", _fail)
    lock = mysql_lock()
    lock.acquire()
    eventually(lambda: "without telling by whom" in caplog.text)
    lock.check()
    lock.release()


def test_an_introduction_that_cannot_be_cleared_costs_the_session_and_no_error(
    mysql_lock: MakeMySQLLock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted("KILL QUERY")

    lock, looker = mysql_lock(note="one"), mysql_lock()
    lock.acquire()
    eventually(lambda: (found := looker.holder()) and found.note)
    session = lock.session
    monkeypatch.setattr(session, "execute", interrupt)
    lock.release()
    assert not session.is_open
    assert not looker.locked()


class _Broken(logging.Handler):
    """A handler of a program's that fails."""

    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError(record.getMessage())


@pytest.fixture
def _broken_log() -> Iterator[None]:
    logger = logging.getLogger("celery_mysqllock")
    handler = _Broken()
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


@pytest.mark.usefixtures("_broken_log")
def test_a_log_that_is_broken_keeps_nobody_from_hearing_of_a_loss(
    mysql_lock: MakeMySQLLock, session: Session
) -> None:
    told: list[object] = []
    lock, other = mysql_lock("a", on_lost=told.append), mysql_lock("b")
    lock.acquire()
    other.acquire()
    holder = lock.holder()
    assert holder is not None
    session.execute("KILL %s", (holder.connection_id,))
    eventually(lambda: told == [lock])
    other.check()
    other.release()


@pytest.mark.usefixtures("_broken_log")
def test_a_log_that_is_broken_does_not_end_keep_alive(
    mysql_lock: MakeMySQLLock, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[object] = []
    failing, lock = mysql_lock("a", on_lost=told.append), mysql_lock("b", on_lost=told.append)
    failing.acquire()
    lock.acquire()
    (hold,) = failing._holds.values()  # noqa: SLF001 - one that is broken
    monkeypatch.setattr(hold, "tend", _fail)
    eventually(lambda: told == [failing])
    holder = lock.holder()
    assert holder is not None
    session.execute("KILL %s", (holder.connection_id,))
    eventually(lambda: told == [failing, lock])


def test_a_pid_that_is_none_is_not_told(url: str, session: Session) -> None:
    told = {"_pid": "a number", "program_name": "x"}
    rows = list(told.items())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(session, "query", lambda *_: rows)
        process = holders._read_attributes(session, 1)  # noqa: SLF001 - of another program
    assert process == holders.Process(None, "x")

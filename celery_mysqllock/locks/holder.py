"""Who holds a lock, as far as the server can tell."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import ConnectionLost, DatabaseError
from celery_mysqllock.locks.card import read_card
from celery_mysqllock.mysql import Statements, storable

if TYPE_CHECKING:
    from datetime import datetime

    from celery_mysqllock.locks.card import Card
    from celery_mysqllock.mysql import Session

_statements = Statements("celery_mysqllock.locks", "holder.sql")


@dataclass(frozen=True)
class Process:
    """A process that holds a lock.

    Attributes:
        pid: Its process id on its machine.
        program: The program's name, such as ``celery``.
        hostname: Its machine's name.
    """

    pid: int | None = None
    program: str | None = None
    hostname: str | None = None

    def __str__(self) -> str:
        return f"{self.program or 'process'}[{self.pid or '?'}]@{self.hostname or '?'}"


@dataclass(frozen=True)
class Holder:
    """Who holds a lock. Each attribute but the first two is None when the server does not tell.

    Attributes:
        connection_id: The server's number for the session that holds the lock.
        name: The lock's full name.
        user: The MySQL user. Needs the same user, or the PROCESS privilege.
        host: The client's address and port, as the server sees it. Needs the same.
        process: Pid, program and machine. Needs nothing on either server when celery-mysqllock
            holds the lock, from about half a second after it was taken. Before that, or when it is
            held by another program, MySQL tells pid and program of sessions of the same user;
            MariaDB does so only with ``performance_schema=ON``.
        note: What the holder says that it does, such as a task's id: the first 64 bytes. Needs
            nothing, from about half a second after the lock was taken.
        since: When the lock was taken, by the holder's clock, in UTC, to the second. As ``note``.
    """

    connection_id: int
    name: str
    user: str | None = None
    host: str | None = None
    process: Process | None = None
    note: str | None = None
    since: datetime | None = None

    def __str__(self) -> str:
        parts = [f"session {self.connection_id}"]
        if self.user:
            parts.append(f"of {self.user} from {self.host}")
        if self.process:
            parts.append(f"process {self.process}")
        if self.note:
            parts.append(f"note {self.note!r}")
        if self.since:
            parts.append(f"since {self.since:%Y-%m-%d %H:%M:%S} UTC")
        return ", ".join(parts)


def read_holder(
    session: Session, connection_id: int, name: str, card: Card | None = None
) -> Holder:
    """Find out about the session that holds the lock.

    Args:
        session: Any session; what it sees depends on its user.
        connection_id: The holder's.
        name: The lock's name.
        card: What the holder shows, where that has been read already.
    """
    user, host = (*session.query(_statements["session"], {"id": connection_id}), (None, None))[0]
    card = card or read_card(session, connection_id)
    if card is None:
        return Holder(
            connection_id, name, user, host, process=_read_attributes(session, connection_id)
        )
    process = Process(card.pid, card.program, card.hostname)
    return Holder(connection_id, name, user, host, process, card.note, card.since)


def _read_attributes(session: Session, connection_id: int) -> Process | None:
    try:
        told = dict(session.query(_statements["attributes"], {"id": connection_id}))
    except ConnectionLost:
        raise
    except DatabaseError:
        # A server that was built without performance_schema has no such table: it cannot tell.
        return None
    pid = told.get("_pid")
    if pid is None and "program_name" not in told:
        return None
    # whatever a program has said of itself
    number = int(pid) if pid and pid.isdecimal() else None
    return Process(pid=number, program=told.get("program_name"))


def running_process() -> Process:
    """The process that runs this."""
    return _running_process(os.getpid())


@lru_cache(maxsize=1)
def _running_process(pid: int) -> Process:
    # a program that embeds Python may have no arguments, and not even a name
    program = Path(next(iter(getattr(sys, "argv", ())), "") or sys.executable or "python")
    # python -m celery runs .../celery/__main__.py
    name = program.parent.name if program.stem == "__main__" else program.name
    return Process(pid, storable(name), storable(socket.gethostname()))

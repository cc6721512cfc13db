"""The holder of a lock: what it tells of itself, and what the server tells of its session.

A session that holds a lock for longer than a moment sets a user variable that says what it is. It
costs one statement and takes no further lock. MySQL shows the variables of all sessions in
``performance_schema``, which is off on MariaDB by default and needs a SELECT privilege on both.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import ConnectionLost, DatabaseError
from celery_mysqllock.mysql import Statements, storable

if TYPE_CHECKING:
    from typing import Any

    from celery_mysqllock.mysql import Session

_statements = Statements("celery_mysqllock.locks", "holder.sql")

#: Clears what ``introduction`` has set, before the session takes another lock.
NO_INTRODUCTION = "SET @mysqllock_holder = NULL"
# Characters of a note that are told: a longer statement might not be read by the server.
_NOTE_LIMIT = 200


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
    """The holder of a lock. Each attribute but the first two is None when the server does not tell.

    Attributes:
        connection_id: The server's number for the session that holds the lock.
        name: The lock's full name.
        user: The MySQL user. Needs the same user, or the PROCESS privilege.
        host: The client's address and port, as the server sees it. Needs the same.
        process: Pid, program and machine. Needs SELECT on ``performance_schema``, which MariaDB has
            with ``performance_schema=ON`` only. Without the privilege, MySQL tells pid and program
            of sessions of the same user.
        note: What the holder does, such as a task's id: the first 200 characters. Needs SELECT on
            ``performance_schema``, from about half a second after the lock was taken.
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


def introduction(name: str, note: str | None, since: datetime) -> str:
    """The statement by which a session tells which lock it holds, for what, and since when."""
    process = running_process()
    told = {
        "lock": name,
        "pid": process.pid,
        "program": process.program,
        "hostname": process.hostname,
        "note": None if note is None else storable(note[:_NOTE_LIMIT]),
        "since": int(since.timestamp()),
    }
    # in hexadecimal, which every sql_mode reads alike
    return f"SET @mysqllock_holder = x'{json.dumps(told).encode().hex()}'"


def read_holder(session: Session, connection_id: int, name: str) -> Holder:
    """Find out about the session that holds the lock.

    Args:
        session: Any session; what it sees depends on its user.
        connection_id: The holder's.
        name: The lock's full name.
    """
    user, host = (*session.query(_statements["session"], {"id": connection_id}), (None, None))[0]
    told = _read_introduction(session, connection_id)
    try:
        if told.get("lock") == name:
            process = Process(int(told["pid"]), str(told["program"]), str(told["hostname"]))
            note = None if told["note"] is None else str(told["note"])
            since = datetime.fromtimestamp(told["since"], UTC)
            return Holder(connection_id, name, user, host, process, note, since)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        pass  # written by another release, or by another program
    return Holder(connection_id, name, user, host, _read_attributes(session, connection_id))


def _read_introduction(session: Session, connection_id: int) -> dict[str, Any]:
    """What the session tells of itself, nothing where that cannot be read."""
    rows = _rows(session, "introduction", connection_id)
    try:
        told = json.loads(rows[0][0]) if rows else {}
    except (TypeError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _read_attributes(session: Session, connection_id: int) -> Process | None:
    told = dict(_rows(session, "attributes", connection_id))
    pid = told.get("_pid")
    if pid is None and "program_name" not in told:
        return None
    # whatever a program has said of itself
    number = int(pid) if pid and pid.isdecimal() else None
    return Process(pid=number, program=told.get("program_name"))


def _rows(session: Session, name: str, connection_id: int) -> list[Any]:
    """Rows of ``performance_schema``; none on a server without it, or for a user who may not."""
    try:
        return session.query(_statements[name], {"id": connection_id})
    except ConnectionLost:
        raise
    except DatabaseError:
        return []


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

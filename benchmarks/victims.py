"""Which process a session of the server belongs to."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

import psutil

from celery_mysqllock.exceptions import NoSuchSession
from celery_mysqllock.mysql import Address, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class KilledSession(NamedTuple):
    """A session that was killed, and the program whose it was, None when nobody can tell."""

    doing: str
    program: str | None


def kill_a_session(
    url: str, programs: Mapping[int, str], client_port: Callable[[int], int] = lambda port: port
) -> KilledSession | None:
    """KILL one session at random; None when there was none.

    Args:
        url: The server.
        programs: The programs that it may be of, by the number of their process group.
        client_port: The port of the program, for the one that the server sees.
    """
    with Session(Address.parse(url)) as session:
        rows = session.query(
            "SELECT ID, HOST, COALESCE(INFO, COMMAND) FROM information_schema.PROCESSLIST"
            " WHERE USER = SUBSTRING_INDEX(CURRENT_USER(), '@', 1) AND ID <> CONNECTION_ID()"
        )
        if not rows:
            return None
        number, host, doing = random.choice(rows)  # noqa: S311 - no secret
        port = client_port(int(host.rpartition(":")[2] or 0))
        program = _program_of(port, programs)
        try:
            session.execute("KILL %s", (number,))
        except NoSuchSession:
            return None
    return KilledSession(str(doing)[:60], program)


def _program_of(port: int, programs: Mapping[int, str]) -> str | None:
    for group, name in programs.items():
        try:
            main = psutil.Process(group)
            for process in (main, *main.children(recursive=True)):
                if port in _ports(process):
                    return name
        except psutil.NoSuchProcess:
            continue
    return None


def _ports(process: psutil.Process) -> set[int]:
    return {one.laddr.port for one in process.net_connections("tcp") if one.laddr}

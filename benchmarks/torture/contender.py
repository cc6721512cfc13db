"""``python -m benchmarks.torture.contender``: one of the processes that contend for the locks.

Each section writes two rows into the ledger through ``lock.fence()``, its begin and its end, on a
session that is not the lock's; and it notes the same two moments in a file, outside the fence, with
each loss that it was told of. It goes on, whatever happens, until it is killed.
"""

from __future__ import annotations

import os
import random
import time
from pathlib import Path
from uuid import uuid4

from benchmarks.notes import Writer
from celery_mysqllock.exceptions import DatabaseError, LockError, LockLost
from celery_mysqllock.locks import MySQLLock
from celery_mysqllock.mysql import Address, Session

SESSION_TIMEOUT = 3  # seconds; the shortest, so that a frozen holder need not be frozen for long
NAMES = ("north", "south", "east", "west", "centre")
_INSIDE = 0.004  # seconds between begin and end, at most
_WAIT = 20.0  # seconds to wait for a lock
_REST = 0.2  # seconds before the next try when the server is gone

CREATE = """
    CREATE TABLE sections (
        id      BIGINT AUTO_INCREMENT PRIMARY KEY,
        name    VARCHAR(16) NOT NULL,
        section CHAR(32)    NOT NULL,
        step    TINYINT     NOT NULL
    )"""
_INSERT = """
    INSERT INTO sections (name, section, step)
    SELECT %(name)s, %(section)s, %(step)s FROM DUAL WHERE """


class Contender:
    """Enters sections, one after another.

    Args:
        url: The server.
        notes: Where it notes what happens.
    """

    def __init__(self, url: str, notes: Writer) -> None:
        self._url = url
        self._notes = notes
        self._session = Session(Address.parse(url))

    def section(self) -> None:
        """Wait for one of the locks, be in its section for a moment, and leave.

        Raises:
            LockLost: The lock was lost.
            DatabaseError: The server is gone.
        """
        name, section = random.choice(NAMES), uuid4().hex  # noqa: S311 - no secret

        def tell(_: MySQLLock) -> None:
            self._notes.write("told", section=section)

        lock = MySQLLock(name, url=self._url, session_timeout=SESSION_TIMEOUT, on_lost=tell)
        if not lock.acquire(_WAIT):
            self._notes.write("timeout", name=name)
            return
        self._notes.write("begin", name=name, section=section)
        try:
            self._inside(lock, name, section)
        finally:
            # before the release: from then on the next one may be in
            self._notes.write("end", section=section)
            try:
                lock.release()
            except LockLost as error:
                self._notes.write("lost", section=section, why=str(error))

    def _inside(self, lock: MySQLLock, name: str, section: str) -> None:
        for step in (1, 2):
            condition, parameters = lock.fence()
            values = {"name": name, "section": section, "step": step, **parameters}
            if not self._usable_session().execute(_INSERT + condition, values):
                self._notes.write("fenced off", section=section, step=step)
                return
            time.sleep(random.uniform(0, _INSIDE))  # noqa: S311 - no secret

    def _usable_session(self) -> Session:
        return self._session if self._session.is_open else self._session.open()


def main() -> None:
    """Enter sections until killed."""
    notes = Writer(Path(os.environ["NOTES"]), os.environ["AUTHOR"])
    contender = Contender(os.environ["TORTURE_URL"], notes)
    while True:
        try:
            contender.section()
        except LockLost as error:
            notes.write("noticed", why=str(error))
        except (LockError, DatabaseError) as error:
            notes.write("failed", why=f"{type(error).__name__}: {error}")
            time.sleep(_REST)


if __name__ == "__main__":
    main()

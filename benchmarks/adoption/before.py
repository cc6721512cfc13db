"""``python -m benchmarks.adoption.before producer|consumer``: the programs from before.

They know the three columns and PyMySQL, and nothing of celery-mysqllock.
"""

from __future__ import annotations

import os
import sys
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.notes import Writer
from example_proj.database import connect

if TYPE_CHECKING:
    from pymysql.cursors import Cursor

#: The lock round which the consumers take a message.
LOCK = "queue"
_WORK = 0.01  # seconds that a message takes
_IDLE = 0.1  # seconds between two looks at an empty table

notes = Writer(Path(os.environ.get("NOTES", ".")), os.environ.get("AUTHOR", "nobody"))


def produce(cursor: Cursor, rate: float) -> None:
    """Insert so many messages a second until killed; note each, and how long the INSERT took."""
    author, began = os.environ["AUTHOR"], time.monotonic()
    for number in count():
        ahead = began + number / rate - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
        message, sent = f"{author}-{number}", time.monotonic()
        # a SIGKILL may come between the commit and the note: the table knows what was stored
        cursor.execute("INSERT INTO jobs (message) VALUES (%s)", (message,))
        notes.write("confirmed", message=message, seconds=time.monotonic() - sent)


def consume(cursor: Cursor) -> None:
    """Take one message after another until killed, and note each."""
    while True:
        message = _take(cursor)
        if message is None:
            time.sleep(_IDLE)
        else:
            notes.write("taken", message=message)
            time.sleep(_WORK)


def _take(cursor: Cursor) -> str | None:
    cursor.execute("SELECT GET_LOCK(%s, 10)", (LOCK,))
    if cursor.fetchone() != (1,):
        return None
    try:
        cursor.execute("SELECT id, message FROM jobs WHERE job_status = 0 ORDER BY id LIMIT 1")
        found = cursor.fetchone()
        if found is not None:
            cursor.execute("UPDATE jobs SET job_status = 1 WHERE id = %s", (found[0],))
    finally:
        cursor.execute("SELECT RELEASE_LOCK(%s)", (LOCK,))
    return None if found is None else str(found[1])


def main(role: str, rate: float) -> None:
    """Be a producer or a consumer."""
    with (
        connect(os.environ["BROKER_URL"], autocommit=True) as connection,
        connection.cursor() as cursor,
    ):
        if role == "producer":
            produce(cursor, rate)
        else:
            consume(cursor)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))

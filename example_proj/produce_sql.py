"""A producer that knows only SQL: ``python -m example_proj.produce_sql [--jobs 10]``."""

from __future__ import annotations

import argparse
import json
import logging
from typing import TYPE_CHECKING

from example_proj import settings
from example_proj.database import connect

if TYPE_CHECKING:
    from collections.abc import Iterable

logger = logging.getLogger(__name__)


def insert(url: str, messages: Iterable[str]) -> None:
    """Insert jobs in one transaction: workers see all of them, or none."""
    with connect(url) as connection, connection.cursor() as cursor:
        rows = [(message,) for message in messages]
        cursor.executemany("INSERT INTO jobs (message) VALUES (%s)", rows)
        connection.commit()


def main() -> None:
    """Insert tasks with their arguments as JSON, and lines of plain text."""
    parser = argparse.ArgumentParser(description="Insert jobs with plain SQL.")
    parser.add_argument("--jobs", type=int, default=10, help="of each kind (default 10)")
    jobs = range(parser.parse_args().jobs)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    insert(
        settings.broker_url,
        [
            *(json.dumps({"task": "example_proj.tasks.add", "args": [job, job]}) for job in jobs),
            *(f"Line {job}, written by SQL." for job in jobs),
        ],
    )
    logger.info("Inserted %d jobs.", 2 * len(jobs))


if __name__ == "__main__":
    main()

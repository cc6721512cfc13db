"""A producer that uses Celery: ``python -m example_proj.produce [--jobs 10] [--every SECONDS]``."""

from __future__ import annotations

import argparse
import itertools
import logging
import time

from example_proj.tasks import add, book, rebuild_report, refresh_rates

logger = logging.getLogger(__name__)


def send(number: int) -> None:
    """Send one round of tasks."""
    add.delay(number, number)
    refresh_rates.delay()
    rebuild_report.delay(account=number % 3)
    book.delay(number)


def main() -> None:
    """Send so many rounds, or one every so many seconds until Ctrl-C."""
    parser = argparse.ArgumentParser(description="Send tasks with Celery's delay().")
    parser.add_argument("--jobs", type=int, default=10, help="rounds of four tasks (default 10)")
    parser.add_argument("--every", type=float, help="go on for ever, one round in so many seconds")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    for number in range(options.jobs) if options.every is None else itertools.count():
        send(number)
        logger.info("Sent round %d of four tasks.", number)
        if options.every is not None:
            time.sleep(options.every)


if __name__ == "__main__":
    main()

"""One lock, two processes: run ``python -m example_proj.glock`` in two terminals at once."""

from __future__ import annotations

import logging
import sys
import time

from celery_mysqllock import LockTimeout, MySQLLock
from example_proj import settings

logger = logging.getLogger(__name__)


def work_together(name: str, wait: float, work: float) -> None:
    """Work with the lock; without it, when others keep it for the whole wait, go on all the same.

    Args:
        name: The lock's name.
        wait: Seconds to wait for it.
        work: Seconds of work.
    """
    try:
        with MySQLLock(name, url=settings.broker_url).waiting(wait):
            logger.info("The lock '%s' was obtained successfully.", name)
            logger.info("You can do some synchronization work across processes!")
            time.sleep(work)
        logger.info("The lock '%s' was released.", name)
    except LockTimeout:
        logger.warning("The lock '%s' was not obtained in %g s; going on without it.", name, wait)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s [%(process)d] %(message)s")
    work_together("queue", wait=10, work=float(sys.argv[1]) if len(sys.argv) > 1 else 3)

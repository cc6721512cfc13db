"""The fleet's metrics for an exporter of your own: a collector to register with prometheus-client.

It needs the extra ``metrics``. ``mysqllock metrics`` is the exporter that comes with the package.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from celery_mysqllock.cli.deployment import Deployment

try:
    from celery_mysqllock.cli.collector import FleetCollector
except ImportError as error:
    raise ImportError(
        "celery_mysqllock.metrics needs packages that are not installed: "
        "pip install 'celery-mysqllock[metrics]'."
    ) from error

if TYPE_CHECKING:
    from celery import Celery

__all__ = ["FleetCollector", "fleet_collector"]
logger = logging.getLogger(__name__)
_DAY = 86_400


def fleet_collector(app: Celery, *, idle_after: float = _DAY) -> FleetCollector:
    """Return a collector of the fleet that works for an application's broker.

    It reads the job table at each scrape, over connections that it keeps; ``close()`` closes them.
    While the table cannot be read, ``mysqllock_up`` is 0, the other metrics are missing, and the
    reason is logged.

    Args:
        app: The application.
        idle_after: Seconds after which a queue without jobs and consumers is left out, as far as
            the collector has seen; a day by default.
    """
    return FleetCollector(
        Deployment(app),
        idle_after=idle_after,
        on_error=lambda error: logger.warning("The fleet cannot be read: %s", error),
    )

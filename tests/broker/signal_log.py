"""Has a worker write each signal of the broker's life into its log; one receiver fails."""

from __future__ import annotations

import json
import logging
import os
from typing import Any

from celery.utils.dispatch import Signal

from celery_mysqllock import signals

logger = logging.getLogger(__name__)

EVERY = [found for found in vars(signals).values() if isinstance(found, Signal)]


def write(signal: Signal, **arguments: Any) -> None:
    """Write the signal's name and arguments, as JSON."""
    logger.warning("signal %s %s;", signal.name, json.dumps(arguments))


def fail(**_: Any) -> None:
    """Be a receiver with a fault."""
    raise ValueError("a receiver's own fault")


for each in EVERY:
    each.connect(write)
    if "RECEIVERS_FAIL" in os.environ:
        each.connect(fail)

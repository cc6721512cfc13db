"""Lets Celery's mingle work here: a worker that starts asks the others what has been revoked."""

from __future__ import annotations

import sys


def allow_mingle(driver_type: str) -> None:
    """Add the transport to those that Celery's worker mingles on.

    Celery keeps a list of drivers, and asks for the driver before it looks into the list. Its
    gossip stays off: with it each worker stores a message for each other one every two seconds,
    and nothing that Celery does by itself needs it.
    """
    # only a worker has loaded it
    module = sys.modules.get("celery.worker.consumer.mingle")
    if module is not None:
        module.Mingle.compatible_transports = {*module.Mingle.compatible_transports, driver_type}

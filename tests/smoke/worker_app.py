"""The app of the smoke tests' workers, a template that pytest-celery fills in.

It writes the tasks' imports, the name and the configuration in place of the three lines below. Its
own template prints the configuration, and with it the broker's password, into the worker's log.
"""

from __future__ import annotations

from celery import Celery

import celery_mysqllock  # noqa: F401 - makes mysql:// known

imports = None

app = Celery("celery_test_app")
config = None

if config:
    app.config_from_object(config)

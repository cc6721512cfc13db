"""The Celery application."""

from __future__ import annotations

from celery import Celery

import celery_mysqllock  # noqa: F401 - makes mysql:// a broker URL

app = Celery("example_proj", include=["example_proj.tasks"])
app.config_from_object("example_proj.settings")

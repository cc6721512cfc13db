"""The app of the beats that tests start; its environment says what it is like.

``BROKER_URL``; ``CONFIG``, a JSON object of further settings; ``BEAT_SCHEDULE``, a JSON object that
gives for each entry its seconds.
"""

from __future__ import annotations

import json
import os

from celery import Celery

import celery_mysqllock  # noqa: F401 - makes mysql:// known

app = Celery("beating", broker=os.environ.get("BROKER_URL") or None)
app.conf.update(json.loads(os.environ.get("CONFIG", "{}")))
app.conf.beat_schedule = {
    name: {"task": "tick", "schedule": seconds, "args": [name, os.environ.get("BEAT")]}
    for name, seconds in json.loads(os.environ.get("BEAT_SCHEDULE", "{}")).items()
}

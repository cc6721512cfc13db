"""The configuration that Celery reads."""

from __future__ import annotations

import os

# The database of docker-compose.yml, unless the environment names another one.
broker_url = os.environ.get("MYSQLLOCK_URL", "mysql://example:example@127.0.0.1:3306/example")
broker_connection_retry_on_startup = True
broker_transport_options = {
    # INSERT INTO jobs (message) VALUES ('any text') runs this task with the text.
    "text_task": "example_proj.tasks.print_line",
}
task_ignore_result = True

beat_schedule = {
    "refresh-rates": {
        "task": "example_proj.tasks.refresh_rates",
        "schedule": 10.0,
    },
}

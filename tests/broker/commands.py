"""Celery's own commands, run as a user would run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any


def celery(url: str, *arguments: str, code: int = 0) -> str:
    """Run ``celery`` on the tests' app, which ends with the code; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "tests.broker.app", *arguments],
        env={**os.environ, "BROKER_URL": url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def replies(url: str, *arguments: str) -> dict[str, Any]:
    """What the workers answered, by the worker's name."""
    command, *rest = arguments
    answer: Any = json.loads(celery(url, command, "--timeout=3", "--json", *rest))
    if isinstance(answer, list):
        answer = {name: said for reply in answer for name, said in reply.items()}
    return dict(answer)

"""Hides the passwords of URLs wherever Celery shows its settings: reports, ``inspect``, Flower."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from celery.app import utils as celery_settings

_MASK = "*" * 8
# Up to the last "@" before the next URL of a list, so that a password that is not percent-encoded,
# as it should be, is hidden too.
_OURS = re.compile(r"(mysql://[^:@/\s]*):(?:(?![;,\s]\s?\w{1,20}://).)*@", re.DOTALL)
_OTHERS = re.compile(r"(://[^:@/?#\s]*):[^/?#\s;,]*@")


def hide_passwords(value: Any) -> Any:  # noqa: ANN401 - a setting may be anything
    """Return the value of a setting without the passwords of URLs in it, at any depth."""
    if isinstance(value, str):
        return _OTHERS.sub(rf"\1:{_MASK}@", _OURS.sub(rf"\1:{_MASK}@", value))
    if isinstance(value, Mapping):
        return {name: hide_passwords(inner) for name, inner in value.items()}
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return kind(map(hide_passwords, value))
    return value


def hide_in_settings() -> None:
    """Make Celery hide the passwords of all URLs in its settings.

    By itself it hides some settings of its own, unless their names have a namespace: it shows
    ``mysqllock_url`` and ``CELERY_BROKER_URL`` with their passwords.
    """
    inner = celery_settings.filter_hidden_settings
    if hasattr(inner, "__wrapped__"):
        return

    @functools.wraps(inner)
    def filter_hidden_settings(conf: Mapping[Any, Any]) -> Any:  # noqa: ANN401 - Celery's
        return hide_passwords(inner(conf))

    celery_settings.filter_hidden_settings = filter_hidden_settings


hide_in_settings()

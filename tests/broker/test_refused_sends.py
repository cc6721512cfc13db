"""What no worker could run or no column holds is refused when it is sent, and nothing is stored."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from celery_mysqllock.exceptions import InvalidJob, SettingsError
from tests.broker.app import app, note

if TYPE_CHECKING:
    from celery_mysqllock.mysql import Session

pytestmark = pytest.mark.usefixtures("producer_url")

REFUSED: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "an id of 256 characters": ({"task_id": "i" * 256}, InvalidJob, "'correlation_id'"),
    "half a character in the id": ({"task_id": "\ud83e"}, InvalidJob, "'correlation_id'"),
    "a shadow of 1,001 characters": ({"shadow": "s" * 1001}, InvalidJob, "'shadow'"),
    "a time limit of 30 years": ({"time_limit": 10**9}, InvalidJob, "'timelimit'"),
    "a group that is a list": ({"group_id": ["g"]}, InvalidJob, "'group'"),
    "an id that is a dict": ({"task_id": {"a": 1}}, InvalidJob, "'correlation_id'"),
    "reply_to of 256 characters": ({"reply_to": "r" * 256}, InvalidJob, "'reply_to'"),
    "an order key of 256 characters": ({"order_key": "k" * 256}, SettingsError, "255 characters"),
    "half a character in an order key": ({"order_key": "\ud83e"}, SettingsError, "ASCII"),
    "an umlaut in an order key": ({"order_key": "ü"}, SettingsError, "ASCII"),
    "a unique key of 256 characters": ({"unique_key": "k" * 256}, SettingsError, "255 characters"),
    "an emoji in a unique key": ({"unique_key": "🦀"}, SettingsError, "ASCII"),
}

TAKEN: dict[str, dict[str, Any]] = {
    "a UUID": {"task_id": uuid.uuid4()},
    "an id of 255 characters": {"task_id": "i" * 255},
    "a date that is none yet": {"expires": datetime(2190, 1, 1, tzinfo=UTC)},
    "limits": {"time_limit": 60, "soft_time_limit": 0.5},
    "keys of 255 characters": {"order_key": "k" * 255, "unique_key": "u" * 255},
    "headers of a user's": {"headers": {"tenant": "ü\ud83e", "n": {"deep": [None]}}},
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_run_is_refused_when_it_is_sent(session: Session, case: str) -> None:
    options, kind, says = REFUSED[case]
    with pytest.raises(kind, match=says):
        note.apply_async(("never",), **options)
    assert session.query("SELECT id FROM jobs") == []


@pytest.mark.parametrize("case", TAKEN)
def test_what_can_run_is_sent(session: Session, case: str) -> None:
    note.apply_async(("once",), **TAKEN[case])
    assert session.value("SELECT COUNT(*) FROM jobs") == 1


def test_a_task_of_the_first_protocol_is_refused_for_the_same_reasons(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app.amqp, "create_task_message", app.amqp.as_task_v1)
    with pytest.raises(InvalidJob, match="'correlation_id'"):
        note.apply_async(("never",), task_id="i" * 256)
    assert session.query("SELECT id FROM jobs") == []

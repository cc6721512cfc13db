"""Headers that a publisher adds reach the task: OpenTelemetry's trace context, for one.

Its Celery instrumentation adds them in ``before_task_publish`` and reads them from the request.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from celery.signals import before_task_publish

from tests.broker.app import traced
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_mysqllock.mysql import Session
    from tests.broker.worker import Worker

pytestmark = pytest.mark.usefixtures("producer_url")

PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
STATE = "congo=t61rcWkgMzE"


@pytest.fixture
def _instrumented() -> Iterator[None]:
    def inject(headers: dict[str, Any], **_: object) -> None:
        headers |= {"traceparent": PARENT, "tracestate": STATE}

    before_task_publish.connect(inject)
    yield
    before_task_publish.disconnect(inject)


def contexts(session: Session) -> list[str]:
    return [row[0] for row in session.query("SELECT entry FROM ledger")]


@pytest.mark.usefixtures("_instrumented")
@pytest.mark.parametrize("options", [{}, {"countdown": 0.5}], ids=["now", "later"])
def test_what_an_instrumentation_adds_arrives_in_the_request(
    session: Session, start_worker: Callable[..., Worker], options: dict[str, float]
) -> None:
    traced.apply_async(**options)
    headers = json.loads(session.value("SELECT message FROM jobs"))["headers"]
    assert (headers["traceparent"], headers["tracestate"]) == (PARENT, STATE)
    start_worker()
    eventually(lambda: contexts(session) == [f"{PARENT} {STATE}"])


def test_a_caller_may_give_them_too_and_a_redelivery_has_them_still(
    session: Session, start_worker: Callable[..., Worker]
) -> None:
    first = start_worker("--pool=solo")
    traced.apply_async((600,), headers={"traceparent": PARENT, "tracestate": STATE})
    eventually(lambda: contexts(session) == [f"{PARENT} {STATE}"])
    first.kill()
    start_worker("--pool=solo")
    eventually(lambda: contexts(session) == [f"{PARENT} {STATE}"] * 2)

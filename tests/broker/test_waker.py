"""What wakes Celery's event loop."""

from __future__ import annotations

from celery.signals import worker_shutting_down
from kombu.asynchronous.hub import Hub

from celery_mysqllock.broker.waker import LoopWaker


def test_a_worker_that_is_to_end_looks_round_at_once() -> None:
    hub, waker, rounds = Hub(), LoopWaker(), []
    waker.attach(hub, lambda: rounds.append("round"))
    loop = hub.create_loop()
    while not rounds:
        next(loop)
    worker_shutting_down.send(sender="worker", sig="SIGTERM", how="Warm", exitcode=0)
    next(loop)
    waker.close()
    hub.close()
    assert rounds == ["round", "round"]

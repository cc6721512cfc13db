"""Sends what happens in a job table as Celery signals, and logs it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from kombu.log import get_logger

from celery_mysqllock import signals
from celery_mysqllock.jobs import counted, events

if TYPE_CHECKING:
    from celery.utils.dispatch import Signal

logger = get_logger(__name__)

_SIGNALS: dict[type[events.Event], Signal] = {
    events.JobClaimed: signals.job_claimed,
    events.JobRecovered: signals.job_recovered,
    events.JobDead: signals.job_dead,
    events.ConsumerDied: signals.consumer_died,
    events.BecameSweeper: signals.became_sweeper,
    events.QueuePaused: signals.queue_paused,
    events.QueueResumed: signals.queue_resumed,
}


class SignalSender:
    """An observer of a job table that sends each event as a signal, if the signal has a receiver.

    Args:
        table: The sender of the signals: ``<database>.<table>``.
    """

    def __init__(self, table: str) -> None:
        self._table = table

    def wants(self, kind: type[events.Event]) -> bool:
        """Whether the signal of such an event has a receiver."""
        return bool(_SIGNALS[kind].receivers)

    def tell(self, event: events.Event) -> None:
        """Send its signal. An error of a receiver goes no further."""
        if self.wants(type(event)):
            # Celery logs the errors of receivers, and a log handler may fail as well
            with contextlib.suppress(Exception):
                _SIGNALS[type(event)].send(sender=self._table, **event._asdict())


# -- the log --------------------------------------------------------------------------------------


@signals.job_dead.connect(weak=False)
def _log_dead(sender: str, job_id: int, reason: str, **_: Any) -> None:  # noqa: ANN401 - a signal's
    # the row has all of it; a traceback follows the first line
    logger.error("Job %d in %s is dead: %.1000s", job_id, sender, reason.partition("\n")[0])


@signals.consumer_died.connect(weak=False)
def _log_died(consumer: str, jobs: int, **_: Any) -> None:  # noqa: ANN401 - a signal's
    if jobs:
        logger.warning(
            "Consumer %r is dead; %s returned to the queue.", consumer, counted(jobs, "job")
        )


@signals.became_sweeper.connect(weak=False)
def _log_sweeper(sender: str, **_: Any) -> None:  # noqa: ANN401 - a signal's
    logger.info("This process does the housekeeping of %s from now on.", sender)


@signals.queue_paused.connect(weak=False)
def _log_paused(sender: str, queue: str, **_: Any) -> None:  # noqa: ANN401 - a signal's
    logger.info("The queue %r of %s is paused.", queue, sender)


@signals.queue_resumed.connect(weak=False)
def _log_resumed(sender: str, queue: str, **_: Any) -> None:  # noqa: ANN401 - a signal's
    logger.info("The queue %r of %s is claimed from again.", queue, sender)

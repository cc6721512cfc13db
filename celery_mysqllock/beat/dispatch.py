"""Two ways to send a tick once: in the transaction that claims it, or after the claim."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from celery.utils.log import get_logger
from kombu.exceptions import OperationalError

from celery_mysqllock.exceptions import DatabaseError, JobExists, MessageTooLarge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from celery.beat import ScheduleEntry

    from celery_mysqllock.beat.outbox import Outbox
    from celery_mysqllock.jobs import EphemeralQueues, Publisher, Schedule
    from celery_mysqllock.jobs.schedule import Tick

    Publish = Callable[[ScheduleEntry], Any]

logger = get_logger(__name__)


class Dispatch(Protocol):
    """Sends the tasks of ticks."""

    def send(self, entry: ScheduleEntry, tick: Tick) -> bool:
        """Claim the tick and send its task; False if another beat has claimed it.

        A task that can never be sent is logged, and its tick is over.

        Raises:
            DatabaseError, OperationalError: Nothing was claimed or sent; try again.
        """

    def send_together(self, due: Sequence[tuple[ScheduleEntry, Tick]]) -> bool:
        """Send all of them at less cost than ``send``; False if none was sent."""


class InTransaction:
    """Commits the tick and its job together, or neither; for a job table beside the schedule.

    Args:
        schedule: The schedule.
        publisher: Stores jobs, on the schedule's session.
        ephemeral: The ephemeral queues, likewise.
        outbox: Returns the outbox that ``publish`` fills.
        publish: Makes Celery publish an entry.
    """

    def __init__(
        self,
        schedule: Schedule,
        publisher: Publisher,
        ephemeral: EphemeralQueues,
        outbox: Callable[[], Outbox],
        publish: Publish,
    ) -> None:
        self._schedule = schedule
        self._publisher = publisher
        self._ephemeral = ephemeral
        self._outbox = outbox
        self._publish = publish

    def send(self, entry: ScheduleEntry, tick: Tick) -> bool:
        """As in ``Dispatch``."""
        try:
            return self._send(entry, tick)
        except Exception as error:
            if _may_pass(error):
                raise
            _log_failure(entry, error)
            with self._schedule.claim(tick) as mine:
                if mine:
                    self._schedule.mark_not_sent(tick, str(error))
            return mine

    def send_together(self, due: Sequence[tuple[ScheduleEntry, Tick]]) -> bool:
        """As in ``Dispatch``, in one transaction."""
        try:
            outboxes = self._store_together(due)
        except Exception as error:  # noqa: BLE001 - sent one by one, the culprit raises it again
            logger.debug("%d ticks are sent one by one: %s", len(due), error)
            return False
        self._announce(outboxes)
        return True

    def _store_together(self, due: Sequence[tuple[ScheduleEntry, Tick]]) -> list[Outbox]:
        ids: dict[Tick, str | None] = {}
        outboxes: list[Outbox] = []
        for entry, tick in due:
            self._outbox().clear()
            ids[tick] = getattr(self._publish(entry), "id", None)
            outboxes.append(self._outbox().taken())
        with self._schedule.transaction():
            self._schedule.claim_all(ids)
            for (entry, tick), outbox in zip(due, outboxes, strict=True):
                _log_sending(entry)
                task_id = self._store(entry, outbox, ids[tick])
                if task_id != ids[tick]:
                    self._schedule.mark_sent(tick, task_id)
        return outboxes

    def _send(self, entry: ScheduleEntry, tick: Tick) -> bool:
        self._outbox().clear()
        result = self._publish(entry)
        outbox = self._outbox()
        with self._schedule.claim(tick) as mine:
            if mine:
                _log_sending(entry)
                task_id = self._store(entry, outbox, getattr(result, "id", None))
                self._schedule.mark_sent(tick, task_id)
        if mine:
            self._announce([outbox])
        return mine

    def _store(self, entry: ScheduleEntry, outbox: Outbox, task_id: str | None) -> str | None:
        """Store the jobs; the task's id, or that of the unique task that is there already."""
        for job in outbox.jobs:
            try:
                self._publisher.store(job)
            except JobExists as error:
                logger.info("%s is not sent: %s", entry.name, error)
                task_id = error.task_id
        return task_id

    def _announce(self, outboxes: Sequence[Outbox]) -> None:
        self._publisher.announce([job for outbox in outboxes for job in outbox.jobs])
        for outbox in outboxes:
            # A broadcast only reaches those who listen now, so it is not part of the transaction.
            for args, kwargs in outbox.ephemeral:
                self._ephemeral.put(*args, **kwargs)


class AfterClaim:
    """Claims the tick, sends it, then marks it as sent; for any other broker.

    If the beat dies in between, the tick may have been sent or not. It is not sent again; the next
    beat logs it.

    Args:
        schedule: The schedule.
        connect: Makes sure that the broker can be reached.
        publish: Makes Celery publish an entry.
    """

    def __init__(self, schedule: Schedule, connect: Callable[[], object], publish: Publish) -> None:
        self._schedule = schedule
        self._connect = connect
        self._publish = publish

    def send(self, entry: ScheduleEntry, tick: Tick) -> bool:
        """As in ``Dispatch``."""
        self._connect()
        with self._schedule.claim(tick) as mine:
            pass
        if mine:
            _log_sending(entry)
            try:
                result = self._publish(entry)
            except Exception as error:  # noqa: BLE001 - as in Celery's beat, the others go on
                _log_failure(entry, error)
                self._schedule.mark_not_sent(tick, str(error))
            else:
                self._schedule.mark_sent(tick, getattr(result, "id", None))
        return mine

    def send_together(self, due: Sequence[tuple[ScheduleEntry, Tick]]) -> bool:  # noqa: ARG002 - as in Dispatch
        """As in ``Dispatch``: never, since each tick is claimed by itself."""
        return False


def _log_sending(entry: ScheduleEntry) -> None:
    # word for word as in Celery's beat, for those who search logs for it
    logger.info("Scheduler: Sending due task %s (%s)", entry.name, entry.task)


def _log_failure(entry: ScheduleEntry, error: Exception) -> None:
    logger.error("Message Error: %s was not sent: %s", entry.name, error, exc_info=error)


def _may_pass(error: BaseException) -> bool:
    """Whether another try may succeed, because the database or the broker failed."""
    return any(
        isinstance(one, (DatabaseError, OperationalError)) and not isinstance(one, MessageTooLarge)
        for one in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

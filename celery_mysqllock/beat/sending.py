"""The two ways to send a tick once: in the transaction that claims it, or after it is claimed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from celery.utils.log import get_logger
from kombu.exceptions import OperationalError

from celery_mysqllock.exceptions import DatabaseError, JobExists, MessageTooLarge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from celery.beat import ScheduleEntry

    from celery_mysqllock.beat.outbox import Outbox
    from celery_mysqllock.jobs import EphemeralQueues, JobTable, Schedule
    from celery_mysqllock.jobs.schedule import Tick

    Publish = Callable[[ScheduleEntry], Any]

logger = get_logger(__name__)


class Sending(Protocol):
    """Sends what is due."""

    def send(self, entry: ScheduleEntry, tick: Tick) -> bool:
        """Claim the tick and send its task; False when the tick is not this beat's.

        A task that cannot be sent whenever it is tried is logged, and its tick is over.

        Raises:
            DatabaseError, OperationalError: Nothing was claimed or sent; try again.
        """

    def send_together(self, due: Sequence[tuple[ScheduleEntry, Tick]]) -> list[bool] | None:
        """Send several at less cost, as ``send`` each; None when they are to be sent one by one.

        Nothing was claimed or sent then.
        """


class InTransaction:
    """For jobs beside the schedule: the tick and its job are committed together, or neither is.

    Args:
        schedule: The schedule.
        jobs: The job table, on the schedule's session.
        ephemeral: The ephemeral queues, likewise.
        outbox: Gives the outbox that ``publish`` has filled.
        publish: Has Celery publish an entry, into the outbox.
    """

    def __init__(
        self,
        schedule: Schedule,
        jobs: JobTable,
        ephemeral: EphemeralQueues,
        outbox: Callable[[], Outbox],
        publish: Publish,
    ) -> None:
        self._schedule = schedule
        self._jobs = jobs
        self._ephemeral = ephemeral
        self._outbox = outbox
        self._publish = publish

    def send(self, entry: ScheduleEntry, tick: Tick) -> bool:
        """As in ``Sending``."""
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

    def send_together(self, due: Sequence[tuple[ScheduleEntry, Tick]]) -> list[bool] | None:
        """As in ``Sending``, in one transaction."""
        try:
            return self._send_together(due)
        except Exception as error:  # noqa: BLE001 - whatever it is, it comes again where it belongs
            logger.debug("%d ticks are sent one by one: %s", len(due), error)
            return None

    def _send_together(self, due: Sequence[tuple[ScheduleEntry, Tick]]) -> list[bool]:
        results, outboxes = [], []
        for entry, _ in due:
            self._outbox().clear()
            results.append(self._publish(entry))
            outboxes.append(self._outbox().taken())
        with self._schedule.transaction():
            are_mine = [self._schedule.claim_in_transaction(tick) for _, tick in due]
            sent = [
                (entry, tick, outbox, result)
                for (entry, tick), outbox, result, mine in zip(
                    due, outboxes, results, are_mine, strict=True
                )
                if mine
            ]
            for entry, tick, outbox, result in sent:
                _log_sending(entry)
                task_id = self._store(entry, outbox, getattr(result, "id", None))
                self._schedule.mark_sent(tick, task_id)
        for _, _, outbox, _ in sent:
            self._announce(outbox)
        return are_mine

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
            self._announce(outbox)
        return mine

    def _store(self, entry: ScheduleEntry, outbox: Outbox, task_id: str | None) -> str | None:
        """Store the jobs; the id of the task that there is now, which a unique one had before."""
        for args, kwargs in outbox.jobs:
            try:
                self._jobs.store(*args, **kwargs)
            except JobExists as error:
                logger.info("%s is not sent: %s", entry.name, error)
                task_id = error.task_id
        return task_id

    def _announce(self, outbox: Outbox) -> None:
        for args, kwargs in outbox.jobs:
            self._jobs.announce(*args, **kwargs)
        # A broadcast is worth something only to who listens now: it is not part of the transaction.
        for args, kwargs in outbox.ephemeral:
            self._ephemeral.put(*args, **kwargs)


class AfterClaim:
    """For any other broker: the tick is claimed, then sent, then marked as sent.

    A beat that dies in between leaves a tick of which nobody knows whether it was sent. It is not
    sent again: the next beat says so in its log.

    Args:
        schedule: The schedule.
        connect: Makes sure that the broker can be reached.
        publish: Has Celery publish an entry.
    """

    def __init__(self, schedule: Schedule, connect: Callable[[], object], publish: Publish) -> None:
        self._schedule = schedule
        self._connect = connect
        self._publish = publish

    def send(self, entry: ScheduleEntry, tick: Tick) -> bool:
        """As in ``Sending``."""
        self._connect()
        with self._schedule.claim(tick) as mine:
            pass
        if mine:
            _log_sending(entry)
            try:
                result = self._publish(entry)
            except Exception as error:  # noqa: BLE001 - as Celery's beat: the others go on
                _log_failure(entry, error)
                self._schedule.mark_not_sent(tick, str(error))
            else:
                self._schedule.mark_sent(tick, getattr(result, "id", None))
        return mine

    def send_together(self, due: Sequence[tuple[ScheduleEntry, Tick]]) -> None:
        """As in ``Sending``: each is claimed by itself."""


def _log_sending(entry: ScheduleEntry) -> None:
    # word for word what Celery's beat says, for those who look for it
    logger.info("Scheduler: Sending due task %s (%s)", entry.name, entry.task)


def _log_failure(entry: ScheduleEntry, error: Exception) -> None:
    logger.error("Message Error: %s was not sent: %s", entry.name, error, exc_info=error)


def _may_pass(error: BaseException) -> bool:
    """Whether it may go well the next time: the database or the broker is to blame."""
    return any(
        isinstance(one, (DatabaseError, OperationalError)) and not isinstance(one, MessageTooLarge)
        for one in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__

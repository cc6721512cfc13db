"""A kombu channel on the job table: publishes into it, claims from it, settles what it claimed."""

from __future__ import annotations

import time
from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kombu.log import get_logger
from kombu.transport import virtual

from celery_mysqllock.broker import message as rows
from celery_mysqllock.broker.prefetch import Prefetch
from celery_mysqllock.exceptions import ConnectionLost, InvalidJob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_mysqllock.broker.transport import Transport
    from celery_mysqllock.jobs import JobTable

logger = get_logger(__name__)

# After a claim that emptied the queue more is likely to come; the next look is this soon.
_SOON = 0.2
# A window that is not half free is topped up after this many seconds, so that one claim takes
# several jobs, but a slot never waits for the end of a long task beside it.
_TOP_UP = 0.05


class Channel(virtual.Channel):
    """One channel of a connection to the job table."""

    QoS = Prefetch
    # The row holds readable text; see message.write.
    body_encoding = None

    connection: Transport
    qos: Prefetch

    def __init__(self, connection: Transport, **kwargs: Any) -> None:  # noqa: ANN401 - kombu's
        super().__init__(connection, **kwargs)
        self._buffer: deque[tuple[rows.Payload, str]] = deque()
        self._no_ack_queues: set[str] = set()
        self._next_look: dict[str, float] = {}
        self._short_since: float | None = None

    # -- publish ----------------------------------------------------------------------------------

    def _put(self, queue: str, message: rows.Payload, **_: Any) -> None:  # noqa: ANN401 - kombu's
        self.connection.jobs.put(
            queue, rows.write(message), priority=self._get_message_priority(message)
        )

    # -- consume ----------------------------------------------------------------------------------

    def basic_consume(
        self,
        queue: str,
        no_ack: bool,  # noqa: FBT001 - kombu's signature
        callback: Callable[[virtual.Message], None],
        consumer_tag: str,
        **kwargs: Any,  # noqa: ANN401 - kombu's
    ) -> None:
        """Begin to consume from the queue."""
        if no_ack:
            self._no_ack_queues.add(queue)
        super().basic_consume(queue, no_ack, callback, consumer_tag, **kwargs)

    def basic_cancel(self, consumer_tag: str) -> None:
        """Stop to consume; claimed jobs that were not delivered yet go back to the queue."""
        queue = self._tag_to_queue.get(consumer_tag)
        super().basic_cancel(consumer_tag)
        undelivered = [payload for payload, source in self._buffer if source == queue]
        self._buffer = deque(entry for entry in self._buffer if entry[1] != queue)
        self._release([_tag(payload) for payload in undelivered])
        self._no_ack_queues.discard(queue or "")

    def deliver_next(self) -> bool:
        """Deliver one job, claiming some when none is at hand; False when there is none."""
        if not self._buffer:
            self._claim_next()
        if not self._buffer:
            return False
        payload, queue = self._buffer.popleft()
        self.connection._deliver(payload, queue)  # noqa: SLF001 - the virtual transport's way
        return True

    def basic_get(self, queue: str, no_ack: bool = False, **_: Any) -> virtual.Message | None:  # noqa: ANN401, FBT001, FBT002 - kombu's
        """Claim one job now; None when there is none."""
        claimed = self._claim(queue, 1)
        if not claimed:
            return None
        message = self.Message(claimed[0], channel=self)
        if no_ack:
            self.connection.jobs.ack([message.delivery_tag], self.connection.consumer.identity)
        else:
            self.qos.append(message, message.delivery_tag)
        return message

    def _claim_next(self) -> None:
        """Fill the buffer from the first queue in turn that has jobs."""
        room = self._room_to_claim()
        now = time.monotonic()
        for queue in list(self._active_queues) if room else ():
            if self._next_look.get(queue, 0) > now:
                continue
            claimed = self._claim(queue, room)
            self._next_look[queue] = now + self._pause(len(claimed), room)
            if claimed:
                self._buffer.extend((payload, queue) for payload in claimed)
                self._active_queues.remove(queue)
                self._active_queues.append(queue)
                self._short_since = None
                return

    def _room_to_claim(self) -> int:
        """How many jobs to claim now: none until half of the window is free, or a moment later."""
        room, limit = self.qos.room, self.connection.settings.claim_limit
        if not room or room * 2 >= min(self.qos.window, limit):
            return min(room, limit)
        now = time.monotonic()
        if self._short_since is None:
            self._short_since = now
        return min(room, limit) if now - self._short_since >= _TOP_UP else 0

    def _pause(self, claimed: int, asked: int) -> float:
        """Seconds until the queue is worth another look."""
        if claimed == asked:
            return 0
        interval = self.connection.settings.polling_interval
        return min(_SOON, interval) if claimed else interval

    def wait_hint(self) -> float:
        """Seconds until this channel might have something to do without being woken."""
        if not self._active_queues or not self.qos.room:
            return self.connection.settings.polling_interval
        if self._short_since is not None:
            return _TOP_UP
        looks = [self._next_look.get(queue, 0.0) for queue in self._active_queues]
        return max(0.0, min(looks) - time.monotonic())

    def _claim(self, queue: str, limit: int) -> list[rows.Payload]:
        owner, jobs = self.connection.consumer.identity, self.connection.jobs
        payloads = []
        for job in jobs.claim(queue, limit, owner):
            try:
                payloads.append(rows.read(job, jobs.name, self.connection.settings.text_task))
            except InvalidJob as error:
                # the reason says it all; a traceback of ours would tell the user nothing
                logger.error(  # noqa: TRY400
                    "Job %d in %s cannot run and is kept as dead: %s", job.id, jobs.name, error
                )
                jobs.bury(job.id, owner, str(error))
        if queue in self._no_ack_queues and payloads:
            jobs.ack([_tag(payload) for payload in payloads], owner)
        return payloads

    # -- settle -----------------------------------------------------------------------------------

    def basic_ack(self, delivery_tag: int, multiple: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - kombu's
        """Delete the job: it is done.

        Raises:
            ConnectionLost: The connection is gone; the job runs again.
        """
        with self._settling(delivery_tag) as (jobs, owner):
            if not jobs.ack([delivery_tag], owner):
                logger.warning(
                    "Job %s was not this consumer's any more when it was acknowledged; it may "
                    "run again.",
                    delivery_tag,
                )

    def basic_reject(self, delivery_tag: int, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's
        """Give the job back to its queue, or keep it as dead; errors as in ``basic_ack``."""
        with self._settling(delivery_tag) as (jobs, owner):
            if requeue:
                jobs.release([delivery_tag], owner)
                self._next_look.clear()
            else:
                jobs.bury(delivery_tag, owner, "Rejected by the consumer.")

    @contextmanager
    def _settling(self, delivery_tag: int) -> Iterator[tuple[JobTable, str]]:
        self.qos.ack(delivery_tag)
        if self.connection is None:
            raise ConnectionLost("The channel is closed; what it had claimed went back.")
        try:
            yield self.connection.jobs, self.connection.consumer.identity
        finally:
            self.connection.wake()

    def explain_rejection(self, delivery_tag: int, reason: str) -> None:
        """Say why a job that was rejected without requeue is dead."""
        self.connection.jobs.explain(delivery_tag, reason)

    def basic_recover(self, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's
        """Give all unacknowledged jobs back to their queues.

        Raises:
            ValueError: Asked to redeliver to this very consumer, which AMQP has given up too.
        """
        if not requeue:
            raise ValueError("basic_recover takes requeue=True only.")
        self._release(self.qos.take_all())

    def _release(self, delivery_tags: list[int]) -> None:
        if delivery_tags:
            self.connection.jobs.release(delivery_tags, self.connection.consumer.identity)
            self._next_look.clear()

    def close(self) -> None:
        """Give back what was claimed and not settled, and close."""
        if self.closed:
            return
        unsettled = self.qos.take_all() + [_tag(payload) for payload, _ in self._buffer]
        self._buffer.clear()
        try:
            # when the session is lost, a living consumer gives them back
            if self.connection.verify_connection(self.connection):
                self._release(unsettled)
        finally:
            super().close()

    # -- queues -----------------------------------------------------------------------------------

    def _size(self, queue: str) -> int:
        return self.connection.jobs.count_ready(queue)

    def _purge(self, queue: str) -> int:
        return self.connection.jobs.purge(queue)


def _tag(payload: rows.Payload) -> int:
    tag: int = payload["properties"]["delivery_tag"]
    return tag

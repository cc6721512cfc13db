"""A kombu channel on the job table: publishes into it, claims from it, settles what it claimed."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from kombu.log import get_logger
from kombu.transport import virtual

from celery_mysqllock.broker import message as rows
from celery_mysqllock.broker.claims import Claims
from celery_mysqllock.broker.prefetch import Prefetch
from celery_mysqllock.exceptions import ConnectionLost, InvalidJob

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_mysqllock.broker.transport import Transport
    from celery_mysqllock.jobs import JobTable

logger = get_logger(__name__)


class Channel(virtual.Channel):
    """One channel of a connection to the job table. A delivery tag is the id of a row."""

    QoS = Prefetch
    # The row holds readable text; see message.write.
    body_encoding = None

    connection: Transport
    qos: Prefetch

    def __init__(self, connection: Transport, **kwargs: Any) -> None:  # noqa: ANN401 - kombu's
        super().__init__(connection, **kwargs)
        self._no_ack_queues: set[str] = set()
        self._claims = Claims(self._active_queues, self.qos, connection.settings, self._claim)

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
        if queue is not None:
            self._no_ack_queues.discard(queue)
            self._release(self._claims.withdraw(queue))

    def basic_get(
        self,
        queue: str,
        no_ack: bool = False,  # noqa: FBT001, FBT002 - kombu's signature
        **_: Any,  # noqa: ANN401 - kombu's
    ) -> virtual.Message | None:
        """Claim one job now; None when there is none."""
        claimed = self._claim(queue, 1)
        if not claimed:
            return None
        message = self.Message(claimed[0], channel=self)
        self.qos.append(message, message.delivery_tag)
        if no_ack:
            self.basic_ack(message.delivery_tag)
        return message

    def deliver_next(self) -> bool:
        """Deliver one job to its consumer; False when there is none just now."""
        job = self._claims.next()
        if job is None:
            return False
        self.connection._deliver(job.payload, job.queue)  # noqa: SLF001 - the virtual transport's way
        return True

    def pause(self) -> float:
        """Seconds for which there is nothing to deliver, unless a slot becomes free."""
        return self._claims.pause()

    def _claim(self, queue: str, limit: int) -> list[rows.Payload]:
        jobs, owner = self.connection.jobs, self.connection.consumer.identity
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
            jobs.ack([payload["properties"]["delivery_tag"] for payload in payloads], owner)
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
                self._claims.look_again()
            else:
                jobs.bury(delivery_tag, owner, "Rejected by the consumer, without requeue.")

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
            ValueError: Asked to redeliver to this very consumer, which RabbitMQ refuses too.
        """
        if not requeue:
            raise ValueError("basic_recover takes requeue=True only.")
        self._release(self.qos.take_all())

    def close(self) -> None:
        """Give back what was claimed and not settled, and close."""
        if self.closed:
            return
        unsettled = self.qos.take_all() + self._claims.withdraw()
        try:
            # when the session is lost, a living consumer gives them back
            if self.connection.verify_connection(self.connection):
                self._release(unsettled)
        finally:
            super().close()

    def _release(self, job_ids: list[int]) -> None:
        if job_ids:
            self.connection.jobs.release(job_ids, self.connection.consumer.identity)
            self._claims.look_again()

    # -- queues -----------------------------------------------------------------------------------

    def queue_declare(self, queue: str | None = None, passive: bool = False, **kwargs: Any) -> Any:  # noqa: ANN401, FBT001, FBT002 - kombu's
        """Declare a queue; its jobs are counted only when it is declared passively.

        Celery declares at every start and publish, and a count of millions takes seconds.
        """
        declared = super().queue_declare(queue, passive=False, **kwargs)
        if passive:
            return declared._replace(message_count=self.connection.jobs.count_ready(queue or ""))
        return declared

    def _purge(self, queue: str) -> int:
        return self.connection.jobs.purge(queue)

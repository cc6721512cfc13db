"""A kombu channel on the job table: publishes into it, consumes from it, settles what it got."""

from __future__ import annotations

import time
from collections import deque
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from kombu.log import get_logger
from kombu.transport import base, virtual

from celery_mysqllock.broker import message as rows
from celery_mysqllock.broker.prefetch import Prefetch
from celery_mysqllock.exceptions import ConnectionLost, InvalidJob

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.broker.transport import Transport
    from celery_mysqllock.jobs import ClaimedJob, Stream

logger = get_logger(__name__)


class Channel(virtual.Channel):
    """One channel of a connection to the job table. A delivery tag is the id of a row."""

    QoS = Prefetch
    supports_fanout = True
    # The row holds readable text; see message.write.
    body_encoding = None

    connection: Transport
    qos: Prefetch

    def __init__(self, connection: Transport, **kwargs: Any) -> None:  # noqa: ANN401 - kombu's
        super().__init__(connection, **kwargs)
        self._stream: Stream | None = None
        self._no_ack_queues: set[str] = set()
        self._ephemeral_queues: set[str] = set()
        self._ephemeral: deque[tuple[str, rows.Payload]] = deque()
        self._lifetimes: dict[str, float] = {}

    # -- declare ----------------------------------------------------------------------------------

    def prepare_queue_arguments(self, arguments: dict[str, Any], **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401 - kombu's
        """Keep ``expires`` and ``message_ttl`` as RabbitMQ spells them."""
        prepared: dict[str, Any] = base.to_rabbitmq_queue_arguments(arguments, **kwargs)
        return prepared

    def queue_declare(self, queue: str | None = None, passive: bool = False, **kwargs: Any) -> Any:  # noqa: ANN401, FBT001, FBT002 - kombu's
        """Declare a queue; its jobs are counted only when it is declared passively.

        Celery declares at every start and publish, and a count of millions takes seconds.
        """
        declared = super().queue_declare(queue, passive=False, **kwargs)
        if passive:
            return declared._replace(message_count=self._count(declared.queue))
        return declared

    def _new_queue(
        self,
        queue: str,
        exclusive: bool = False,  # noqa: FBT001, FBT002 - kombu's signature
        auto_delete: bool = False,  # noqa: FBT001, FBT002
        arguments: dict[str, Any] | None = None,
        **_: Any,  # noqa: ANN401 - kombu's
    ) -> None:
        arguments = arguments or {}
        if "x-message-ttl" in arguments:
            self._lifetimes[queue] = arguments["x-message-ttl"] / 1000
        expires = arguments.get("x-expires")
        if exclusive or auto_delete or expires:
            self.connection.ephemeral.declare(
                queue,
                owner=self.connection.consumer.identity if exclusive or auto_delete else None,
                expires=None if expires is None else expires / 1000,
            )

    def _count(self, queue: str) -> int:
        ephemeral = self.connection.ephemeral
        count: int = (
            ephemeral.count(queue)
            if ephemeral.exists(queue)
            else self.connection.jobs.count_ready(queue)
        )
        return count

    def _purge(self, queue: str) -> int:
        purged: int = self.connection.jobs.purge(queue) + self.connection.ephemeral.purge(queue)
        return purged

    def queue_delete(
        self,
        queue: str,
        if_unused: bool = False,  # noqa: ARG002, FBT001, FBT002 - kombu's signature
        if_empty: bool = False,  # noqa: FBT001, FBT002
        **_: Any,  # noqa: ANN401
    ) -> None:
        """Delete the queue with its jobs and bindings, whichever process made them."""
        if if_empty and self._count(queue):
            return
        self.connection.ephemeral.delete(queue)
        self.connection.jobs.purge(queue)
        self.state.queue_bindings_delete(queue)

    # -- bind -------------------------------------------------------------------------------------

    def queue_bind(
        self,
        queue: str,
        exchange: str | None = None,
        routing_key: str = "",
        arguments: dict[str, Any] | None = None,
        **_: Any,  # noqa: ANN401 - kombu's
    ) -> None:
        """Bind the queue to the exchange, for all processes."""
        exchange = exchange or "amq.direct"
        if not self.state.has_binding(queue, exchange, routing_key):
            self.connection.ephemeral.bind(exchange, routing_key or "", queue)
            self.state.binding_declare(queue, exchange, routing_key, arguments)

    def queue_unbind(
        self,
        queue: str,
        exchange: str | None = None,
        routing_key: str = "",
        arguments: dict[str, Any] | None = None,  # noqa: ARG002 - kombu's
        **_: Any,  # noqa: ANN401
    ) -> None:
        """Take the binding back, for all processes."""
        exchange = exchange or "amq.direct"
        self.connection.ephemeral.unbind(exchange, routing_key or "", queue)
        self.state.binding_delete(queue, exchange, routing_key)

    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - kombu's
        """Delete the exchange and its bindings; the queues stay."""
        self.connection.ephemeral.unbind_exchange(exchange)
        self.state.exchanges.pop(exchange, None)

    def list_bindings(self) -> list[tuple[str, str, str]]:
        """All bindings, of all processes, as queue, exchange and routing key."""
        return [(queue, name, key) for name, key, queue in self.connection.ephemeral.all_bindings()]

    # -- publish ----------------------------------------------------------------------------------

    def basic_publish(
        self,
        message: rows.Payload,
        exchange: str,
        routing_key: str,
        **_: Any,  # noqa: ANN401 - kombu's
    ) -> None:
        """Store the message in each queue that it is routed to; return when it is committed."""
        self._inplace_augment_message(message, exchange, routing_key)
        if not exchange:
            self._put(routing_key, message)
            return
        bindings = self.connection.bindings(exchange)
        if not bindings:
            return
        kind = self.typeof(exchange)
        table = [kind.prepare_bind(one.queue, exchange, one.routing_key, None) for one in bindings]
        matched = kind.lookup(table, exchange, routing_key, None)
        ephemeral = {one.queue for one in bindings if one.is_ephemeral and one.queue in matched}
        if ephemeral:
            lifetime = self._lifetime(message, routing_key)
            self.connection.ephemeral.put(sorted(ephemeral), rows.write(message), lifetime=lifetime)
        for queue in sorted(set(matched) - ephemeral):
            self._put(queue, message)

    def _put(self, queue: str, message: rows.Payload, **_: Any) -> None:  # noqa: ANN401 - kombu's
        text, lifetime = rows.write(message), self._lifetime(message, queue)
        if self.connection.is_ephemeral(queue):
            self.connection.ephemeral.put([queue], text, lifetime=lifetime)
            return
        self.connection.jobs.put(
            queue,
            text,
            priority=self._get_message_priority(message),
            delay=_delay(message),
            lifetime=lifetime,
        )

    def _lifetime(self, message: rows.Payload, queue: str) -> float | None:
        """Seconds after which the message is not worth delivering."""
        expiration = message["properties"].get("expiration")
        own = None if expiration is None else int(expiration) / 1000
        limits = [limit for limit in (own, self._lifetimes.get(queue)) if limit is not None]
        return min(limits, default=None)

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
        if self.connection.is_ephemeral(queue):
            self._ephemeral_queues.add(queue)
        else:
            self._consume_jobs()
        self.connection.arm_bell()

    def basic_cancel(self, consumer_tag: str) -> None:
        """Stop to consume; claimed jobs that were not delivered yet go back to the queue."""
        queue = self._tag_to_queue.get(consumer_tag)
        super().basic_cancel(consumer_tag)
        if queue is None or queue in self._active_queues:
            return
        self._no_ack_queues.discard(queue)
        self._ephemeral_queues.discard(queue)
        if self._stream is not None:
            self._consume_jobs()
            self._stream.withdraw(queue)

    def _consume_jobs(self) -> None:
        if self._stream is None:
            self._stream = self.connection.open_stream()
            self._stream.set_window(self.qos.window)
            self._stream.start()
        self._stream.consume([q for q in self._active_queues if q not in self._ephemeral_queues])

    def set_window(self, window: int) -> None:
        """Have at most so many claimed jobs out."""
        if self._stream is not None:
            self._stream.set_window(window)

    def basic_get(
        self,
        queue: str,
        no_ack: bool = False,  # noqa: FBT001, FBT002 - kombu's signature
        **_: Any,  # noqa: ANN401 - kombu's
    ) -> virtual.Message | None:
        """Take one message now; None when there is none."""
        if self.connection.is_ephemeral(queue):
            texts = self.connection.ephemeral.take(queue, 1)
            payload: rows.Payload | None = rows.read_ephemeral(texts[0], queue) if texts else None
        else:
            claimed = self.connection.jobs.claim(queue, 1, self.connection.consumer.identity)
            payload = self._read(claimed[0]) if claimed else None
        if payload is None:
            return None
        message = self.Message(payload, channel=self)
        self.qos.append(message, message.delivery_tag)
        if no_ack:
            self.basic_ack(message.delivery_tag)
        return message

    # -- deliver ----------------------------------------------------------------------------------

    @property
    def stream(self) -> Stream | None:
        """The claimed jobs of this channel, None while it consumes none."""
        return self._stream

    @property
    def ephemeral_queues(self) -> set[str]:
        """The ephemeral queues that this channel consumes from."""
        return self._ephemeral_queues

    def receive_ephemeral(self, queue: str, texts: list[str]) -> None:
        """Take messages of an ephemeral queue to deliver."""
        self._ephemeral.extend((queue, rows.read_ephemeral(text, queue)) for text in texts)

    def deliver_next(self) -> bool:
        """Deliver one message to its consumer; False when there is none just now.

        Raises:
            MySQLLockError: No more jobs can come, for this reason.
        """
        if self._ephemeral:
            queue, payload = self._ephemeral.popleft()
            self.connection._deliver(payload, queue)  # noqa: SLF001 - the virtual transport's way
            return True
        job = self._stream.take() if self._stream is not None else None
        if job is None:
            return False
        if (claimed := self._read(job)) is not None:
            self.connection._deliver(claimed, job.queue)  # noqa: SLF001
            if job.queue in self._no_ack_queues:
                self._settle_ack(job.id)
        return True

    def _read(self, job: ClaimedJob) -> rows.Payload | None:
        """The payload of a claimed job; None when it cannot run and is dead now."""
        try:
            return rows.read(job, self.connection.source, self.connection.settings.text_task)
        except InvalidJob as error:
            # the reason says it all; a traceback of ours would tell the user nothing
            logger.error(  # noqa: TRY400
                "Job %d in %s cannot run and is kept as dead: %s",
                job.id,
                self.connection.jobs.name,
                error,
            )
            self._settle_bury(job.id, str(error))
            return None

    # -- settle -----------------------------------------------------------------------------------

    def basic_ack(self, delivery_tag: int | str, multiple: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - kombu's
        """The job is done; its row goes with the next transaction, which begins at once.

        Raises:
            ConnectionLost: The connection is gone; the job runs again.
        """
        self._check_open()
        self.qos.ack(delivery_tag)
        if isinstance(delivery_tag, int):
            self._settle_ack(delivery_tag)

    def basic_reject(self, delivery_tag: int | str, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's
        """Give the job back to its queue, or keep it as dead; errors as in ``basic_ack``."""
        self._check_open()
        message = self.qos.ack(delivery_tag)
        if not isinstance(delivery_tag, int):
            if requeue and message is not None:
                self._put(message.delivery_info["queue"], message.serializable())
        elif requeue:
            self._settle_release(delivery_tag)
        else:
            self._settle_bury(delivery_tag, "Rejected by the consumer, without requeue.")

    def basic_recover(self, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's
        """Give all unacknowledged jobs back to their queues.

        Raises:
            ValueError: Asked to redeliver to this very consumer, which RabbitMQ refuses too.
        """
        if not requeue:
            raise ValueError("basic_recover takes requeue=True only.")
        self._give_back()

    def explain_rejection(self, delivery_tag: int | str, reason: str) -> None:
        """Say why a job that was rejected without requeue is dead."""
        if not isinstance(delivery_tag, int):
            return
        if self._stream is not None:
            self._stream.explain(delivery_tag, reason)
        else:
            self._settle_bury(delivery_tag, reason)

    def _check_open(self) -> None:
        if self.connection is None:
            raise ConnectionLost("The channel is closed; what it had claimed went back.")

    def _settle_ack(self, job_id: int) -> None:
        if self._stream is not None:
            self._stream.ack(job_id)
        else:
            self.connection.jobs.ack([job_id], self.connection.consumer.identity)

    def _settle_release(self, job_id: int) -> None:
        if self._stream is not None:
            self._stream.release(job_id)
        else:
            self.connection.jobs.release([job_id], self.connection.consumer.identity)

    def _settle_bury(self, job_id: int, reason: str) -> None:
        if self._stream is not None:
            self._stream.bury(job_id, reason)
        else:
            self.connection.jobs.bury(job_id, self.connection.consumer.identity, reason)

    def _give_back(self) -> None:
        for message in self.qos.take_all():
            if isinstance(message.delivery_tag, int):
                self._settle_release(message.delivery_tag)

    def close(self) -> None:
        """Give back what was claimed and not settled, and close."""
        if self.closed:
            return
        try:
            # when the session is lost, the sweeper gives it back
            if self.connection.verify_connection(self.connection):
                self._give_back()
        finally:
            if self._stream is not None:
                self._stream.close()
            super().close()


def _delay(message: rows.Payload) -> float | None:
    """Seconds until the task is due, None for now. A time without a zone is UTC, as in Celery."""
    eta = message["headers"].get("eta")
    if not eta:
        return None
    try:
        due = datetime.fromisoformat(str(eta).replace("Z", "+00:00"))
    except ValueError:
        # The worker says what is wrong with it.
        return None
    if due.tzinfo is None:
        due = due.replace(tzinfo=timezone.utc)
    delay = due.timestamp() - time.time()
    return delay if delay > 0 else None

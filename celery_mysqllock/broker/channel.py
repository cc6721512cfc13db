"""A kombu channel on the job table: publishes into it, consumes from it, settles what it got."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.log import get_logger

from celery_mysqllock.broker import message as rows
from celery_mysqllock.broker.delivery import Delivery
from celery_mysqllock.broker.envelope import shown
from celery_mysqllock.broker.prefetch import Prefetch
from celery_mysqllock.broker.row import row_id
from celery_mysqllock.broker.settling import Settling
from celery_mysqllock.broker.transaction import transaction_for
from celery_mysqllock.exceptions import ConnectionLost, InvalidJob, JobExists
from celery_mysqllock.jobs import Placement
from celery_mysqllock.jobs.reason import fitting

if TYPE_CHECKING:
    from collections.abc import Callable

    from kombu.transport import virtual

    from celery_mysqllock.broker.transport import Transport
    from celery_mysqllock.broker.worker import Worker
    from celery_mysqllock.jobs import ClaimedJob

logger = get_logger(__name__)

# Most jobs that are claimed for a consumer that acknowledges nothing.
_AT_ONCE = 100


# Seconds for which a task that the worker does not know is left to others: as long as that has been
# so already, within these.
_LEAST_PAUSE, _LONGEST_PAUSE = 5.0, 30.0
# How many jobs in a row that are not for the consumer are looked at before others have their turn.
_PASSED_OVER = 100


class Channel(Settling):
    """One channel of a connection to the job table. A delivery tag is the id of a row."""

    QoS = Prefetch
    Message = Delivery
    # The row holds readable text; see message.write.
    body_encoding = None

    def __init__(self, connection: Transport, **kwargs: Any) -> None:  # noqa: ANN401 - kombu's
        super().__init__(connection, **kwargs)
        self._no_ack_queues: set[str] = set()
        self._ephemeral_queues: set[str] = set()
        self._ephemeral: deque[tuple[str, rows.Payload]] = deque()
        # the bell's thread receives, and the consuming one may leave the queue
        self._receiving = threading.Lock()
        self._table = connection.settings.table
        self._unknown: set[str] = set()

    # -- publish ----------------------------------------------------------------------------------

    def basic_publish(
        self,
        message: rows.Payload,
        exchange: str,
        routing_key: str,
        **_: Any,  # noqa: ANN401 - kombu's
    ) -> None:
        """Store the message in each queue that it is routed to; return when it is committed.

        A message with a property ``order_key`` is delivered when no more than ``order_limit`` jobs
        of the key, less one, are ahead of it.

        Inside of ``celery_mysqllock.transaction`` a job becomes a part of that transaction.

        Raises:
            InvalidJob: No worker could run it; nothing was stored.
            SettingsError: A key is longer than its column, or its limit is none.
            UnroutableMessage: It is a task, and no queue takes it.
            JobExists: The message has a property ``unique_key``, and a job has the same; nothing
                was stored.
            TransactionError: It cannot be a part of the transaction; nothing was stored.
        """
        self._inplace_augment_message(message, exchange, routing_key)
        if "priority" in message["properties"]:
            message["properties"]["priority"] = self._get_message_priority(message)
        rows.check_sendable(message)
        ephemeral, durable = self._route(message, exchange, routing_key)
        jobs = self.transport.jobs
        if (transaction := transaction_for(message, durable)) is not None:
            jobs = transaction.jobs(self.transport.sessions)
        if ephemeral:
            self.transport.ephemeral.put(
                ephemeral,
                rows.write(message),
                priority=self._get_message_priority(message),
                lifetime=rows.lifetime(message, None),
            )
        if not durable:
            return
        lifetimes = {
            queue: rows.lifetime(message, self._message_ttls.get(queue)) for queue in durable
        }
        try:
            jobs.put_each(
                lifetimes,
                rows.write(message),
                priority=self._get_message_priority(message),
                delay=rows.delay(message),
                task_id=rows.task_id(message),
                unique=rows.unique(message),
                order=rows.order(message),
            )
        except JobExists as error:
            if error.task_id is None and error.created_at is not None:
                error.task_id = row_id(error.job_id, error.created_at, self.transport.source)
            raise

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
        is_ephemeral = self.transport.routes.is_ephemeral(queue)
        if no_ack:
            self._no_ack_queues.add(queue)
        super().basic_consume(queue, no_ack, callback, consumer_tag, **kwargs)
        if is_ephemeral:
            self._ephemeral_queues.add(queue)
            if not self.transport.ephemeral.use(queue, self.transport.consumer.identity):
                raise ConnectionLost(f"The queue {queue!r} was deleted while it was declared.")
        if self._stream is not None or not (is_ephemeral and no_ack):
            self._consume_jobs()
        self.transport.arm_bell()

    def basic_cancel(self, consumer_tag: str) -> None:
        """Stop to consume; claimed jobs that were not delivered yet go back to the queue."""
        queue = self._tag_to_queue.get(consumer_tag)
        super().basic_cancel(consumer_tag)
        if queue is None or queue in self._active_queues:
            return
        self._no_ack_queues.discard(queue)
        if self._stream is not None:
            self._consume_jobs()
            self._stream.withdraw(queue)
        if queue in self._ephemeral_queues:
            self._leave(queue)
        self.transport.arm_bell()

    def _leave(self, queue: str) -> None:
        """Use an ephemeral queue no more; what was not delivered yet goes back into it."""
        with self._receiving:
            self._ephemeral_queues.discard(queue)
            left = [payload for name, payload in self._ephemeral if name == queue]
            self._ephemeral = deque(one for one in self._ephemeral if one[0] != queue)
        for payload in left:
            if (tag := _job_id(payload)) is None:
                self._put_back(queue, payload)
            else:
                self._settle_release(tag)
        self.transport.ephemeral.leave(queue, self.transport.consumer.identity)

    def _consume_jobs(self) -> None:
        if self._stream is None:
            self._stream = self.transport.open_stream()
            if self._worker is not None:
                self._stream.run_in(self._worker.slots)
            self.set_window(self.qos.window)
        # before it claims, so that a prefetch count which is set next comes in time
        self.transport.show_queues(self, self._active_queues)
        self._stream.consume(list(self._active_queues))

    def serve(self, worker: Worker) -> None:
        """Deliver to that Celery worker, which says by ``note_beginning`` what it runs."""
        self._worker = worker
        if self._stream is not None:
            self._stream.run_in(worker.slots)

    def set_window(self, window: int) -> None:
        """Have at most so many claimed jobs out."""
        if self._stream is not None:
            self._stream.set_window(window, ahead=not self.qos.is_bound)

    def basic_get(
        self,
        queue: str,
        no_ack: bool = False,  # noqa: FBT001, FBT002 - kombu's signature
        **_: Any,  # noqa: ANN401 - kombu's
    ) -> virtual.Message | None:
        """Take one message now; None when there is none."""
        texts: list[str] = []
        payload = None
        if self.transport.routes.is_ephemeral(queue):
            texts = self.transport.ephemeral.take(queue, 1)
            payload = self._read_ephemeral(queue, texts[0]) if texts else None
        if not texts:
            claimed = self.transport.jobs.claim(queue, 1, self.transport.consumer.identity)
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
    def ephemeral_queues(self) -> set[str]:
        """The ephemeral queues that this channel consumes from."""
        return self._ephemeral_queues

    def receive_ephemeral(self, queue: str, texts: list[str]) -> bool:
        """Take messages of an ephemeral queue to deliver; False when it is consumed no more."""
        payloads = [self._read_ephemeral(queue, text) for text in texts]
        with self._receiving:
            if queue not in self._ephemeral_queues:
                return False
            self._ephemeral.extend((queue, one) for one in payloads if one is not None)
        return True

    def receive_jobs(self, queue: str) -> int:
        """Claim jobs of a queue whose consumer acknowledges nothing, to deliver; returns how many.

        It is one of control traffic, and has no stream.
        """
        claimed = self.transport.jobs.claim(queue, _AT_ONCE, self.transport.consumer.identity)
        for job in claimed:
            if (payload := self._read(job)) is not None:
                self._ephemeral.append((queue, payload))
        return len(claimed)

    def _read_ephemeral(self, queue: str, text: str) -> rows.Payload | None:
        """The payload of an ephemeral message; None, and the message is gone, when it is none."""
        try:
            return rows.read_ephemeral(text, queue)
        except Exception as error:  # noqa: BLE001 - whatever somebody has put there
            self._drop(queue, error)
            return None

    def _drop(self, queue: str, error: Exception) -> None:
        logger.warning(
            "A message in the ephemeral queue %s beside %s cannot be read and is dropped: %.1000s",
            shown(queue),
            self._table,
            fitting(str(error)),
        )

    def deliver_next(self) -> bool:
        """Deliver one message to its consumer; False when there is none just now.

        Raises:
            MySQLLockError: No more jobs can come, for this reason.
        """
        if self.closed:
            # by what was delivered just before
            return False
        if self._ephemeral:
            queue, payload = self._ephemeral.popleft()
            try:
                self.transport._deliver(payload, queue)  # noqa: SLF001 - the virtual transport's way
            except (DecodeError, ContentDisallowed) as error:
                # of a consumer that is not prepared for them: who waits for replies
                self._drop(queue, error)
            if (tag := _job_id(payload)) is not None:
                self._settle_ack(tag)
            return True
        for _ in range(_PASSED_OVER):
            job = self._stream.take() if self._stream is not None else None
            if job is None:
                return False
            if (claimed := self._readable(job)) is not None:
                self._deliver(job, claimed)
                break
        return True

    def _deliver(self, job: ClaimedJob, payload: rows.Payload) -> None:
        if self._worker is None:
            # nobody will say when it begins
            self.note_beginning(job.id)
        self.transport._deliver(payload, job.queue)  # noqa: SLF001 - the virtual transport's way
        if job.queue in self._no_ack_queues:
            self._settle_ack(job.id)

    def _readable(self, job: ClaimedJob) -> rows.Payload | None:
        """The payload of a claimed job for the consumer; None when it is not for this one."""
        if not job.has_expired:
            payload = self._read(job)
            return payload if payload is not None and self._is_known(job, payload) else None
        payload = self._read_expired(job)
        if payload is None:
            self._settle_ack(job.id)
        return payload

    def _read_expired(self, job: ClaimedJob) -> rows.Payload | None:
        """The payload of a task that a Celery worker is to revoke: somebody may wait for it.

        None when nobody here can do so: then an expired job is dropped, as brokers do.
        """
        if self._worker is None:
            return None
        try:
            read = rows.read(job, self.transport.source, self.transport.settings.text_task)
        except Exception:  # noqa: BLE001 - whatever somebody has put there; nobody can run it
            return None
        if isinstance(read, Placement) or not rows.mark_as_expired(read):
            return None
        return read if self._worker.knows(read["headers"]["task"]) else None

    def _read(self, job: ClaimedJob) -> rows.Payload | None:
        """The payload of a claimed job; None when it cannot run, or belongs elsewhere."""
        try:
            read = rows.read(job, self.transport.source, self.transport.settings.text_task)
        except InvalidJob as error:
            self._bury_unread(job, str(error))
            return None
        except Exception as error:  # noqa: BLE001 - whatever somebody has put there
            self._bury_unread(job, f"The message cannot be read: {type(error).__name__}: {error}")
            return None
        if isinstance(read, Placement):
            self._place(job, read)
            return None
        return read

    def _bury_unread(self, job: ClaimedJob, reason: str) -> None:
        # the reason says it all; a traceback of ours would tell the user nothing
        logger.error(
            "Job %d in %s cannot run and is kept as dead: %.1000s",
            job.id,
            self.transport.jobs.name,
            fitting(reason),
        )
        self._settle_bury(job.id, reason)

    def _is_known(self, job: ClaimedJob, payload: rows.Payload) -> bool:
        """Whether to deliver; otherwise the job was left to workers that know its task.

        While a fleet is replaced, one of an older release may get a newer one's task. Celery
        rejects it, and it is dead. What nobody has known for ``unknown_task_grace`` is delivered.
        """
        task = rows.task_name(payload)
        if self._worker is None or not isinstance(task, str) or self._worker.knows(task):
            return True
        deferred_for = job.deferred_for or 0
        grace = self.transport.settings.unknown_task_seconds
        if deferred_for >= grace:
            return True
        if task not in self._unknown:
            self._unknown.add(task)
            logger.warning(
                "This worker knows no task %r. Its jobs are left to other workers, and are dead "
                "when none has known it for %g s (unknown_task_grace).",
                task,
                grace,
            )
        pause = min(max(_LEAST_PAUSE, deferred_for), _LONGEST_PAUSE, grace - deferred_for)
        self._settle_aside(job.id, pause, is_unknown=True)
        return False

    def _place(self, job: ClaimedJob, placement: Placement) -> None:
        """Give a claimed job to the queue or the time that its row names."""
        self.transport.routes.declare_durable(placement.queue)
        self.transport.jobs.place(job.id, self.transport.consumer.identity, placement)
        if self._stream is not None:
            self._stream.forget(job.id)

    def close(self) -> None:
        """Give back what was claimed and is not running, and close."""
        if self.closed:
            return
        is_connected = self.transport.is_intact
        try:
            if self._stream is not None:
                self._stream.close(self._give_back())
            elif is_connected:
                self._give_back()
            for queue in list(self._ephemeral_queues):
                if is_connected:
                    self._leave(queue)
        finally:
            super().close()


def _job_id(payload: rows.Payload) -> int | None:
    """The row's id, None for a message that is beside the jobs."""
    tag = payload["properties"]["delivery_tag"]
    return tag if isinstance(tag, int) else None

"""A kombu channel on the job table: publishes into it, consumes from it, settles what it got."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from kombu.exceptions import ContentDisallowed, DecodeError
from kombu.log import get_logger

from celery_mysqllock.broker import message as rows
from celery_mysqllock.broker.delivery import Delivery
from celery_mysqllock.broker.dispatcher import EphemeralMessage, Inbox
from celery_mysqllock.broker.envelope import LONGEST, shown
from celery_mysqllock.broker.prefetch import Prefetch
from celery_mysqllock.broker.row import row_id
from celery_mysqllock.broker.settler import TableSettler
from celery_mysqllock.broker.topology import Topology
from celery_mysqllock.broker.transaction import transaction_for
from celery_mysqllock.exceptions import ConnectionLost, InvalidJob, JobExists
from celery_mysqllock.jobs import Destination, NewJob
from celery_mysqllock.jobs.reason import fitting

if TYPE_CHECKING:
    from collections.abc import Callable

    from kombu.transport import virtual

    from celery_mysqllock.broker.dispatcher import Dispatcher, Item
    from celery_mysqllock.broker.topology import JobConnection
    from celery_mysqllock.broker.worker import Worker
    from celery_mysqllock.jobs import ClaimedJob, Fetcher

logger = get_logger(__name__)

# Least and most seconds for which a task that the worker does not know is left to others: as long
# as it has been left to them already.
_LEAST_PAUSE, _LONGEST_PAUSE = 5.0, 30.0
# How many jobs in a row that are not for the consumer are passed over before other channels are
# served.
_PASSED_OVER = 100


class Channel(Topology):
    """One channel of a connection to the job table. A delivery tag is the id of a row.

    Attributes:
        inbox: What came for its consumers and is not delivered.
    """

    QoS = Prefetch
    Message = Delivery
    # The row holds readable text; see message.write.
    body_encoding = None
    qos: Prefetch

    def __init__(self, connection: JobConnection, **kwargs: Any) -> None:  # noqa: ANN401 - kombu's
        super().__init__(connection, **kwargs)
        self.inbox = Inbox()
        self._no_ack_queues: set[str] = set()
        self._worker: Worker | None = None
        self._unknown: set[str] = set()
        connection.dispatcher.add(self.inbox)

    @property
    def _dispatcher(self) -> Dispatcher:
        return self.transport.dispatcher

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
        sessions = self.sessions
        publisher = sessions.publisher
        if (transaction := transaction_for(message, durable)) is not None:
            publisher = transaction.publisher(sessions)
        if ephemeral:
            sessions.broadcaster.put(
                ephemeral,
                rows.write(message),
                priority=self._get_message_priority(message),
                lifetime=rows.lifetime(message, None),
            )
        if not durable:
            return
        first = NewJob(
            durable[0],
            rows.write(message),
            priority=self._get_message_priority(message),
            delay=rows.delay(message),
            lifetime=rows.lifetime(message, self._message_ttls.get(durable[0])),
            task_id=rows.task_id(message),
            unique=rows.unique(message),
            order=rows.order(message),
        )
        # one job of them has the unique key
        others = [
            replace(
                first,
                queue=queue,
                lifetime=rows.lifetime(message, self._message_ttls.get(queue)),
                unique=None,
            )
            for queue in durable[1:]
        ]
        try:
            publisher.put_each([first, *others])
        except JobExists as error:
            if error.task_id is None and error.created_at is not None:
                error.task_id = row_id(error.job_id, error.created_at, sessions.source)
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
        is_ephemeral = self.sessions.routes.is_ephemeral(queue)
        if no_ack:
            self._no_ack_queues.add(queue)
        super().basic_consume(queue, no_ack, callback, consumer_tag, **kwargs)
        if is_ephemeral:
            self.inbox.join(queue)
            if not self.sessions.ephemeral.use(queue, self._dispatcher.identity):
                raise ConnectionLost(f"The queue {queue!r} was deleted while it was declared.")
        if self.inbox.fetcher is not None or not (is_ephemeral and no_ack):
            self._consume_jobs()
        self._dispatcher.arm()

    def _consume_jobs(self) -> None:
        fetcher = self.inbox.fetcher
        if fetcher is None:
            fetcher = self.inbox.fetcher = self._dispatcher.open_fetcher()
            if self._worker is not None:
                fetcher.run_in(self._worker.slots)
            self.set_window(self.qos.window)
        # before it claims, so that a prefetch count which is set next comes in time
        self._dispatcher.show_queues(self.inbox, self._active_queues)
        fetcher.consume(list(self._active_queues))

    def basic_cancel(self, consumer_tag: str) -> None:
        """Stop to consume; claimed jobs that are not delivered go back to the queue."""
        queue = self._tag_to_queue.get(consumer_tag)
        super().basic_cancel(consumer_tag)
        if queue is None or queue in self._active_queues:
            return
        self._no_ack_queues.discard(queue)
        if self.inbox.fetcher is not None:
            self._consume_jobs()
            self.inbox.fetcher.withdraw(queue)
        if queue in self.inbox.ephemeral_queues:
            self._leave(queue)
        self._dispatcher.arm()

    def _leave(self, queue: str) -> None:
        """Use an ephemeral queue no more; what is not delivered goes back into it."""
        left = self.inbox.leave(queue)
        if not self._dispatcher.is_intact:
            # the queue is left with its owner
            return
        for item in left:
            if not isinstance(item, EphemeralMessage):
                self._settler.release(item.id)
            elif (payload := self._read_ephemeral(item)) is not None:
                self._put_back(queue, payload)
        self.sessions.ephemeral.leave(queue, self._dispatcher.identity)

    def serve(self, worker: Worker) -> None:
        """Deliver to that Celery worker, which says by ``note_beginning`` what it runs."""
        self._worker = worker
        if self.inbox.fetcher is not None:
            self.inbox.fetcher.run_in(worker.slots)

    def set_window(self, window: int) -> None:
        """Have at most so many claimed jobs out."""
        if self.inbox.fetcher is not None:
            self.inbox.fetcher.set_window(window, ahead=not self.qos.is_bound)

    def basic_get(
        self,
        queue: str,
        no_ack: bool = False,  # noqa: FBT001, FBT002 - kombu's signature
        **_: Any,  # noqa: ANN401 - kombu's
    ) -> virtual.Message | None:
        """Take one message now; None when there is none."""
        sessions = self.sessions
        texts: list[str] = []
        payload = None
        if sessions.routes.is_ephemeral(queue):
            texts = sessions.ephemeral.take(queue, 1)
            payload = self._read_ephemeral(EphemeralMessage(queue, texts[0])) if texts else None
        if not texts:
            claimed = sessions.jobs.claims.claim(queue, 1, self._dispatcher.identity)
            payload = self._read(claimed[0]) if claimed else None
        if payload is None:
            return None
        message = self.Message(payload, channel=self)
        self.qos.append(message, message.delivery_tag)
        if no_ack:
            self.basic_ack(message.delivery_tag)
        return message

    # -- deliver ----------------------------------------------------------------------------------

    def deliver_next(self) -> bool:
        """Deliver one message to its consumer; False when there is none just now.

        Raises:
            MySQLLockError: No more jobs can come, for this reason.
        """
        if self.closed:
            # by what was delivered just before
            return False
        for _ in range(_PASSED_OVER):
            item = self.inbox.take()
            if item is None:
                return False
            if self._deliver(item):
                break
        return True

    def _deliver(self, item: Item) -> bool:
        """Deliver; False when it is not for the consumer, and is settled."""
        job: ClaimedJob | None = None
        if isinstance(item, EphemeralMessage):
            payload = self._read_ephemeral(item)
        else:
            job, payload = item, self._readable(item)
        if payload is None:
            return False
        if job is not None and self._worker is None:
            # no worker says when it begins
            self.note_beginning(job.id)
        try:
            self.transport._deliver(payload, item.queue)  # noqa: SLF001 - the virtual transport's way
        except (DecodeError, ContentDisallowed) as error:
            if job is not None and self.inbox.fetcher is not None:
                raise
            # a consumer of replies is not prepared for them
            self._drop(item.queue, error)
        if job is not None and job.queue in self._no_ack_queues:
            self._settler.ack(job.id)
        return True

    def _read_ephemeral(self, message: EphemeralMessage) -> rows.Payload | None:
        """The payload of an ephemeral message; None, and the message is gone, when it is none."""
        try:
            return rows.read_ephemeral(message.text, message.queue)
        except Exception as error:  # noqa: BLE001 - any program may have put it there
            self._drop(message.queue, error)
            return None

    def _drop(self, queue: str, error: Exception) -> None:
        logger.warning(
            "A message in the ephemeral queue %s beside %s cannot be read and is dropped: %.1000s",
            shown(queue),
            self.transport.settings.table,
            fitting(str(error)),
        )

    def _readable(self, job: ClaimedJob) -> rows.Payload | None:
        """The payload of a claimed job for the consumer; None when it is not for this one."""
        if not job.has_expired:
            payload = self._read(job)
            return payload if payload is not None and self._is_known(job, payload) else None
        payload = self._read_expired(job)
        if payload is None:
            self._settler.ack(job.id)
        return payload

    def _read_expired(self, job: ClaimedJob) -> rows.Payload | None:
        """The payload of an expired task that a worker is to revoke: a client may wait for it.

        None when this consumer cannot do so: then an expired job is dropped, as brokers do.
        """
        if self._worker is None:
            return None
        try:
            read = rows.read(job, self.sessions.source, self.transport.settings.text_task)
        except Exception:  # noqa: BLE001 - any program may have written it; nothing can run it
            return None
        if isinstance(read, Destination) or not rows.mark_as_expired(read):
            return None
        return read if self._worker.knows(read["headers"]["task"]) else None

    def _read(self, job: ClaimedJob) -> rows.Payload | None:
        """The payload of a claimed job; None when it cannot run, or belongs elsewhere."""
        try:
            read = rows.read(job, self.sessions.source, self.transport.settings.text_task)
        except InvalidJob as error:
            self._settler.bury(job.id, str(error))
            return None
        except Exception as error:  # noqa: BLE001 - any program may have written it
            what = f"The message cannot be read: {type(error).__name__}: {error}"
            self._settler.bury(job.id, what)
            return None
        if isinstance(read, Destination):
            self._reroute(job, read)
            return None
        return read

    def _is_known(self, job: ClaimedJob, payload: rows.Payload) -> bool:
        """Whether to deliver; otherwise the job was left to workers that know its task.

        During a rolling deploy, an old worker may get a task that only new ones know. Celery would
        reject it, and it would be dead. A task that no worker has known for ``unknown_task_grace``
        is delivered.
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
        self._settler.defer(job.id, pause, is_unknown=True)
        return False

    def _reroute(self, job: ClaimedJob, destination: Destination) -> None:
        """Give a claimed job to the queue or the time that its row names."""
        self.sessions.routes.declare_durable(destination.queue)
        self.sessions.jobs.claims.reroute(job.id, self._dispatcher.identity, destination)
        if self.inbox.fetcher is not None:
            self.inbox.fetcher.forget(job.id)

    # -- settle -----------------------------------------------------------------------------------

    @property
    def _settler(self) -> Fetcher | TableSettler:
        if self.inbox.fetcher is not None:
            return self.inbox.fetcher
        most = self.transport.settings.max_deliveries
        return TableSettler(self.sessions.jobs.claims, self._dispatcher.identity, most)

    def note_beginning(self, job_id: int) -> None:
        """The delivered job has begun to run. From any thread."""
        if self.inbox.fetcher is not None:
            self.inbox.fetcher.begin(job_id)

    def basic_ack(self, delivery_tag: int | str, multiple: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - kombu's
        """The job is done; its row goes with the next transaction, which begins at once.

        A task that outlives its connection is acknowledged as well. What the consumer could not
        decode, and acknowledges to be rid of it, is kept as dead.

        Raises:
            ConnectionLost: The connection is gone, and the job went back; it runs again.
        """
        message = self.qos.ack(delivery_tag)
        if not isinstance(delivery_tag, int):
            return
        if message is not None and message.flaw is not None:
            self._settler.bury(delivery_tag, message.flaw)
        else:
            self._settler.ack(delivery_tag)

    def basic_reject(self, delivery_tag: int | str, requeue: float = False) -> None:  # noqa: FBT002 - kombu's
        """Give the job back to its queue, or keep it as dead; errors as in ``basic_ack``.

        What goes back has run for nothing: each time it waits longer, and after ``max_deliveries``
        it is dead.

        Args:
            delivery_tag: The job's.
            requeue: Whether it goes back; or the seconds after which it does, as a float, which
                does not count. What is no number of seconds above 0 is as True.
        """
        message = self.qos.ack(delivery_tag)
        if not isinstance(delivery_tag, int):
            if requeue and message is not None:
                self._put_back(message.delivery_info["queue"], message.serializable())
        elif _is_pause(requeue):
            self._settler.defer(delivery_tag, requeue)
        elif requeue:
            self._requeue(delivery_tag, message)
        else:
            reason = _failure(message) or "Rejected by the consumer, without requeue."
            self._settler.bury(delivery_tag, reason)

    def _requeue(self, job_id: int, message: Delivery | None) -> None:
        before = 0 if message is None else message.delivery_info.get("delivery_count", 0)
        self._settler.requeue(
            job_id, lambda: _failure(message) or "Rejected by the consumer.", deliveries=before
        )

    def basic_recover(self, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's
        """Give all unacknowledged jobs back to their queues, as ``basic_reject`` does.

        Raises:
            ValueError: Asked to redeliver to this very consumer, which RabbitMQ refuses too.
        """
        if not requeue:
            raise ValueError("basic_recover takes requeue=True only.")
        for message in self.qos.take_all():
            if isinstance(message.delivery_tag, int):
                self._requeue(message.delivery_tag, message)

    def explain_rejection(self, delivery_tag: int | str, reason: str) -> None:
        """Say why a job that was rejected without requeue is dead."""
        if isinstance(delivery_tag, int):
            self._settler.explain(delivery_tag, reason)

    def _put_back(self, queue: str, payload: rows.Payload) -> None:
        """Give an ephemeral message back to its queue."""
        try:
            text, priority = rows.write(payload), self._get_message_priority(payload)
        except Exception as error:  # noqa: BLE001 - any program may have written it
            logger.warning("An ephemeral message is dropped, as it cannot go back: %s", error)
            return
        self.sessions.ephemeral.put([queue], text, priority=priority)

    # -- close ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Give back what was claimed and is not running, and close."""
        if self.closed:
            return
        dispatcher = self._dispatcher
        try:
            if self.inbox.fetcher is not None:
                self.inbox.fetcher.close(self._give_back())
            elif dispatcher.is_intact:
                self._give_back()
            for queue in self.inbox.ephemeral_queues:
                self._leave(queue)
        finally:
            dispatcher.remove(self.inbox)
            super().close()

    def _give_back(self) -> set[int]:
        """Give back what was delivered and not settled, and return what goes on running."""
        running = set() if self._worker is None else self._worker.running()
        for message in self.qos.take_all():
            tag = message.delivery_tag
            if isinstance(tag, int) and tag not in running:
                self._settler.release(tag)
        return running


def _failure(message: Delivery | None) -> str:
    """How its task has failed; nothing where it has not, as far as is known."""
    if message is None or message.failure is None:
        return ""
    try:
        return message.failure()
    except Exception as error:  # noqa: BLE001 - an error of the task's whose text is an error
        return f"The task has failed, and how cannot be told: {type(error).__name__}."


def _is_pause(requeue: object) -> bool:
    """Whether it says for how long a job is put aside, in seconds that the server can add."""
    return (
        isinstance(requeue, (int, float))
        and not isinstance(requeue, bool)
        and 0 < requeue <= LONGEST
    )

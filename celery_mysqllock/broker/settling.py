"""What becomes of delivered messages: acknowledged, rejected, given back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kombu.log import get_logger

from celery_mysqllock.broker import message as rows
from celery_mysqllock.broker.envelope import LONGEST
from celery_mysqllock.broker.topology import Topology
from celery_mysqllock.jobs.job import Aside, given_back, worn_out

if TYPE_CHECKING:
    from celery_mysqllock.broker.delivery import Delivery
    from celery_mysqllock.broker.prefetch import Prefetch
    from celery_mysqllock.broker.transport import Transport
    from celery_mysqllock.broker.worker import Worker
    from celery_mysqllock.jobs import JobTable, Stream


logger = get_logger(__name__)


class Settling(Topology):
    """The part of a channel that settles; a job that was claimed by a stream, in its thread."""

    qos: Prefetch

    def __init__(self, connection: Transport, **kwargs: Any) -> None:  # noqa: ANN401 - kombu's
        super().__init__(connection, **kwargs)
        self._stream: Stream | None = None
        self._worker: Worker | None = None

    @property
    def stream(self) -> Stream | None:
        """The claimed jobs of this channel, None while it consumes none."""
        return self._stream

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
            self._settle_bury(delivery_tag, message.flaw)
        else:
            self._settle_ack(delivery_tag)

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
            self._settle_aside(delivery_tag, requeue)
        elif requeue:
            self._settle_requeue(delivery_tag, message)
        else:
            reason = _failure(message) or "Rejected by the consumer, without requeue."
            self._settle_bury(delivery_tag, reason)

    def basic_recover(self, requeue: bool = False) -> None:  # noqa: FBT001, FBT002 - kombu's
        """Give all unacknowledged jobs back to their queues, as ``basic_reject`` does.

        Raises:
            ValueError: Asked to redeliver to this very consumer, which RabbitMQ refuses too.
        """
        if not requeue:
            raise ValueError("basic_recover takes requeue=True only.")
        for message in self.qos.take_all():
            if isinstance(message.delivery_tag, int):
                self._settle_requeue(message.delivery_tag, message)

    def explain_rejection(self, delivery_tag: int | str, reason: str) -> None:
        """Say why a job that was rejected without requeue is dead."""
        if not isinstance(delivery_tag, int):
            return
        if self._stream is not None:
            self._stream.explain(delivery_tag, reason)
        else:
            self._settle_bury(delivery_tag, reason)

    def _settle_ack(self, job_id: int) -> None:
        if self._stream is not None:
            self._stream.ack(job_id)
        else:
            self._jobs().ack([job_id], self.transport.consumer.identity)

    def _settle_release(self, job_id: int) -> None:
        if self._stream is not None:
            self._stream.release(job_id)
        else:
            self._jobs().put_aside(Aside(job_id, 0.0), self.transport.consumer.identity)

    def _settle_requeue(self, job_id: int, message: Delivery | None) -> None:
        def why() -> str:
            return _failure(message) or "Rejected by the consumer."

        if self._stream is not None:
            self._stream.requeue(job_id, why)
            return
        most = self.transport.settings.max_deliveries
        before = 0 if message is None else message.delivery_info.get("delivery_count", 0)
        aside = given_back(job_id, before + 1, most)
        if aside is None:
            self._settle_bury(job_id, worn_out(most, why()))
        else:
            self._jobs().put_aside(aside, self.transport.consumer.identity)

    def _settle_aside(self, job_id: int, seconds: float, *, is_unknown: bool = False) -> None:
        if self._stream is not None:
            self._stream.put_aside(job_id, seconds, is_unknown=is_unknown)
        else:
            aside = Aside(job_id, seconds, is_unknown=is_unknown)
            self._jobs().put_aside(aside, self.transport.consumer.identity)

    def _settle_bury(self, job_id: int, reason: str) -> None:
        if self._stream is not None:
            self._stream.bury(job_id, reason)
        else:
            self._jobs().bury(job_id, self.transport.consumer.identity, reason)

    def _jobs(self) -> JobTable:
        return self.transport.jobs

    def _give_back(self) -> set[int]:
        """Give back what was delivered and not settled, and return what goes on running."""
        running = set() if self._worker is None else self._worker.running()
        for message in self.qos.take_all():
            tag = message.delivery_tag
            if isinstance(tag, int) and tag not in running:
                self._settle_release(tag)
        return running

    def note_beginning(self, job_id: int) -> None:
        """The delivered job has begun to run. From any thread."""
        if self._stream is not None:
            self._stream.begin(job_id)

    def _put_back(self, queue: str, payload: rows.Payload) -> None:
        try:
            text, priority = rows.write(payload), self._get_message_priority(payload)
        except Exception as error:  # noqa: BLE001 - whatever somebody has put into it
            logger.warning("An ephemeral message is dropped, as it cannot go back: %s", error)
            return
        self.transport.ephemeral.put([queue], text, priority=priority)


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

"""A transport that keeps what a beat publishes until the transaction of its tick stores it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery_mysqllock.broker import Transport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery_mysqllock.jobs import NewJob

Call = tuple[tuple[Any, ...], dict[str, Any]]


class Outbox:
    """The messages of one tick.

    Attributes:
        jobs: The jobs that are to be stored.
        ephemeral: The messages for ephemeral queues (broadcasts), as arguments of
            ``EphemeralQueues.put``.
    """

    def __init__(self) -> None:
        self.jobs: list[NewJob] = []
        self.ephemeral: list[Call] = []

    def put_each(self, jobs: Sequence[NewJob]) -> None:
        """Keep the jobs of a message; as in ``JobSink``."""
        self.jobs += jobs

    def put(self, queues: list[str], message: str, **options: Any) -> None:  # noqa: ANN401 - as in MessageSink
        """Keep a message for ephemeral queues; as in ``MessageSink``."""
        self.ephemeral.append(((queues, message), options))

    def clear(self) -> None:
        """Forget what was kept."""
        self.jobs, self.ephemeral = [], []

    def taken(self) -> Outbox:
        """Move the messages to another outbox."""
        other = Outbox()
        other.jobs, other.ephemeral = self.jobs, self.ephemeral
        self.clear()
        return other


class OutboxTransport(Transport):
    """The ``mysql://`` transport, except that messages go into ``outbox``.

    Attributes:
        outbox: The messages published since it was cleared.
    """

    def __init__(self, client: Any, **kwargs: Any) -> None:  # noqa: ANN401 - kombu's
        super().__init__(client, **kwargs)
        self.outbox = Outbox()

    def establish_connection(self) -> OutboxTransport:
        """As in ``Transport``."""
        connection: OutboxTransport = super().establish_connection()
        self.sessions.publisher = self.sessions.broadcaster = self.outbox
        return connection

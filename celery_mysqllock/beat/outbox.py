"""A transport that keeps what a beat publishes until the transaction of its tick stores it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery_mysqllock.broker import Transport
from celery_mysqllock.jobs import EphemeralQueues

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery_mysqllock.broker.sessions import Sessions
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
        sessions = self.sessions
        sessions.publisher = _KeptJobs(self.outbox)
        sessions.ephemeral = _KeptMessages(self.outbox, sessions, self.settings.table)
        return connection


class _KeptJobs:
    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    def put_each(self, jobs: Sequence[NewJob]) -> None:
        """Keep the jobs; as in ``JobSink``."""
        self._outbox.jobs += jobs


class _KeptMessages(EphemeralQueues):
    def __init__(self, outbox: Outbox, sessions: Sessions, table: str) -> None:
        super().__init__(sessions.main, table, names=sessions.names)
        self._outbox = outbox

    def put(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - as in EphemeralQueues
        self._outbox.ephemeral.append((args, kwargs))

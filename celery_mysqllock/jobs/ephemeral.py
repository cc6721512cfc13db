"""Ephemeral queues and the bindings of exchanges: what control traffic needs, beside the jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from celery_mysqllock.jobs.bell import ring
from celery_mysqllock.jobs.table import check_queue_name
from celery_mysqllock.mysql import Statements
from celery_mysqllock.settings import check_identifier

if TYPE_CHECKING:
    from celery_mysqllock.mysql import Session

_BATCH = 100


class Binding(NamedTuple):
    """A queue that is bound to an exchange."""

    routing_key: str
    queue: str
    is_ephemeral: bool


class EphemeralQueues:
    """Queues for what is worth nothing when its reader is gone, and who is bound to what.

    Their messages lie in a table of their own, are taken without a claim, and go with the queue.

    Args:
        session: An open session.
        table: The job table's name, with which the names of these tables begin.
        namespace: The first part of the names of the bells.
    """

    def __init__(self, session: Session, table: str = "jobs", *, namespace: str) -> None:
        name = check_identifier("table", table)
        self._session = session
        self._namespace = namespace
        self._sql = Statements(__package__, "ephemeral.sql", jobs=name, **table_names(name))

    # -- queues -----------------------------------------------------------------------------------

    def declare(self, queue: str, *, owner: str | None, expires: float | None) -> None:
        """Make the queue, or make it the owner's.

        Args:
            queue: Its name.
            owner: The consumer with which it goes, None for none.
            expires: Seconds without use after which it goes, None for never.

        Raises:
            SettingsError: The name is too long.
        """
        check_queue_name(queue)
        values = {"queue": queue, "owner": owner, "expires": expires}
        self._session.execute(self._sql["declare"], values)

    def exists(self, queue: str) -> bool:
        """Whether there is an ephemeral queue of that name."""
        return bool(self._session.value(self._sql["exists"], {"queue": queue}))

    def delete(self, queue: str) -> None:
        """Delete the queue with its messages and bindings; nothing when it is gone."""
        for statement in ("unbind_queue", "drop", "purge"):
            self._session.execute(self._sql[statement], {"queue": queue})

    def owners(self) -> set[str]:
        """The consumers with which queues go."""
        return {row[0] for row in self._session.query(self._sql["owners"])}

    def delete_those_of(self, owner: str) -> None:
        """Delete the queues of a dead consumer."""
        for (queue,) in self._session.query(self._sql["queues_of"], {"owner": owner}):
            self.delete(queue)

    def delete_expired(self) -> None:
        """Delete the queues that have not been used for longer than they allow."""
        for (queue,) in self._session.query(self._sql["unused"]):
            self.delete(queue)

    def has_work(self) -> str:
        """SQL that is true when a queue of either kind, twice its parameter, has something."""
        return self._sql["has_work"]

    # -- messages ---------------------------------------------------------------------------------

    def put(self, queues: list[str], message: str, *, lifetime: float | None = None) -> None:
        """Give each of the queues the message, and ring.

        Args:
            queues: Names of ephemeral queues.
            message: The text.
            lifetime: Seconds after which it is worth nothing, None for never.
        """
        values = {"queues": queues, "message": message, "lifetime": lifetime}
        self._session.execute(self._sql["put"], values)
        for queue in queues:
            ring(self._session, self._namespace, queue)

    def take(self, queue: str, limit: int = _BATCH) -> list[str]:
        """Take the oldest messages out of the queue, which counts as using it."""
        with self._session.undivided():
            _, found = self._session.script(
                f"BEGIN; {self._sql['find']}", {"queue": queue, "limit": limit}
            )
            if not isinstance(found, list) or not found:
                self._session.execute("COMMIT")
                return []
            values = {"ids": [row[0] for row in found], "queues": [queue]}
            self._session.script(f"{self._sql['delete']}; {self._sql['touch']}; COMMIT", values)
        return [message for _, message, has_expired in found if not has_expired]

    def touch(self, queues: list[str]) -> None:
        """The queues are in use."""
        if queues:
            self._session.execute(self._sql["touch"], {"queues": queues})

    def count(self, queue: str) -> int:
        """How many messages wait in the queue."""
        return int(self._session.value(self._sql["count"], {"queue": queue}))

    def purge(self, queue: str) -> int:
        """Delete the messages of the queue; returns how many."""
        return self._session.execute(self._sql["purge"], {"queue": queue})

    # -- bindings ---------------------------------------------------------------------------------

    def bind(self, exchange: str, routing_key: str, queue: str) -> None:
        """Bind the queue, a durable one too, to the exchange, for all processes."""
        values = {"exchange": exchange, "routing_key": routing_key, "queue": queue}
        self._session.execute(self._sql["bind"], values)

    def unbind(self, exchange: str, routing_key: str, queue: str) -> None:
        """Take the binding back, whoever made it."""
        values = {"exchange": exchange, "routing_key": routing_key, "queue": queue}
        self._session.execute(self._sql["unbind"], values)

    def unbind_exchange(self, exchange: str) -> None:
        """Take all bindings of the exchange back."""
        self._session.execute(self._sql["unbind_exchange"], {"exchange": exchange})

    def bindings(self, exchange: str) -> list[Binding]:
        """What is bound to the exchange."""
        rows = self._session.query(self._sql["bindings"], {"exchange": exchange})
        return [Binding(key, queue, bool(ephemeral)) for key, queue, ephemeral in rows]

    def all_bindings(self) -> list[tuple[str, str, str]]:
        """All bindings, as exchange, routing key and queue."""
        return [(row[0], row[1], row[2]) for row in self._session.query(self._sql["all_bindings"])]


def table_names(jobs: str) -> dict[str, str]:
    """The names of the tables beside a job table, by what they are."""
    return {
        "bindings": f"{jobs}_bindings",
        "ephemeral_queues": f"{jobs}_ephemeral_queues",
        "ephemeral_messages": f"{jobs}_ephemeral_messages",
    }

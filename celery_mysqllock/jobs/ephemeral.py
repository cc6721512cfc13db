"""Ephemeral queues and their messages, and the bindings of exchanges to queues of both kinds."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from celery_mysqllock.exceptions import RowsLocked
from celery_mysqllock.jobs.job import HIGHEST_PRIORITY, LOWEST_PRIORITY, check_queue_name
from celery_mysqllock.jobs.lock_names import LockNames
from celery_mysqllock.jobs.retry import hasty, retried
from celery_mysqllock.jobs.ringer import Ringer, ringing
from celery_mysqllock.mysql import Statements
from celery_mysqllock.settings import check_identifier

if TYPE_CHECKING:
    from celery_mysqllock.mysql import Session

_BATCH = 100
# Seconds for which an auto-delete queue is kept when a consumer has left.
_SOON = 10
# Seconds without a consumer after which the jobs in a queue are dead.
_FOR_GOOD = 3600


class EphemeralQueue(NamedTuple):
    """What is known of an ephemeral queue.

    Attributes:
        message_ttl: Seconds that its messages are kept, None for ever.
    """

    message_ttl: float | None


class Binding(NamedTuple):
    """A queue that is bound to an exchange.

    Attributes:
        kind: The exchange's type, None if it was never declared.
        routing_key: The key with which it is bound.
        queue: The queue.
        ephemeral: The queue, when it is ephemeral.
    """

    kind: str | None
    routing_key: str
    queue: str
    ephemeral: EphemeralQueue | None


class MessageSink(Protocol):
    """What takes the messages for ephemeral queues: these, or one that puts them there later."""

    def put(
        self,
        queues: list[str],
        message: str,
        *,
        priority: int = LOWEST_PRIORITY,
        lifetime: float | None = None,
    ) -> None:
        """Put a message into each of the queues."""


class EphemeralQueues:
    """Queues that are deleted when they are not used, and what is bound to which exchange.

    Control traffic to them, which is worth nothing without its reader, is in a table of its own. It
    is taken without a claim, and deleted with the queue. Tasks in them are jobs in the job table: a
    queue that has jobs stays. After an hour without a consumer they are dead.

    Args:
        session: An open session.
        table: The job table's name, with which the names of these tables begin.
        names: The names of the table's locks; None asks the server for them.
    """

    def __init__(
        self, session: Session, table: str = "jobs", *, names: LockNames | None = None
    ) -> None:
        name = check_identifier("table", table)
        self._session = session
        self._names = LockNames.of(session, name) if names is None else names
        self._sql = Statements(__package__, "ephemeral.sql", jobs=name, **table_names(name))

    # -- queues -----------------------------------------------------------------------------------

    def declare(
        self,
        queue: str,
        *,
        owner: str | None = None,
        auto_delete: bool = False,
        expires: float | None = None,
        message_ttl: float | None = None,
    ) -> None:
        """Make the queue.

        Args:
            queue: Its name.
            owner: The consumer that uses it exclusively, None for none.
            auto_delete: Whether it is deleted when its last consumer leaves.
            expires: Seconds without use after which it goes, None for never.
            message_ttl: Seconds that its messages are kept, None for ever.

        Raises:
            SettingsError: The name is too long.
        """
        check_queue_name(queue)
        self._change(
            "declare",
            queue=queue,
            owner=owner,
            auto_delete=auto_delete,
            expires=expires,
            message_ttl=message_ttl,
        )

    def declare_durable(self, queue: str) -> None:
        """Note that there is a durable queue of that name.

        Raises:
            SettingsError: The name is too long.
        """
        check_queue_name(queue)
        self.bind("", queue, queue)

    def is_durable(self, queue: str) -> bool:
        """Whether a durable queue of that name was declared."""
        return bool(self._session.value(self._sql["is_durable"], {"queue": queue}))

    def use(self, queue: str, owner: str) -> bool:
        """The consumer uses the queue, which stays as long as it lives; False when it is gone."""
        return bool(self._change("use", queue=queue, owner=owner))

    def leave(self, queue: str, owner: str) -> bool:
        """The consumer uses the queue no more; False when it did not."""
        return bool(self._change("leave", queue=queue, owner=owner, soon=_SOON))

    def exists(self, queue: str) -> bool:
        """Whether there is an ephemeral queue of that name."""
        return self.find(queue) is not None

    def find(self, queue: str) -> EphemeralQueue | None:
        """The ephemeral queue of that name, None when there is none."""
        rows = self._session.query(self._sql["find_queue"], {"queue": queue})
        return EphemeralQueue(_seconds(rows[0][0])) if rows else None

    def delete(self, queue: str) -> None:
        """Delete the queue with its messages and bindings; nothing when it is gone."""
        for statement in ("unbind_queue", "drop", "purge"):
            self._change(statement, queue=queue)

    def leave_those_of(self, owner: str) -> None:
        """A consumer is dead: delete its auto-delete queues, and leave the others."""
        for queue, goes in self._session.query(self._sql["queues_of"], {"owner": owner}):
            # it may have come back meanwhile, under another identity
            if self.leave(queue, owner) and goes and not self._is_listened_to(queue):
                self._let_go(queue)

    def delete_expired(self) -> None:
        """Delete expired messages, and queues that were not used for too long."""
        retried(self._delete_expired_messages)
        unused = self._session.query(self._sql["unused"], {"for_good": _FOR_GOOD})
        for queue, is_left in unused:
            if self._is_listened_to(queue):
                self.touch([queue])
                continue
            if is_left:
                self._bury_left(queue)
            self._let_go(queue)

    def _let_go(self, queue: str) -> None:
        """Delete the queue; one that has jobs stays, for a consumer that comes back."""
        stays = bool(self._session.value(self._sql["has_jobs"], {"queue": queue}))
        if retried(lambda: self._drop_unused(queue, stays=stays)):
            self._change("purge", queue=queue)

    def _drop_unused(self, queue: str, *, stays: bool) -> bool:
        """Delete bindings, and the queue unless it stays; False when it is used again.

        In one transaction: a queue that has a binding and is not ephemeral counts as a durable one,
        so that a message for it becomes a job.
        """
        values = {"queue": queue}
        with self._session.exclusive():
            self._session.execute("BEGIN")
            goes = stays or bool(self._session.execute(self._sql["drop_unused"], values))
            if goes:
                self._session.execute(self._sql["unbind_queue"], values)
            self._session.execute("COMMIT")
        return goes

    def _bury_left(self, queue: str) -> None:
        reason = (
            f"The queue {queue!r} goes with its consumers (exclusive, auto-delete or expiring), "
            f"and had no consumer for {_FOR_GOOD // 60} minutes."
        )
        while retried(lambda: self._bury_some(queue, reason)):
            pass

    def _bury_some(self, queue: str, reason: str) -> int:
        with self._session.exclusive():
            script = f"BEGIN; {self._sql['find_left']}{self._skip}"
            _, found = self._session.script(script, {"queue": queue})
            if found:
                values = {"queue": queue, "ids": [row[0] for row in found], "reason": reason}
                self._session.execute(self._sql["bury_left"], values)
            self._session.execute("COMMIT")
        return len(found)

    def _delete_expired_messages(self) -> None:
        with self._session.exclusive():
            _, found = self._session.script(f"BEGIN; {self._sql['find_expired']}{self._skip}")
            if found:
                self._session.execute(self._sql["delete"], {"ids": [row[0] for row in found]})
            self._session.execute("COMMIT")

    @property
    def _skip(self) -> str:
        """Pass over rows that another session has locked, where the server can."""
        return " SKIP LOCKED" if self._session.server.has_skip_locked else ""

    def _is_listened_to(self, queue: str) -> bool:
        expression, bells = ringing(self._names, queue)
        return self._session.value(f"SELECT {expression}", bells) is not None

    # -- messages ---------------------------------------------------------------------------------

    def put(
        self,
        queues: list[str],
        message: str,
        *,
        priority: int = LOWEST_PRIORITY,
        lifetime: float | None = None,
    ) -> None:
        """Give each of the queues the message, and ring.

        Args:
            queues: Names of ephemeral queues.
            message: The text.
            priority: 0 to 9, the greater first.
            lifetime: Seconds after which it is worth nothing, None for never.
        """
        self._change(
            "put",
            queues=queues,
            message=message,
            claim_order=HIGHEST_PRIORITY - priority,
            lifetime=lifetime,
        )
        Ringer(self._session, self._names).ring_each(queues)

    def take(self, queue: str, limit: int = _BATCH) -> list[str]:
        """Take the first messages out of the queue, which counts as using it."""
        return retried(lambda: self._take(queue, limit))

    def _take(self, queue: str, limit: int) -> list[str]:
        with self._session.exclusive():
            _, found = self._session.script(
                f"BEGIN; {self._sql['find']}{self._skip}", {"queue": queue, "limit": limit}
            )
            if not isinstance(found, list) or not found:
                self._session.execute("COMMIT")
                return []
            values = {"ids": [row[0] for row in found]}
            self._session.script(f"{self._sql['delete']}; COMMIT", values)
        # the queue is in use, which its messages need not wait for
        with hasty(), contextlib.suppress(RowsLocked):
            self.touch([queue])
        return [message for _, message, has_expired in found if not has_expired]

    def touch(self, queues: list[str]) -> None:
        """The queues are in use."""
        if queues:
            self._change("touch", queues=queues)

    def count(self, queue: str) -> int:
        """How many messages wait in the queue."""
        return int(self._session.value(self._sql["count"], {"queue": queue}))

    def purge(self, queue: str) -> int:
        """Delete the messages of the queue; returns how many."""
        return self._change("purge", queue=queue)

    # -- bindings ---------------------------------------------------------------------------------

    def bind(self, exchange: str, routing_key: str, queue: str) -> None:
        """Bind the queue, a durable one too, to the exchange, for all processes."""
        self._change("bind", exchange=exchange, routing_key=routing_key, queue=queue)

    def unbind(self, exchange: str, routing_key: str, queue: str) -> None:
        """Remove the binding, whichever process made it."""
        self._change("unbind", exchange=exchange, routing_key=routing_key, queue=queue)

    def bindings(self, exchange: str) -> list[Binding]:
        """What is bound to the exchange."""
        rows = self._session.query(self._sql["bindings"], {"exchange": exchange})
        return [
            Binding(kind, key, queue, EphemeralQueue(_seconds(ttl)) if is_ephemeral else None)
            for kind, key, queue, is_ephemeral, ttl in rows
        ]

    # -- exchanges --------------------------------------------------------------------------------

    def declare_exchange(self, exchange: str, kind: str) -> str:
        """Note for all processes of which type the exchange is; the type that it has.

        One to which nothing is bound takes the new type, another one keeps its own.
        """
        known = self.exchange_type(exchange)
        if known != kind:
            change = "declare_exchange" if known is None else "change_exchange"
            self._change(change, exchange=exchange, kind=kind)
            known = self.exchange_type(exchange)
        return known or kind

    def exchange_type(self, exchange: str) -> str | None:
        """The exchange's type, None if it was never declared."""
        kind: str | None = self._session.value(self._sql["exchange_type"], {"exchange": exchange})
        return kind

    def delete_exchange(self, exchange: str) -> None:
        """Take all bindings of the exchange back, and forget it."""
        for statement in ("unbind_exchange", "delete_exchange"):
            self._change(statement, exchange=exchange)

    def all_bindings(self) -> list[tuple[str, str, str]]:
        """All bindings, as exchange, routing key and queue."""
        return [(row[0], row[1], row[2]) for row in self._session.query(self._sql["all_bindings"])]

    def _change(self, statement: str, **values: Any) -> int:  # noqa: ANN401 - SQL values
        return retried(lambda: self._session.execute(self._sql[statement], values))


def _seconds(value: Any) -> float | None:  # noqa: ANN401 - a Decimal of the driver
    return None if value is None else float(value)


def table_names(jobs: str) -> dict[str, str]:
    """The names of the tables and views beside a job table, by what they are."""
    return {
        "bindings": f"{jobs}_bindings",
        "exchanges": f"{jobs}_exchanges",
        "ephemeral_queues": f"{jobs}_ephemeral_queues",
        "ephemeral_messages": f"{jobs}_ephemeral_messages",
        "queues": f"{jobs}_queues",
        "consumers": f"{jobs}_consumers",
        "throughput": f"{jobs}_throughput",
        "status": f"{jobs}_status",
        "order_locks": f"{jobs}_order_locks",
        "schedule": f"{jobs}_schedule",
        "ticks": f"{jobs}_ticks",
    }

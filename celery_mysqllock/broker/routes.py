"""A connection's cache of the queues and bindings that all processes share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery_mysqllock.jobs import Binding, EphemeralQueue, EphemeralQueues

_TOPIC = "topic"
# Seconds for which a topic exchange without bindings counts as such for transient messages: there
# are many events, and mostly no listener.
_UNBOUND = 1.0


class Routes:
    """The kinds of queues and the bindings of exchanges, with as few queries as can be.

    Args:
        ephemeral: The ephemeral queues and the bindings, in the database.
    """

    def __init__(self, ephemeral: EphemeralQueues) -> None:
        self._ephemeral = ephemeral
        self._durable_queues: set[str] = set()
        self._exchanges: dict[str, str] = {}
        self._unbound_until: dict[str, float] = {}

    def ephemeral(self, queue: str) -> EphemeralQueue | None:
        """The queue if it is ephemeral; a durable one is asked for once in a connection."""
        return None if queue in self._durable_queues else self._ephemeral.find(queue)

    def is_ephemeral(self, queue: str) -> bool:
        """Whether the queue is ephemeral."""
        return self.ephemeral(queue) is not None

    def is_durable(self, queue: str) -> bool:
        """Whether any process has declared a durable queue of that name."""
        if queue not in self._durable_queues and self._ephemeral.is_durable(queue):
            self._durable_queues.add(queue)
        return queue in self._durable_queues

    def declare_durable(self, queue: str) -> None:
        """Note for all processes that there is a durable queue of that name."""
        if queue not in self._durable_queues:
            self._ephemeral.declare_durable(queue)
            self._durable_queues.add(queue)

    def forget_queue(self, queue: str) -> None:
        """Ask the server again what kind of queue it is."""
        self._durable_queues.discard(queue)

    def bind(self, exchange: str, routing_key: str, queue: str) -> None:
        """Bind the queue to the exchange, for all processes."""
        self._ephemeral.bind(exchange, routing_key, queue)
        self._unbound_until.pop(exchange, None)

    def declare_exchange(self, exchange: str, kind: str) -> str:
        """Note the exchange's type for all processes; returns the type that it has."""
        if self._exchanges.get(exchange) != kind:
            self._exchanges[exchange] = self._ephemeral.declare_exchange(exchange, kind)
        return self._exchanges[exchange]

    def forget_exchange(self, exchange: str) -> None:
        """The exchange is deleted."""
        self._exchanges.pop(exchange, None)

    def has_exchange(self, exchange: str) -> bool:
        """Whether any process has declared the exchange."""
        return self._ephemeral.exchange_type(exchange) is not None

    def bindings(self, exchange: str, *, may_be_old: bool) -> tuple[str, list[Binding]]:
        """The exchange's type, and what is bound to it.

        Args:
            exchange: Its name.
            may_be_old: Whether the answer that nothing is bound to a topic exchange may be a second
                old: for an event, not for a command, which must reach a listener that has just
                begun.
        """
        now = time.monotonic()
        if may_be_old and self._unbound_until.get(exchange, 0.0) > now:
            return _TOPIC, []
        bindings = self._ephemeral.bindings(exchange)
        kind = bindings[0].kind if bindings else self._exchange_type(exchange)
        if not bindings and kind == _TOPIC:
            self._unbound_until[exchange] = now + _UNBOUND
        # older releases have bound queues and not noted the type
        return kind or self._exchanges.get(exchange, "direct"), bindings

    def _exchange_type(self, exchange: str) -> str | None:
        return self._exchanges.get(exchange) or self._ephemeral.exchange_type(exchange)

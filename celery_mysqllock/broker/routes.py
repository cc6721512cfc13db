"""What a connection knows of the queues and bindings that all processes share."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery_mysqllock.jobs import Binding, EphemeralQueues

# Seconds for which an exchange that nothing was bound to counts as such to transient messages:
# events are many, and mostly nobody listens.
_UNBOUND = 1.0


class Routes:
    """The kinds of queues and the bindings of exchanges, asked as seldom as can be.

    Args:
        ephemeral: The ephemeral queues and the bindings, in the database.
    """

    def __init__(self, ephemeral: EphemeralQueues) -> None:
        self._ephemeral = ephemeral
        self._durable_queues: set[str] = set()
        self._unbound_until: dict[str, float] = {}

    def is_ephemeral(self, queue: str) -> bool:
        """Whether the queue is ephemeral; asked once a connection for queues that are durable."""
        return queue not in self._durable_queues and self._ephemeral.exists(queue)

    def is_durable(self, queue: str) -> bool:
        """Whether a durable queue of that name was declared, by whomever."""
        if queue not in self._durable_queues and self._ephemeral.is_durable(queue):
            self._durable_queues.add(queue)
        return queue in self._durable_queues

    def declare_durable(self, queue: str) -> None:
        """Note for all processes that there is a durable queue of that name."""
        if queue not in self._durable_queues:
            self._ephemeral.declare_durable(queue)
            self._durable_queues.add(queue)

    def forget_queue(self, queue: str) -> None:
        """What kind of queue it is has to be asked again."""
        self._durable_queues.discard(queue)

    def bind(self, exchange: str, routing_key: str, queue: str) -> None:
        """Bind the queue to the exchange, for all processes."""
        self._ephemeral.bind(exchange, routing_key, queue)
        self._unbound_until.pop(exchange, None)

    def bindings(self, exchange: str, *, may_be_old: bool) -> list[Binding]:
        """What is bound to the exchange.

        Args:
            exchange: Its name.
            may_be_old: Whether that nothing is bound may be taken for true for a second.
        """
        now = time.monotonic()
        if may_be_old and self._unbound_until.get(exchange, 0.0) > now:
            return []
        bindings = self._ephemeral.bindings(exchange)
        if not bindings:
            self._unbound_until[exchange] = now + _UNBOUND
        return bindings

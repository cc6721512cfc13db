"""Queues, exchanges and bindings, which all processes share through the database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kombu.transport import base, virtual

if TYPE_CHECKING:
    from celery_mysqllock.broker.transport import Transport

_TRANSIENT = 1


class Topology(virtual.Channel):
    """The part of a channel that declares, binds, deletes and routes."""

    supports_fanout = True

    connection: Transport

    def __init__(self, connection: Transport, **kwargs: Any) -> None:  # noqa: ANN401 - kombu's
        super().__init__(connection, **kwargs)
        self._message_ttls: dict[str, float] = {}

    # -- queues -----------------------------------------------------------------------------------

    def prepare_queue_arguments(self, arguments: dict[str, Any], **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401 - kombu's
        """Keep ``expires`` and ``message_ttl`` as RabbitMQ spells them."""
        prepared: dict[str, Any] = base.to_rabbitmq_queue_arguments(arguments, **kwargs)
        return prepared

    def queue_declare(self, queue: str | None = None, passive: bool = False, **kwargs: Any) -> Any:  # noqa: ANN401, FBT001, FBT002 - kombu's
        """Declare a queue; its jobs are counted only when it is declared passively.

        Celery declares at every start and publish, and a count of millions takes seconds.
        """
        if passive and queue:
            return virtual.base.queue_declare_ok_t(queue, self._count(queue), 0)
        return super().queue_declare(queue, **kwargs)

    def _new_queue(
        self,
        queue: str,
        exclusive: bool = False,  # noqa: FBT001, FBT002 - kombu's signature
        auto_delete: bool = False,  # noqa: FBT001, FBT002
        arguments: dict[str, Any] | None = None,
        **_: Any,  # noqa: ANN401 - kombu's
    ) -> None:
        arguments = arguments or {}
        ttl, expires = (_seconds(arguments.get(f"x-{name}")) for name in ("message-ttl", "expires"))
        if ttl is not None:
            self._message_ttls[queue] = ttl
        if exclusive or auto_delete or expires is not None:
            self.connection.routes.forget_queue(queue)
            self.connection.ephemeral.declare(
                queue,
                owner=self.connection.consumer.identity if exclusive else None,
                auto_delete=exclusive or auto_delete,
                expires=expires,
                message_ttl=ttl,
            )
        else:
            self.connection.routes.declare_durable(queue)

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
        self.connection.routes.forget_queue(queue)
        self.connection.ephemeral.delete(queue)
        self.connection.jobs.purge(queue)
        self.state.queue_bindings_delete(queue)

    # -- exchanges --------------------------------------------------------------------------------

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
        # always: another process may have deleted the queue, and the binding with it
        self.connection.routes.bind(exchange, routing_key or "", queue)
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

    # -- routes -----------------------------------------------------------------------------------

    def _route(
        self, message: dict[str, Any], exchange: str, routing_key: str
    ) -> tuple[list[str], list[str]]:
        """The ephemeral and the durable queues that the message goes to."""
        is_transient = message["properties"].get("delivery_mode") == _TRANSIENT
        if not exchange:
            if self.connection.routes.is_ephemeral(routing_key):
                return [routing_key], []
            # What is transient and meant for a queue that is gone is dropped, as RabbitMQ drops it:
            # the reply to a client that did not wait. What is persistent is never lost.
            if is_transient and not self.connection.routes.is_durable(routing_key):
                return [], []
            self.connection.routes.declare_durable(routing_key)
            return [], [routing_key]
        kind = self.typeof(exchange)
        # Events, that is; a command or a reply is heard by whoever has just begun to listen.
        may_be_old = is_transient and kind.type == "topic"
        bindings = self.connection.routes.bindings(exchange, may_be_old=may_be_old)
        table = [kind.prepare_bind(one.queue, exchange, one.routing_key, None) for one in bindings]
        matched = set(kind.lookup(table, exchange, routing_key, None)) if bindings else set()
        ephemeral = {one.queue for one in bindings if one.is_ephemeral}
        return sorted(matched & ephemeral), sorted(matched - ephemeral)


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000

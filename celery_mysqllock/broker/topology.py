"""Queues, exchanges and bindings, which all processes share through the database."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from kombu.exceptions import ChannelError
from kombu.log import get_logger
from kombu.transport import base, virtual

from celery_mysqllock.broker.message import is_task
from celery_mysqllock.exceptions import (
    ConnectionLost,
    ExchangeMismatch,
    SettingsError,
    UnroutableMessage,
)

if TYPE_CHECKING:
    from celery_mysqllock.broker.dispatcher import Dispatcher
    from celery_mysqllock.broker.message import Payload
    from celery_mysqllock.broker.sessions import Sessions
    from celery_mysqllock.jobs import EphemeralQueue
    from celery_mysqllock.settings import BrokerSettings

logger = get_logger(__name__)

_TRANSIENT = 1
_FOR_EVER = 1e9  # seconds
# Unroutable messages that have been logged; so many at most, since keys may be anything.
_missed: set[tuple[str, str]] = set()
_MISSES = 1000


class JobConnection(Protocol):
    """What a channel needs of the transport.

    Attributes:
        settings: The transport's options.
        dispatcher: Wakes the connection when a channel has something to deliver.
        state: kombu's, of this process.
    """

    settings: BrokerSettings
    dispatcher: Dispatcher
    state: virtual.BrokerState

    @property
    def sessions(self) -> Sessions:
        """The sessions; ConnectionLost when the connection is closed."""

    def _deliver(self, message: Payload, queue: str) -> None:
        """Call the queue's consumer; kombu's."""


class Topology(virtual.Channel):
    """The part of a channel that declares, binds, deletes and routes."""

    supports_fanout = True

    connection: JobConnection | None

    def __init__(self, connection: JobConnection, **kwargs: Any) -> None:  # noqa: ANN401 - kombu's
        super().__init__(connection, **kwargs)
        self._message_ttls: dict[str, float] = {}

    @property
    def transport(self) -> JobConnection:
        """The connection.

        Raises:
            ConnectionLost: The channel is closed, by its user or with a lost connection. kombu
                tries again with another one.
        """
        if self.connection is None:
            raise ConnectionLost("The channel is closed; what it had claimed went back.")
        return self.connection

    @property
    def sessions(self) -> Sessions:
        """The connection's sessions; errors as in ``transport``."""
        return self.transport.sessions

    @property
    def state(self) -> virtual.BrokerState:
        """kombu's, of this process; errors as in ``transport``."""
        return self.transport.state

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
            self.sessions.routes.forget_queue(queue)
            self.sessions.ephemeral.declare(
                queue,
                owner=self.transport.dispatcher.identity if exclusive else None,
                auto_delete=exclusive or auto_delete,
                expires=expires,
                message_ttl=ttl,
            )
        else:
            self.sessions.routes.declare_durable(queue)

    def _count(self, queue: str) -> int:
        ephemeral = self.sessions.ephemeral
        count: int = self.sessions.jobs.maintenance.count_ready(queue)
        return count + ephemeral.count(queue) if ephemeral.exists(queue) else count

    def _purge(self, queue: str) -> int:
        purged: int = self.sessions.jobs.maintenance.purge(queue) + self.sessions.ephemeral.purge(
            queue
        )
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
        self.sessions.routes.forget_queue(queue)
        self.sessions.ephemeral.delete(queue)
        self.sessions.jobs.maintenance.purge(queue)

    # -- exchanges --------------------------------------------------------------------------------

    def exchange_declare(
        self,
        exchange: str | None = None,
        type: str | None = "direct",  # noqa: A002 - kombu's
        passive: bool = False,  # noqa: FBT001, FBT002 - kombu's
        **_: Any,  # noqa: ANN401 - kombu's: durable, auto_delete, arguments, nowait
    ) -> None:
        """Note the exchange and its type for all processes.

        Raises:
            SettingsError: There is no such type.
            ExchangeMismatch: It has another type, and queues are bound to it.
            ChannelError: It is declared passively, and there is none.
        """
        routes, kind = self.sessions.routes, type or "direct"
        exchange = exchange or f"amq.{kind}"
        if passive:
            if not routes.has_exchange(exchange):
                code = (50, 10)
                raise ChannelError(
                    f"NOT_FOUND - no exchange {exchange!r}", code, "Channel.exchange_declare", "404"
                )
            return
        if kind not in self.exchange_types:
            raise SettingsError(
                f"The exchange {exchange!r} is of the type {kind!r}; there are "
                f"{', '.join(sorted(self.exchange_types))}."
            )
        known = routes.declare_exchange(exchange, kind)
        # a type that this release does not know contradicts none
        if known != kind and known in self.exchange_types:
            raise ExchangeMismatch(
                f"The exchange {exchange!r} is declared as {kind!r} here, and is {known!r} to "
                "those that have bound queues to it. Say the same everywhere; or delete it first: "
                f"kombu.Exchange({exchange!r})(channel).delete()."
            )

    def queue_bind(
        self,
        queue: str,
        exchange: str | None = None,
        routing_key: str = "",
        arguments: dict[str, Any] | None = None,  # noqa: ARG002 - kombu's
        **_: Any,  # noqa: ANN401 - kombu's
    ) -> None:
        """Bind the queue to the exchange, for all processes."""
        # always: another process may have deleted the queue, and the binding with it
        self.sessions.routes.bind(exchange or "amq.direct", routing_key or "", queue)

    def queue_unbind(
        self,
        queue: str,
        exchange: str | None = None,
        routing_key: str = "",
        arguments: dict[str, Any] | None = None,  # noqa: ARG002 - kombu's
        **_: Any,  # noqa: ANN401
    ) -> None:
        """Take the binding back, for all processes."""
        self.sessions.ephemeral.unbind(exchange or "amq.direct", routing_key or "", queue)

    def exchange_delete(self, exchange: str, if_unused: bool = False, nowait: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002 - kombu's
        """Delete the exchange and its bindings; the queues stay."""
        self.sessions.routes.forget_exchange(exchange)
        self.sessions.ephemeral.delete_exchange(exchange)

    def list_bindings(self) -> list[tuple[str, str, str]]:
        """All bindings, of all processes, as queue, exchange and routing key."""
        return [(queue, name, key) for name, key, queue in self.sessions.ephemeral.all_bindings()]

    # -- routes -----------------------------------------------------------------------------------

    def _route(
        self, message: Payload, exchange: str, routing_key: str
    ) -> tuple[list[str], list[str]]:
        """The queues that get the message itself, which are ephemeral, and those that get a job.

        A task is a job in whatever queue: it must not be lost, whatever its delivery mode.

        Raises:
            UnroutableMessage: Nobody takes it, and it is a task.
        """
        is_job = is_task(message)
        may_be_lost = message["properties"].get("delivery_mode") == _TRANSIENT and not is_job
        if exchange:
            kind, queues = self._bound(exchange, routing_key, may_be_lost=may_be_lost)
            # a command, which only present listeners get
            may_be_lost = may_be_lost or (kind == "fanout" and not is_job)
        else:
            queues = self._named(routing_key, may_be_lost=may_be_lost)
        if not queues and not may_be_lost:
            self._miss(exchange, routing_key, is_job=is_job)
        for queue, ephemeral in queues.items():
            if ephemeral is not None and ephemeral.message_ttl is not None:
                self._message_ttls[queue] = ephemeral.message_ttl
        passing = [
            name for name, ephemeral in queues.items() if ephemeral is not None and not is_job
        ]
        return passing, [name for name in queues if name not in passing]

    def _named(self, queue: str, *, may_be_lost: bool) -> dict[str, EphemeralQueue | None]:
        """The queue of that name; none for a message that may be lost, if there is none."""
        if not queue:
            return {}
        routes = self.sessions.routes
        kind = routes.ephemeral(queue)
        if kind is None:
            # A transient message for a queue that is gone is dropped, as RabbitMQ drops it: the
            # reply to a client that did not wait. A persistent one is never lost.
            if may_be_lost and not routes.is_durable(queue):
                return {}
            routes.declare_durable(queue)
        return {queue: kind}

    def _bound(
        self, exchange: str, routing_key: str, *, may_be_lost: bool
    ) -> tuple[str, dict[str, EphemeralQueue | None]]:
        """The exchange's type, and the queues that it gives the message to."""
        routes = self.sessions.routes
        kind, bindings = routes.bindings(exchange, may_be_old=may_be_lost)
        # one of a type that is unknown here is taken for the commonest
        router = self.exchange_types.get(kind, self.exchange_types["direct"])
        table = [
            router.prepare_bind(one.queue, exchange, one.routing_key, None) for one in bindings
        ]
        matched = set(router.lookup(table, exchange, routing_key, None)) if bindings else set()
        return kind, {one.queue: one.ephemeral for one in bindings if one.queue in matched}

    def _miss(self, exchange: str, routing_key: str, *, is_job: bool) -> None:
        """Log, or raise, that a message which is to be kept has no queue.

        Only a task is an error: any AMQP broker drops other messages, and kombu's users rely on it.
        """
        text = (
            f"No queue takes a message for the exchange {exchange!r} with the routing key "
            f"{routing_key!r}, so it is not stored. Start a worker that declares the queue and "
            "binds it, or declare it here (declare=[queue], task_queues)."
        )
        if is_job and self.transport.settings.unroutable == "raise":
            raise UnroutableMessage(text)
        if (exchange, routing_key) not in _missed and len(_missed) < _MISSES:
            _missed.add((exchange, routing_key))
            logger.log(logging.ERROR if is_job else logging.WARNING, "%s", text)


def _seconds(milliseconds: object) -> float | None:
    """The seconds of a queue's argument; what is longer than 30 years is for ever.

    Raises:
        SettingsError: It is no number.
    """
    if milliseconds is None:
        return None
    if not isinstance(milliseconds, (int, float)):
        raise SettingsError(f"{milliseconds!r} is no number of milliseconds (a queue's argument).")
    return milliseconds / 1000 if milliseconds / 1000 < _FOR_EVER else None

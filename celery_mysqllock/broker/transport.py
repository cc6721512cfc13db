"""The kombu transport: one connection to the job table, its sessions, and the wait for jobs."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

from kombu.log import get_logger
from kombu.transport import virtual

from celery_mysqllock.app import address_of, check_urls, read_broker_settings
from celery_mysqllock.broker.channel import Channel as JobChannel
from celery_mysqllock.broker.doorway import Doorway
from celery_mysqllock.broker.routes import Routes
from celery_mysqllock.broker.sessions import Sessions
from celery_mysqllock.broker.worker import this_node
from celery_mysqllock.exceptions import (
    CannotConnect,
    ConnectionLost,
    DatabaseError,
    Interrupted,
    LoginRefused,
    MissingPrivilege,
    MySQLLockError,
    ReadOnlyServer,
    ServerFull,
    StatementTimeout,
    TableGone,
    TableMissing,
    TransientError,
    UnknownDatabase,
)
from celery_mysqllock.jobs import Wanted
from celery_mysqllock.jobs.repeated import RepeatedWarnings
from celery_mysqllock.mysql import DRIVER_VERSION
from celery_mysqllock.mysql.address import DEFAULT_PORT

if TYPE_CHECKING:
    from kombu import Connection
    from kombu.asynchronous.hub import Hub

    from celery_mysqllock.jobs import Consumer, EphemeralQueues, JobTable, Stream
    from celery_mysqllock.mysql import Address

logger = get_logger(__name__)

#: The job tables that this process has been connected to, each with the login.
_SEEN: set[tuple[Address, str]] = set()
# What somebody does to a server in use and takes back.
_MENDED_SOON = (TableMissing, UnknownDatabase, LoginRefused, MissingPrivilege)
# How many messages the event loop delivers before it looks after the other things it has to do.
_ROUND = 100
# Seconds until ephemeral messages are asked for again that the server could not give out.
_RETRY = 1.0


class Transport(virtual.Transport):
    """``mysql://user:password@host:3306/database``.

    Args:
        client: The kombu connection that this serves; its ``transport_options`` are checked here.

    Raises:
        SettingsError: An option is unknown or has a value that is not allowed.
    """

    Channel = JobChannel
    default_port = DEFAULT_PORT
    # kombu's own reading of URLs would drop options; see app.read_urls_at_once
    can_parse_url = True
    # ours alone: Celery treats "amqp", "redis" and "sql" as the brokers of these names
    driver_type = "mysqllock"
    driver_name = "PyMySQL"
    # Celery connects again after these, and to the next URL where there are several: the connection
    # is gone, or its server takes no writes, which for a broker is the same. What passes is among
    # them: any other error ends a worker, and here nothing was done, so that it may be done again.
    connection_errors = (
        *(ConnectionLost, CannotConnect, ReadOnlyServer, ServerFull),
        *(TransientError, TableGone, StatementTimeout, Interrupted),
    )
    implements = virtual.Transport.implements.extend(
        asynchronous=True,
        exchange_type=frozenset({"direct", "topic", "fanout"}),
        heartbeats=False,
        # not kombu's: messages may have the properties unique_key and order_key, see
        # Channel.basic_publish
        unique_jobs=True,
        ordered_jobs=True,
    )

    def __init__(self, client: Connection, **kwargs: Any) -> None:  # noqa: ANN401 - kombu's
        super().__init__(client, **kwargs)
        self._warnings = RepeatedWarnings(logger)
        self.settings = read_broker_settings(client.transport_options)
        check_urls(client.alt)
        self._sessions: Sessions | None = None
        self._error: MySQLLockError | None = None
        self._doorway = Doorway()
        self._routes: Routes | None = None

    # -- connection -------------------------------------------------------------------------------

    def establish_connection(self) -> Transport:
        """Log in and check the job table.

        Raises:
            CannotConnect: No server answers; Celery tries again.
            ReadOnlyServer: It takes no writes; Celery tries again, the next URL if there is one.
            LoginRefused, UnknownDatabase, MissingPrivilege: The server says no, and has never said
                yes to this process; else Celery tries again.
            TableMissing, TableMismatch: There is no job table of this release's shape.
            UnsuitableServer: The server is too old, or only speaks like MySQL.
        """
        address = address_of(self.client)
        place = (address, self.settings.table)
        try:
            self._sessions = Sessions(
                address, self.settings, on_ring=self._on_ring, on_lost=self.lose
            )
        except DatabaseError as error:
            if (node := this_node()) is not None:
                node.end_if_asked()
            if place in _SEEN and isinstance(error, _MENDED_SOON):
                # A table or database is being restored, a password changed: whoever has worked with
                # it waits for it.
                raise CannotConnect(str(error)) from error
            raise
        _SEEN.add(place)
        self._routes, self._error = None, None
        connection: Transport = super().establish_connection()
        return connection

    def as_uri(
        self,
        uri: str,  # noqa: ARG002 - kombu's; it holds what the URL was before it was taken apart
        include_password: bool = False,  # noqa: FBT001, FBT002 - kombu's signature
        mask: str = "**",  # noqa: ARG002 - kombu's
    ) -> str:
        """The URL as it is shown, without the password unless it is asked for."""
        address = address_of(self.client)
        return address.url() if include_password else str(address)

    def driver_version(self) -> str:
        """The driver's release, for ``celery report``."""
        return DRIVER_VERSION

    def verify_connection(self, connection: Transport) -> bool:  # noqa: ARG002 - kombu's signature
        """Whether kombu may go on with this connection; False has it make another, unasked.

        A connection that consumes is never replaced like that: its loss is an error to be seen.
        """
        sessions = self._sessions
        return sessions is not None and (sessions.consumes or sessions.main.is_open)

    @property
    def is_intact(self) -> bool:
        """Whether the sessions are open, as far as is known."""
        sessions = self._sessions
        return sessions is not None and sessions.main.is_open and self._error is None

    def close_connection(self, connection: Transport) -> None:
        """Settle what is to be settled, give back the rest of what was claimed, and log out.

        What Celery is still running stays claimed, until it is done or the process ends.
        """
        try:
            super().close_connection(connection)
        finally:
            self._doorway.close()
            if self._sessions is not None:
                self._sessions.close()

    # -- what channels work with ------------------------------------------------------------------

    @property
    def sessions(self) -> Sessions:
        """The sessions.

        Raises:
            ConnectionLost: The connection is closed.
        """
        if self._sessions is None:
            raise ConnectionLost("The connection to the job table is not open.")
        return self._sessions

    @property
    def source(self) -> str:
        """Where the jobs come from: ``<database>.<table>``, as the server spells them."""
        return self.sessions.names.place

    @property
    def jobs(self) -> JobTable:
        """The job table; errors as in ``sessions``."""
        return self.sessions.jobs

    @property
    def ephemeral(self) -> EphemeralQueues:
        """The ephemeral queues and the bindings; errors as in ``sessions``."""
        return self.sessions.ephemeral

    @property
    def consumer(self) -> Consumer:
        """This connection's identity as a consumer, alive from the first use on.

        Raises:
            ConnectionLost: A session that it needs is gone.
        """
        consumer = self.sessions.consumer
        self._check()
        return consumer

    def open_stream(self) -> Stream:
        """A stream of claimed jobs for a channel."""
        return self.sessions.open_stream(on_jobs=self._on_jobs, on_dry=self.arm_bell)

    @property
    def routes(self) -> Routes:
        """Which queues there are, and what is bound to what; errors as in ``sessions``."""
        if self._routes is None:
            self._routes = Routes(self.ephemeral)
        return self._routes

    # -- the doorbell -----------------------------------------------------------------------------

    def arm_bell(self) -> None:
        """Be rung for messages beside the jobs, and for jobs where a channel has none."""
        bell = self.sessions.bell
        if bell is None:
            return
        jobs: set[str] = set()
        messages: set[str] = set()
        for channel in list(self.channels):
            messages |= channel.ephemeral_queues
            if channel.stream is None:
                jobs |= channel.ephemeral_queues
            elif channel.stream.is_dry:
                jobs |= channel.stream.queues
        bell.listen(Wanted(frozenset(jobs), frozenset(messages)), self.sessions.main)

    def show_queues(self, changed: JobChannel, its_queues: list[str]) -> None:
        """Say on the list of consumers from which queues the channels take jobs."""
        queues = set(its_queues)
        for channel in list(self.channels):
            if channel is not changed and channel.stream is not None:
                queues |= channel.stream.queues
        with contextlib.suppress(DatabaseError):
            # for people only; a session that is lost is noticed elsewhere
            self.sessions.consumer.show_queues(queues, self.sessions.main)

    def _on_ring(self, queues: frozenset[str]) -> None:
        """Something may have come to these queues. In the bell's thread."""
        try:
            for channel in list(self.channels):
                try:
                    self._fetch_ephemeral(channel, queues)
                except ConnectionLost:
                    if not channel.closed:
                        raise
                if channel.stream is not None:
                    channel.stream.look(queues)
            if not any(
                channel.stream is not None and channel.stream.queues & queues
                for channel in list(self.channels)
            ):
                self.arm_bell()
        except (ReadOnlyServer, ServerFull) as error:
            self._warnings.warn("Ephemeral messages cannot be taken now: %s", error)
            # the bell rings again at once, as they are still there
            time.sleep(_RETRY)
        except MySQLLockError as error:
            self.lose(error)

    def _on_jobs(self) -> None:
        """There are jobs to deliver, or an error to raise. In a stream's thread."""
        bell = self.sessions.bell
        if bell is not None:
            bell.was_right()
        self._doorway.knock()

    def _fetch_ephemeral(self, channel: JobChannel, queues: frozenset[str]) -> None:
        used = channel.ephemeral_queues & queues
        for queue in self.sessions.work.with_messages(used) if len(used) > 1 else used:
            while texts := self.ephemeral.take(queue):
                if not channel.receive_ephemeral(queue, texts):
                    for text in texts:
                        self.ephemeral.put([queue], text)
                    break
                self._on_jobs()
        if used and channel.stream is None:
            for queue in self.sessions.work.with_jobs(used):
                while channel.receive_jobs(queue):
                    self._on_jobs()

    def lose(self, error: MySQLLockError) -> None:
        """The consumer, its bell or what else belongs to the connection is lost. For any thread."""
        self._error = error
        self._doorway.knock()

    def _check(self) -> None:
        if self._error is not None:
            raise ConnectionLost(f"A session of this connection was lost: {self._error}")

    # -- deliver ----------------------------------------------------------------------------------

    def register_with_event_loop(self, connection: Transport, loop: Hub) -> None:  # noqa: ARG002 - kombu's
        """Deliver in Celery's event loop, which is woken when there are jobs."""
        self._doorway.join_loop(loop, self._deliver_round)

    def _deliver_round(self) -> None:
        self._check()
        for _ in range(_ROUND):
            if not self._deliver_one():
                return
        self._doorway.knock()

    def _deliver_one(self) -> bool:
        return any(channel.deliver_next() for channel in list(self.channels))

    def drain_events(self, connection: Transport, timeout: float | None = None) -> None:  # noqa: ARG002 - kombu's
        """Deliver one message, waiting for one.

        Args:
            connection: This connection.
            timeout: Seconds to wait, None for as long as it takes.

        Raises:
            TimeoutError: None came in that time (``socket.timeout`` is its older name).
            ConnectionLost: The connection is gone.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self._check()
            if self._deliver_one():
                return
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self._doorway.wait(left) and left is not None:
                raise TimeoutError

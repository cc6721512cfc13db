"""The kombu transport: one connection to the job table, its sessions, and the wait for jobs."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from kombu.transport import virtual

from celery_mysqllock.broker.channel import Channel as JobChannel
from celery_mysqllock.broker.doorway import Doorway
from celery_mysqllock.exceptions import (
    CannotConnect,
    ConnectionLost,
    DatabaseError,
    MySQLLockError,
    SettingsError,
)
from celery_mysqllock.jobs import (
    Bell,
    Binding,
    Consumer,
    EphemeralQueues,
    JobTable,
    Migrations,
    Stream,
    Sweeper,
)
from celery_mysqllock.mysql import Address, Session
from celery_mysqllock.mysql.address import DEFAULT_CONNECT_TIMEOUT, DEFAULT_PORT
from celery_mysqllock.settings import BrokerSettings, read_settings

if TYPE_CHECKING:
    from kombu import Connection
    from kombu.asynchronous.hub import Hub

# Options that kombu and Celery read themselves, whatever the transport.
_KOMBU_OPTIONS = frozenset(
    {
        *("max_retries", "interval_start", "interval_step", "interval_max", "timeout"),
        *("errback", "callback", "on_revive", "retry_errors", "client_properties"),
        *("confirm_publish", "confirm_timeout", "queue_order_strategy", "failover_strategy"),
        *("deadletter_queue", "native_delayed_delivery_queue_type"),
    }
)
# Seconds for which an exchange that nobody was bound to counts as such: events are many, and
# mostly nobody listens.
_UNBOUND = 1.0
# How many messages the event loop delivers before it looks after the other things it has to do.
_ROUND = 100


class Transport(virtual.Transport):
    """``mysql://user:password@host:3306/database``.

    Args:
        client: The kombu connection that this serves; its ``transport_options`` are checked here.

    Raises:
        SettingsError: An option is unknown or has a value that is not allowed.
    """

    Channel = JobChannel
    default_port = DEFAULT_PORT
    # kombu hands the first URL over as it is; alternates that it switches to come in parts
    can_parse_url = True
    # ours alone: Celery treats "amqp", "redis" and "sql" as the brokers of these names
    driver_type = "mysqllock"
    driver_name = "PyMySQL"
    # Exactly the errors that mean that the connection is gone: Celery reconnects after these.
    connection_errors = (ConnectionLost, CannotConnect)
    implements = virtual.Transport.implements.extend(
        asynchronous=True, exchange_type=frozenset({"direct", "topic", "fanout"}), heartbeats=False
    )

    def __init__(self, client: Connection, **kwargs: Any) -> None:  # noqa: ANN401 - kombu's
        super().__init__(client, **kwargs)
        self.settings = read_settings(
            BrokerSettings,
            client.transport_options,
            source="broker_transport_options[{name!r}]",
            ignore=_KOMBU_OPTIONS,
        )
        self._session: Session | None = None
        self._jobs: JobTable | None = None
        self._consumer: Consumer | None = None
        self._ephemeral: EphemeralQueues | None = None
        self._bell: Bell | None = None
        self._error: MySQLLockError | None = None
        self._opening = threading.Lock()
        self._doorway = Doorway()
        self._durable_queues: set[str] = set()
        self._unbound_until: dict[str, float] = {}

    # -- connection -------------------------------------------------------------------------------

    def establish_connection(self) -> Transport:
        """Log in and check the job table.

        Raises:
            CannotConnect: No server answers; Celery tries again.
            LoginRefused, UnknownDatabase, MissingPrivilege: The server says no.
            TableMissing, TableMismatch: There is no job table of this release's shape.
            DatabaseError: The server is too old.
        """
        session = Session(self._address()).open()
        try:
            self._check_server(session)
            self._check_table(session)
        except BaseException:
            session.close()
            raise
        self._jobs = self._job_table(session)
        self._ephemeral = EphemeralQueues(
            session, self.settings.table, namespace=self._namespace(session.address)
        )
        self._session = session
        connection: Transport = super().establish_connection()
        return connection

    def _address(self) -> Address:
        client = self.client
        timeout = float(client.connect_timeout or DEFAULT_CONNECT_TIMEOUT)
        if "://" in (client.hostname or ""):
            return Address.parse(client.hostname, connect_timeout=timeout)
        return Address(
            host=client.hostname or "localhost",
            port=client.port or self.default_port,
            user=client.userid or "",
            password=client.password or "",
            database=(client.virtual_host or "").strip("/"),
            connect_timeout=timeout,
        ).checked()

    def _check_server(self, session: Session) -> None:
        if session.server.is_too_old:
            raise DatabaseError(
                f"{session.address} is {session.server}; MySQL 5.7 or MariaDB 10.4 is the oldest "
                "that works. Update the server."
            )
        if self.settings.claim_method == "skip_locked" and not session.server.has_skip_locked:
            raise SettingsError(
                f"claim_method='skip_locked' contradicts the server: {session.server} has no SKIP "
                "LOCKED. Set 'compare_and_set', or leave it at 'auto'."
            )

    def _check_table(self, session: Session) -> None:
        migrations = Migrations(session, self.settings.table)
        if self.settings.create_table and migrations.version() == 0:
            migrations.apply()
        migrations.check()

    def _namespace(self, address: Address) -> str:
        return self.settings.namespace or address.database

    def _job_table(self, session: Session) -> JobTable:
        return JobTable(
            session,
            self.settings.table,
            namespace=self._namespace(session.address),
            claim_method=self.settings.claim_method,
            retains=bool(self.settings.retention_seconds),
        )

    def verify_connection(self, connection: Transport) -> bool:  # noqa: ARG002 - kombu's signature
        """Whether the sessions are open, as far as is known."""
        return self._session is not None and self._session.is_open and self._error is None

    def close_connection(self, connection: Transport) -> None:
        """Settle what is to be settled, give back the rest of what was claimed, and log out."""
        if self._bell is not None:
            self._bell.stop()
        try:
            super().close_connection(connection)
        finally:
            self._doorway.close()
            if self._consumer is not None:
                self._consumer.stop()
            if self._session is not None:
                self._session.close()

    # -- what channels work with ------------------------------------------------------------------

    @property
    def session(self) -> Session:
        """The session for everything but claims and waits.

        Raises:
            ConnectionLost: The connection is closed.
        """
        if self._session is None:
            raise ConnectionLost("The connection to the job table is not open.")
        return self._session

    @property
    def source(self) -> str:
        """Where the jobs come from: ``<database>.<table>``."""
        return f"{self.session.address.database}.{self.settings.table}"

    @property
    def jobs(self) -> JobTable:
        """The job table; errors as in ``session``."""
        if self._jobs is None:
            raise ConnectionLost("The connection to the job table is not open.")
        return self._jobs

    @property
    def ephemeral(self) -> EphemeralQueues:
        """The ephemeral queues and the bindings; errors as in ``session``."""
        if self._ephemeral is None:
            raise ConnectionLost("The connection to the job table is not open.")
        return self._ephemeral

    def is_ephemeral(self, queue: str) -> bool:
        """Whether the queue is ephemeral; asked once a connection for queues that are not."""
        if queue in self._durable_queues:
            return False
        if self.ephemeral.exists(queue):
            return True
        self._durable_queues.add(queue)
        return False

    def bindings(self, exchange: str) -> list[Binding]:
        """What is bound to the exchange; that nothing is, is taken for true for a second."""
        now = time.monotonic()
        if self._unbound_until.get(exchange, 0.0) > now:
            return []
        bindings = self.ephemeral.bindings(exchange)
        if not bindings:
            self._unbound_until[exchange] = now + _UNBOUND
        return bindings

    @property
    def consumer(self) -> Consumer:
        """This connection's identity as a consumer, alive from the first use on.

        Raises:
            ConnectionLost: The session that proves it alive is gone, so its claims are too.
        """
        with self._opening:
            if self._consumer is None:
                self._consumer = self._start_consumer()
        self._check()
        return self._consumer

    def _start_consumer(self) -> Consumer:
        address, settings = self.session.address, self.settings
        namespace = self._namespace(address)
        consumer = Consumer(
            Session(address, idle_timeout=settings.session_timeout),
            namespace=namespace,
            sweeper=Sweeper(settings, namespace),
            on_lost=self._on_error,
        )
        consumer.start()
        self._bell = Bell(
            Session(address, idle_timeout=settings.session_timeout),
            namespace,
            self.ephemeral.has_work(),
            on_ring=self._on_ring,
            on_error=self._on_error,
        )
        self._bell.start()
        return consumer

    def open_stream(self) -> Stream:
        """A stream of claimed jobs for a channel, on a session of its own."""
        identity = self.consumer.identity
        session = Session(self.session.address, idle_timeout=self.settings.session_timeout).open()
        return Stream(
            session,
            self._job_table(session),
            identity,
            claim_limit=self.settings.claim_limit,
            on_jobs=self._on_jobs,
            on_dry=self.arm_bell,
        )

    # -- the doorbell -----------------------------------------------------------------------------

    def arm_bell(self) -> None:
        """Be rung for the ephemeral queues, and for the queues of channels that have no jobs."""
        if self._bell is None:
            return
        queues: set[str] = set()
        for channel in list(self.channels):
            queues |= channel.ephemeral_queues
            if channel.stream is not None and channel.stream.is_dry:
                queues |= channel.stream.queues
        self._bell.listen(queues, self.session)

    def _on_ring(self, queues: frozenset[str]) -> None:
        """Something may have come to these queues. In the bell's thread."""
        try:
            for channel in list(self.channels):
                self._fetch_ephemeral(channel, queues)
                if channel.stream is not None:
                    channel.stream.look(queues)
            if not any(
                channel.stream is not None and channel.stream.queues & queues
                for channel in list(self.channels)
            ):
                self.arm_bell()
        except MySQLLockError as error:
            self._on_error(error)

    def _on_jobs(self) -> None:
        """There are jobs to deliver, or an error to raise. In a stream's thread."""
        if self._bell is not None:
            self._bell.was_right()
        self._doorway.knock()

    def _fetch_ephemeral(self, channel: JobChannel, queues: frozenset[str]) -> None:
        for queue in channel.ephemeral_queues & queues:
            while texts := self.ephemeral.take(queue):
                channel.receive_ephemeral(queue, texts)
                self._on_jobs()

    def _on_error(self, error: MySQLLockError) -> None:
        """The consumer or its bell is lost. In their threads."""
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

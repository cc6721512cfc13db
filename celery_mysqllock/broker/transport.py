"""The kombu transport: one connection to the job table, its sessions, and the wait for jobs."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from kombu.transport import virtual

from celery_mysqllock.broker.channel import Channel
from celery_mysqllock.exceptions import CannotConnect, ConnectionLost, DatabaseError, SettingsError
from celery_mysqllock.jobs import Consumer, JobTable, Migrations
from celery_mysqllock.mysql import Address, Session
from celery_mysqllock.mysql.address import DEFAULT_PORT
from celery_mysqllock.settings import BrokerSettings, read_settings

if TYPE_CHECKING:
    from kombu import Connection

# Options that kombu and Celery read themselves, whatever the transport.
_KOMBU_OPTIONS = frozenset(
    {
        *("max_retries", "interval_start", "interval_step", "interval_max", "timeout"),
        *("errback", "callback", "on_revive", "retry_errors", "client_properties"),
        *("confirm_publish", "confirm_timeout", "queue_order_strategy", "failover_strategy"),
        *("deadletter_queue", "native_delayed_delivery_queue_type"),
    }
)


class Transport(virtual.Transport):
    """``mysql://user:password@host:3306/database``.

    Args:
        client: The kombu connection that this serves; its ``transport_options`` are checked here.

    Raises:
        SettingsError: An option is unknown or has a value that is not allowed.
    """

    Channel = Channel
    default_port = DEFAULT_PORT
    # ours alone: Celery treats "amqp", "redis" and "sql" as the brokers of these names
    driver_type = "mysqllock"
    driver_name = "PyMySQL"
    # Exactly the errors that mean that the connection is gone: Celery reconnects after these.
    connection_errors = (ConnectionLost, CannotConnect)
    implements = virtual.Transport.implements.extend(
        asynchronous=False, exchange_type=frozenset({"direct", "topic"}), heartbeats=False
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
        self._opening = threading.Lock()
        self._woken = threading.Event()

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
        self._jobs = JobTable(session, self.settings.table, claim_method=self.settings.claim_method)
        self._session = session
        connection: Transport = super().establish_connection()
        return connection

    def _address(self) -> Address:
        client = self.client
        return Address(
            host=client.hostname or "localhost",
            port=client.port or self.default_port,
            user=client.userid or "",
            password=client.password or "",
            database=(client.virtual_host or "").strip("/"),
            connect_timeout=client.connect_timeout or 5.0,
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

    def verify_connection(self, connection: Transport) -> bool:  # noqa: ARG002 - kombu's signature
        """Whether the session is open, as far as is known."""
        return self._session is not None and self._session.is_open

    def close_connection(self, connection: Transport) -> None:
        """Give back what was claimed and not settled, and end the sessions."""
        try:
            super().close_connection(connection)
        finally:
            if self._consumer is not None:
                self._consumer.stop()
            if self._session is not None:
                self._session.close()

    # -- what channels work with ------------------------------------------------------------------

    @property
    def jobs(self) -> JobTable:
        """The job table.

        Raises:
            ConnectionLost: The connection is closed.
        """
        if self._jobs is None:
            raise ConnectionLost("The connection to the job table is not open.")
        return self._jobs

    def _open_session(self) -> Session:
        if self._session is None:
            raise ConnectionLost("The connection to the job table is not open.")
        return self._session

    @property
    def consumer(self) -> Consumer:
        """This connection's identity as a consumer, alive from the first use on.

        Raises:
            ConnectionLost: The session that proves it alive is gone, so its claims are too.
        """
        with self._opening:
            if self._consumer is None:
                self._consumer = self._start_consumer()
        self._check_consumer()
        return self._consumer

    def _start_consumer(self) -> Consumer:
        address, settings = self._address(), self.settings
        consumer = Consumer(
            address,
            namespace=settings.namespace or address.database,
            table=settings.table,
            session_timeout=settings.session_timeout,
            grace=settings.recovery_grace,
            on_lost=self.wake,
            working=self._open_session(),
        )
        consumer.start()
        return consumer

    # -- wait -------------------------------------------------------------------------------------

    def wake(self) -> None:
        """End the wait of ``drain_events``: a slot is free, or the consumer is lost."""
        self._woken.set()

    def drain_events(self, connection: Transport, timeout: float | None = None) -> None:  # noqa: ARG002 - kombu's
        """Deliver one job, waiting for one.

        Args:
            connection: This connection.
            timeout: Seconds to wait, None for as long as it takes.

        Raises:
            TimeoutError: No job came in that time (``socket.timeout`` is its older name).
            ConnectionLost: The connection is gone.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            self._woken.clear()
            self._check_consumer()
            if any(channel.deliver_next() for channel in list(self.channels)):
                return
            pause = min(
                (channel.pause() for channel in self.channels),
                default=self.settings.polling_interval,
            )
            if deadline is not None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                pause = min(pause, left)
            self._woken.wait(pause)

    def _check_consumer(self) -> None:
        if self._consumer is not None and not self._consumer.is_alive:
            raise ConnectionLost("The consumer's session was lost; its claims go back.")

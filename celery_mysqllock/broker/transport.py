"""The kombu transport: one connection to the job table."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from kombu.transport import virtual

from celery_mysqllock.app import address_of, check_urls, read_broker_settings
from celery_mysqllock.broker.channel import Channel as JobChannel
from celery_mysqllock.broker.dispatcher import Dispatcher
from celery_mysqllock.broker.sessions import Sessions
from celery_mysqllock.broker.worker import this_node
from celery_mysqllock.exceptions import (
    CannotConnect,
    ConnectionLost,
    DatabaseError,
    Interrupted,
    LoginRefused,
    MissingPrivilege,
    ReadOnlyServer,
    ServerFull,
    StatementTimeout,
    TableGone,
    TableMissing,
    TransientError,
    UnknownDatabase,
)
from celery_mysqllock.mysql import DRIVER_VERSION
from celery_mysqllock.mysql.address import DEFAULT_PORT

if TYPE_CHECKING:
    from kombu import Connection
    from kombu.asynchronous.hub import Hub

    from celery_mysqllock.mysql import Address

#: The job tables that this process has been connected to, each with the login.
_SEEN: set[tuple[Address, str]] = set()
# Errors of what an administrator does to a server in use and takes back.
_MENDED_SOON = (TableMissing, UnknownDatabase, LoginRefused, MissingPrivilege)
# How many messages the event loop delivers before its other handlers have their turn.
_ROUND = 100


class Transport(virtual.Transport):
    """``mysql://user:password@host:3306/database``.

    Args:
        client: The kombu connection that this serves; its ``transport_options`` are checked here.

    Attributes:
        settings: The transport options.
        dispatcher: Wakes this connection when there is something to deliver.

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
    # Celery connects again after these, and to the next URL if there are several: the connection is
    # gone, or its server takes no writes, which is the same for a broker. Passing errors are among
    # them, because any other error ends a worker. Nothing was done then, so it can be tried again.
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
        self.settings = read_broker_settings(client.transport_options)
        check_urls(client.alt)
        self.dispatcher = Dispatcher()
        self._sessions: Sessions | None = None

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
            self._sessions = Sessions(address, self.settings, on_lost=self.dispatcher.lose)
        except DatabaseError as error:
            if (node := this_node()) is not None:
                node.end_if_asked()
            if place in _SEEN and isinstance(error, _MENDED_SOON):
                # A table or database is being restored, or a password changed: a process that has
                # worked with it waits for it.
                raise CannotConnect(str(error)) from error
            raise
        _SEEN.add(place)
        self.dispatcher.open(self._sessions)
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

    def close_connection(self, connection: Transport) -> None:
        """Settle what is to be settled, give back the rest of what was claimed, and log out.

        What Celery is still running stays claimed, until it is done or the process ends.
        """
        try:
            super().close_connection(connection)
        finally:
            try:
                self.dispatcher.close()
            finally:
                if self._sessions is not None:
                    self._sessions.close()

    @property
    def sessions(self) -> Sessions:
        """The sessions of the connection.

        Raises:
            ConnectionLost: The connection is closed.
        """
        if self._sessions is None:
            raise ConnectionLost("The connection to the job table is not open.")
        return self._sessions

    # -- deliver ----------------------------------------------------------------------------------

    def register_with_event_loop(self, connection: Transport, loop: Hub) -> None:  # noqa: ARG002 - kombu's
        """Deliver in Celery's event loop, which is woken when there are jobs."""
        self.dispatcher.attach(loop, self._deliver_round)

    def _deliver_round(self) -> None:
        self.dispatcher.check()
        for _ in range(_ROUND):
            if not self._deliver_one():
                return
        self.dispatcher.notify()

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
            self.dispatcher.check()
            if self._deliver_one():
                return
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not self.dispatcher.wait(left) and left is not None:
                raise TimeoutError

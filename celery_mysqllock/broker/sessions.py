"""The sessions of one kombu connection: to publish, to claim, and to be known as alive."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING

from celery_mysqllock.broker.events import SignalSender
from celery_mysqllock.broker.routes import Routes
from celery_mysqllock.broker.worker import this_node
from celery_mysqllock.exceptions import (
    ConnectionLost,
    MissingPrivilege,
    MySQLLockError,
    SettingsError,
    UnsuitableServer,
)
from celery_mysqllock.jobs import (
    Bell,
    EphemeralQueues,
    Fetcher,
    JobSink,
    JobTable,
    Liveness,
    LockNames,
    MessageSink,
    Migrations,
    Sweeper,
    Throughput,
    TransactionalPublisher,
    job_statements,
)
from celery_mysqllock.mysql import Session
from celery_mysqllock.settings import answer_time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celery_mysqllock.jobs import NewJob
    from celery_mysqllock.mysql import Address
    from celery_mysqllock.mysql.caller import CallerConnection
    from celery_mysqllock.settings import BrokerSettings

logger = logging.getLogger(__name__)

# Seconds without a statement after which the server ends the main session: rows that it was
# changing when the network went quiet stay locked for as long. An idle producer gets a new session.
_MAIN_IDLE = 120


class Sessions:
    """Opens what a connection needs when it needs it: a producer has one session, no thread.

    Args:
        address: Where to log in.
        settings: The transport's options.
        on_lost: Called from a thread when this connection is not known as alive any more.

    Attributes:
        address: Where this is logged in.
        settings: The transport's options.
        main: The session for everything but claims and waits.
        jobs: The job table through it.
        publisher: Stores the jobs of messages.
        ephemeral: The ephemeral queues and the bindings through it.
        broadcaster: Takes published messages for ephemeral queues.
        names: The names of the job table's locks.
        source: Where the jobs come from: ``<database>.<table>``, as the server spells them.
    """

    def __init__(
        self,
        address: Address,
        settings: BrokerSettings,
        *,
        on_lost: Callable[[MySQLLockError], None],
    ) -> None:
        self.address = address
        self.settings = settings
        self._on_lost = on_lost
        self._mutex = threading.Lock()
        self._liveness: Liveness | None = None
        self._fetchers = 0
        self._routes: Routes | None = None
        self._throughput = Throughput()
        self._closed = False
        self._locks = False
        self._read_timeout = answer_time(settings.session_timeout)
        self.main = Session(
            address, idle_timeout=_MAIN_IDLE, read_timeout=self._read_timeout, renews=True
        ).open()
        try:
            self._check_server()
            self.names = LockNames.of(self.main, settings.table)
            self.source = self.names.qualified
            self._observer = SignalSender(self.source)
            self._check_table()
            self.jobs = self._job_table(self.main)
            self.jobs.publisher.check_writable()
        except BaseException:
            self.main.close()
            raise
        self.publisher: JobSink = self.jobs.publisher
        self.ephemeral = EphemeralQueues(self.main, settings.table, names=self.names)
        self.broadcaster: MessageSink = self.ephemeral

    def _check_server(self) -> None:
        server = self.main.server
        if server.is_too_old:
            raise UnsuitableServer(
                f"{self.address} is {server}; MySQL 5.7 or MariaDB 10.4 is the oldest "
                "that works. Update the server."
            )
        method = self.settings.claim_method
        if method in ("skip_locked", "two_steps") and not server.has_skip_locked:
            raise SettingsError(
                f"claim_method={method!r} contradicts the server: {server} has no SKIP "
                "LOCKED. Set 'compare_and_set', or leave it at 'auto'."
            )

    def _check_table(self) -> None:
        namespace = self.settings.namespace or self.names.database
        migrations = Migrations(self.main, self.settings.table, namespace=namespace)
        if self.settings.create_table and migrations.version() is None:
            migrations.apply()
        migrations.check()

    def _job_table(self, session: Session) -> JobTable:
        return JobTable(
            session,
            self.settings.table,
            names=self.names,
            claim_method=self.settings.claim_method,
            retains=bool(self.settings.retention_seconds),
            legacy_lock=self.settings.legacy_lock,
            throughput=self._throughput,
            observer=self._observer,
        )

    def publisher_in(self, caller: CallerConnection) -> TransactionalPublisher:
        """What stores jobs in the transaction of that connection."""
        return TransactionalPublisher(
            caller,
            self.main,
            # the caller's connection may use another database of the server
            job_statements(self.settings.table, self.address.database),
            self.names,
            on_commit=self._announce,
        )

    def _announce(self, stored: Sequence[NewJob]) -> None:
        """Announce committed jobs; never an error, as they are committed."""
        try:
            try:
                self.jobs.publisher.announce(stored)
            except ConnectionLost:
                # the transaction may have taken longer than this connection was kept
                with Session(self.address) as session:
                    self._job_table(session).publisher.announce(stored)
        except Exception as error:  # noqa: BLE001 - the commit has not failed
            # a program's log handler may fail as well
            with contextlib.suppress(Exception):
                logger.warning(
                    "Jobs are committed, and found within polling_interval (%g s), as no consumer "
                    "could be woken: %s",
                    self.settings.polling_interval,
                    error,
                )

    @property
    def routes(self) -> Routes:
        """Which queues there are, and what is bound to what."""
        if self._routes is None:
            self._routes = Routes(self.ephemeral)
        return self._routes

    # -- for consumers ----------------------------------------------------------------------------

    @property
    def consumes(self) -> bool:
        """Whether ``liveness`` was asked for."""
        return self._liveness is not None

    @property
    def liveness(self) -> Liveness:
        """This connection's identity as a consumer, alive from the first use on.

        Raises:
            ConnectionLost: The connection is closed.
            CannotConnect, LoginRefused: There is no session for it.
        """
        with self._mutex:
            if self._liveness is None:
                if self._closed:
                    raise ConnectionLost("The connection is closed.")
                node = this_node()
                liveness = Liveness(
                    self.address,
                    session_timeout=self.settings.session_timeout,
                    names=self.names,
                    sweeper=Sweeper(self.settings, self.names, self._observer),
                    on_lost=self._on_lost,
                    companion=self.main,
                    table=self.settings.table,
                    name=None if node is None else node.name,
                )
                liveness.start()
                self._liveness = liveness
            return self._liveness

    def open_bell(
        self,
        *,
        on_ring: Callable[[frozenset[str]], None],
        on_error: Callable[[MySQLLockError], None],
    ) -> Bell:
        """A doorbell that listens; errors as in ``liveness``."""
        bell = Bell(
            self._new_session(),
            self.names,
            self.jobs.work.is_any,
            on_ring=on_ring,
            on_error=on_error,
        )
        bell.start()
        return bell

    def open_fetcher(
        self, owner: str, *, on_jobs: Callable[[], None], on_drained: Callable[[], None]
    ) -> Fetcher:
        """A fetcher of jobs that claims for that identity; errors as in ``liveness``."""
        fetcher = Fetcher(
            self._open_table,
            owner,
            claim_limit=self.settings.claim_limit,
            on_jobs=on_jobs,
            on_drained=on_drained,
            on_end=self._on_fetcher_end,
            is_alone=lambda: self._fetchers == 1,
            max_deliveries=self.settings.max_deliveries,
        )
        fetcher.start()
        with self._mutex:
            self._fetchers += 1
        return fetcher

    def _new_session(self) -> Session:
        timeout = self.settings.session_timeout
        return Session(self.address, idle_timeout=timeout, read_timeout=self._read_timeout)

    def _open_table(self) -> tuple[Session, JobTable]:
        session = self._new_session().open()
        try:
            table = self._job_table(session)
            self._check_locking(table)
        except BaseException:
            session.close()
            raise
        return session, table

    def _check_locking(self, table: JobTable) -> None:
        """Make sure, once, that two consumers never claim the same job."""
        if self._locks:
            return
        # a consumer of few privileges finds out at its first claim
        with contextlib.suppress(MissingPrivilege):
            if not table.claims.skips_locked(self.main):
                raise UnsuitableServer(
                    f"{self.address} is {self.main.server}, and its SKIP LOCKED does not lock or "
                    "does not skip: two workers would run the same job. Use MySQL or MariaDB "
                    "itself, or set claim_method='compare_and_set' in broker_transport_options."
                )
        self._locks = True

    def _on_fetcher_end(self) -> None:
        with self._mutex:
            self._fetchers -= 1
        self._end_liveness()

    def close(self) -> None:
        """Log out; the consumer stays alive until the last fetcher has settled its jobs."""
        with self._mutex:
            self._closed = True
        try:
            self._end_liveness()
        finally:
            self.main.close()

    def _end_liveness(self) -> None:
        with self._mutex:
            if self._closed and not self._fetchers and self._liveness is not None:
                self._liveness.stop(self.main)

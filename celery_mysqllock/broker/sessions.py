"""The sessions of one kombu connection: for publishing, for claiming, and to be known as alive."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING

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
    Consumer,
    EnlistedJobs,
    EphemeralQueues,
    JobTable,
    LockNames,
    Migrations,
    News,
    Stream,
    Sweeper,
    Throughput,
    Work,
)
from celery_mysqllock.mysql import Session
from celery_mysqllock.settings import answer_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.mysql import Address
    from celery_mysqllock.mysql.borrowed import Borrowed
    from celery_mysqllock.settings import BrokerSettings

logger = logging.getLogger(__name__)

# Seconds after which the server ends the main session when it hears nothing: as long may rows stay
# locked that it was changing when the network went quiet. A producer that rests gets a new one.
_MAIN_IDLE = 120


class Sessions:
    """Opens what a connection needs when it needs it: a producer has one session, no thread.

    Args:
        address: Where to log in.
        settings: The transport's options.
        on_ring: Called from the bell's thread with the queues that something may have come to.
        on_lost: Called from a thread when the bell or the consumer is lost.

    Attributes:
        address: Where this is logged in.
        main: The session for everything but claims and waits.
        jobs: The job table through it.
        ephemeral: The ephemeral queues and the bindings through it.
        work: Which queues have something to take, through it.
        names: The names of the job table's locks.
        bell: The doorbell, None before ``consumer`` was asked for.
    """

    def __init__(
        self,
        address: Address,
        settings: BrokerSettings,
        *,
        on_ring: Callable[[frozenset[str]], None],
        on_lost: Callable[[MySQLLockError], None],
    ) -> None:
        self.address = address
        self._settings = settings
        self._on_ring = on_ring
        self._on_lost = on_lost
        self._mutex = threading.Lock()
        self._consumer: Consumer | None = None
        self._streams = 0
        self._throughput = Throughput()
        self._closed = False
        self._locks = False
        self.bell: Bell | None = None
        self._patience = answer_time(settings.session_timeout)
        self.main = Session(
            address, idle_timeout=_MAIN_IDLE, patience=self._patience, renews=True
        ).open()
        try:
            self._check_server()
            self.names = LockNames.of(self.main, settings.table)
            self._check_table()
            self.jobs = self._job_table(self.main)
            self.jobs.check_writable()
        except BaseException:
            self.main.close()
            raise
        self.work = Work(self.main, settings.table)
        self.ephemeral = EphemeralQueues(self.main, settings.table, names=self.names)

    def _check_server(self) -> None:
        server = self.main.server
        if server.is_too_old:
            raise UnsuitableServer(
                f"{self.address} is {server}; MySQL 5.7 or MariaDB 10.4 is the oldest "
                "that works. Update the server."
            )
        method = self._settings.claim_method
        if method in ("skip_locked", "two_steps") and not server.has_skip_locked:
            raise SettingsError(
                f"claim_method={method!r} contradicts the server: {server} has no SKIP "
                "LOCKED. Set 'compare_and_set', or leave it at 'auto'."
            )

    def _check_table(self) -> None:
        namespace = self._settings.namespace or self.names.database
        migrations = Migrations(self.main, self._settings.table, namespace=namespace)
        if self._settings.create_table and migrations.version() is None:
            migrations.apply()
        migrations.check()

    def _job_table(self, session: Session) -> JobTable:
        return JobTable(
            session,
            self._settings.table,
            names=self.names,
            claim_method=self._settings.claim_method,
            retains=bool(self._settings.retention_seconds),
            legacy_lock=self._settings.legacy_lock,
            throughput=self._throughput,
        )

    def enlist(self, borrowed: Borrowed) -> EnlistedJobs:
        """The job table inside a transaction of that connection."""
        return EnlistedJobs(
            borrowed,
            self.main,
            self._settings.table,
            names=self.names,
            on_commit=self._tell_after_commit,
        )

    def _tell_after_commit(self, news: News) -> None:
        """Wake whom jobs concern that are committed; never an error, as they are."""
        try:
            try:
                news.tell(self.jobs)
            except ConnectionLost:
                # the transaction may have taken longer than this connection was kept
                with Session(self.address) as session:
                    news.tell(self._job_table(session))
        except Exception as error:  # noqa: BLE001 - who committed is not to be told that it failed
            # a program's log handler may fail, too
            with contextlib.suppress(Exception):
                logger.warning(
                    "Jobs are committed, and found within polling_interval (%g s), as nobody could "
                    "be rung: %s",
                    self._settings.polling_interval,
                    error,
                )

    @property
    def consumes(self) -> bool:
        """Whether ``consumer`` was asked for."""
        return self._consumer is not None

    @property
    def consumer(self) -> Consumer:
        """This connection's identity as a consumer, alive from the first use on.

        Raises:
            ConnectionLost: The connection is closed.
            CannotConnect, LoginRefused: There is no session for it.
        """
        with self._mutex:
            if self._consumer is None:
                if self._closed:
                    raise ConnectionLost("The connection is closed.")
                self._consumer = self._start_consumer()
            return self._consumer

    def _start_consumer(self) -> Consumer:
        node = this_node()
        consumer = Consumer(
            self.address,
            session_timeout=self._settings.session_timeout,
            names=self.names,
            sweeper=Sweeper(self._settings, self.names),
            on_lost=self._on_lost,
            companion=self.main,
            table=self._settings.table,
            name=None if node is None else node.name,
        )
        consumer.start()
        try:
            self.bell = self._start_bell()
        except BaseException:
            # nobody would know of it: alive, and in line to do the housekeeping
            consumer.stop(self.main)
            raise
        return consumer

    def _start_bell(self) -> Bell:
        bell = Bell(
            self._new_session(),
            self.names,
            self.work.is_any,
            on_ring=self._on_ring,
            on_error=self._on_lost,
        )
        bell.start()
        return bell

    def open_stream(self, on_jobs: Callable[[], None], on_dry: Callable[[], None]) -> Stream:
        """A stream of claimed jobs for a channel, on a session of its own; errors as above."""
        stream = Stream(
            self._open_table,
            self.consumer.identity,
            claim_limit=self._settings.claim_limit,
            on_jobs=on_jobs,
            on_dry=on_dry,
            on_end=self._on_stream_end,
            is_alone=lambda: self._streams == 1,
            max_deliveries=self._settings.max_deliveries,
        )
        stream.start()
        with self._mutex:
            self._streams += 1
        return stream

    def _new_session(self) -> Session:
        timeout = self._settings.session_timeout
        return Session(self.address, idle_timeout=timeout, patience=self._patience)

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
            if not table.skips_locked(self.main):
                raise UnsuitableServer(
                    f"{self.address} is {self.main.server}, and its SKIP LOCKED does not lock or "
                    "does not skip: two workers would run the same job. Use MySQL or MariaDB "
                    "itself, or set claim_method='compare_and_set' in broker_transport_options."
                )
        self._locks = True

    def _on_stream_end(self) -> None:
        with self._mutex:
            self._streams -= 1
        self._end_consumer()

    def close(self) -> None:
        """Log out; the consumer stays alive until the last stream has settled its jobs."""
        with self._mutex:
            self._closed = True
        try:
            if self.bell is not None:
                self.bell.stop(self.main)
        finally:
            try:
                self._end_consumer()
            finally:
                self.main.close()

    def _end_consumer(self) -> None:
        with self._mutex:
            if self._closed and not self._streams and self._consumer is not None:
                self._consumer.stop(self.main)

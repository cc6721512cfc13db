"""Celery's scheduler on a lock and tables: the beat that holds it sends, the others wait."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from celery.beat import Scheduler as CeleryScheduler
from celery.utils.log import get_logger
from kombu.utils.objects import cached_property

from celery_mysqllock.app import broker_of, lock_address, lock_settings, read_prefixed_settings
from celery_mysqllock.beat.active import Active
from celery_mysqllock.beat.outbox import OutboxTransport
from celery_mysqllock.beat.sending import AfterClaim, InTransaction
from celery_mysqllock.exceptions import (
    CannotConnect,
    ConnectionLost,
    DatabaseError,
    LockError,
    LockLost,
    MultiPrimaryServer,
    MySQLLockError,
    SettingsError,
)
from celery_mysqllock.jobs import EphemeralQueues, JobTable, LockNames, Schedule
from celery_mysqllock.jobs.schedule import check_schedule
from celery_mysqllock.locks import MySQLLock
from celery_mysqllock.mysql import Session, get_lock, open_first, release_lock
from celery_mysqllock.settings import BeatSettings, BrokerSettings

if TYPE_CHECKING:
    from celery.beat import ScheduleEntry

    from celery_mysqllock.beat.outbox import Outbox
    from celery_mysqllock.beat.sending import Sending

logger = get_logger(__name__)

# Seconds that a standby waits in the server's line before it looks whether it should stop. The
# server hands the lock over at once; this is no polling interval.
_IN_LINE = 5
# Seconds after which the server is tried again that could not be reached, or a lock that was not
# to be had.
_RETRY = 2.0
# Seconds for the session of the beat before to end, which held both locks of the active one.
_HANDOVER = 1


class Scheduler(CeleryScheduler):
    """``celery -A app beat -S mysqllock``, on as many hosts as you like.

    The beat that holds the named lock ``~<table>:beat`` is the active one. When it dies, the
    server frees the lock and the next in line goes on within milliseconds, from where the schedule
    in the database says that the dead one stood. No tick is sent twice, and none is left out that
    was due in the meantime.

    Attributes:
        servers: The servers of the schedule, of which the first that takes writes is used.
        table: The job table's name, with which the names of the schedule's tables begin.
        has_jobs: Whether the jobs go into the schedule's database, where a tick and its job are
            one transaction.

    Raises:
        SettingsError: A setting is wrong, or the app names no database.
        TableMissing, TableMismatch: The tables are not there, or not of this release.
        LoginRefused, UnknownDatabase, MissingPrivilege: The server says no.
    """

    # Seconds, unless the app or the command line says otherwise: how late an edit of the table is
    # seen.
    max_interval = 5

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Celery's
        self._active: Active | None = None
        self._lock: MySQLLock | None = None
        self._is_standby = False
        self._is_at_work = False
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """Check the settings and the tables; a server that is away is waited for later."""
        self.read_settings()
        self._configured()  # what is wrong in it is seen at the start
        with suppress(CannotConnect), self._open_first() as session:
            if session.address == self.servers[-1]:  # the others were checked before they were used
                check_schedule(session, self.table)

    # -- Celery's turns ---------------------------------------------------------------------------

    def tick(self, *_: Any, **__: Any) -> float:  # noqa: ANN401 - Celery's
        """Send one task that is due, if this beat is the active one; seconds until the next."""
        self._is_at_work = True
        try:
            if self._lock is None:
                self._lock = self._new_lock()
            if not self._has_turn():
                return 0.0
            return self._work()
        except MultiPrimaryServer:
            raise
        except (ConnectionLost, LockLost) as error:
            if self._active is None:
                return self._pause(error)
            self._lose(str(error))
            return 0.0
        except (DatabaseError, LockError) as error:
            return self._pause(error)
        finally:
            self._is_at_work = False

    def close(self) -> None:
        """Hand over to the next in line."""
        if self._is_at_work:
            # A signal has come in the middle of a statement. Celery closes again on its way out.
            return
        self._step_down()
        super().close()

    def _open_first(self, *passed_over: type[DatabaseError]) -> Session:
        """A session with the first server that answers and takes writes; the last one in any case.

        Args:
            passed_over: What passes a server over besides.

        Raises:
            CannotConnect: It does not answer.
            LoginRefused, UnknownDatabase, MissingPrivilege: One says no.
        """
        return open_first(
            [Session(address) for address in self.servers],
            self._check_server,
            *passed_over,
        )

    def _check_server(self, session: Session) -> None:
        check_schedule(session, self.table)
        JobTable(session, self.table).check_writable()

    def _new_lock(self) -> MySQLLock:
        # the settings were right at the start: what a server refuses now is there on another one
        with self._open_first(DatabaseError) as session:
            self._names, self._server = LockNames.of(session, self.table), session.address
        return MySQLLock(
            self._names.beat,
            url=self._server,
            session_timeout=self._locks.session_timeout,
            note="beat",
            allow_multi_primary=self._locks.allow_multi_primary,
        )

    def _has_turn(self) -> bool:
        lock = self._own_lock
        if self._active is not None:
            if lock.owned():
                return True
            self._lose("its session has ended")
            return False
        # whole seconds, and not longer than somebody who wants to stop this thread may wait
        wait = min(_IN_LINE, math.ceil(self.max_interval)) if self._is_standby else 0
        if not lock.acquire(wait):
            if not self._is_standby:
                logger.info("Another beat is active; this one stands by.")
            self._is_standby = True
            return False
        self._is_standby = False
        self._active = self._activate(lock)
        logger.info("This beat is the active one.")
        return True

    def _activate(self, lock: MySQLLock) -> Active:
        session, table = lock.session, self.table
        # by this one the doctor knows a beat
        get_lock(session, self._names.active_beat, _HANDOVER)
        schedule = Schedule(session, table, lock.name)
        sending: Sending = AfterClaim(schedule, self._ensure_connected, self.publish)
        if self.has_jobs:
            sending = InTransaction(
                schedule,
                JobTable(session, table),
                EphemeralQueues(session, table),
                self.outbox,
                self.publish,
            )
        catch_up = timedelta(seconds=self._settings.catch_up)
        active = Active(self.app, schedule, sending, lock.check, catch_up)
        active.take_over(self._configured())
        return active

    def _work(self) -> float:
        if self._active is None:
            return 0.0
        seconds = self._active.turn()
        self.data = self._active.entries
        return min(seconds, self.max_interval)

    def _lose(self, reason: str) -> None:
        logger.warning("This beat has lost its lock; it sends nothing and stands by: %s", reason)
        self._step_down()

    def _pause(self, error: MySQLLockError) -> float:
        logger.error("This beat cannot work now, and tries again in %g seconds: %s", _RETRY, error)
        self._step_down()
        return _RETRY

    def _step_down(self) -> None:
        had, self._active = self._active is not None, None
        self._is_standby = self._is_standby or had
        self._drop_connection()
        if self._lock is not None:
            with suppress(MySQLLockError):
                release_lock(self._lock.session, self._names.active_beat)
            with suppress(MySQLLockError):
                self._lock.release()
        # another server may be the one that takes writes now
        self._lock = None

    @property
    def _own_lock(self) -> MySQLLock:
        assert self._lock is not None, "setup_schedule has not been called"  # noqa: S101
        return self._lock

    # -- what the configuration says --------------------------------------------------------------

    def read_settings(self) -> None:
        """Read the configuration: the schedule is in the broker's database, or in the locks'.

        Raises:
            SettingsError: A setting is wrong, or there is neither.
        """
        self._settings = read_prefixed_settings(self.app, BeatSettings, "mysqllock_beat_")
        self._locks, broker = lock_settings(self.app), broker_of(self.app)
        self.has_jobs = broker is not None and broker.is_written
        if broker is not None and broker.is_written:
            self.servers, self.table = broker.addresses, broker.settings.table
            return
        address, self.table = lock_address(self._locks), BrokerSettings.table
        if address is None:
            raise SettingsError(
                "mysqllock_url='memory://' is for tests of tasks; a beat keeps its schedule in a "
                "database. Set mysqllock_url to mysql://user:password@host:3306/database, or use "
                "Celery's own scheduler."
            )
        self.servers = (address,)

    def _configured(self) -> dict[str, ScheduleEntry]:
        self.data = {}
        self.merge_inplace(self.app.conf.beat_schedule)
        self.install_default_entries(self.data)
        entries: dict[str, ScheduleEntry] = self.data
        return entries

    # -- what publishes ---------------------------------------------------------------------------

    @cached_property
    def connection(self) -> Any:  # noqa: ANN401 - kombu's
        """The connection to the broker; into an outbox, where that is the schedule's database."""
        if not self.has_jobs:
            return self.app.connection_for_write()
        # That server alone: a connection that switches to another URL is no outbox any more.
        return self.app.connection(self._server.url(), transport=OutboxTransport)

    def outbox(self) -> Outbox:
        """What was published into this beat's outbox."""
        kept: Outbox = self.connection.transport.outbox
        return kept

    def publish(self, entry: ScheduleEntry) -> Any:  # noqa: ANN401 - Celery's result
        """Publish the entry's task as Celery's beat does.

        Raises:
            OperationalError: The broker cannot be reached.
            SchedulingError: It could not be published; what went wrong is its context.
        """
        return self.apply_async(entry, producer=self.producer, advance=False)

    def _drop_connection(self) -> None:
        self.__dict__.pop("producer", None)
        connection = self.__dict__.pop("connection", None)
        if connection is not None:
            # its server may be gone
            with suppress(Exception):
                connection.release()

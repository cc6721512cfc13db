"""Celery's scheduler on a lock and tables: the beat that holds the lock sends, the others wait."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from celery.beat import Scheduler as CeleryScheduler
from celery.utils.log import get_logger
from kombu.utils.objects import cached_property

from celery_mysqllock.app import broker_of, lock_address, lock_settings, read_prefixed_settings
from celery_mysqllock.beat.active import ActiveBeat
from celery_mysqllock.beat.dispatch import AfterClaim, InTransaction
from celery_mysqllock.beat.outbox import OutboxTransport
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

    from celery_mysqllock.beat.dispatch import Dispatch
    from celery_mysqllock.beat.outbox import Outbox

logger = get_logger(__name__)

# Seconds that a standby waits for the lock before it checks whether it should stop. The server
# hands the lock over at once, so this is no polling interval.
_WAIT = 5
# Seconds after an error until the server or the lock is tried again.
_RETRY = 2.0
# Seconds to wait for the session of the previous beat to end, which held both locks.
_HANDOVER = 1


class Scheduler(CeleryScheduler):
    """``celery -A app beat -S mysqllock``, on as many hosts as you like.

    The beat that holds the named lock ``~<table>:beat`` is the active one. When it dies, the
    server frees the lock, and within milliseconds the next beat goes on from the tick that the
    database has as the last. No tick is sent twice, and none that was due meanwhile is skipped.

    Attributes:
        servers: The servers of the schedule, of which the first that takes writes is used.
        table: The job table's name, with which the names of the schedule's tables begin.
        has_jobs: Whether the jobs go into the schedule's database, where a tick and its job are
            one transaction.

    Raises:
        SettingsError: A setting is wrong, or the app names no database.
        TableMissing, TableMismatch: The tables are missing, or of another release.
        LoginRefused, UnknownDatabase, MissingPrivilege: The server refuses the login.
    """

    # Most seconds until an edit of the table is noticed; the app or the command line may set it.
    max_interval = 5

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - Celery's
        self._active: ActiveBeat | None = None
        self._lock: MySQLLock | None = None
        self._is_standby = False
        self._is_at_work = False
        super().__init__(*args, **kwargs)

    def setup_schedule(self) -> None:
        """Check the settings and the tables; wait later for a server that cannot be reached."""
        self.read_settings()
        self._configured()  # to raise its errors at the start
        with suppress(CannotConnect), self._open_first() as session:
            if session.address == self.servers[-1]:  # the others were checked before they were used
                check_schedule(session, self.table)

    # -- what Celery calls -------------------------------------------------------------------------

    def tick(self, *_: Any, **__: Any) -> float:  # noqa: ANN401 - Celery's
        """Send what is due, if this beat is the active one; seconds until the next tick."""
        self._is_at_work = True
        try:
            if self._lock is None:
                self._lock = self._new_lock()
            return self._work() if self._is_active(self._lock) else 0.0
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
        """Release the lock, so that the next beat takes over."""
        if self._is_at_work:
            # A signal has interrupted a statement. Celery closes again on its way out.
            return
        self._step_down()
        super().close()

    def _open_first(self, *passed_over: type[DatabaseError]) -> Session:
        """A session with the first server that answers and takes writes, or else with the last.

        Args:
            passed_over: Further errors because of which the next server is tried.

        Raises:
            CannotConnect: The last one does not answer.
            LoginRefused, UnknownDatabase, MissingPrivilege: A server refuses the login.
        """
        return open_first(
            [Session(address) for address in self.servers],
            self._check_server,
            *passed_over,
        )

    def _check_server(self, session: Session) -> None:
        check_schedule(session, self.table)
        JobTable(session, self.table).publisher.check_writable()

    def _new_lock(self) -> MySQLLock:
        # The settings were checked at the start. What a server refuses now, another one may have.
        with self._open_first(DatabaseError) as session:
            self._names, self._server = LockNames.of(session, self.table), session.address
        return MySQLLock(
            self._names.beat,
            url=self._server,
            session_timeout=self._locks.session_timeout,
            note="beat",
            allow_multi_primary=self._locks.allow_multi_primary,
        )

    def _is_active(self, lock: MySQLLock) -> bool:
        if self._active is not None:
            if lock.owned():
                return True
            self._lose("its session has ended")
            return False
        # whole seconds, and no longer than a stop of this thread may take
        wait = min(_WAIT, math.ceil(self.max_interval)) if self._is_standby else 0
        if not lock.acquire(wait):
            if not self._is_standby:
                logger.info("Another beat is active; this one stands by.")
            self._is_standby = True
            return False
        self._is_standby = False
        self._active = self._activate(lock)
        logger.info("This beat is the active one.")
        return True

    def _activate(self, lock: MySQLLock) -> ActiveBeat:
        session, table = lock.session, self.table
        # the doctor recognises a beat by this lock
        get_lock(session, self._names.active_beat, _HANDOVER)
        schedule = Schedule(session, table, lock.name)
        dispatch: Dispatch = AfterClaim(schedule, self._ensure_connected, self.publish)
        if self.has_jobs:
            dispatch = InTransaction(
                schedule,
                JobTable(session, table).publisher,
                EphemeralQueues(session, table),
                self.outbox,
                self.publish,
            )
        catch_up = timedelta(seconds=self._settings.catch_up)
        active = ActiveBeat(self.app, schedule, dispatch, lock.check, catch_up)
        active.start(self._configured())
        return active

    def _work(self) -> float:
        if self._active is None:
            return 0.0
        seconds = self._active.send_due()
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
        # by now another server may be the one that takes writes
        self._lock = None

    # -- the configuration -------------------------------------------------------------------------

    def read_settings(self) -> None:
        """Read the settings: the schedule is in the broker's database, or else in the locks'.

        Raises:
            SettingsError: A setting is wrong, or there is neither.
        """
        self._settings = read_prefixed_settings(self.app, BeatSettings, "mysqllock_beat_")
        self._locks, broker = lock_settings(self.app), broker_of(self.app)
        if broker is not None and broker.is_written:
            self.servers, self.table = broker.addresses, broker.settings.table
            self.has_jobs = True
            return
        address, self.table = lock_address(self._locks), BrokerSettings.table
        if address is None:
            raise SettingsError(
                "mysqllock_url='memory://' is for tests of tasks; a beat keeps its schedule in a "
                "database. Set mysqllock_url to mysql://user:password@host:3306/database, or use "
                "Celery's own scheduler."
            )
        self.servers, self.has_jobs = (address,), False

    def _configured(self) -> dict[str, ScheduleEntry]:
        self.data = {}
        self.merge_inplace(self.app.conf.beat_schedule)
        self.install_default_entries(self.data)
        entries: dict[str, ScheduleEntry] = self.data
        return entries

    # -- publishing --------------------------------------------------------------------------------

    @cached_property
    def connection(self) -> Any:  # noqa: ANN401 - kombu's
        """The connection to the broker, or to an outbox if the jobs are beside the schedule."""
        if not self.has_jobs:
            return self.app.connection_for_write()
        # One URL: a connection that switches to another would no longer have the outbox transport.
        return self.app.connection(self._server.url(), transport=OutboxTransport)

    def outbox(self) -> Outbox:
        """The outbox that ``publish`` fills."""
        kept: Outbox = self.connection.transport.outbox
        return kept

    def publish(self, entry: ScheduleEntry) -> Any:  # noqa: ANN401 - Celery's result
        """Publish the entry's task as Celery's beat does.

        Raises:
            OperationalError: The broker cannot be reached.
            SchedulingError: It could not be published; the cause is its context.
        """
        return self.apply_async(entry, producer=self.producer, advance=False)

    def _drop_connection(self) -> None:
        self.__dict__.pop("producer", None)
        connection = self.__dict__.pop("connection", None)
        if connection is not None:
            # its server may be gone
            with suppress(Exception):
                connection.release()

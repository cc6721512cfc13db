"""From the doorbell's ring to a channel's inbox: what is fetched, and which thread is woken.

The doorbell's thread calls ``Dispatcher.ring``, a fetcher's thread ``notify``, and the consuming
thread then takes from the inbox of each channel.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from kombu.log import get_logger

from celery_mysqllock.broker.waker import LoopWaker
from celery_mysqllock.exceptions import (
    ConnectionLost,
    DatabaseError,
    MySQLLockError,
    ReadOnlyServer,
    ServerFull,
)
from celery_mysqllock.jobs import ClaimedJob, Wanted
from celery_mysqllock.jobs.job import Deferral
from celery_mysqllock.jobs.repeated import RepeatedWarnings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from kombu.asynchronous.hub import Hub

    from celery_mysqllock.broker.sessions import Sessions
    from celery_mysqllock.jobs import Bell, Fetcher

logger = get_logger(__name__)

# Seconds until ephemeral messages are asked for again that the server could not give out.
_RETRY = 1.0
# Most jobs that are claimed at once for a consumer that acknowledges nothing.
_AT_ONCE = 100


class EphemeralMessage(NamedTuple):
    """A message beside the job table, as it was stored."""

    queue: str
    text: str


Item = ClaimedJob | EphemeralMessage


class Inbox:
    """What one channel is to deliver: its fetcher's jobs, and what came to its ephemeral queues.

    A channel that consumes only control traffic and acknowledges nothing has no fetcher.

    Attributes:
        fetcher: Claims the channel's jobs, None while it needs none.
    """

    def __init__(self) -> None:
        self.fetcher: Fetcher | None = None
        self._ephemeral_queues: set[str] = set()
        self._received: deque[Item] = deque()
        # the bell's thread receives, and the consuming one may leave the queue
        self._mutex = threading.Lock()

    @property
    def ephemeral_queues(self) -> frozenset[str]:
        """The ephemeral queues that the channel consumes from."""
        return frozenset(self._ephemeral_queues)

    @property
    def wanted(self) -> Wanted:
        """What the doorbell is to ring for."""
        messages = self.ephemeral_queues
        if self.fetcher is None:
            return Wanted(messages, messages)
        jobs = self.fetcher.queues if self.fetcher.is_drained else ()
        return Wanted(frozenset(jobs), messages)

    @property
    def job_queues(self) -> set[str]:
        """The queues that its fetcher claims from."""
        return set() if self.fetcher is None else self.fetcher.queues

    def join(self, queue: str) -> None:
        """Receive what comes to an ephemeral queue."""
        with self._mutex:
            self._ephemeral_queues.add(queue)

    def leave(self, queue: str) -> list[Item]:
        """Receive from an ephemeral queue no more; returns what was received and not taken."""
        with self._mutex:
            self._ephemeral_queues.discard(queue)
            left = [item for item in self._received if item.queue == queue]
            self._received = deque(item for item in self._received if item.queue != queue)
        return left

    def receive(self, queue: str, items: Sequence[Item]) -> bool:
        """Keep what came to an ephemeral queue; False when it is consumed no more."""
        with self._mutex:
            if queue not in self._ephemeral_queues:
                return False
            self._received.extend(items)
        return True

    def take(self) -> Item | None:
        """The next to deliver, None when there is none just now.

        Raises:
            MySQLLockError: No more jobs can come, for this reason.
        """
        with self._mutex:
            if self._received:
                return self._received.popleft()
        return None if self.fetcher is None else self.fetcher.take()


class Dispatcher:
    """Owns the doorbell, the loop waker and the channels' inboxes of one transport."""

    def __init__(self) -> None:
        self._bell: Bell | None = None
        self._waker = LoopWaker()
        self._inboxes: list[Inbox] = []
        self._error: MySQLLockError | None = None
        self._mutex = threading.Lock()
        self._arming = threading.RLock()
        self._warnings = RepeatedWarnings(logger)

    def open(self, sessions: Sessions) -> None:
        """Work with these sessions from now on; to be called before anything but ``close``."""
        self._sessions = sessions
        self._bell = self._error = None

    def close(self) -> None:
        """Stop the doorbell, and leave the event loop."""
        self._waker.close()
        if self._bell is not None:
            self._bell.stop(self._sessions.main)

    # -- whether the connection stands ------------------------------------------------------------

    @property
    def is_intact(self) -> bool:
        """Whether the sessions are open, as far as is known."""
        return self._sessions.main.is_open and self._error is None

    def lose(self, error: MySQLLockError) -> None:
        """The liveness, the bell or another session of the connection is lost. From any thread."""
        self._error = error
        self._waker.notify()

    def check(self) -> None:
        """Do nothing while no session is lost.

        Raises:
            ConnectionLost: A session of this connection is lost.
        """
        if self._error is not None:
            raise ConnectionLost(f"A session of this connection was lost: {self._error}")

    @property
    def identity(self) -> str:
        """This connection's identity as a consumer, alive and listening from the first use on.

        Raises:
            ConnectionLost: A session that it needs is gone.
            CannotConnect, LoginRefused: There is no session for it.
        """
        identity = self._sessions.liveness.identity
        with self._mutex:
            if self._bell is None:
                self._bell = self._sessions.open_bell(on_ring=self.ring, on_error=self.lose)
        self.check()
        return identity

    # -- channels ---------------------------------------------------------------------------------

    def add(self, inbox: Inbox) -> None:
        """Fetch for a channel, too."""
        self._inboxes.append(inbox)

    def remove(self, inbox: Inbox) -> None:
        """A channel is closed."""
        with contextlib.suppress(ValueError):
            self._inboxes.remove(inbox)

    def open_fetcher(self) -> Fetcher:
        """A fetcher whose jobs wake the consuming thread."""
        return self._sessions.open_fetcher(self.identity, on_jobs=self.notify, on_drained=self.arm)

    def show_queues(self, changed: Inbox, its_queues: Collection[str]) -> None:
        """Say on the list of consumers from which queues the channels take jobs."""
        others = [inbox.job_queues for inbox in list(self._inboxes) if inbox is not changed]
        with contextlib.suppress(DatabaseError):
            # for people only; a session that is lost is noticed elsewhere
            self._sessions.liveness.show_queues(set(its_queues).union(*others), self._sessions.main)

    # -- the doorbell -----------------------------------------------------------------------------

    def arm(self) -> None:
        """Have the doorbell ring for what no fetcher looks for just now. From any thread."""
        if self._bell is None:
            return
        # one at a time, so that who has asked last says it last
        with self._arming:
            wanted = [inbox.wanted for inbox in list(self._inboxes)]
            jobs = frozenset[str]().union(*(one.jobs for one in wanted))
            messages = frozenset[str]().union(*(one.messages for one in wanted))
            self._bell.listen(Wanted(jobs, messages), self._sessions.main)

    def ring(self, queues: frozenset[str]) -> None:
        """Something may have come to these queues. In the doorbell's thread."""
        inboxes = list(self._inboxes)
        try:
            for inbox in inboxes:
                self._fetch_ephemeral(inbox, inbox.ephemeral_queues & queues)
                if inbox.fetcher is not None:
                    inbox.fetcher.look(queues)
            if not any(inbox.job_queues & queues for inbox in inboxes):
                # or else a fetcher arms it when it has looked
                self.arm()
        except (ReadOnlyServer, ServerFull) as error:
            self._warnings.warn("Ephemeral messages cannot be taken now: %s", error)
            # the bell rings again at once, as they are still there
            time.sleep(_RETRY)
        except MySQLLockError as error:
            self.lose(error)

    def _fetch_ephemeral(self, inbox: Inbox, queues: frozenset[str]) -> None:
        ephemeral, work = self._sessions.ephemeral, self._sessions.jobs.work
        for queue in work.with_messages(queues) if len(queues) > 1 else queues:
            while texts := ephemeral.take(queue):
                if not inbox.receive(queue, [EphemeralMessage(queue, text) for text in texts]):
                    for text in texts:
                        ephemeral.put([queue], text)
                    break
                self.notify()
        if queues and inbox.fetcher is None:
            for queue in work.with_jobs(queues):
                while self._fetch_jobs(inbox, queue):
                    self.notify()

    def _fetch_jobs(self, inbox: Inbox, queue: str) -> bool:
        """Claim jobs of a queue of control traffic whose consumer acknowledges nothing."""
        claims, identity = self._sessions.jobs.claims, self._sessions.liveness.identity
        claimed = claims.claim(queue, _AT_ONCE, identity)
        if not inbox.receive(queue, claimed):
            for job in claimed:
                claims.defer(Deferral(job.id, 0.0), identity)
            return False
        return bool(claimed)

    # -- the consuming thread ---------------------------------------------------------------------

    def notify(self) -> None:
        """There are jobs or messages to deliver, or an error to raise. From any thread."""
        bell = self._bell
        if bell is not None:
            bell.confirm_ring()
        self._waker.notify()

    def attach(self, loop: Hub, deliver: Callable[[], None]) -> None:
        """Have Celery's event loop call ``deliver`` after each ``notify``."""
        self._waker.attach(loop, deliver)

    def wait(self, timeout: float | None) -> bool:
        """Wait for ``notify``; False when it was not called in so many seconds."""
        return self._waker.wait(timeout)

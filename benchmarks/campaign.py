"""The campaign: which fault comes when, and what follows it."""

from __future__ import annotations

import heapq
import random
import time
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from benchmarks.victims import kill_a_session
from celery_mysqllock.mysql import Address, Session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.fleet import Fleet
    from devserver import DevServer
    from devserver.network import Network

_RESTART = 1.0  # seconds until a killed program is followed by another
_DOWN = 1.0  # seconds for which a killed server is down, at most; its recovery comes on top
_AWAY = 1.0  # seconds for which the table has another name, at most
_LOCKED = 7.0  # seconds for which somebody has the table: longer than a session waits for it
_PATIENCE = 60  # seconds to wait for the table
_NONSENSE = 0.5  # seconds for which something else answers instead of the server
_PAGE = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"


@dataclass
class Fault:
    """One fault that was injected.

    Attributes:
        kind: What was done.
        at: When, on the clock of ``time.monotonic``.
        victims: The names of the programs that it hit.
        until: When it was over: the server back, the program thawed.
    """

    kind: str
    at: float
    victims: frozenset[str]
    until: float = 0.0


class Campaign:
    """Injects faults at random times into a fleet and its server.

    Args:
        fleet: The programs.
        server: Their server, which gets killed too.
        plan: The faults of one round, which is shuffled each time. A fault is what it hits and
            how: ``session killed``, ``server killed``, ``server restarted``, ``table renamed``,
            ``table locked``, ``network silent``, ``network nonsense``, or a kind of the fleet's
            programs with ``killed`` or ``frozen``.
        frozen_for: Seconds for which a program is frozen.
        gap: Mean seconds between two faults.
        spare: Of a kind of programs so many are always left awake.
        network: What the programs reach the server through, where the plan has faults of it.
    """

    def __init__(  # noqa: PLR0913 - each is named at the call
        self,
        fleet: Fleet,
        server: DevServer,
        *,
        plan: Sequence[str],
        frozen_for: float,
        gap: float,
        spare: int,
        network: Network | None = None,
    ) -> None:
        self.faults: list[Fault] = []
        self._fleet = fleet
        self._server = server
        self._plan = plan
        self._frozen_for = frozen_for
        self._gap = gap
        self._spare = spare
        self._network = network
        self._is_table_locked = False
        self._round: list[str] = []
        self._order = count()
        self._later: list[tuple[float, int, Callable[[], object]]] = []
        self._next = time.monotonic() + gap

    def step(self, *, more: bool) -> None:
        """Do what is due now, and inject the next fault if it is time and there are to be more."""
        while self._later and self._later[0][0] <= time.monotonic():
            heapq.heappop(self._later)[2]()
        if more and time.monotonic() >= self._next:
            self._next = time.monotonic() + random.expovariate(1 / self._gap)
            if not self._round:
                self._round = random.sample(self._plan, len(self._plan))
            fault = self._inject(*self._round.pop().split())
            if fault is not None:
                self.faults.append(fault)

    @property
    def is_over(self) -> bool:
        """Whether everything that was killed or frozen is back."""
        return not self._later

    def retire(self, kind: str) -> None:
        """Kill all programs of the kind for good."""
        for place, program in self._fleet.awake(kind).items():
            program.kill()
            self._fleet.remove(place)

    def _inject(self, victim: str, how: str) -> Fault | None:
        if victim == "session":
            return self._kill_session()
        if victim == "server":
            return self._kill_server() if how == "killed" else self._restart_server()
        if victim == "table":
            if self._is_table_locked:
                return None
            return self._rename_table() if how == "renamed" else self._lock_table()
        if victim == "network":
            return self._silence() if how == "silent" else self._answer_nonsense()
        return self._kill(victim) if how == "killed" else self._freeze(victim)

    def _after(self, seconds: float, action: Callable[[], object]) -> None:
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._order), action))

    def _kill(self, kind: str) -> Fault | None:
        picked = self._fleet.pick(kind, self._spare)
        if picked is None:
            return None
        place, program = picked
        at = program.kill()
        self._fleet.remove(place)
        self._after(_RESTART, lambda: self._fleet.fill(place))
        return Fault(f"{kind} killed", at, frozenset({program.name}), at)

    def _freeze(self, kind: str) -> Fault | None:
        picked = self._fleet.pick(kind, self._spare)
        if picked is None:
            return None
        program = picked[1]
        fault = Fault(f"{kind} frozen", time.monotonic(), frozenset({program.name}), float("inf"))

        def thaw() -> None:
            program.thaw()
            fault.until = time.monotonic()

        program.freeze()
        self._after(self._frozen_for, thaw)
        return fault

    def _kill_session(self) -> Fault | None:
        at = time.monotonic()
        client_port = (lambda port: port) if self._network is None else self._network.client_port
        killed = kill_a_session(self._server.url, self._fleet.by_group(), client_port)
        if killed is None:
            return None
        victims = self._fleet.names() if killed.program is None else frozenset({killed.program})
        return Fault("session killed", at, victims, time.monotonic())

    def _kill_server(self) -> Fault:
        fault = Fault("server killed", time.monotonic(), self._fleet.names())
        self._server.kill()
        time.sleep(random.uniform(0, _DOWN))  # noqa: S311 - no secret
        self._server.start()
        fault.until = time.monotonic()
        return fault

    def _restart_server(self) -> Fault:
        fault = Fault("server restarted", time.monotonic(), self._fleet.names())
        self._server.restart()
        fault.until = time.monotonic()
        return fault

    def _rename_table(self) -> Fault:
        fault = Fault("table renamed", time.monotonic(), self._fleet.names())
        with self._patient_session() as session:
            session.execute("RENAME TABLE jobs TO jobs_away")
            time.sleep(random.uniform(0, _AWAY))  # noqa: S311 - no secret
            session.execute("RENAME TABLE jobs_away TO jobs")
        fault.until = time.monotonic()
        return fault

    def _lock_table(self) -> Fault:
        fault = Fault("table locked", time.monotonic(), self._fleet.names(), float("inf"))
        session = self._patient_session()

        def unlock() -> None:
            session.close()
            self._is_table_locked = False
            fault.until = time.monotonic()

        session.execute("LOCK TABLES jobs WRITE")
        self._is_table_locked = True
        self._after(_LOCKED, unlock)
        return fault

    def _patient_session(self) -> Session:
        """A session that waits for the end of the statements in which consumers sleep."""
        session = Session(Address.parse(self._server.url), read_timeout=_PATIENCE).open()
        session.execute("SET SESSION lock_wait_timeout = %s", (_PATIENCE,))
        return session

    def _silence(self) -> Fault | None:
        if self._network is None:
            return None
        self._network.forget()
        at = time.monotonic()
        return Fault("network silent", at, self._fleet.names(), at)

    def _answer_nonsense(self) -> Fault | None:
        if self._network is None:
            return None
        network = self._network
        fault = Fault("network nonsense", time.monotonic(), self._fleet.names(), float("inf"))

        def stop() -> None:
            network.answer(None)
            fault.until = time.monotonic()

        network.answer(_PAGE)
        self._after(_NONSENSE, stop)
        return fault

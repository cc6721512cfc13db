"""The campaign: which fault comes when, and what follows it."""

from __future__ import annotations

import heapq
import random
import time
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from benchmarks.victims import kill_a_session

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.fleet import Fleet
    from celery_mysqllock.devserver import DevServer

_RESTART = 1.0  # seconds until a killed program is followed by another
_DOWN = 1.0  # seconds for which a killed server is down, at most; its recovery comes on top


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
            how: ``session killed``, ``server killed``, ``server restarted``, or a kind of the
            fleet's programs with ``killed`` or ``frozen``.
        frozen_for: Seconds for which a program is frozen.
        gap: Mean seconds between two faults.
        spare: Of a kind of programs so many are always left awake.
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
    ) -> None:
        self.faults: list[Fault] = []
        self._fleet = fleet
        self._server = server
        self._plan = plan
        self._frozen_for = frozen_for
        self._gap = gap
        self._spare = spare
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
        killed = kill_a_session(self._server.url, self._fleet.by_group())
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

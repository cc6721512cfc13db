"""What a pair of take and give back costs when nobody contends, and what a locked task costs."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING

from celery import Celery

from benchmarks.locks import kinds
from celery_mysqllock import single_instance

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.locks.kinds import Pair

PAIRS = 200  # in one round
OVERHEAD = "@single_instance"
_KINDS = (
    *(kinds.TWO_SELECTS, kinds.OURS, kinds.PYMYSQL_PAIR),
    *(kinds.SET_NX, kinds.REDIS_PY, kinds.SINGLETON, kinds.FLOCK),
)


def pair_costs(
    mysql_url: str, redis_url: str, rounds: int, seen: Callable[[], object]
) -> dict[str, list[float]]:
    """Microseconds for a pair of each kind, by kind, one figure a round.

    In each round all kinds have their turn, so that what disturbs the machine disturbs all.

    Args:
        mysql_url: The server of ours.
        redis_url: Redis.
        rounds: How many.
        seen: Called after each round.
    """
    pairs = {
        kind: kinds.make(kind, "pair", mysql_url, redis_url)
        for kind in kinds.without_missing(_KINDS, redis_url)
    }
    plain, locked = _tasks(mysql_url)
    costs: dict[str, list[float]] = {kind: [] for kind in (*pairs, OVERHEAD)}
    for _ in range(rounds):
        for kind, pair in pairs.items():
            costs[kind].append(_microseconds(_both(pair)))
        costs[OVERHEAD].append(_microseconds(locked) - _microseconds(plain))
        seen()
    return costs


def ratio(costs: dict[str, list[float]], one: str, other: str) -> float:
    """The median of the ratios of two kinds, round by round."""
    return median(a / b for a, b in zip(costs[one], costs[other], strict=True))


def _both(pair: Pair) -> Callable[[], object]:
    take, give = pair

    def both() -> None:
        take()
        give()

    return both


def _tasks(url: str) -> tuple[Callable[[], object], Callable[[], object]]:
    app = Celery("locks", broker=url)

    @app.task
    def plain() -> None:
        """Do nothing."""

    @app.task
    @single_instance
    def locked() -> None:
        """Do nothing, alone."""

    return plain, locked


def _microseconds(call: Callable[[], object]) -> float:
    call()  # connects
    began = time.perf_counter()
    for _ in range(PAIRS):
        call()
    return (time.perf_counter() - began) / PAIRS * 1e6

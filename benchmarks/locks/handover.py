"""How soon the next one has a lock: after a release, and after the SIGKILL of an idle holder."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from benchmarks.locks.rival import Rival

if TYPE_CHECKING:
    from collections.abc import Callable

_IN_LINE = 0.05  # seconds after which the second one waits in line


def after_release(
    kind: str, urls: tuple[str, str], rounds: int, seen: Callable[[], object]
) -> list[float]:
    """Milliseconds from the release of one holder to the next one's having it, one a round."""
    one, two = (Rival(kind, "handover", *urls) for _ in range(2))
    found = []
    try:
        one.tell("take")
        one.hear()
        for _ in range(rounds):
            two.tell("take")
            time.sleep(_IN_LINE)
            one.tell("give")
            released, taken = one.hear(), two.hear()
            found.append((taken - released) * 1000)
            one, two = two, one
            seen()
    finally:
        one.end()
        two.end()
    return found


def after_kill(
    kind: str, urls: tuple[str, str], rounds: int, seen: Callable[[], object]
) -> list[float]:
    """Milliseconds from the SIGKILL of an idle holder to the next one's having it, one a round."""
    found = []
    for number in range(rounds):
        one, two = (Rival(kind, f"killed-{number}", *urls) for _ in range(2))
        try:
            one.tell("take")
            one.hear()
            two.tell("take")
            time.sleep(_IN_LINE)
            killed = one.kill()
            found.append((two.hear() - killed) * 1000)
        finally:
            one.end()
            two.end()
        seen()
    return found

"""A time limit, a shutdown or a loss may raise between any two lines: the lock is free even so.

``sys.settrace`` raises at each line of the tasks room in turn.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import celery_mysqllock.tasks
from celery_mysqllock import OtherInstanceError
from celery_mysqllock.exceptions import LockNotOwned
from celery_mysqllock.tasks import current_lock
from celery_mysqllock.tasks.interrupt import MainThreadInterrupt

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from celery import Task

ROOM = str(Path(celery_mysqllock.tasks.__file__).parent)


class Interruption(BaseException):
    """Like SystemExit: nobody catches it on the way."""


class _At:
    """Raises at the line of that number, counted from the first that runs in the room."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.where = ""

    def __call__(self, frame: FrameType, event: str, _: object) -> Any:
        if not frame.f_code.co_filename.startswith(ROOM):
            return None
        if event == "line":
            self.left -= 1
            if not self.left:
                self.where = f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"
                raise Interruption
        return self


def _interrupted_at(number: int, run: Callable[[], object]) -> str:
    """Where the call was interrupted, empty when it had ended before."""
    at = _At(number)
    before = sys.gettrace()
    sys.settrace(at)
    try:
        run()
    except (Interruption, OtherInstanceError):
        pass
    finally:
        sys.settrace(before)
    return at.where


@pytest.mark.parametrize("conflict", [False, True], ids=["free", "held"])
def test_the_lock_is_free_wherever_the_call_was_interrupted(
    make_one: Callable[..., Task], ran: Callable[..., str], conflict: bool
) -> None:
    task = make_one(ran, {"include_args": True})
    other = task.lock_for()
    places: list[str] = []
    if conflict:
        assert other.acquire()
    while place := _interrupted_at(len(places) + 1, task):
        places.append(place)
        assert other.owned() == conflict
        assert other.locked() == conflict, f"the lock is left behind at {place}"
        assert MainThreadInterrupt._armed == [], place  # noqa: SLF001 - nothing else shows it
        with pytest.raises(LockNotOwned):
            current_lock()
    if conflict:
        other.release()
    assert len(places) > 50
    assert any(place.startswith("locked_call.py") for place in places)
    assert task() == "ran"

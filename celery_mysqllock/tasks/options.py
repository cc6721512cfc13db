"""The options of a task's lock, checked when the task is decorated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict, cast

from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.jobs import UNIQUE_KINDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

ON_CONFLICT = ("raise", "skip", "retry", "queue")
ON_LOST = ("raise", "log", "terminate")


class GivenOptions(TypedDict, total=False):
    """The options as a user writes them; ``single_instance`` says what each does."""

    key: str | Callable[..., str] | None
    include_args: bool
    unique_on: Iterable[str] | None
    wait: float | None
    on_conflict: str | Callable[..., Any]
    skip_result: Any
    retry_countdown: float
    limit: int | None
    on_lost: str
    unique: str | None


@dataclass(frozen=True)
class LockOptions:
    """The options of a task's lock with their defaults; ``single_instance`` says what each does."""

    key: str | Callable[..., str] | None = None
    include_args: bool = False
    unique_on: tuple[str, ...] | None = None
    wait: float | None = 0
    on_conflict: str | Callable[..., Any] = "raise"
    skip_result: Any = None
    retry_countdown: float = 30
    limit: int | None = 1
    on_lost: str = "raise"
    unique: str | None = None

    @property
    def reads_arguments(self) -> bool:
        """Whether the key depends on the arguments of the call."""
        return self.key is not None or self.include_args or self.unique_on is not None


# Options of other task locks, and what to write instead.
_KNOWN_ELSEWHERE = {
    "lock_timeout": "a lock here has no time limit: it is free when its process ends; leave it out",
    "lock_expiry": "a lock here has no time limit: it is free when its process ends; leave it out",
    "timeout": "seconds to wait for the lock are wait=",
    "raise_on_duplicate": "write on_conflict='raise', which is the default",
    "graceful": "write on_conflict='skip'",
    "keys": "write unique_on=",
}

# Options that contradict each other, and why.
_CONTRADICTIONS = (
    ("key", "include_args", "the key already says which arguments take part"),
    ("key", "unique_on", "the key already says which arguments take part"),
    ("include_args", "unique_on", "one means all arguments and the other only some"),
)

# Options that mean something only with some on_conflict.
_ONLY_WITH = {"skip_result": ("skip",), "retry_countdown": ("retry", "queue")}
# Options that mean nothing without a lock, that is with limit=None.
_OF_A_LOCK = ("wait", "on_conflict", "skip_result", "retry_countdown", "on_lost")


def read_options(task_name: str, given: Mapping[str, Any]) -> LockOptions:
    """Check the options as a user wrote them.

    Args:
        task_name: The task, for the messages.
        given: The options by name.

    Raises:
        SettingsError: One is unknown or not allowed, or two contradict each other.
    """
    for name, value in given.items():
        if name not in _ACCEPTS:
            advice = _KNOWN_ELSEWHERE.get(name, f"known are {', '.join(_ACCEPTS)}")
            raise _error(task_name, f"unknown option {name!r}: {advice}")
        allowed, accepts = _ACCEPTS[name]
        if not accepts(value):
            raise _error(task_name, f"{name}={value!r} is not allowed: it takes {allowed}")
    _check_together(task_name, given)
    unique_on = given.get("unique_on")
    if unique_on is not None:
        names = (unique_on,) if isinstance(unique_on, str) else tuple(unique_on)
        given = {**given, "unique_on": names}
    return LockOptions(**given)


def _check_together(task_name: str, given: Mapping[str, Any]) -> None:
    for one, other, reason in _CONTRADICTIONS:
        if given.get(one) and given.get(other):
            raise _error(task_name, f"{one} and {other} contradict each other: {reason}")
    for option in _OF_A_LOCK:
        if option in given and given.get("limit", 1) is None:
            raise _error(
                task_name, f"{option} is for a lock, and limit=None says that there is none"
            )
    on_conflict = given.get("on_conflict", "raise")
    for option, needed in _ONLY_WITH.items():
        if option in given and on_conflict not in needed:
            raise _error(
                task_name,
                f"{option} means something only with on_conflict="
                f"{' or '.join(map(repr, needed))}, and it is {on_conflict!r}",
            )


def _error(task_name: str, problem: str) -> SettingsError:
    return SettingsError(f"The lock of task {task_name}: {problem}.")


def _is_seconds(value: object) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and value >= 0
    )


def _are_names(value: object) -> bool:
    if isinstance(value, str):
        return bool(value)
    if not isinstance(value, (list, tuple, set, frozenset)):
        return False
    names = cast("Iterable[object]", value)
    return bool(value) and all(isinstance(name, str) and name for name in names)


_ACCEPTS: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "key": (
        "a name or template that is not empty, a callable(task, *args, **kwargs), or None",
        lambda value: (
            value is None or callable(value) or (isinstance(value, str) and bool(value.strip()))
        ),
    ),
    "include_args": ("True or False", lambda value: isinstance(value, bool)),
    "unique_on": (
        "names of the task's parameters, at least one, or None",
        lambda value: value is None or _are_names(value),
    ),
    "wait": (
        "seconds, zero or more, or None for as long as it takes",
        lambda value: value is None or _is_seconds(value),
    ),
    "on_conflict": (
        f"{', '.join(map(repr, ON_CONFLICT))} or a callable(task, holder)",
        lambda value: callable(value) or value in ON_CONFLICT,
    ),
    "skip_result": ("anything", lambda _: True),
    "retry_countdown": ("seconds, zero or more", _is_seconds),
    "limit": (
        "a whole number, one or more, or None for no lock",
        lambda value: (
            value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 1)
        ),
    ),
    "on_lost": (", ".join(map(repr, ON_LOST)), lambda value: value in ON_LOST),
    "unique": (
        f"{', '.join(map(repr, UNIQUE_KINDS))}, or None",
        lambda value: value is None or value in UNIQUE_KINDS,
    ),
}

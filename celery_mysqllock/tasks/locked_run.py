"""Wraps the ``run`` of a task, so that it runs under its lock."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from celery import Task, current_app
from celery._state import get_current_task

from celery_mysqllock.exceptions import LockError, SettingsError
from celery_mysqllock.tasks.keys import signature_of
from celery_mysqllock.tasks.locked_call import run_locked
from celery_mysqllock.tasks.rule import MARK, LockRule, rule_of

if TYPE_CHECKING:
    from collections.abc import Callable


def locked_run(
    rule: LockRule, run: Callable[..., Any], task: Task | None = None
) -> Callable[..., Any]:
    """Wrap a task's ``run``.

    Args:
        rule: How the task is locked.
        run: The function, or the bound method of the task.
        task: The task, when it exists already; ``run`` then does not take it. A function that is
            yet to become a task finds it when it is called.
    """

    @functools.wraps(run)
    def locked(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the task's own
        body = functools.partial(run, *args, **kwargs)
        if task is not None:
            return run_locked(rule, task, args, kwargs, body)
        first = args[0] if args else None
        if isinstance(first, Task) and rule_of(first) is rule:
            return run_locked(rule, first, args[1:], kwargs, body)
        own = inspect.isclass(first) and _is_run_of(rule, first)
        return run_locked(rule, _task_of(rule), args[1:] if own else args, kwargs, body)

    setattr(locked, MARK, rule)
    if not hasattr(run, "__wrapped__"):
        # What Celery checks the arguments of a call against; it does not look behind __wrapped__,
        # and a decorator may add arguments to those of the call.
        locked.__signature__ = signature_of(run)  # type: ignore[attr-defined]
    return locked


def _is_run_of(rule: LockRule, kind: type) -> bool:
    """Whether the rule is that of a task's class, which its ``run`` gets as a class method."""
    return issubclass(kind, Task) and getattr(getattr(kind, "run", None), MARK, None) is rule


def _task_of(rule: LockRule) -> Task:
    """The task that a function without ``bind`` belongs to."""
    current = get_current_task()
    if current is not None and rule_of(current) is rule:
        return current
    for task in current_app.tasks.values():
        if rule_of(task) is rule:
            return task
    raise LockError(
        f"{rule.task_name} has @single_instance but is no task of the current application, so it "
        "did not run. Put @app.task above it; a decorator between the two must use "
        "functools.wraps."
    )


def lock_task(rule: LockRule, task: Task) -> None:
    """Put the lock on a task that exists.

    It goes inside Celery's autoretry, as it does on a function that is yet to become a task.

    Raises:
        SettingsError: The task has a lock from elsewhere.
    """
    attribute = "_orig_run" if "_orig_run" in vars(task) else "run"
    run = getattr(task, attribute)
    former = getattr(run, MARK, None)
    if former is not None and not former.may_be_replaced:
        raise SettingsError(
            f"Task {task.name} is given two locks; give it one @single_instance, or lock= on a "
            "SingleInstanceTask, not both."
        )
    setattr(task, attribute, locked_run(rule, run if former is None else run.__wrapped__, task))
    setattr(task, MARK, rule)

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
from celery_mysqllock.tasks.spec import MARK, LockSpec, spec_of

if TYPE_CHECKING:
    from collections.abc import Callable


def locked_run(
    spec: LockSpec, run: Callable[..., Any], task: Task | None = None
) -> Callable[..., Any]:
    """Wrap a task's ``run``.

    Args:
        spec: The task's lock.
        run: The function, or the bound method of the task.
        task: The task, when it exists already; ``run`` then does not take it. Otherwise the
            function finds its task when it is called.
    """

    @functools.wraps(run)
    def locked(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the task's own
        body = functools.partial(run, *args, **kwargs)
        if task is not None:
            return run_locked(spec, task, args, kwargs, body)
        first = args[0] if args else None
        if isinstance(first, Task) and spec_of(first) is spec:
            return run_locked(spec, first, args[1:], kwargs, body)
        is_method = inspect.isclass(first) and _is_run_of(spec, first)
        return run_locked(spec, _task_of(spec), args[1:] if is_method else args, kwargs, body)

    setattr(locked, MARK, spec)
    if not hasattr(run, "__wrapped__"):
        # Celery checks the arguments of a call against this. It does not look behind __wrapped__,
        # and a decorator may add arguments to those of the call.
        locked.__signature__ = signature_of(run)  # type: ignore[attr-defined]
    return locked


def _is_run_of(spec: LockSpec, kind: type) -> bool:
    """Whether it is the task's class, which a ``run`` that is a class method gets."""
    return issubclass(kind, Task) and getattr(getattr(kind, "run", None), MARK, None) is spec


def _task_of(spec: LockSpec) -> Task:
    """The task that a function without ``bind`` belongs to."""
    current = get_current_task()
    if current is not None and spec_of(current) is spec:
        return current
    for task in current_app.tasks.values():
        if spec_of(task) is spec:
            return task
    raise LockError(
        f"{spec.task_name} has @single_instance but is no task of the current application, so it "
        "did not run. Put @app.task above it; a decorator between the two must use "
        "functools.wraps."
    )


def lock_task(spec: LockSpec, task: Task) -> None:
    """Put the lock on a task that exists, inside Celery's autoretry.

    Raises:
        SettingsError: The task has a lock already.
    """
    attribute = "_orig_run" if "_orig_run" in vars(task) else "run"
    run = getattr(task, attribute)
    former = getattr(run, MARK, None)
    if former is not None and not former.may_be_replaced:
        raise SettingsError(
            f"Task {task.name} is given two locks; give it one @single_instance, or lock= on a "
            "SingleInstanceTask, not both."
        )
    setattr(task, attribute, locked_run(spec, run if former is None else run.__wrapped__, task))
    setattr(task, MARK, spec)

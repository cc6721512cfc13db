"""The lock that a task is given: its options, and the lock of each call."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from celery_mysqllock.app import lock_settings
from celery_mysqllock.exceptions import LockError, SettingsError
from celery_mysqllock.locks import new_lock
from celery_mysqllock.mysql import lock_name
from celery_mysqllock.tasks.body import bound_run, with_models
from celery_mysqllock.tasks.keys import check_key, key_of, signature_of
from celery_mysqllock.tasks.options import read_options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from celery import Task

    from celery_mysqllock.locks import MemoryLock, MySQLLock

#: The attribute in which a task's ``run`` carries its spec. ``functools.wraps`` copies it, so other
#: decorators and Celery's own wrappers of ``run`` pass it on.
MARK = "__single_instance__"


class LockSpec:
    """The options of one task's lock; makes the lock of each call.

    Args:
        task_name: The task's name, for messages.
        given: The options by name, as the user wrote them.
        run: The function that the lock is for.
        may_be_replaced: Whether another spec of the same task replaces this one, instead of being
            an error. It does when a base class says the same for all its tasks.

    Raises:
        SettingsError: An option is wrong, or the lock would be free before the function runs.
    """

    def __init__(
        self,
        task_name: str,
        given: Mapping[str, Any],
        run: Callable[..., Any],
        *,
        may_be_replaced: bool = False,
    ) -> None:
        self.task_name = task_name
        self.may_be_replaced = may_be_replaced
        self.options = read_options(task_name, given)
        if (
            inspect.iscoroutinefunction(run)
            or inspect.isgeneratorfunction(run)
            or inspect.isasyncgenfunction(run)
        ):
            raise SettingsError(
                f"The lock of task {task_name}: its function only returns a coroutine or "
                "generator, so the lock would be free before the body runs. Give it to a plain "
                "function that runs it."
            )
        check_key(task_name, self.options, signature_of(run))
        self._signature: inspect.Signature | None = None

    def lock_name(self, task: Task, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """The name of a call's lock, without the namespace; errors as in ``key``."""
        return f"task:{self.key(task, args, kwargs)}"

    def key(self, task: Task, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """The key of a call; calls with the same key are equal.

        Raises:
            TypeError: The arguments do not fit the task, or one cannot be part of a key.
            pydantic.ValidationError: One is not the model that the task takes.
            SettingsError: The key is empty.
        """
        if self._signature is None:
            # without self, however the task was made
            self._signature = signature_of(bound_run(task))
        args, kwargs = with_models(task, args, kwargs)
        return key_of(task, self.options, self._signature, args, kwargs)

    def order_key(self, task: Task, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """The key of the calls that run one after the other; errors as in ``key``."""
        return lock_name(self.lock_name(task, args, kwargs))

    def new_lock(
        self,
        task: Task,
        name: str,
        *,
        note: str | None = None,
        on_lost: Callable[[Any], None] | None = None,
    ) -> MySQLLock | MemoryLock:
        """A lock of that name where the task's application keeps its locks, not acquired yet.

        Raises:
            SettingsError: The application does not say where it keeps them.
            LockError: The task runs without a lock.
        """
        if self.options.limit is None:
            raise LockError(f"Task {task.name} runs without a lock: it has limit=None.")
        settings = lock_settings(task.app)
        return new_lock(
            name,
            url=settings.url or "",
            namespace=settings.namespace,
            limit=self.options.limit,
            session_timeout=settings.session_timeout,
            allow_multi_primary=settings.allow_multi_primary,
            note=note,
            on_lost=on_lost,
        )


def spec_of(task: Task) -> LockSpec | None:
    """The spec of a task's lock, None when it runs without a lock."""
    # With autoretry_for, Celery moves the former run to _orig_run. A tracer may replace run by one
    # that does not lead to the former.
    for carrier in (task.run, getattr(task, "_orig_run", None), bound_run(task), task):
        spec = getattr(carrier, MARK, None)
        if isinstance(spec, LockSpec):
            return spec
    return None


def lock_for(task: Task, /, *args: Any, **kwargs: Any) -> MySQLLock | MemoryLock:  # noqa: ANN401 - the task's own
    """The lock of a call of the task with these arguments.

    Use it to look at the lock (``holder()``, ``locked()``) or to free it by force (``reset()``),
    from any program that has the task. It is not acquired, and it is not the object that a running
    task holds, which is ``current_lock()``.

    Args:
        task: The task; left out when it is called as a method, ``task.lock_for(7)``.
        *args: The arguments of the call.
        **kwargs: The keyword arguments of the call.

    Raises:
        LockError: The task runs without a lock.
        TypeError: The arguments do not fit the task, or one cannot be part of a key.
        SettingsError: The application does not say where it keeps its locks.
    """
    spec = spec_of(task)
    if spec is None:
        raise LockError(
            f"Task {task.name} runs without a lock. Give it one with @single_instance, or with "
            "base=SingleInstanceTask."
        )
    return spec.new_lock(task, spec.lock_name(task, args, kwargs))

"""The base class of tasks that run under a lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from celery import Task

from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.tasks.locked_run import lock_task
from celery_mysqllock.tasks.spec import LockSpec, lock_for, spec_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from celery_mysqllock.locks import MemoryLock, MySQLLock


class SingleInstanceTask(Task):
    """A task that runs only while it holds a lock of its own, as with ``@single_instance``.

    Use it as ``base=`` of ``@app.task``, as the base of a class-based task, or for all tasks of an
    application: ``Celery(task_cls=SingleInstanceTask)``. Celery's own tasks, such as the one that
    completes chords, then stay without a lock.

    Attributes:
        lock: The options of ``@single_instance``, by name; None for no lock.

    Raises:
        SettingsError: When the task is made: an option is wrong. The message names the task.

    Example::

        @app.task(base=SingleInstanceTask, lock={"unique_on": ["x"], "on_conflict": "skip"})
        def other(x): ...
    """

    lock: ClassVar[Mapping[str, Any] | None] = {}

    def __new__(cls, *_: object, **__: object) -> Self:
        """Make the task and put the lock on its ``run``, inside of Celery's autoretry."""
        task: Self = super().__new__(cls)
        if cls.lock is None or cls.__module__.startswith("celery."):
            return task
        name = cls.name or f"{cls.__module__}.{cls.__qualname__}"
        if not isinstance(cls.lock, dict):
            raise SettingsError(
                f"The lock of task {name}: lock={cls.lock!r} is no dict of options, such as "
                "{'unique_on': ['account']}, and not None."
            )
        has_own_options = "lock" in vars(cls)
        if spec_of(task) is None or has_own_options:
            spec = LockSpec(name, cls.lock, task.run, may_be_replaced=not has_own_options)
            lock_task(spec, task)
        return task

    def lock_for(self, /, *args: Any, **kwargs: Any) -> MySQLLock | MemoryLock:  # noqa: ANN401 - the task's own
        """The lock of a call of this task; see ``tasks.lock_for``."""
        return lock_for(self, *args, **kwargs)

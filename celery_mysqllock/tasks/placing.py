"""Puts the lock on tasks that ``@app.task`` or ``@shared_task`` have made, or are yet to make."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from celery import Task
from celery._state import _get_active_apps, connect_on_app_finalize
from celery.local import PromiseProxy, Proxy, maybe_evaluate

from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.tasks.locked_run import lock_task
from celery_mysqllock.tasks.rule import MARK, LockRule, rule_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celery import Celery


def is_task(target: object) -> bool:
    """Whether this is a task, or the proxy of one; a task that is yet to be made is not made."""
    # isinstance of a proxy would make the task, and read a configuration that is not complete yet.
    return type(target) in (Proxy, PromiseProxy) or isinstance(target, Task)


def lock_made_task(target: Any, given: Mapping[str, Any]) -> None:  # noqa: ANN401 - a task or proxy
    """Put a lock on a task, and on the copies of it that other applications make.

    Celery gives each application a task of its own from the function of a ``@shared_task``, and,
    unless ``shared=False``, of an ``@app.task`` too. The one that is at hand here is only the
    first of them, if it exists at all.

    Args:
        target: What ``@app.task`` or ``@shared_task`` gave back.
        given: The options of the lock, as the user wrote them.

    Raises:
        SettingsError: An option is wrong, the task has a lock already, or this is no task.
    """
    task = _made(target)
    origin = _origin_of_proxy(target) if task is None else _origin_of_task(task)
    if hasattr(origin.function, MARK) or hasattr(origin.proxied, MARK):
        raise SettingsError(f"Task {origin} is given two locks; leave one of them out.")
    rule = LockRule(str(origin), given, origin.function)
    if task is not None:
        lock_task(rule, task)
        if not getattr(task, "_decorated", False):
            return  # made of a class: there are no copies
    elif type(target) is PromiseProxy:
        target.__then__(lambda: lock_task(rule, maybe_evaluate(target)))
    else:
        setattr(origin.proxied, MARK, rule)
    _lock_copies(rule, origin)


@dataclass(frozen=True)
class _Origin:
    """What a task is made of.

    Attributes:
        function: The function that becomes its ``run``.
        name: The task's name, None when Celery makes it of the function's name.
        proxied: With ``@shared_task``, the function that finds the task.
    """

    function: Callable[..., Any]
    name: str | None
    proxied: Callable[..., Task] | None = None

    def __str__(self) -> str:
        return self.name or f"{self.function.__module__}.{self.function.__name__}"

    def task_in(self, app: Celery) -> Task | None:
        """The task that the application has made of it."""
        name = self.name or app.gen_task_name(self.function.__name__, self.function.__module__)
        task = app.tasks.get(name)
        run = None if task is None else _origin_of_task(task).function
        while run is not None and run is not self.function:
            run = getattr(run, "__wrapped__", None)
        return None if run is None else task


def _made(target: Any) -> Task | None:  # noqa: ANN401 - a task or proxy
    if type(target) is Proxy or (type(target) is PromiseProxy and not target.__evaluated__()):
        return None
    return maybe_evaluate(target)


def _origin_of_task(task: Task) -> _Origin:
    run: Any = inspect.getattr_static(type(task), "run")
    return _Origin(run.__func__ if isinstance(run, staticmethod) else run, task.name)


def _origin_of_proxy(proxy: Any) -> _Origin:  # noqa: ANN401 - Proxy or PromiseProxy
    """What Celery will make the task of; there is no public way to it."""
    proxied = object.__getattribute__(proxy, "_Proxy__local")
    if type(proxy) is PromiseProxy:
        functions = object.__getattribute__(proxy, "_Proxy__args")
        name = object.__getattribute__(proxy, "_Proxy__kwargs").get("name")
        if functions and callable(functions[0]):
            return _Origin(functions[0], name)
    elif inspect.isfunction(proxied):
        variables = inspect.getclosurevars(proxied).nonlocals
        if "fun" in variables:
            return _Origin(variables["fun"], variables.get("name"), proxied)
    raise SettingsError(
        "@single_instance was put on a proxy that is neither of @app.task nor of @shared_task. "
        "Put it on the task's function, below them."
    )


def _lock_copies(rule: LockRule, origin: _Origin) -> None:
    def lock_in(sender: Celery, **_: object) -> None:
        task = origin.task_in(sender)
        if task is not None:
            former = rule_of(task)
            if former is None or former.may_be_replaced:
                lock_task(rule, task)

    @connect_on_app_finalize
    def lock_later(app: Celery) -> None:
        app.on_after_finalize.connect(lock_in, weak=False)

    for app in list(_get_active_apps()):
        if app.finalized:
            lock_in(app)

"""An application whose locks are in memory, and every way to give one of its tasks a lock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

from celery import Celery, Task, shared_task

from celery_mysqllock import SingleInstanceTask, single_instance

if TYPE_CHECKING:
    from collections.abc import Callable

    Body = Callable[..., Any]
    Maker = Callable[..., Task]


def new_app(**options: Any) -> Celery:
    """An application of its own, with a namespace of its own, that sends nothing anywhere."""
    app = Celery(f"app_{uuid4().hex[:8]}", **options)
    app.conf.update(
        broker_url="memory://",
        result_backend="cache+memory://",
        mysqllock_url="memory://",
        mysqllock_namespace=f"ns_{uuid4().hex[:8]}",
    )
    return app


def _name() -> str:
    return f"tests.task_{uuid4().hex[:8]}"


def _below(app: Celery, body: Body, lock: dict[str, Any], **options: Any) -> Task:
    return app.task(name=_name(), **options)(single_instance(**lock)(body))


def _base(app: Celery, body: Body, lock: dict[str, Any], **options: Any) -> Task:
    return app.task(name=_name(), base=SingleInstanceTask, lock=lock, **options)(body)


def _shared_below(app: Celery, body: Body, lock: dict[str, Any], **options: Any) -> Task:
    app.set_current()
    app.set_default()  # the current one of other threads
    return shared_task(name=_name(), **options)(single_instance(**lock)(body))


def _task_cls(app: Celery, body: Body, lock: dict[str, Any], **options: Any) -> Task:
    app.task_cls = SingleInstanceTask
    return app.task(name=_name(), lock=lock, **options)(body)


def _run_of(body: Body, *, bind: bool) -> Any:
    return body if bind else staticmethod(body)


def _class_with_base(
    app: Celery, body: Body, lock: dict[str, Any], *, bind: bool = False, **options: Any
) -> Task:
    attributes = {"run": _run_of(body, bind=bind), "lock": lock, "name": _name(), **options}
    return app.register_task(type("Made", (SingleInstanceTask,), attributes)())


def _decorated_run(
    app: Celery, body: Body, lock: dict[str, Any], *, bind: bool = False, **options: Any
) -> Task:
    run = _run_of(single_instance(**lock)(body), bind=bind)
    return app.register_task(type("Made", (Task,), {"run": run, "name": _name(), **options})())


def _decorated_class(
    app: Celery, body: Body, lock: dict[str, Any], *, bind: bool = False, **options: Any
) -> Task:
    attributes = {"run": _run_of(body, bind=bind), "name": _name(), **options}
    return app.register_task(single_instance(**lock)(type("Made", (Task,), attributes))())


def _decorated_instance(
    app: Celery, body: Body, lock: dict[str, Any], *, bind: bool = False, **options: Any
) -> Task:
    attributes = {"run": _run_of(body, bind=bind), "name": _name(), **options}
    return single_instance(**lock)(app.register_task(type("Made", (Task,), attributes)()))


#: Every way to give a task a lock: ``make(app, body, lock_options, bind=..., **task_options)``.
MAKERS: dict[str, Maker] = {
    "below": _below,
    "base": _base,
    "shared-below": _shared_below,
    "task_cls": _task_cls,
    "class-with-base": _class_with_base,
    "decorated-run": _decorated_run,
    "decorated-class": _decorated_class,
    "decorated-instance": _decorated_instance,
}

"""The decorator that gives a task a lock."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar, overload

from celery import Task
from celery.local import Proxy

from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.tasks.locked_run import lock_task, locked_run
from celery_mysqllock.tasks.spec import MARK, LockSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Unpack

    from celery_mysqllock.tasks.options import GivenOptions

T = TypeVar("T")


@overload
def single_instance(target: T, /) -> T: ...
@overload
def single_instance(**options: Unpack[GivenOptions]) -> Callable[[T], T]: ...
def single_instance(target: Any = None, /, **options: Any) -> Any:
    """Run a task only while it holds a lock of its own, so that one instance runs at a time.

    Put it below ``@app.task`` or ``@shared_task``, next to the function; on the ``run`` of a
    class-based task, or on its class; or call it with an instance of such a class. It takes options
    or none. The lock is held from before the body begins until it has ended, however it ends, and
    the server frees it when the process dies. Direct calls, ``apply()`` and eager tasks take the
    lock too. A call of the task within its own body, in the same thread, is a part of that body and
    does not wait for it.

    Args:
        target: What is decorated, when there are no options.
        **options: All have a default:

            key: Which calls share a lock. None: the task's name. A text such as
                ``"report:{account}"`` is filled in with the call's arguments. A
                ``callable(task, *args, **kwargs)`` returns the text. Tasks with equal keys share
                one lock. With ``pydantic=True`` both get the models, also where the sender gave a
                dict.
            include_args: Whether all arguments are part of the key, default False.
            unique_on: Names of the parameters that are part of the key.
            wait: Seconds to wait for the lock, in the server's queue, default 0; None for no limit.
                A retry or redelivery of the task waits up to 5 seconds for its own earlier attempt
                to end, whatever this says.
            on_conflict: What to do when another instance has the lock. ``"raise"``, the default:
                ``OtherInstanceError``, which ``autoretry_for=(Exception,)`` does not retry.
                ``"skip"``: return ``skip_result``. ``"retry"``: send the task again, which never
                counts against its ``max_retries``; a direct or eager call, which has no message to
                send, raises. ``"queue"``: jobs of one key wait in the job table, and each is
                delivered when the one before it has ended, in the order in which they were sent;
                needs ``mysql://`` as the broker and implies ``acks_late``. When another program has
                the lock, the first job waits up to 5 seconds, and is then put aside for
                ``retry_countdown`` with those behind it; a direct or eager call raises.
                A ``callable(task, holder)``: return what it returns.
            skip_result: What a skipped call returns, default None.
            retry_countdown: Seconds to the retry, or for which a job is put aside, a quarter more
                or less at random, default 30.
            limit: How many instances may run at a time, default 1. None for any number, without a
                lock: for a task that is only to be unique in the queue.
            on_lost: What to do when the lock is lost while the body runs, because its session with
                the server ended. ``"raise"``, the default: ``LockLost`` is raised in the body.
                ``"log"``: the body goes on. ``"terminate"``: the process ends at once.
            unique: Whether a call is stored that has the same key as a stored job. None, the
                default: yes. ``"queued"``: not while that job waits or is scheduled.
                ``"until_done"``: not until it is done or dead, for a task with ``acks_late=True``,
                as its acknowledgement frees the key. ``apply_async`` and ``delay`` then return the
                ``AsyncResult`` of the stored job. For one call:
                ``task.apply_async(args, unique=...)``. Needs the ``mysql://`` broker.

    Raises:
        SettingsError: An option is unknown or not allowed, two contradict each other, a parameter
            that is named does not exist, or it is above ``@app.task`` or ``@shared_task``. The
            message names the task.

    Example::

        @app.task(bind=True)
        @single_instance(unique_on=["account"], on_conflict="skip")
        def rebuild(self, account, full=False): ...
    """
    if target is None:
        return lambda decorated: _decorate(decorated, options)
    return _decorate(target, options)


def _decorate(target: Any, options: Mapping[str, Any]) -> Any:  # noqa: ANN401 - as above
    _refuse_made_task(target)
    if isinstance(target, Task):
        kind = type(target)
        run = inspect.getattr_static(kind, "run")
        name = target.name or f"{kind.__module__}.{kind.__qualname__}"
        lock_task(LockSpec(name, options, getattr(run, "__func__", run)), target)
        return target
    if inspect.isclass(target) and issubclass(target, Task):
        run = _decorate_run(inspect.getattr_static(target, "run"), options)
        setattr(target, "run", run)  # noqa: B010 - mypy knows no attributes of a bare class
        return target
    return _decorate_run(target, options)


def _refuse_made_task(target: Any) -> None:  # noqa: ANN401 - as above
    """Refuse what ``@app.task`` or ``@shared_task`` has made of a function, also behind wrappers.

    Celery makes a task of its own for each application, some of them later, from the function. It
    offers no way to reach them all from one of them.

    Raises:
        SettingsError: It is such a task, or the proxy that makes it when it is used first.
    """
    while target is not None:
        if isinstance(target, Proxy) or (
            isinstance(target, Task) and "__wrapped__" in vars(type(target))
        ):
            raise SettingsError(
                f"@single_instance is above the decorator that makes {_name_of(target)} a task: "
                "put it below @app.task or @shared_task, next to the function."
            )
        target = None if isinstance(target, Task) else getattr(target, "__wrapped__", None)


def _name_of(task: Any) -> str:  # noqa: ANN401 - a task, or the proxy of anything
    try:
        return str(task.name)  # a proxy makes its task now
    except Exception:  # noqa: BLE001 - it cannot yet, or is no task's
        return "its function"


def _decorate_run(run: Any, options: Mapping[str, Any]) -> Any:  # noqa: ANN401 - as above
    if isinstance(run, (staticmethod, classmethod)):
        return type(run)(_decorate_run(run.__func__, options))
    if not callable(run):
        raise SettingsError(
            f"@single_instance is for a task or its function, and this is {run!r}. Options are "
            "given by name: @single_instance(unique_on=['account'])."
        )
    if hasattr(run, MARK):
        raise SettingsError(f"{run.__qualname__} is given two locks; leave one of them out.")
    name = f"{getattr(run, '__module__', None)}.{getattr(run, '__name__', type(run).__name__)}"
    return locked_run(LockSpec(name, options, run), run)

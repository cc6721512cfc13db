"""However a task is given its lock, it behaves the same."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery, Task, shared_task
from celery.exceptions import Ignore, Reject, Retry

from celery_mysqllock import OtherInstanceError, single_instance
from celery_mysqllock.exceptions import LockError, SettingsError
from celery_mysqllock.tasks import lock_conflict
from tests.tasks.apps import MAKERS, new_app

if TYPE_CHECKING:
    from collections.abc import Callable

    Make = Callable[..., Task]


class Oops(Exception):
    pass


@pytest.fixture(params=["direct", "apply", "always-eager"])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Calls a task in this process and returns what it returns, or raises what it raises."""

    def always_eager(task: Task, *args: Any, **kwargs: Any) -> Any:
        task.app.conf.task_always_eager = True
        return task.apply_async(args, kwargs).get(disable_sync_subtasks=False)

    def apply(task: Task, *args: Any, **kwargs: Any) -> Any:
        return task.apply(args, kwargs).get(disable_sync_subtasks=False)

    def direct(task: Task, *args: Any, **kwargs: Any) -> Any:
        return task(*args, **kwargs)

    ways = {"direct": direct, "apply": apply, "always-eager": always_eager}
    return ways[request.param]


@pytest.mark.parametrize("bind", [False, True], ids=["unbound", "bound"])
def test_the_lock_is_held_to_the_end_and_free_afterwards(
    make: Make, call: Callable[..., Any], bind: bool
) -> None:
    def unbound(x: int, y: int = 2) -> tuple[int, int, bool]:
        return x, y, task.lock_for(x).locked()

    def bound(self: Task, x: int, y: int = 2) -> tuple[int, int, bool]:
        assert self.name == task.name
        return unbound(x, y)

    task = make(bound if bind else unbound, {"include_args": True}, bind=bind)
    assert tuple(call(task, 1, y=2)) == (1, 2, True)
    assert not task.lock_for(1).locked()


@pytest.mark.parametrize("bind", [False, True], ids=["unbound", "bound"])
def test_a_task_does_not_run_while_another_has_its_lock(
    make: Make, call: Callable[..., Any], refuse: Callable[..., None], bind: bool
) -> None:
    task = make(refuse, {}, bind=bind)
    other = task.lock_for()
    assert other.acquire()
    with pytest.raises(OtherInstanceError, match=task.name):
        call(task)
    assert other.owned()
    other.release()
    assert not task.lock_for().locked()


@pytest.mark.parametrize("error", [Oops(), Ignore(), Reject("no"), Retry(), SystemExit(1)])
def test_the_lock_is_free_after_any_end_of_the_body(make: Make, error: BaseException) -> None:
    def body() -> None:
        raise error

    task = make(body, {})
    with pytest.raises(type(error)):
        task()
    assert not task.lock_for().locked()


def test_a_retry_takes_the_lock_anew(make: Make) -> None:
    held = []

    def body(self: Task, x: int) -> str:
        held.append(self.lock_for(x).locked())
        if self.request.retries < 2:
            raise self.retry(countdown=0)
        return "done"

    task = make(body, {"unique_on": ["x"]}, bind=True)
    assert task.apply((1,)).get() == "done"
    assert held == [True, True, True]
    assert not task.lock_for(1).locked()


@pytest.mark.parametrize("bind", [False, True], ids=["unbound", "bound"])
def test_autoretry_retries_the_body(make: Make, bind: bool) -> None:
    held = []

    def unbound(x: int) -> str:
        held.append(task.lock_for(x).locked())
        if len(held) < 3:
            raise Oops
        return "done"

    def bound(self: Task, x: int) -> str:
        assert self.name == task.name
        return unbound(x)

    options = {"autoretry_for": (Exception,), "max_retries": 5, "bind": bind}
    task = make(bound if bind else unbound, {"unique_on": "x"}, **options)
    assert task.apply((1,)).get() == "done"
    assert held == [True, True, True]
    assert not task.lock_for(1).locked()


def test_autoretry_does_not_retry_a_conflict(make: Make, refuse: Callable[..., None]) -> None:
    task = make(refuse, {}, autoretry_for=(Exception,), retry_kwargs={"max_retries": 3})
    other = task.lock_for()
    assert other.acquire()
    try:
        result = task.apply()
        assert result.state == "FAILURE"
        assert isinstance(result.result, OtherInstanceError)
    finally:
        other.release()


@pytest.mark.parametrize("kind", [OtherInstanceError, LockError])
def test_autoretry_that_names_the_conflict_retries_it(make: Make, kind: type[Exception]) -> None:
    tries = []

    def body() -> str:
        return "done"

    def third_time(task_id: str, **_: object) -> None:
        tries.append(task_id)
        if len(tries) == 3:
            other.release()

    task = make(body, {}, autoretry_for=(kind,), max_retries=5)
    other = task.lock_for()
    assert other.acquire()
    lock_conflict.connect(third_time)
    assert task.apply(task_id="mine").get() == "done"
    assert tries == ["mine"] * 3


@pytest.mark.parametrize("way", ["below", "base", "shared-below", "task_cls"])
def test_celery_still_checks_the_arguments_of_a_call(app: Celery, way: str) -> None:
    def body(x: int, *, y: int = 1) -> tuple[int, int]:
        return x, y

    task = MAKERS[way](app, body, {"include_args": True})
    task.app.conf.task_always_eager = True
    with pytest.raises(TypeError):
        task.delay()
    with pytest.raises(TypeError):
        task.delay(1, z=2)
    assert list(task.delay(1, y=3).get()) == [1, 3]


def _with_a_session(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that gives the function an argument more than its caller does."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        return function("session", *args, **kwargs)

    return call


@pytest.mark.parametrize("lock", [{}, {"key": lambda _, account: f"account:{account}"}])
def test_a_decorator_below_the_lock_may_add_arguments(app: Celery, lock: dict[str, Any]) -> None:
    @app.task
    @single_instance(**lock)
    @_with_a_session
    def rebuild(session: str, account: int) -> list[object]:
        return [session, account]

    app.conf.task_always_eager = True
    assert rebuild.delay(7).get(disable_sync_subtasks=False) == ["session", 7]
    assert rebuild.delay(account=7).get(disable_sync_subtasks=False) == ["session", 7]


def test_a_key_of_arguments_that_a_decorator_adds_says_what_to_do(app: Celery) -> None:
    @app.task
    @single_instance(unique_on=["account"])
    @_with_a_session
    def rebuild(session: str, account: int) -> None: ...

    with pytest.raises(TypeError, match=r"lock of task .*rebuild.* 'account'.*decorator.* key="):
        rebuild.lock_for(7)


def test_a_key_of_arguments_whose_names_a_decorator_hides_is_refused(app: Celery) -> None:
    def careless(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return call

    @app.task(name="rebuild")
    @single_instance(unique_on=["account"])
    @careless
    def rebuild(account: int) -> None: ...

    with pytest.raises(TypeError, match=r"'account'.*functools\.wraps"):
        rebuild.lock_for(7)
    assert rebuild.lock_for(account=7).name != rebuild.lock_for(account=8).name


@pytest.mark.parametrize("order", ["lock outside", "lock inside"])
def test_run_may_be_a_class_method(app: Celery, order: str) -> None:
    def run(cls: type[Task], account: int) -> list[object]:
        return [cls.name, account]

    lock = single_instance(unique_on=["account"])
    made = lock(classmethod(run)) if order == "lock outside" else classmethod(lock(run))
    task = app.register_task(type("Rebuild", (Task,), {"name": "rebuild", "run": made})())
    assert task.apply((7,)).get() == ["rebuild", 7]
    assert "7" in task.lock_for(7).name


@pytest.mark.parametrize("way", ["below", "base"])
def test_a_parameter_may_be_called_task(app: Celery, way: str) -> None:
    def body(task: str, rule: str = "") -> list[str]:
        return [task, rule]

    task = MAKERS[way](app, body, {"unique_on": ["task", "rule"]})
    assert task.apply(kwargs={"task": "x", "rule": "y"}).get() == ["x", "y"]
    assert task.lock_for(task="x", rule="y").name == task.lock_for("x", "y").name


@pytest.mark.parametrize(
    "lock",
    [{"wat": 1}, {"limit": 0}, {"unique_on": ["nothing"]}, {"key": "{nothing}"}],
    ids=["unknown", "not-allowed", "no-parameter", "template"],
)
def test_wrong_options_are_refused_when_the_task_is_made(make: Make, lock: dict[str, Any]) -> None:
    def refused_body(x: int) -> None: ...

    with pytest.raises(SettingsError, match=r"refused_body|tests\.task_"):
        make(refused_body, lock).lock_for(1)


def test_a_coroutine_function_is_refused(make: Make) -> None:
    async def body() -> None: ...

    with pytest.raises(SettingsError, match="coroutine"):
        make(body, {}).lock_for()


def test_two_locks_for_one_task_are_refused(app: Celery, make: Make) -> None:
    def body() -> None: ...

    with pytest.raises(SettingsError, match="two locks"):
        make(single_instance(body), {"wait": 1}).lock_for()


@pytest.mark.parametrize("way", ["shared-below", "below", "base"])
def test_the_copy_of_a_task_in_another_application_is_locked_too(app: Celery, way: str) -> None:
    """Celery gives every application a copy of each task that is not ``shared=False``."""
    early = new_app()
    early.finalize()

    def body() -> None: ...

    task = MAKERS[way](app, body, {})
    late = new_app()
    for other in (early, late) if "shared" in way else (late,):
        assert other.tasks[task.name].lock_for().name.endswith(task.name)


def test_a_task_is_not_made_before_its_time(app: Celery) -> None:
    """The configuration may not be complete while modules are imported."""

    @app.task(name="lazy")
    @single_instance
    def body() -> None: ...

    assert not app.configured
    assert not app.finalized
    assert "lazy" not in app._tasks  # noqa: SLF001 - app.tasks would finalize it


def test_a_decorated_function_without_a_task_does_not_run(refuse: Callable[..., None]) -> None:
    with pytest.raises(LockError, match=r"refuse|body.*Put @app\.task above it"):
        single_instance(refuse)()


def test_a_body_called_without_its_task_finds_it(app: Celery) -> None:
    @app.task
    @single_instance
    def body() -> bool:
        return bool(body.lock_for().locked())

    assert body.run() is True


@pytest.mark.parametrize("wrong", [7, "name"])
def test_something_else_than_a_task_is_refused(wrong: object) -> None:
    with pytest.raises(SettingsError, match="for a task or its function"):
        single_instance(wrong)


# -- above the decorator that makes the task ------------------------------------------------------


def _lazy(app: Celery, **options: Any) -> Any:
    return app.task(name="tests.made", **options)


def _finalized(app: Celery, **options: Any) -> Any:
    app.finalize()
    return app.task(name="tests.made", **options)


def _not_lazy(app: Celery, **options: Any) -> Any:
    return app.task(name="tests.made", lazy=False, **options)


def _shared(app: Celery, **options: Any) -> Any:
    app.set_current()
    app.set_default()
    return shared_task(name="tests.made", **options)


def _used(app: Celery, **options: Any) -> Any:
    def decorate(function: Callable[..., Any]) -> Any:
        made = app.task(name="tests.made", **options)(function)
        assert made.name == "tests.made"
        return made

    return decorate


def _registered(app: Celery, **options: Any) -> Any:
    def decorate(function: Callable[..., Any]) -> Any:
        app.task(name="tests.made", **options)(function)
        return app.tasks["tests.made"]

    return decorate


def _wrapped(app: Celery, **options: Any) -> Any:
    def decorate(function: Callable[..., Any]) -> Any:
        made = app.task(name="tests.made", **options)(function)

        @functools.wraps(made)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return made(*args, **kwargs)

        return wrapper

    return decorate


def _flask_like(app: Celery, **options: Any) -> Any:
    class FlaskTask(Task):
        def __call__(self, *args: object, **kwargs: object) -> object:
            return self.run(*args, **kwargs)

    app.task_cls = FlaskTask
    return app.task(name="tests.made", **options)


@pytest.mark.parametrize("lock", [None, {"unique_on": ["x"]}], ids=["bare", "options"])
@pytest.mark.parametrize("bind", [False, True], ids=["unbound", "bound"])
@pytest.mark.parametrize(
    "make_task",
    [_lazy, _finalized, _not_lazy, _shared, _used, _registered, _wrapped, _flask_like],
)
def test_above_the_decorator_that_makes_the_task_it_is_refused(
    app: Celery, make_task: Callable[..., Any], bind: bool, lock: dict[str, Any] | None
) -> None:
    def unbound(x: int = 0) -> int:
        return x

    def bound(_self: Task, x: int = 0) -> int:
        return x

    made = make_task(app, bind=bind)(bound if bind else unbound)
    with pytest.raises(SettingsError, match=r"makes tests\.made a task: put it below @app\.task"):
        single_instance(made) if lock is None else single_instance(**lock)(made)
    with pytest.raises(LockError, match=r"tests\.made runs without a lock"):
        app.tasks["tests.made"].lock_for(1)


def test_above_a_decorator_without_arguments_it_is_refused(app: Celery) -> None:
    with pytest.raises(SettingsError, match=r"body a task: put it below"):

        @single_instance
        @app.task
        def body() -> None: ...

    with pytest.raises(SettingsError, match=r"other a task: put it below"):

        @single_instance(wait=1)
        @shared_task
        def other() -> None: ...


def test_above_a_task_whose_application_is_not_ready_it_is_refused_too() -> None:
    late = new_app(autofinalize=False)
    with pytest.raises(SettingsError, match=r"its function a task: put it below"):
        single_instance(late.task(lambda: None))
    assert not late.finalized


def test_above_a_proxy_of_something_else_it_is_refused() -> None:
    from celery.local import Proxy  # noqa: PLC0415 - only here

    with pytest.raises(SettingsError, match=r"put it below @app\.task or @shared_task"):
        single_instance(Proxy(lambda: 7))


def test_the_decorated_function_looks_like_itself() -> None:
    @single_instance
    def body(x: int, y: str = "a") -> None:
        """What it does."""

    assert body.__name__ == "body"
    assert body.__doc__ == "What it does."
    assert str(inspect.signature(body)) == "(x: 'int', y: 'str' = 'a') -> 'None'"


def test_a_shared_task_runs_under_the_lock_of_the_current_application() -> None:
    @shared_task
    @single_instance
    def body() -> bool:
        return bool(body.lock_for().locked())

    for _ in range(2):
        new_app().set_current()
        assert body() is True


def test_a_task_without_a_lock_says_so(app: Celery) -> None:
    @app.task(name="free")
    def body() -> None: ...

    with pytest.raises(LockError, match="free runs without a lock"):
        body.lock_for()

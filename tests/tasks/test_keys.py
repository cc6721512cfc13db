"""Which calls share a lock."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from celery_mysqllock import single_instance
from celery_mysqllock.exceptions import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery, Task


@pytest.fixture
def task(make_one: Callable[..., Task]) -> Callable[..., Task]:
    def rebuild(
        account: Any,
        full: bool = False,  # noqa: FBT002 - a task of a user
        *extra: Any,
        mode: str = "a",
        **more: Any,
    ) -> None:
        pytest.fail("only its locks are looked at")

    return lambda **lock: make_one(rebuild, lock)


def test_without_options_all_calls_share_the_tasks_name(task: Callable[..., Task]) -> None:
    rebuild = task()
    assert rebuild.lock_for(1).name == rebuild.lock_for(2).name
    assert rebuild.lock_for(1).name.endswith(f"task:{rebuild.name}")


@pytest.mark.parametrize(
    "lock", [{"include_args": True}, {"unique_on": ["account", "full", "mode"]}]
)
def test_equal_calls_share_a_lock_however_they_are_written(
    task: Callable[..., Task], lock: dict[str, Any]
) -> None:
    rebuild = task(**lock)
    names = {
        rebuild.lock_for(1).name,
        rebuild.lock_for(account=1).name,
        rebuild.lock_for(1, False).name,  # noqa: FBT003
        rebuild.lock_for(1, mode="a").name,
        rebuild.lock_for(mode="a", full=False, account=1).name,
    }
    assert len(names) == 1


def test_include_args_takes_every_argument(task: Callable[..., Task]) -> None:
    rebuild = task(include_args=True)
    names = {
        rebuild.lock_for(1).name,
        rebuild.lock_for(2).name,
        rebuild.lock_for(1, True).name,  # noqa: FBT003
        rebuild.lock_for(1, False, "x").name,  # noqa: FBT003
        rebuild.lock_for(1, mode="b").name,
        rebuild.lock_for(1, other=1).name,
    }
    assert len(names) == 6


@pytest.mark.parametrize("unique_on", ["account", ["account"], ("account",), {"account"}])
def test_unique_on_takes_only_what_it_names(task: Callable[..., Task], unique_on: Any) -> None:
    rebuild = task(unique_on=unique_on)
    assert rebuild.lock_for(1).name == rebuild.lock_for(1, True, "x", mode="b", other=1).name  # noqa: FBT003
    assert rebuild.lock_for(1).name != rebuild.lock_for(2).name


def test_unique_on_may_name_one_of_the_further_keywords(task: Callable[..., Task]) -> None:
    rebuild = task(unique_on=["other"])
    assert rebuild.lock_for(1, other=1).name == rebuild.lock_for(2, other=1).name
    assert rebuild.lock_for(1, other=1).name != rebuild.lock_for(1, other=2).name
    assert rebuild.lock_for(1).name != rebuild.lock_for(1, other=None).name


@pytest.mark.parametrize(
    ("template", "key"),
    [
        ("report:{account}", "report:7"),
        ("report", "report"),
        ("{account:03}", "007"),
        ("{full}-{mode}", "false-a"),
        ("{extra[0]}{{}}", "x{}"),
    ],
)
def test_a_template_is_filled_in_with_the_arguments(
    task: Callable[..., Task], template: str, key: str
) -> None:
    assert task(key=template).lock_for(7, False, "x").name.endswith(f"task:{key}")  # noqa: FBT003


def test_a_template_reads_attributes(task: Callable[..., Task]) -> None:
    rebuild = task(key="report:{account.id}")
    assert rebuild.lock_for(SimpleNamespace(id=7)).name.endswith("task:report:7")
    with pytest.raises(TypeError, match=rf"{rebuild.name}.*account\.id.*does not have"):
        rebuild.lock_for(7)


def test_a_callable_gets_the_task_and_the_call(task: Callable[..., Task]) -> None:
    rebuild = task(key=lambda task, *args, **kwargs: f"{task.name[:5]}:{args}:{kwargs}")
    assert (
        rebuild.lock_for(1, mode="b").name
        == task(key=lambda *_, **__: "tests:(1,):{'mode': 'b'}").lock_for(2).name
    )


def test_a_callable_that_gives_no_text_is_an_error(task: Callable[..., Task]) -> None:
    with pytest.raises(TypeError, match=r"key= gave a int"):
        task(key=lambda *_, **__: 7).lock_for(1)


@pytest.mark.parametrize("key", ["{account}", lambda *_, **__: " "])
def test_an_empty_key_is_an_error(task: Callable[..., Task], key: Any) -> None:
    with pytest.raises(SettingsError, match="key is empty"):
        task(key=key).lock_for("")


@pytest.mark.parametrize(
    "lock", [{"include_args": True}, {"unique_on": "account"}, {"key": "{account}"}]
)
def test_an_argument_without_a_text_is_named(
    task: Callable[..., Task], lock: dict[str, Any]
) -> None:
    with pytest.raises(TypeError, match=r"tests\.task_.*'account' is a object.*key="):
        task(**lock).lock_for(object())


def test_arguments_that_do_not_fit_are_an_error(task: Callable[..., Task]) -> None:
    with pytest.raises(TypeError, match="account"):
        task(include_args=True).lock_for()


def test_tasks_with_one_key_share_one_lock(
    app: Celery, make_one: Callable[..., Task], refuse: Callable[..., None]
) -> None:
    one, other = (make_one(refuse, {"key": "shared"}) for _ in range(2))
    assert one.lock_for().name == other.lock_for().name


def test_self_is_no_argument(make_one: Callable[..., Task]) -> None:
    def body(self: Task, x: int) -> None: ...

    task = make_one(body, {"include_args": True}, bind=True)
    assert task.lock_for(1).name == task.lock_for(x=1).name
    with pytest.raises(SettingsError, match="names 'self'"):
        single_instance(unique_on="self")(body)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{", "cannot be read"),
        ("{}", "by its place"),
        ("{0}", "by its place"),
        ("{x!r}", "converts"),
        ("{x:{x}}", "converts"),
        ("{z}", "names 'z'.*it has x"),
    ],
)
def test_a_wrong_template_is_refused_at_decoration(template: str, problem: str) -> None:
    def body(x: int) -> None: ...

    with pytest.raises(SettingsError, match=rf"test_keys\.body.*{problem}"):
        single_instance(key=template)(body)

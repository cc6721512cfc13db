"""Fixtures for tasks on locks in memory."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import pytest
from celery import _state

from tests.tasks.apps import MAKERS, new_app

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery, Task


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Celery gives each application the tasks of all others; here, those of the same test."""
    monkeypatch.setattr(_state, "_on_app_finalizers", set(_state._on_app_finalizers))  # noqa: SLF001
    monkeypatch.setattr(_state, "_apps", WeakSet())
    monkeypatch.setattr(_state, "default_app", None)


@pytest.fixture
def app() -> Celery:
    return new_app()


@pytest.fixture(params=MAKERS)
def make(request: pytest.FixtureRequest, app: Celery) -> Callable[..., Task]:
    """Makes a task with a lock, in each of the ways there are."""
    return partial(MAKERS[request.param], app)


@pytest.fixture
def make_one(app: Celery) -> Callable[..., Task]:
    """Makes a task with a lock, in the most usual way."""
    return partial(MAKERS["below"], app)


@pytest.fixture
def ran() -> Callable[..., str]:
    """A body that returns "ran"."""

    def body() -> str:
        return "ran"

    return body


@pytest.fixture
def refuse() -> Callable[..., Any]:
    """A body that must not run."""

    def body(*_: object, **__: object) -> None:
        pytest.fail("the body ran without the lock")

    return body

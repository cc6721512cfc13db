"""Fixtures: tasks on locks in memory, and real workers on a real server."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import pytest
from celery import _state

from tests.tasks.apps import MAKERS, new_app
from tests.tasks.cases import POOLS, Cases
from tests.tasks.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from celery import Celery, Task

    from devserver import DevServer, GivenServer


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


# -- real workers --------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def settings(server: DevServer | GivenServer, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What the application is configured with, here and in the workers."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "results").mkdir()
    return {"folder": str(folder), "url": server.create_database()}


@pytest.fixture(scope="session")
def application(settings: Any) -> Iterator[ModuleType]:
    """The module of the application; it configures itself from the environment, as in a worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TASKS_TEST_SETTINGS", json.dumps(settings))
        from tests.tasks import app  # noqa: PLC0415 - needs the environment

        yield app


@pytest.fixture(scope="session")
def start(settings: Any, application: ModuleType) -> Any:
    """Starts a worker of a pool."""
    environment = {"TASKS_TEST_SETTINGS": json.dumps(settings)}
    return lambda pool: Worker(pool, application.FOLDER, environment).start()


@pytest.fixture(scope="session", params=POOLS)
def worker(request: pytest.FixtureRequest, start: Any) -> Iterator[Worker]:
    """One worker of each pool, for all the cases that share one."""
    running = start(request.param)
    yield running
    running.stop()


@pytest.fixture
def cases(application: ModuleType, worker: Worker) -> Cases:
    return Cases(application, worker.pool)

"""What needs a real server and no worker: the fence of a running task, and errors of the server."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from celery_mysqllock import LockLost, single_instance
from celery_mysqllock.exceptions import CannotConnect, LoginRefused
from celery_mysqllock.mysql import Address, Session
from celery_mysqllock.tasks import current_lock, lock_lost
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Celery, Task


@pytest.fixture
def app(app: Celery, url: str) -> Celery:
    app.conf.mysqllock_url = url
    return app


@pytest.fixture
def account(url: str) -> Iterator[Session]:
    """A session of the user's own, with a table of the user's own."""
    with Session(Address.parse(url)) as session:
        session.execute("CREATE TABLE account (id INT PRIMARY KEY, balance INT)")
        session.execute("INSERT INTO account VALUES (1, 0)")
        yield session


def test_a_write_through_the_fence_is_refused_by_the_server_after_a_loss(
    app: Celery, account: Session
) -> None:
    def write(balance: int) -> int:
        condition, parameters = fences[0]
        return account.execute(
            f"UPDATE account SET balance = %(balance)s WHERE id = 1 AND {condition}",  # noqa: S608 - no value is in it
            {"balance": balance, **parameters},
        )

    def see(**_: object) -> None:
        lost.set()

    @app.task
    @single_instance(on_lost="log")
    def body() -> tuple[int, int]:
        fences.append(current_lock().fence())
        before = write(1)
        assert body.lock_for().reset()
        assert lost.wait(30)
        return before, write(2)

    fences: list[tuple[str, dict[str, Any]]] = []
    lost = threading.Event()
    lock_lost.connect(see)
    assert body() == (1, 0)
    assert account.value("SELECT balance FROM account WHERE id = 1") == 1


def test_a_killed_session_is_noticed_at_once(app: Celery, account: Session) -> None:
    @app.task
    @single_instance
    def body() -> None:
        holder = body.lock_for().holder()
        assert holder is not None
        account.execute("KILL %s", (holder.connection_id,))
        time.sleep(60)
        pytest.fail("it was not interrupted")

    with pytest.raises(LockLost):
        body()
    # the server frees the lock of a killed session a moment later
    eventually(lambda: not body.lock_for().locked())


def test_without_a_server_the_body_does_not_run(app: Celery, refuse: Callable[..., None]) -> None:
    app.conf.mysqllock_url = "mysql://user:secret@127.0.0.1:1/db?connect_timeout=1"
    task: Task = app.task(single_instance(refuse))
    result = task.apply()
    assert isinstance(result.result, CannotConnect)
    assert "secret" not in str(result.traceback)


def test_without_a_server_autoretry_retries(app: Celery, url: str) -> None:
    """Celery's usual rules of retry hold for the cause."""
    tries = []

    def note(self: Task, *_: object) -> None:
        tries.append(self.request.retries)

    @app.task(autoretry_for=(CannotConnect,), max_retries=2, on_retry=note)
    @single_instance
    def body() -> None:
        pytest.fail("it ran without the lock")

    app.conf.mysqllock_url = "mysql://user:secret@127.0.0.1:1/db?connect_timeout=1"
    assert isinstance(body.apply().result, CannotConnect)
    assert tries == [0, 1]


def test_a_refused_login_is_the_tasks_error(
    app: Celery, url: str, refuse: Callable[..., None]
) -> None:
    parts = urlsplit(url)
    app.conf.mysqllock_url = parts._replace(
        netloc=f"{parts.username}:wrong@{parts.hostname}:{parts.port}"
    ).geturl()
    task: Task = app.task(single_instance(refuse))
    assert isinstance(task.apply().result, LoginRefused)

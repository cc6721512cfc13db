"""Tasks that other people's software wraps or types have the same key on every side."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

from celery_mysqllock import SingleInstanceTask, single_instance
from celery_mysqllock.jobs import Migrations
from celery_mysqllock.mysql import Address, Session

if TYPE_CHECKING:
    from celery import Celery

# What each program below defines: a task in each way, and a call of each.
TASKS = """
from celery import Celery
from celery_mysqllock import SingleInstanceTask, single_instance

app = Celery("proj", broker=URL, task_ignore_result=True)
LOCK = {"unique_on": ["account"], "unique": "until_done"}

@app.task(bind=True, acks_late=True)
@single_instance(**LOCK)
def below(self, account, full=False):
    return account

@app.task(acks_late=True)
@single_instance(**LOCK)
def unbound(account, full=False):
    return account

@app.task(bind=True, acks_late=True, autoretry_for=(KeyError,))
@single_instance(**LOCK)
def retried(self, account, full=False):
    return account

@app.task(bind=True, acks_late=True, base=SingleInstanceTask, lock=LOCK)
def based(self, account, full=False):
    return account

class Classy(SingleInstanceTask):
    name = "classy"
    acks_late = True
    lock = LOCK
    def run(self, account, full=False):
        return account

classy = app.register_task(Classy())
for task in (below, unbound, retried, based, classy):
    # before anything has looked at its lock
    for _ in range(2):
        assert task.apply((7,)).get() == 7, task.name
        assert task.apply(kwargs={"account": 7}).get() == 7, task.name
    assert task.lock_for(7).name == task.lock_for(account=7).name, task.name
    assert task.delay(7).id == task.delay(account=7).id != task.delay(8).id, task.name
print("done")
"""
SENTRY = """
import sentry_sdk
from sentry_sdk.integrations.celery import CeleryIntegration
sentry_sdk.init(integrations=[CeleryIntegration(monitor_beat_tasks=True)], traces_sample_rate=1.0)
"""
DDTRACE = """
from ddtrace.contrib.internal.celery.patch import patch
patch()
"""
NEW_RELIC = """
import newrelic.agent
newrelic.agent.initialize()
"""
ELASTIC = """
import elasticapm
from elasticapm.contrib.celery import register_exception_tracking, register_instrumentation
client = elasticapm.Client(service_name="proj", disable_send=True)
elasticapm.instrument()
register_exception_tracking(client)
register_instrumentation(client)
"""
OPENTELEMETRY = """
from opentelemetry.instrumentation.celery import CeleryInstrumentor
CeleryInstrumentor().instrument()
"""
OWN = """
from celery.app import trace
import celery.app.task
build = trace.build_tracer
def wrapping(name, task, *args, **kwargs):
    run = task.run
    def wrapper(*args, **kwargs):
        return run(*args, **kwargs)
    task.run = wrapper
    return build(name, task, *args, **kwargs)
trace.build_tracer = wrapping
"""


@pytest.fixture
def url(server: Any) -> str:
    """A database with a job table."""
    url: str = server.create_database()
    with Session(Address.parse(url)) as session:
        Migrations(session).apply()
    return url


@pytest.mark.parametrize(
    ("package", "wrapping"),
    [
        ("sentry_sdk", SENTRY),
        ("ddtrace", DDTRACE),
        ("newrelic", NEW_RELIC),
        ("elasticapm", ELASTIC),
        ("opentelemetry.instrumentation.celery", OPENTELEMETRY),
        ("celery", OWN),
        ("celery", ""),
    ],
    ids=[
        "Sentry",
        "ddtrace",
        "New Relic",
        "Elastic",
        "OpenTelemetry",
        "one that copies no attribute",
        "none",
    ],
)
@pytest.mark.parametrize("is_first", [True, False])
def test_a_wrapper_round_run_changes_no_key(
    package: str, wrapping: str, is_first: bool, url: str
) -> None:
    pytest.importorskip(package)
    start = f"URL = {url!r}\n"
    order = (wrapping, "import celery_mysqllock.tasks\n")
    program = start + "".join(order if is_first else reversed(order)) + TASKS
    environment = {
        **os.environ,
        "DD_TRACE_ENABLED": "true",
        "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
    }
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.stdout.strip() == "done", done.stderr[-2000:]


# -- pydantic -------------------------------------------------------------------------------------


def _models() -> Any:
    pytest.importorskip("pydantic")
    return import_module("tests.tasks.models")


@pytest.fixture(params=["below", "base"])
def typed(request: pytest.FixtureRequest, app: Celery) -> Any:
    """Makes a task that takes a model, with a lock, in each of the ways; it returns its lock."""
    models = _models()

    def make(*, bind: bool = False, **lock: Any) -> Any:
        function: Any = models.ship_bound if bind else models.ship
        options = {"pydantic": True, "bind": bind, "name": f"ship {len(app.tasks)}"}
        if request.param == "below":
            return app.task(**options)(single_instance(**lock)(function))
        return app.task(base=SingleInstanceTask, lock=lock, **options)(function)

    return make


@pytest.mark.parametrize("bind", [True, False])
@pytest.mark.parametrize(
    "lock",
    [
        {"unique_on": ["order"]},
        {"include_args": True},
        {"key": "ship:{order.number}"},
        {"key": "ship:{order.customer.name}"},
        {"key": lambda task, order, **_: f"{task.name}:{order.number}:{order.customer.name}"},
    ],
    ids=["unique_on", "include_args", "template", "nested", "callable"],
)
def test_sender_and_worker_have_the_same_key(lock: dict[str, Any], bind: bool, typed: Any) -> None:
    models, task = _models(), typed(bind=bind, **lock)
    model = models.Order(number=7, customer=models.Customer(name="Ann"), tags={"b", "a", "c"})
    spelled = {"number": 7, "customer": {"name": "Ann", "since": None}, "tags": ["c", "b", "a"]}
    names = {
        task.lock_for(model).name,
        task.lock_for(spelled).name,
        task.lock_for(order=spelled).name,
        task.apply((spelled,)).get(),
        task.apply(kwargs={"order": spelled}).get(),
        task(spelled),
        task(order=model),
    }
    assert len(names) == 1
    other = {"number": 8, "customer": {"name": "Bob"}}
    assert task.lock_for(other).name not in names


def test_a_value_that_is_no_such_model_is_pydantics_error(typed: Any) -> None:
    task = typed(unique_on=["order"])
    with pytest.raises(pytest.importorskip("pydantic").ValidationError):
        task.lock_for({"number": "seven"})


def test_a_decorator_between_app_task_and_the_lock_does_not_matter(app: Celery) -> None:
    def traced(function: Any) -> Any:
        @functools.wraps(function)
        def inner(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return inner

    below = single_instance(key="ship:{order.number}")(_models().ship)
    ship = app.task(pydantic=True)(traced(below))
    spelled = {"number": 7, "customer": {"name": "Ann"}}
    assert ship.lock_for(spelled).name == ship.apply((spelled,)).get()

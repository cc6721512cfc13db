"""pytest-celery's fixtures, with our broker in the place of its own.

With a Docker engine the containers are real: MySQL's image, and a worker image of ours. Without
one they are local processes, through ``local_engine``: the broker is a database on the private
server of this test run, a worker is a ``celery worker`` of this Python environment. Whether an
engine answers decides, or ``MYSQLLOCK_ENGINE=docker`` or ``MYSQLLOCK_ENGINE=local``. The kind of
server is chosen by ``MYSQLLOCK_SERVER``, as for all tests. The engine has to be on this machine,
since workers mount folders of it.

Results go to files, in a folder that all workers mount. That needs no other server, and it is not
the broker under test: a result can be awaited while the broker restarts, and what fails is never
the way back. pytest-celery's own backends are Redis and memcached.

The workers run the package from this checkout, and the tasks of pytest-celery. The job table is
made on first use (``create_table``). A test that wants other settings overrides ``app_settings``;
one that wants more workers makes them with ``container(**WORKER)``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import kombu.pools
import pytest
from pytest_celery import DEFAULT_WORKER_CONTAINER_TIMEOUT, DEFAULT_WORKER_VOLUME
from pytest_docker_tools import build, container, fxtr

import celery_mysqllock
from tests.smoke.components import MySQLContainer, MySQLTestBroker, WorkerContainer
from tests.smoke.engine import docker_engine
from tests.smoke.local_engine import LocalClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery
    from docker import DockerClient

_PACKAGE = Path(celery_mysqllock.__file__).parent
_APP = DEFAULT_WORKER_VOLUME["bind"]


@pytest.fixture(scope="session")
def docker_client(request: pytest.FixtureRequest) -> Iterator[DockerClient | LocalClient]:
    """The engine that runs every container."""
    engine = docker_engine()
    if engine is not None:
        yield engine
        engine.close()
    else:
        with LocalClient(request.getfixturevalue("server")) as local:
            yield local


# -- broker ---------------------------------------------------------------------------------------

mysql_container = container(
    image="{mysql_image}",
    ports=fxtr("mysql_ports"),
    environment=fxtr("mysql_env"),
    network="{default_pytest_celery_network.name}",
    wrapper_class=MySQLContainer,
    timeout=120,
)


@pytest.fixture
def mysql_image() -> str:
    return MySQLContainer.image()


@pytest.fixture
def mysql_ports() -> dict[str, tuple[str, None]]:
    return MySQLContainer.ports()


@pytest.fixture
def mysql_env() -> dict[str, str]:
    return MySQLContainer.initial_env()


@pytest.fixture
def celery_broker(mysql_container: MySQLContainer) -> Iterator[MySQLTestBroker]:
    """Our broker, in the place of pytest-celery's choice of RabbitMQ and Redis."""
    broker = MySQLTestBroker(mysql_container)
    yield broker
    broker.teardown()


# -- results --------------------------------------------------------------------------------------


@pytest.fixture
def celery_backend_cluster() -> None:
    """No server for results."""


@pytest.fixture
def results_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where results are files; a container has it at the same path, but runs as another user."""
    # not tmp_path: with that, Ctrl-C while containers start ends in an internal error of pytest 9.2
    folder = tmp_path_factory.mktemp("results")
    folder.chmod(0o777)
    return str(folder)


# -- worker ---------------------------------------------------------------------------------------

celery_base_worker_image = build(
    path=str(Path(__file__).with_name("worker_image")),
    tag="celery-mysqllock/smoke-worker",
)

WORKER: dict[str, Any] = {
    "image": "{celery_base_worker_image.id}",
    "ports": fxtr("default_worker_ports"),
    "environment": fxtr("default_worker_env"),
    "network": "{default_pytest_celery_network.name}",
    "volumes": {
        "{default_worker_volume.name}": DEFAULT_WORKER_VOLUME,
        str(_PACKAGE): {"bind": f"{_APP}/{_PACKAGE.name}", "mode": "ro"},
        "{results_folder}": {"bind": "{results_folder}", "mode": "rw"},
    },
    "working_dir": _APP,
    "command": fxtr("default_worker_command"),
    "wrapper_class": WorkerContainer,
    "timeout": DEFAULT_WORKER_CONTAINER_TIMEOUT,
}
default_worker_container = container(**WORKER)


@pytest.fixture
def default_worker_container_cls() -> type[WorkerContainer]:
    return WorkerContainer


# -- setup ----------------------------------------------------------------------------------------


@pytest.fixture
def app_settings(results_folder: str) -> dict[str, Any]:
    """What the test's app and the workers' app are configured with, beside the broker's URL."""
    return {
        "result_backend": f"file://{results_folder}",
        "broker_connection_retry_on_startup": True,
        "broker_transport_options": {
            "create_table": True,
            "polling_interval": 0.2,
            "recovery_grace": 1.0,
        },
    }


@pytest.fixture
def celery_setup_app(celery_setup_app: Celery, app_settings: dict[str, Any]) -> Iterator[Celery]:
    """The test's app, whose connections to the broker are closed before the broker goes."""
    with celery_setup_app:
        # pytest-celery hands on to the workers what is set so, not what the app was made with
        celery_setup_app.conf.update(app_settings)
        yield celery_setup_app
        kombu.pools.reset()

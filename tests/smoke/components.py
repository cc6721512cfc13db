"""pytest-celery components of our own: the MySQL broker, and the worker that talks to it."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pytest_celery import CeleryTestBroker, CeleryTestContainer, CeleryWorkerContainer
from pytest_docker_tools.wrappers import Container

from celery_mysqllock.mysql import Address, Session
from tests.smoke import worker_app

if TYPE_CHECKING:
    from types import ModuleType

_RELEASES = {"mysql": "8.4", "mariadb": "11.8"}
_PORT = "3306/tcp"


class FailsEarly(CeleryTestContainer):
    """A container whose end is noticed while it is awaited.

    pytest-celery's own waits for the log of a container that has ended, 110 seconds in all.
    """

    def ready(self) -> bool:
        """Tell whether it has said that it is ready.

        Raises:
            ContainerFailed: It has ended; pytest-docker-tools adds its log to the report.
        """
        return Container.ready(self) and self.ready_prompt in self.logs()


class MySQLContainer(FailsEarly):
    """A server with one database, and a user who may do all in it."""

    @property
    def client(self) -> Session:
        """A session in the database that is not open yet; ``with`` opens it."""
        return Session(Address.parse(self.host_url))

    @property
    def celeryconfig(self) -> dict[str, Any]:
        """What Celery needs to know of it."""
        return {
            "url": self.url,
            "host_url": self.host_url,
            "hostname": self.hostname,
            "port": self.port,
            "vhost": self.vhost,
        }

    @property
    def url(self) -> str:
        """The URL for the other containers."""
        return self._url(self.hostname)

    @property
    def host_url(self) -> str:
        """The URL for this machine."""
        return self._url(f"{self._binding['HostIp']}:{self.port}")

    @property
    def hostname(self) -> str:
        """Where the other containers find it; the stand-in adds the port."""
        return str(self.attrs["Config"]["Hostname"])

    @property
    def port(self) -> int:
        """The port on this machine; Docker chooses another one at each start."""
        return int(self._binding["HostPort"])

    @property
    def vhost(self) -> str:
        """The database."""
        return str(self.env["MYSQL_DATABASE"])

    @classmethod
    def version(cls) -> str:
        """The image's tag."""
        return cls.image().split(":")[-1]

    @classmethod
    def initial_env(cls) -> dict[str, str]:
        """The variables of the official images."""
        return {
            "MYSQL_RANDOM_ROOT_PASSWORD": "yes",
            "MYSQL_DATABASE": "smoke",
            "MYSQL_USER": "smoke",
            "MYSQL_PASSWORD": secrets.token_hex(16),
        }

    @classmethod
    def image(cls) -> str:
        """The image; MYSQLLOCK_SERVER chooses it, as it does for all tests."""
        kind, _, release = (os.environ.get("MYSQLLOCK_SERVER") or "mysql").partition("-")
        return f"{kind}:{release or _RELEASES[kind]}"

    @classmethod
    def ports(cls) -> dict[str, tuple[str, None]]:
        """Any free port, on the loopback interface only."""
        return {_PORT: ("127.0.0.1", None)}

    @property
    def ready_prompt(self) -> str:
        """What the real server says; the one that only sets up the database has port 0."""
        return "port: 3306 "

    @property
    def _binding(self) -> dict[str, str]:
        binding: dict[str, str] = self.attrs["NetworkSettings"]["Ports"][_PORT][0]
        return binding

    def _url(self, where: str) -> str:
        user, password = (
            quote(self.env[f"MYSQL_{name}"], safe="") for name in ("USER", "PASSWORD")
        )
        return f"mysql://{user}:{password}@{where}/{self.vhost}"


class MySQLTestBroker(CeleryTestBroker):
    """The broker under test."""


class WorkerContainer(FailsEarly, CeleryWorkerContainer):
    """A worker that knows mysql:// and runs one task at a time."""

    @classmethod
    def app_module(cls) -> ModuleType:
        """The template of the app."""
        return worker_app

    @classmethod
    def command(cls, *args: str, **kwargs: Any) -> list[str]:
        """The command, with ``args`` after the options that all workers have."""
        command: list[str] = super().command("--concurrency=1", *args, **kwargs)
        return command

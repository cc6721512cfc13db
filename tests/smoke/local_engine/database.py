"""A container that is a database of its own on the private server of the test run."""

from __future__ import annotations

import socket
from signal import SIGKILL
from typing import TYPE_CHECKING

from celery_mysqllock.mysql import Address
from devserver import ServerFailed
from tests.smoke.local_engine.container import LocalContainer, Options
from tests.smoke.local_engine.process import number_of

if TYPE_CHECKING:
    from devserver import DevServer, GivenServer

_PORT = 3306


class DatabaseContainer(LocalContainer):
    """What an image of MySQL or MariaDB would be, with the same variables to find login and name.

    Stopping, killing and restarting it does that to the server, so to every database there. With
    a server that ``MYSQLLOCK_URL`` names, these raise ``NotOurServer``.

    Args:
        options: What ``docker run`` was told.
        server: The server of this test run.
    """

    def __init__(self, options: Options, server: DevServer | GivenServer) -> None:
        super().__init__(options)
        self._server = server
        self._address = Address.parse(server.create_database())
        self._log = ""

    def start(self) -> None:
        if self.status == "exited":
            self._server.start()
        self._running()

    def stop(self, timeout: float = 10) -> None:  # noqa: ARG002 - the server's own patience counts
        if self.status == "running":
            self._server.stop()
            self.status = "exited"

    def kill(self, signal: str | int | None = None) -> None:
        if number_of(signal) is SIGKILL:
            self._server.kill()
            self.status = "exited"
        else:
            self.stop()

    def reload(self) -> None:
        try:
            self._server.check()
        except ServerFailed:
            self.status = "exited"

    def logs(self) -> bytes:
        return self._log.encode()

    def exec_run(self, cmd: str | list[str]) -> tuple[int, bytes]:
        """Answer the one question that pytest-docker-tools asks: which ports are listened on.

        Raises:
            ValueError: It is another command.
        """
        if not isinstance(cmd, str) or not cmd.startswith("cat /proc/net/tcp"):
            raise ValueError(f"A local database container runs no command, such as {cmd!r}.")
        with socket.socket() as probe:
            if probe.connect_ex((self._address.host, self._address.port)):
                return 0, b""
        return 0, f"0: 00000000:{_PORT:04X} 00000000:0000 0A\n".encode()

    def remove(self, *, force: bool = False) -> None:  # noqa: ARG002 - there is one way only
        self.reload()
        if self.status == "exited":  # a test has ended it; the next one needs it
            self.start()
        self._server.drop_database(self._address.database)
        self.status = "removed"

    def hostname(self) -> str:
        """Host and port: without a network of its own it cannot have port 3306."""
        return f"{self._address.host}:{self._address.port}"

    def environment(self) -> dict[str, str]:
        """The variables of the image, as they are true of this database."""
        return {
            **super().environment(),
            "MYSQL_DATABASE": self._address.database,
            "MYSQL_USER": self._address.user,
            "MYSQL_PASSWORD": self._address.password,
        }

    def ports(self) -> dict[str, list[dict[str, str]]]:
        binding = {"HostIp": self._address.host, "HostPort": str(self._address.port)}
        return {f"{_PORT}/tcp": [binding]}

    def _running(self) -> None:
        self.status = "running"
        self._log += f"{self._server.kind}: ready for connections. port: {_PORT}  (local)\n"

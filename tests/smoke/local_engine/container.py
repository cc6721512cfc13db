"""What all local containers share: the options they are made with, and how Docker shows them."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

Mount = dict[str, str]


@dataclass
class Options:
    """The options of ``docker run`` that the stand-in knows; others raise ``TypeError``.

    Attributes:
        image: The name or id of an image.
        command: The program with its arguments.
        environment: Added to the environment.
        volumes: What is mounted where: a volume's name or a folder, and ``{"bind": path}``.
        working_dir: Where the command runs.
        ports: Passed over: a local process listens where it likes, a database says where it is.
        network: The network's name.
        name: The container's name; made up when left out.
        labels: Kept, for those who look.
        detach: Passed over: a local container never keeps its starter waiting.
    """

    image: str
    command: list[str] | None = None
    environment: dict[str, str] | None = None
    volumes: dict[str, Mount] = field(default_factory=dict)
    working_dir: str = "/"
    ports: dict[str, Any] | None = None
    network: str = "local"
    name: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    detach: bool = True


class LocalContainer(ABC):
    """The part of ``docker.models.containers.Container`` that is the same for every container.

    Attributes:
        id: 64 hexadecimal digits.
        name: The container's name.
        labels: Its labels.
        status: ``created``, ``running`` or ``exited`` as of the last ``reload``; ``removed``.
    """

    def __init__(self, options: Options) -> None:
        self.id = secrets.token_hex(32)
        self.name = options.name or f"local-{self.id[:12]}"
        self.labels = options.labels
        self.status = "created"
        self.options = options

    @property
    def attrs(self) -> dict[str, Any]:
        """What ``docker inspect`` would tell, as far as somebody asks for it."""
        return {
            "Id": self.id,
            "Name": self.name,
            "Config": {
                "Hostname": self.hostname(),
                "Labels": self.labels,
                "Env": [f"{name}={value}" for name, value in self.environment().items()],
            },
            "State": {"Status": self.status, "Running": self.status == "running"},
            "HostConfig": {"PortBindings": {}},
            "NetworkSettings": {
                "Networks": {self.options.network: {"IPAddress": "127.0.0.1"}},
                "Ports": self.ports(),
            },
        }

    def restart(self, timeout: float = 10) -> None:
        """Stop it, giving it that many seconds, and start it again."""
        self.stop(timeout)
        self.start()

    def hostname(self) -> str:
        """Where other containers find this one; the beginning of the id, as Docker does it."""
        return self.id[:12]

    def environment(self) -> dict[str, str]:
        """The environment that the container was given."""
        return self.options.environment or {}

    def ports(self) -> dict[str, list[dict[str, str]]]:
        """Which port of the container is which port of this machine; none unless overridden."""
        return {}

    @abstractmethod
    def start(self) -> None:
        """Start it, or start it again after it has ended."""

    @abstractmethod
    def stop(self, timeout: float = 10) -> None:
        """End it in good order, and by force after that many seconds."""

    @abstractmethod
    def kill(self, signal: str | int | None = None) -> None:
        """Send a signal, by number or name; SIGKILL unless told otherwise."""

    @abstractmethod
    def reload(self) -> None:
        """Bring ``status`` up to date."""

    @abstractmethod
    def logs(self) -> bytes:
        """All that it has written, over all its starts."""

    @abstractmethod
    def exec_run(self, cmd: str | list[str]) -> tuple[int, bytes]:
        """Run a command beside it; returns the exit code and what it has written."""

    @abstractmethod
    def remove(self, *, force: bool = False) -> None:
        """End it for good, at once when forced; its files go when the client is closed."""

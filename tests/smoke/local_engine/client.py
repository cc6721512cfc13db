"""The client object: containers, images, networks and volumes, as ``docker.DockerClient`` has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.smoke.local_engine.container import LocalContainer, Options
from tests.smoke.local_engine.database import DatabaseContainer
from tests.smoke.local_engine.owner import Owner
from tests.smoke.local_engine.process import ProcessContainer

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from devserver import DevServer, GivenServer

_DATABASES = frozenset({"mysql", "mariadb"})


class LocalClient:
    """Stands in for ``docker.DockerClient``; ends all its containers when it is closed.

    Args:
        server: The server of this test run, on which database containers live.
    """

    def __init__(self, server: DevServer | GivenServer) -> None:
        self._owner = Owner()
        self.images = Images()
        self.networks = Networks()
        self.volumes = Volumes(self._owner.folder)
        self.containers = Containers(server, self._owner, self.volumes)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill every process, drop every database and remove every file that is left."""
        try:
            self.containers.remove_all()
        finally:
            self._owner.close()


class Containers:
    """Makes containers, and remembers them until they are removed."""

    def __init__(self, server: DevServer | GivenServer, owner: Owner, volumes: Volumes) -> None:
        self._server = server
        self._owner = owner
        self._volumes = volumes
        self._all: list[LocalContainer] = []

    def create(self, image: str, **options: Any) -> LocalContainer:
        """Make a container without starting it."""
        chosen = Options(image=image, **options)
        container = (
            DatabaseContainer(chosen, self._server)
            if image.split(":", maxsplit=1)[0].rsplit("/", maxsplit=1)[-1] in _DATABASES
            else ProcessContainer(chosen, self._owner, self._volumes.folders)
        )
        self._all.append(container)
        return container

    def run(self, image: str, **options: Any) -> LocalContainer:
        """Make a container and start it."""
        container = self.create(image, **options)
        container.start()
        return container

    def remove_all(self) -> None:
        """Remove the containers that nobody has removed."""
        for container in self._all:
            if container.status != "removed":
                container.remove(force=True)


@dataclass(frozen=True)
class Image:
    """An image that exists in name only."""

    id: str


class Images:
    """Builds nothing: the programs of this machine take the place of those in an image."""

    def build(self, *, path: str, tag: str | None = None, **_: object) -> tuple[Image, list[str]]:
        """Return an image of that name, and what there is to say about its making: nothing."""
        return Image(tag or path), []


@dataclass(frozen=True)
class Network:
    """A name: local containers meet on 127.0.0.1."""

    name: str

    def remove(self) -> None:
        """Do nothing, as there is nothing."""


class Networks:
    """Makes networks."""

    def create(self, name: str, **_: object) -> Network:
        """Return a network of that name."""
        return Network(name)


@dataclass(frozen=True)
class Volume:
    """A folder that containers can mount by the volume's name."""

    name: str

    def remove(self, force: bool = False) -> None:  # noqa: FBT002 - Docker's signature
        """Do nothing: the folder goes with all others when the client is closed."""


class Volumes:
    """Makes volumes below one folder.

    Attributes:
        folders: The folder of each volume, by its name.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.folders: dict[str, Path] = {}

    def create(self, name: str, **_: object) -> Volume:
        """Make an empty volume."""
        folder = self._folder / "volumes" / name
        folder.mkdir(parents=True)
        self.folders[name] = folder
        return Volume(name)

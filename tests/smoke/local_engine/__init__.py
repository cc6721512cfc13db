"""A stand-in for a Docker engine: what pytest-docker-tools asks of one, by local processes.

``LocalClient`` takes the place of ``docker.DockerClient``. A container of the image ``mysql`` or
``mariadb`` is a database on the private server of the test run; any other container is its command
as a process of this machine, with the programs of this Python environment first in its PATH.
Images are not built, networks are names, and volumes and mounts are folders below one temporary
folder. When the process that made the client ends, whatever ends it, all of this is gone.

What a container has and this has not: a file system, user and network of its own.
"""

from __future__ import annotations

from tests.smoke.local_engine.client import LocalClient
from tests.smoke.local_engine.owner import Owner

__all__ = ["LocalClient", "Owner"]

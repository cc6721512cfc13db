"""Which engine runs the smoke tests' containers: Docker, or the stand-in for it."""

from __future__ import annotations

import os

import docker
from docker.errors import DockerException

VARIABLE = "MYSQLLOCK_ENGINE"
DOCKER, LOCAL = "docker", "local"
_PROBE = 5  # seconds for an engine to answer


def docker_engine() -> docker.DockerClient | None:
    """Return a client of the Docker engine; None when local processes are to take its place.

    ``MYSQLLOCK_ENGINE=docker`` or ``local`` decides; when it is not set, whether one answers does.

    Raises:
        ValueError: The variable has another value.
        RuntimeError: It says docker, and no engine answers.
    """
    wanted = os.environ.get(VARIABLE) or None
    if wanted not in (None, DOCKER, LOCAL):
        raise ValueError(f"{VARIABLE}={wanted!r} is not allowed; it takes {DOCKER} or {LOCAL}.")
    if wanted == LOCAL:
        return None
    try:
        docker.from_env(timeout=_PROBE).ping()
    except (DockerException, OSError) as error:  # requests' errors are OSErrors
        if wanted == DOCKER:
            raise RuntimeError(
                f"{VARIABLE}={DOCKER}, but no Docker engine answers: {error}. Start it, or unset "
                "the variable to run the containers as local processes."
            ) from error
        return None
    return docker.from_env()

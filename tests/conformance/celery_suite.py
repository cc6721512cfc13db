"""Celery's own integration suite on the broker: ``python -m tests.conformance.celery_suite``.

Its worker has this broker and Redis as its result backend, as upstream's has RabbitMQ and Redis.
Arguments are pytest's; without any, the tests run that ask something of a broker.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks.redis_server import redis_server
from celery_mysqllock.jobs import Migrations
from celery_mysqllock.mysql import Address, Session
from devserver import private_server
from tests.conformance.sdist import unpacked

if TYPE_CHECKING:
    from collections.abc import Sequence

_FILES = ("inspect", "worker", "tasks", "canvas")
# Each of them is upstream's; a hanging one is ended by the suite's own limit of 300 s.
_TESTS = [f"t/integration/test_{name}.py" for name in _FILES]


def main(arguments: Sequence[str]) -> int:
    """Run the suite; return pytest's exit code."""
    folder = unpacked("celery", "t", "pyproject.toml")
    with private_server() as server, redis_server(durable=False) as (redis, _):
        url = server.create_database()
        try:
            with Session(Address.parse(url)) as session:
                Migrations(session).apply()
            environment = {
                **os.environ,
                "PYTHONPATH": os.pathsep.join((str(folder), os.environ.get("PYTHONPATH", ""))),
                "WORKER_LOGLEVEL": "INFO",  # as upstream
                "TEST_BROKER": url,
                "TEST_BACKEND": redis,
                "REDIS_HOST": "127.0.0.1",
                "REDIS_PORT": redis.rpartition(":")[2].partition("/")[0],
            }
            # the package's pytest plugin makes mysql:// known
            command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
            # a process each: a test of the one changes what Celery lets tasks of the other do
            runs = [arguments] if arguments else [[test] for test in _TESTS]
            codes = [
                subprocess.run(
                    [*command, *run], cwd=folder, env=environment, check=False
                ).returncode
                for run in runs
            ]
            return max(codes)
        finally:
            server.drop_database(Address.parse(url).database)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""A private RabbitMQ on a free port, for the figures beside ours."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from benchmarks.redis_server import await_port, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

# Debian's command on the PATH changes to a user of its own; this one runs as who calls it.
_PROGRAM = "/usr/lib/rabbitmq/bin/rabbitmq-server"
_START = 90.0  # seconds for its start


@contextmanager
def rabbitmq_server() -> Iterator[tuple[str, int]]:
    """Have a RabbitMQ: its URL and the process id of its machine.

    Raises:
        FileNotFoundError: No rabbitmq-server is installed.
        TimeoutError: It did not start.
    """
    program = _PROGRAM if Path(_PROGRAM).exists() else shutil.which("rabbitmq-server")
    if program is None:
        raise FileNotFoundError("no rabbitmq-server is installed (apt install rabbitmq-server)")
    folder = Path(tempfile.mkdtemp(prefix="rabbitmq-"))
    port, epmd_port = free_port(), str(free_port())
    environment = {
        **os.environ,
        "HOME": str(folder),  # the place of its cookie
        "ERL_EPMD_PORT": epmd_port,
        "ERL_EPMD_RELAXED_COMMAND_CHECK": "1",  # so that it can be ended below
        "RABBITMQ_NODENAME": f"bench{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(folder / "data"),
        "RABBITMQ_LOG_BASE": str(folder / "log"),
        "RABBITMQ_CONFIG_FILE": str(folder / "none"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
    }
    with (folder / "output").open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - the installed program
            [program], env=environment, stdout=output, stderr=output, start_new_session=True
        )
    try:
        await_port(port, process, "rabbitmq-server", _START)
        yield f"amqp://guest:guest@127.0.0.1:{port}//", _machine(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        epmd = shutil.which("epmd")
        if epmd is not None:
            # it is a daemon, which RabbitMQ has started
            subprocess.run(  # noqa: S603 - the installed program
                [epmd, "-kill"],
                env=environment,
                stdout=subprocess.DEVNULL,
                check=False,
            )
        shutil.rmtree(folder, ignore_errors=True)


def _machine(pid: int) -> int:
    """The process that does the work: the script's child, unless the script has become it."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return next((one.pid for one in family if "beam" in one.name()), pid)

"""A private Redis on a free port, for the figures beside ours."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_START = 10.0  # seconds for its start
_LOOK = 0.02


@contextmanager
def redis_server(*, durable: bool) -> Iterator[tuple[str, int]]:
    """Have a Redis: its URL and its process id.

    Args:
        durable: Whether each write is on disk before it is answered, as MySQL's are.

    Raises:
        FileNotFoundError: No redis-server is installed.
        TimeoutError: It did not start.
    """
    program = shutil.which("redis-server")
    if program is None:
        raise FileNotFoundError("no redis-server is installed (apt install redis-server)")
    folder = Path(tempfile.mkdtemp(prefix="redis-"))
    port = free_port()
    options = ["--appendonly", "yes", "--appendfsync", "always"] if durable else []
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - the installed program
            [
                *(program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)),
                *("--save", "", *options),
            ],
            stdout=log,
            stderr=log,
        )
    try:
        await_port(port, process, "redis-server")
        yield f"redis://127.0.0.1:{port}/0", process.pid
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def await_port(
    port: int, process: subprocess.Popen[bytes], what: str, seconds: float = _START
) -> None:
    """Return when somebody listens on the port.

    Raises:
        TimeoutError: The process has ended, or the time is over.
    """
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(_LOOK)
    raise TimeoutError(f"{what} did not start (exit code {process.poll()})")

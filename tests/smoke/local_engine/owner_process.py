"""The process that owns the stand-in's processes and ends them with the test run.

Run as a script, of the standard library only. Its argument is the folder that holds all files of
the stand-in. Its stdin is a pipe that only the test run can write to, so however the test run
ends, SIGKILL included, the pipe closes; then this kills what it has started, removes the folder
and ends.

One JSON request a line on stdin, answered by one line on stdout that repeats its ``number``:
``{"start": argv, "env": {...}, "cwd": ..., "log": ...}`` gives ``{"pid": ...}``;
``{"signal": ..., "pid": ...}`` and ``{"look": pid}`` give ``{"ended": return code or null}``.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import Any


class Processes:
    """The processes by their ids; each leads a process group, which lives and dies with it."""

    def __init__(self) -> None:
        self._all: dict[int, subprocess.Popen[bytes]] = {}

    def obey(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what the request asks and return the answer."""
        if "start" in request:
            return self._start(request)
        if "signal" in request:
            self._send(request["pid"], request["signal"])
            return {"ended": self._ended(request["pid"])}
        return {"ended": self._ended(request["look"])}

    def kill_all(self) -> None:
        """Kill every process and wait until it is gone."""
        for pid, process in self._all.items():
            self._send(pid, signal.SIGKILL)
            process.wait()

    def _start(self, request: dict[str, Any]) -> dict[str, Any]:
        try:
            with open(request["log"], "ab") as log:  # noqa: PTH123 - without pathlib it starts faster
                process = subprocess.Popen(
                    request["start"],
                    env={**os.environ, **request["env"]},
                    cwd=request["cwd"],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            return {"error": str(error)}
        self._all[process.pid] = process
        return {"pid": process.pid}

    def _send(self, pid: int, number: int) -> None:
        process = self._all[pid]
        if self._ended(pid) is not None:
            return
        if number == signal.SIGKILL:  # the kernel ends a container together with its process 1
            os.killpg(pid, number)
            process.wait()
        else:
            process.send_signal(number)

    def _ended(self, pid: int) -> int | None:
        process = self._all[pid]
        if process.returncode is None and process.poll() is not None:
            with contextlib.suppress(ProcessLookupError):  # nobody of its group is left
                os.killpg(pid, signal.SIGKILL)
        return process.returncode


def remove(folder: str) -> None:
    """Remove the folder, again when a process that is being killed has just written into it."""
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):  # noqa: PTH110 - as above
            return
        time.sleep(0.02)
    shutil.rmtree(folder)


def main() -> None:
    """Obey until stdin is closed, then clean up."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    processes = Processes()
    try:
        for line in sys.stdin:
            request = json.loads(line)
            answer = {"number": request["number"], **processes.obey(request)}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        processes.kill_all()
        remove(sys.argv[1])


if __name__ == "__main__":
    main()

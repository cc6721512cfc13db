"""The test run's end of the owner process: starts, signals and awaits processes through it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import signal
    from collections.abc import Mapping, Sequence
    from typing import Self

_LOOK = 0.02  # seconds between two looks at whether a process has ended


class Owner:
    """One owner process, and the folder that it removes when it ends; see ``owner_process``.

    Attributes:
        folder: Where all files of the stand-in are, for this user alone.
    """

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="smoke-engine-"))
        # A session of its own: Ctrl-C in the terminal does not reach it.
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-I"),  # neither the working directory nor PYTHON* have a say
                str(Path(__file__).with_name("owner_process.py")),
                str(self.folder),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._numbers = count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self, argv: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> int:
        """Start a process with ``env`` added to this environment; returns its process id.

        Raises:
            OSError: There is no such program.
        """
        answer = self._ask(start=list(argv), env=dict(env), cwd=str(cwd), log=str(log))
        if "error" in answer:
            raise OSError(answer["error"])
        return int(answer["pid"])

    def signal(self, pid: int, number: signal.Signals) -> None:
        """Send a signal to a process; SIGKILL to its children too, waiting for its end."""
        self._ask(signal=int(number), pid=pid)

    def ended(self, pid: int, within: float = 0.0) -> int | None:
        """Return how a process ended, as ``Popen.returncode``; None while it runs.

        Args:
            pid: What ``start`` has returned.
            within: Seconds to wait for its end.
        """
        deadline = time.monotonic() + within
        while True:
            code: int | None = self._ask(look=pid)["ended"]
            if code is not None or time.monotonic() >= deadline:
                return code
            time.sleep(_LOOK)

    def close(self) -> None:
        """Kill every process, remove the folder, and return when both are done."""
        self._process.communicate()
        if self._process.returncode:
            raise RuntimeError(
                f"The owner of the local containers failed (exit code {self._process.returncode}); "
                f"look at what it has written, and remove {self.folder}."
            )

    def _ask(self, **request: Any) -> dict[str, Any]:
        number = next(self._numbers)
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("The owner of the local containers has no pipe.")
        self._process.stdin.write(json.dumps({"number": number, **request}) + "\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            answer: dict[str, Any] = json.loads(line)
            # an earlier one is left over when Ctrl-C ended the wait for it
            if answer["number"] == number:
                return answer
        raise RuntimeError("The owner of the local containers is gone, and they with it.")

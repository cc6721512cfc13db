"""``python -m benchmarks.locks.crowd KIND PROCESSES NAMES SECONDS``: many contend for some locks.

Prints how many pairs of take and give back they did in a second, all together.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time

from benchmarks.locks import kinds

_READY = 30.0  # seconds for all to be connected


def main(kind: str, processes: int, names: int, seconds: float) -> None:
    """Fork the processes, let them contend, and print the pairs a second."""
    fork = multiprocessing.get_context("fork")
    start, counts = fork.Barrier(processes), fork.Array("q", processes)

    def contend(number: int) -> None:
        urls = os.environ["LOCKS_MYSQL"], os.environ["LOCKS_REDIS"]
        take, give = kinds.make(kind, f"crowd-{number % names}", *urls)
        take()  # connects
        give()
        start.wait(_READY)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            take()
            give()
            counts[number] += 1

    crowd = [fork.Process(target=contend, args=(number,)) for number in range(processes)]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join()
    sys.stdout.write(f"{sum(counts[:]) / seconds}\n")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))

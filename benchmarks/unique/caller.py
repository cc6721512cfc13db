"""``python -m benchmarks.unique.caller KEYS FOLDER``: sends each key and notes the id that it got.

It connects, says so with a file, and begins when the file ``go`` is there.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path

from benchmarks.unique.app import app, run

_LOOK = 0.01  # seconds between two looks for the file


def main(keys: int, folder: Path) -> None:
    """Send them all in an order of one's own, each with how many seconds it took."""
    with app.connection_for_write() as connection:
        connection.connect()
    name = os.environ["CALLER"]
    (folder / f"{name}.ready").touch()
    while not (folder / "go").exists():
        time.sleep(_LOOK)
    ids: dict[int, str] = {}
    seconds: list[float] = []
    for number in random.sample(range(keys), keys):
        began = time.monotonic()
        ids[number] = run.delay(number).id
        seconds.append(time.monotonic() - began)
    (folder / f"{name}.part").write_text(json.dumps({"ids": ids, "seconds": seconds}))
    (folder / f"{name}.part").rename(folder / f"{name}.json")


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))

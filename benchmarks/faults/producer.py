"""``python -m benchmarks.faults.producer``: publishes and notes each publish that was confirmed.

A publish that fails is never tried again under the same name: whether it was stored is not known,
so it counts neither as confirmed nor as a duplicate.
"""

from __future__ import annotations

import os
import sys
import time
from itertools import count

from kombu.exceptions import OperationalError

from benchmarks.faults.app import notes, record

_REST = 0.1  # seconds after a failed publish


def main(rate: float, seconds: float) -> None:
    """Publish so many messages a second, each a task of so many seconds, until killed."""
    author = os.environ["AUTHOR"]
    began = time.monotonic()
    # a SIGKILL may come between the commit and the note: such a message is unsure, too
    for number in count():
        ahead = began + number / rate - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
        message = f"{author}-{number}"
        try:
            record.apply_async((message, seconds), retry=False)
        except OperationalError as error:
            notes.write("unsure", message=message, error=f"{type(error).__name__}: {error}")
            time.sleep(_REST)
        else:
            notes.write("confirmed", message=message)


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]))

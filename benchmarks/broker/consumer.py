"""``python -m benchmarks.broker.consumer AT SECONDS``: one consumer of a fleet.

It is connected before the moment AT of ``time.monotonic``, consumes for so many seconds from then
on, and prints how many messages a second it had.
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from kombu import Connection, Consumer, Exchange, Queue

import celery_mysqllock  # noqa: F401 - makes mysql:// a broker's URL
from benchmarks.broker.rates import PREFETCH


def main(at: float, seconds: float) -> None:
    """Consume and count."""
    seen = 0

    def ack(_: object, message: Any) -> None:  # noqa: ANN401 - kombu's
        nonlocal seen
        message.ack()
        seen += 1

    with Connection(os.environ["BROKER_URL"]) as connection:
        channel = connection.channel()
        channel.basic_qos(0, PREFETCH, False)  # noqa: FBT003 - AMQP's signature
        consumer = Consumer(channel, [Queue("scale", Exchange(""), "scale")], callbacks=[ack])
        time.sleep(max(0.0, at - time.monotonic()))
        with consumer:
            while (left := at + seconds - time.monotonic()) > 0:
                try:
                    connection.drain_events(timeout=left)
                except TimeoutError:
                    break
    sys.stdout.write(f"{seen / seconds}\n")


if __name__ == "__main__":
    main(float(sys.argv[1]), float(sys.argv[2]))

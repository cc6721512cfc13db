"""The prefetch window of a channel: which claimed jobs are out, and how many more may come."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kombu.transport.virtual import Message

    from celery_mysqllock.broker.channel import Channel

#: How many jobs a channel holds at most when the prefetch count is 0, which means no limit.
UNLIMITED = 1000


class Prefetch:
    """kombu's QoS for one channel, safe for acks from other threads than the consuming one.

    Args:
        channel: The channel whose messages these are.
        prefetch_count: How many messages may be unacknowledged at once, 0 for no limit.
    """

    def __init__(self, channel: Channel, prefetch_count: int = 0) -> None:
        self.channel = channel
        self.prefetch_count = prefetch_count
        self._unacked: dict[int, Message] = {}
        self._mutex = threading.Lock()

    @property
    def room(self) -> int:
        """How many more jobs may be claimed just now."""
        return max(0, self.window - len(self._unacked))

    @property
    def window(self) -> int:
        """The prefetch count, or the cap where there is no limit."""
        return self.prefetch_count or UNLIMITED

    def can_consume(self) -> bool:
        """Whether one more message may come; Celery replaces this to disable prefetching."""
        return self.room > 0

    def append(self, message: Message, delivery_tag: int) -> None:
        """Count a delivered message as unacknowledged."""
        with self._mutex:
            self._unacked[delivery_tag] = message

    def get(self, delivery_tag: int) -> Message:
        """The unacknowledged message of that tag.

        Raises:
            KeyError: There is none.
        """
        return self._unacked[delivery_tag]

    def ack(self, delivery_tag: int) -> None:
        """Take the message out of the window; its slot is free even if the table says no."""
        with self._mutex:
            self._unacked.pop(delivery_tag, None)

    def restore_unacked_once(self) -> None:
        """Nothing: the channel gives its jobs back itself before it closes."""

    def take_all(self) -> list[int]:
        """Empty the window and return the tags that were in it."""
        with self._mutex:
            tags = list(self._unacked)
            self._unacked.clear()
        return tags

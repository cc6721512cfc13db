"""The prefetch window of a channel: which messages are out and not settled yet."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from celery_mysqllock.broker.delivery import Delivery

#: How many jobs a channel holds at most when the prefetch count is 0, which means no limit.
UNLIMITED = 1000


class Windowed(Protocol):
    """A channel whose window can be set."""

    def set_window(self, window: int) -> None:
        """Have at most so many claimed jobs out."""


class Prefetch:
    """kombu's QoS for one channel, safe for acks from other threads than the consuming one.

    Args:
        channel: The channel whose messages these are.
        prefetch_count: How many messages may be unacknowledged at once, 0 for no limit.
    """

    def __init__(self, channel: Windowed, prefetch_count: int = 0) -> None:
        self._channel = channel
        self._prefetch_count = prefetch_count
        self._unacked: dict[int | str, Delivery] = {}
        self._mutex = threading.Lock()
        self._slots: Callable[[], int] | None = None
        self._window = self._prefetch_count or UNLIMITED

    @property
    def prefetch_count(self) -> int:
        """How many messages may be unacknowledged at once, 0 for no limit."""
        return self._prefetch_count

    @prefetch_count.setter
    def prefetch_count(self, count: int) -> None:
        self._prefetch_count = count
        self.resize()

    @property
    def window(self) -> int:
        """How many messages may be unacknowledged now; a cap where there is no limit."""
        return self._window

    @property
    def unacked(self) -> Container[int | str]:
        """The delivery tags of the messages that are out."""
        return self._unacked

    @property
    def is_bound(self) -> bool:
        """Whether the window is what the worker's pool has room for, and no more."""
        return self._slots is not None

    def bound(self, slots: Callable[[], int]) -> None:
        """Have no more messages out than the worker's pool has room for.

        Args:
            slots: How many more of these messages the pool could run now.
        """
        self._slots = slots
        self.resize()
        self._channel.set_window(self._window)

    def resize(self) -> None:
        """Set the window by what the pool is busy with now."""
        window = self._prefetch_count or UNLIMITED
        if self._slots is not None:
            window = min(window, self._slots())
        if window != self._window:
            self._window = window
            self._channel.set_window(window)

    def can_consume(self) -> bool:
        """Whether one more message may come."""
        return len(self._unacked) < self.window

    def append(self, message: Delivery, delivery_tag: int | str) -> None:
        """Count a delivered message as unacknowledged."""
        with self._mutex:
            self._unacked[delivery_tag] = message

    def get(self, delivery_tag: int | str) -> Delivery:
        """The unacknowledged message of that tag.

        Raises:
            KeyError: There is none.
        """
        return self._unacked[delivery_tag]

    def ack(self, delivery_tag: int | str) -> Delivery | None:
        """Take the message out of the window; None when it is not in it."""
        with self._mutex:
            message = self._unacked.pop(delivery_tag, None)
        if self._slots is not None:
            # before the place of what is only beginning to run is free for another claim
            self.resize()
        return message

    def restore_unacked_once(self) -> None:
        """Nothing: the channel gives its messages back itself before it closes."""

    def take_all(self) -> list[Delivery]:
        """Empty the window and return what was in it."""
        with self._mutex:
            messages = list(self._unacked.values())
            self._unacked.clear()
        return messages

"""Values that belong to one process: a forked child makes its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


class PerProcess(Generic[T]):
    """A value that each process makes for itself, because it cannot use its parent's.

    Threads do not survive a fork, and a child may not use its parent's sessions. The child forgets
    its parent's value and does not close it: threads that are gone may hold its mutexes.

    Args:
        make: Makes the value.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._value = make()
        os.register_at_fork(after_in_child=self._renew)

    def __call__(self) -> T:
        """Return this process's value."""
        return self._value

    def _renew(self) -> None:
        self._value = self._make()


#: Stands for the running process, as the key of what this process alone may use.
this_process = PerProcess(object)

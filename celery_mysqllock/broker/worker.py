"""What the broker asks of the Celery worker in its process. The room ``worker`` has the answers."""

from __future__ import annotations

from typing import Protocol


class Worker(Protocol):
    """The Celery worker that a channel delivers tasks to."""

    def slots(self) -> int:
        """How many more of the channel's jobs it could run now. From any thread."""

    def knows(self, task: str) -> bool:
        """Whether it has a task of that name."""

    def running(self) -> set[int]:
        """The delivery tags of the channel's messages whose tasks go on when it is closed."""


class Node(Protocol):
    """The Celery worker that this process is."""

    @property
    def name(self) -> str:
        """Its node name, such as ``celery@host``."""

    def end_if_asked(self) -> None:
        """Do nothing unless the worker was asked to end. To be called when no server answers.

        Raises:
            SystemExit: It was, and this is the main thread.
            MySQLLockError: It was, some time ago, and this is another thread.
        """


_nodes: list[Node] = []


def become(node: Node) -> None:
    """Make this process that node."""
    _nodes[:] = [node]


def this_node() -> Node | None:
    """The node that this process is; None in a process that is no worker."""
    return _nodes[-1] if _nodes else None

"""Checks that a task's broker has a capability that the task asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import SettingsError

if TYPE_CHECKING:
    from celery import Task
    from kombu import Connection


def check_broker(
    task: Task, connection: Connection, capability: str, *, asks: str, otherwise: str
) -> None:
    """Do nothing when the connection's transport has the capability.

    Args:
        task: The task.
        connection: A connection to its broker.
        capability: Its name in the transport's ``implements``.
        asks: What the task asks for, in words.
        otherwise: What to do with another broker, in words.

    Raises:
        SettingsError: The transport does not have it.
    """
    transport = connection.get_transport_cls()
    if not transport.implements.get(capability):
        raise SettingsError(
            f"Task {task.name} {asks}, and its broker is {transport.driver_type}: use mysql:// as "
            f"the broker, or {otherwise}."
        )

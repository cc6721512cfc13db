"""Whether the broker that a task is sent to can do what the task asks of its job table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import SettingsError

if TYPE_CHECKING:
    from celery import Task
    from kombu import Connection


def check_broker(
    task: Task, connection: Connection, ability: str, *, asks: str, otherwise: str
) -> None:
    """Do nothing when the transport of the connection says that it has the ability.

    Args:
        task: The task.
        connection: A connection to its broker.
        ability: What the transport's ``implements`` calls it.
        asks: What the task asks for, in words.
        otherwise: What to do with another broker, in words.

    Raises:
        SettingsError: It has not.
    """
    transport = connection.get_transport_cls()
    if not transport.implements.get(ability):
        raise SettingsError(
            f"Task {task.name} {asks}, and its broker is {transport.driver_type}: use mysql:// as "
            f"the broker, or {otherwise}."
        )

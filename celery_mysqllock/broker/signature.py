"""Whether a task takes the arguments of a row: what ``delay()`` asks before it sends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery import current_app

from celery_mysqllock.exceptions import InvalidJob

if TYPE_CHECKING:
    from celery_mysqllock.broker.row import Row


def check_arguments(row: Row) -> None:
    """Do nothing when the task takes the arguments, or when this process does not know it.

    Raises:
        InvalidJob: It does not; the message says why.
    """
    task = current_app.tasks.get(row.task)
    if task is None or not task.typing:
        return
    try:
        task.__header__(*row.args, **row.kwargs)
    except TypeError as error:
        raise InvalidJob(f"The task {row.task!r} does not take the arguments: {error}.") from error

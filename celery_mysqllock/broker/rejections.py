"""Writes into a dead job's reason why Celery rejected it: its signals know, the broker does not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery.signals import task_rejected, task_unknown

from celery_mysqllock.broker.channel import Channel

if TYPE_CHECKING:
    from kombu.transport.virtual import Message


@task_unknown.connect(weak=False)
def explain_unknown_task(message: Message, name: str, **_: Any) -> None:  # noqa: ANN401 - a signal's
    """The task's name is not registered in the worker."""
    _explain(
        message,
        f"The worker knows no task {name!r}. Import its module in the worker (setting 'imports' "
        "or 'include'), then queue the job again.",
    )


@task_rejected.connect(weak=False)
def explain_invalid_message(message: Message, exc: Exception | None, **_: Any) -> None:  # noqa: ANN401 - a signal's
    """The message is none of a task."""
    _explain(message, f"{type(exc).__name__}: {exc}" if exc else "The message names no task.")


def _explain(message: Message, reason: str) -> None:
    if isinstance(message.channel, Channel):
        message.channel.explain_rejection(message.delivery_tag, reason)

"""The signals about the locks of tasks; they work as those of ``celery.signals`` do.

The sender is the task. Each has these arguments: ``name`` (the full name of the lock), ``task_id``
(None when the task was called directly) and ``waited`` (seconds). A slow receiver delays the task.
Celery logs an error of a receiver, which goes no further.
"""

from __future__ import annotations

from celery.utils.dispatch import Signal

_ALWAYS = {"name", "task_id", "waited"}

#: The task has its lock and its body begins. Sent by the thread that runs the task.
lock_acquired = Signal(name="lock_acquired", providing_args=_ALWAYS)

#: The lock is held by another instance; also ``holder``, None where the server cannot tell. Sent by
#: the thread that runs the task, before it does what ``on_conflict`` says.
lock_conflict = Signal(name="lock_conflict", providing_args=_ALWAYS | {"holder"})

#: The lock was lost while the body ran; also ``held``, in seconds. Sent by the thread that keeps
#: the lock alive, not by the one that runs the task.
lock_lost = Signal(name="lock_lost", providing_args=_ALWAYS | {"held"})

#: The body has ended and the lock is free again; also ``held``, in seconds. Sent by the thread that
#: runs the task.
lock_released = Signal(name="lock_released", providing_args=_ALWAYS | {"held"})

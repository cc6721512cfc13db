"""The signals that tell what happens to the locks of tasks, in the way of ``celery.signals``.

Each is sent with the task as its sender and these arguments: ``name`` (the full name of the lock),
``task_id`` (None when the task was called directly) and ``waited`` (seconds). A receiver is slow at
the task's expense; an error in one is logged by Celery and goes no further.
"""

from __future__ import annotations

from celery.utils.dispatch import Signal

_ALWAYS = {"name", "task_id", "waited"}

#: The task has its lock and its body begins. Sent by the thread that runs the task.
lock_acquired = Signal(name="lock_acquired", providing_args=_ALWAYS)

#: Somebody else holds the lock; also ``holder``, None where the server cannot tell. Sent by the
#: thread that runs the task, before what ``on_conflict`` says is done.
lock_conflict = Signal(name="lock_conflict", providing_args=_ALWAYS | {"holder"})

#: The lock was lost while the body ran; also ``held``, in seconds. Sent by the thread that watches
#: the lock, not by the one that runs the task.
lock_lost = Signal(name="lock_lost", providing_args=_ALWAYS | {"held"})

#: The body has ended and the lock is free again; also ``held``, in seconds. Sent by the thread that
#: runs the task.
lock_released = Signal(name="lock_released", providing_args=_ALWAYS | {"held"})

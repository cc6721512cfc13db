"""Signals about locks, jobs, consumers and queues. They work as those of ``celery.signals`` do.

A slow receiver delays what sends the signal. Celery logs an error of a receiver, which goes no
further.

The sender of a signal about a lock is the task. Each has these arguments: ``name`` (the full name
of the lock), ``task_id`` (None when the task was called directly) and ``waited`` (seconds).

The sender of a signal about a job, a consumer or a queue is the name of the job table, as
``<database>.<table>``. ``consumer`` is an identity that ``mysqllock consumers`` shows. Such a
signal is sent after the commit, by a thread of the worker's main process.
"""

from __future__ import annotations

from celery.utils.dispatch import Signal

_LOCK = {"name", "task_id", "waited"}

#: The task has its lock and its body begins. Sent by the thread that runs the task.
lock_acquired = Signal(name="lock_acquired", providing_args=_LOCK)

#: The lock is held by another instance; also ``holder``, None where the server cannot tell. Sent by
#: the thread that runs the task, before it does what ``on_conflict`` says.
lock_conflict = Signal(name="lock_conflict", providing_args=_LOCK | {"holder"})

#: The lock was lost while the body ran; also ``held``, in seconds. Sent by the thread that keeps
#: the lock alive, not by the one that runs the task.
lock_lost = Signal(name="lock_lost", providing_args=_LOCK | {"held"})

#: The body has ended and the lock is free again; also ``held``, in seconds. Sent by the thread that
#: runs the task.
lock_released = Signal(name="lock_released", providing_args=_LOCK | {"held"})

#: The consumer has claimed a job, and delivers it next. ``deliveries`` is how often it has begun to
#: run before. ``task_id`` is None for a row that was inserted without one.
job_claimed = Signal(
    name="job_claimed", providing_args={"job_id", "task_id", "queue", "deliveries", "consumer"}
)

#: A job of a dead consumer is in its queue again. Sent by the consumer that does the housekeeping.
job_recovered = Signal(
    name="job_recovered", providing_args={"job_id", "queue", "deliveries", "consumer"}
)

#: A job that the consumer had claimed is dead: nothing runs it until a person queues it again. Sent
#: by the consumer, or after its death by the one that does the housekeeping.
job_dead = Signal(name="job_dead", providing_args={"job_id", "reason", "consumer"})

#: The consumer is dead, and its jobs are recovered or dead; ``jobs`` is how many it had. Sent by
#: the consumer that does the housekeeping.
consumer_died = Signal(name="consumer_died", providing_args={"consumer", "jobs"})

#: The consumer, one of this process, does the housekeeping of the table from now on.
became_sweeper = Signal(name="became_sweeper", providing_args={"consumer"})

#: The queue was paused. Sent within ``polling_interval`` by the consumer that does the
#: housekeeping. When that has just taken over, it sends none for queues that it finds paused.
queue_paused = Signal(name="queue_paused", providing_args={"queue"})

#: The queue was paused, and is claimed from again. Sent as ``queue_paused`` is.
queue_resumed = Signal(name="queue_resumed", providing_args={"queue"})

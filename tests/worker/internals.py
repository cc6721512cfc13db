"""The names of Celery, kombu and billiard that are used and that they do not document.

``docs/reference/internals.md`` is made of this list. Those of PyMySQL are in
``tests/mysql/test_pymysql_internals.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

#: The versions in which the names were read.
READ_IN = {"celery": "5.7.0", "kombu": "5.7.0", "billiard": "4.3.2"}


@dataclass(frozen=True)
class Internal:
    """One name.

    Attributes:
        name: The name with its module and class.
        rooms: Where it is used: rooms of the package, or files beside them.
        without: What breaks without it.
    """

    name: str
    rooms: tuple[str, ...]
    without: str

    @property
    def library(self) -> str:
        """The distribution that has it."""
        return self.name.partition(".")[0]

    @property
    def last(self) -> str:
        """The name alone."""
        return self.name.rpartition(".")[2]


_BURIED = "A message that breaks this part of the worker ends it, instead of being kept as dead."

#: Methods and attributes of theirs that ours take the place of.
REPLACED = (
    Internal(
        "celery.worker.request.Request.on_accepted",
        ("worker",),
        "No channel learns that a task has begun, so no delivery counts towards `max_deliveries`.",
    ),
    Internal(
        "celery.worker.request.Request.on_failure",
        ("worker",),
        "A dead job's row does not say how its task has failed.",
    ),
    Internal("celery.worker.request.Request.on_success", ("worker",), _BURIED),
    Internal("celery.worker.request.Request.on_timeout", ("worker",), _BURIED),
    Internal("celery.worker.WorkController._process_task", ("worker",), _BURIED),
    Internal("celery.worker.consumer.Consumer.create_task_handler", ("worker",), _BURIED),
    Internal(
        "celery.worker.consumer.Consumer.add_task_queue",
        ("worker",),
        "`control add_consumer` with a name that no server takes ends the worker.",
    ),
    Internal(
        "celery.worker.consumer.Consumer.cancel_task_queue",
        ("worker",),
        "`control cancel_consumer` with such a name ends the worker.",
    ),
    Internal(
        "celery.concurrency.base.BasePool.start",
        ("worker",),
        "In pools of threads and greenlets, a task that raises `SystemExit` is never settled.",
    ),
    Internal(
        "celery.worker.consumer.mingle.Mingle.send_hello",
        ("worker",),
        "A reply that cannot be read ends a worker that starts.",
    ),
    Internal(
        "celery.worker.consumer.mingle.Mingle.compatible_transports",
        ("worker",),
        "A worker that starts does not learn which tasks are revoked.",
    ),
    Internal(
        "celery.worker.consumer.connection.Connection.info",
        ("worker",),
        "`inspect stats` shows the passwords of all broker URLs but the first (Celery < 5.7).",
    ),
    Internal(
        "celery.worker.pidbox.gPidbox.loop",
        ("worker",),
        "A gevent or eventlet worker answers no remote control after a lost connection.",
    ),
    Internal(
        "celery.worker.control.revoke",
        ("worker",),
        "A revoked job keeps its unique key until it is due.",
    ),
    Internal(
        "celery.worker.control.scheduled",
        ("worker",),
        "`inspect scheduled` shows nothing of what is scheduled in the table.",
    ),
    Internal(
        "celery.worker.control.dump_schedule",
        ("worker",),
        "`dump_schedule`, the older name of `inspect scheduled`, shows nothing of the table.",
    ),
    Internal(
        "celery.Task.apply_async",
        ("tasks",),
        '`unique=` and `on_conflict="queue"` have no effect.',
    ),
    Internal(
        "celery.app.utils.filter_hidden_settings",
        ("redaction.py",),
        "`celery report` and `inspect conf` show the passwords of URLs.",
    ),
    Internal(
        "kombu.messaging.Producer.publish",
        ("broker",),
        "A task for another broker is sent at once inside of a `transaction` block.",
    ),
    Internal(
        "kombu.Connection._init_params",
        ("app",),
        "A connection shows its whole URL, password included, as its host until it connects.",
    ),
)

#: Attributes whose names begin with an underscore.
PRIVATE = (
    Internal(
        "celery.worker.request.Request._apply_result",
        ("worker",),
        "After a lost connection, jobs that the pool runs on go back to the queue and run twice.",
    ),
    Internal(
        "billiard.pool.ApplyResult._write_to",
        ("worker",),
        "The same for jobs that a process of the prefork pool was sent and has not confirmed.",
    ),
    Internal("billiard.process.BaseProcess._is_alive", ("worker",), "The same."),
    Internal(
        "celery.concurrency.prefork.TaskPool._pool",
        ("worker",),
        "What the pool keeps of a task that could not be handed to it is never freed.",
    ),
    Internal("billiard.pool.Pool._cache", ("worker",), "The same."),
    Internal("celery.concurrency.asynpool.AsynPool._payload", ("worker",), "The same."),
    Internal(
        "celery.app.task.Task.__header__",
        ("broker",),
        "A row with arguments that its task does not take runs and fails, instead of being dead.",
    ),
    Internal(
        "celery._state.get_current_task",
        ("tasks",),
        "A task that calls another one directly is taken for that one.",
    ),
    Internal(
        "celery.app.autoretry._orig_run",
        ("tasks",),
        "A task with `autoretry_for` locks nothing.",
    ),
    Internal(
        "celery.beat.Scheduler._ensure_connected",
        ("beat",),
        "Beat does not start while the broker cannot be reached.",
    ),
    Internal(
        "celery.schedules.crontab._orig_",
        ("beat",),
        "A crontab cannot be written into the schedule's table.",
    ),
    Internal(
        "kombu.transport.virtual.Channel._inplace_augment_message",
        ("broker",),
        "A published message lacks its delivery tag, exchange and routing key.",
    ),
    Internal(
        "kombu.transport.virtual.Channel._get_message_priority",
        ("broker",),
        "A job is stored without its priority.",
    ),
    Internal(
        "kombu.transport.virtual.Channel._tag_to_queue",
        ("broker",),
        "A consumer that is cancelled keeps the jobs that it has claimed.",
    ),
    Internal(
        "kombu.transport.virtual.Channel._active_queues",
        ("broker",),
        "A channel does not know what to claim from.",
    ),
    Internal(
        "kombu.transport.virtual.Transport._deliver",
        ("broker",),
        "No message reaches its consumer.",
    ),
    Internal(
        "kombu.transport.virtual.Channel._new_queue",
        ("broker",),
        "A queue is not declared in the database.",
    ),
    Internal(
        "kombu.transport.virtual.Channel._purge",
        ("broker",),
        "`celery purge` deletes nothing.",
    ),
    Internal(
        "kombu.message.Message._decode",
        ("broker",),
        "A body that cannot be decoded is acknowledged, instead of being kept as dead.",
    ),
)

#: Names without an underscore that no page of theirs describes. No scan finds these.
UNDOCUMENTED = (
    Internal(
        "celery.worker.state.reserved_requests",
        ("worker",),
        "After a lost connection, jobs that still run go back to the queue and run twice.",
    ),
    Internal("celery.worker.state.active_requests", ("worker",), "The same."),
    Internal(
        "celery.worker.state.should_stop",
        ("worker",),
        "A worker that was asked to end goes on for as long as no server answers.",
    ),
    Internal("celery.worker.state.should_terminate", ("worker",), "The same."),
    Internal("celery.worker.state.maybe_shutdown", ("worker",), "The same."),
    Internal(
        "celery.worker.state.task_ready",
        ("worker",),
        "A task that could not be handed to the pool stays reserved.",
    ),
    Internal("celery.worker.WorkController.semaphore", ("worker",), "The same."),
    Internal("celery.worker.WorkController.pool_putlocks", ("worker",), "The same."),
    Internal("celery.concurrency.base.BasePool.uses_semaphore", ("worker",), "The same."),
    Internal(
        "billiard.pool.ApplyResult.correlation_id",
        ("worker",),
        "What the pool keeps of a task that could not be handed to it is never freed.",
    ),
    Internal("billiard.pool.ApplyResult.discard", ("worker",), "The same."),
    Internal(
        "celery.concurrency.base.BasePool.apply_async",
        ("worker",),
        "In pools of threads and greenlets, a task that raises `SystemExit` is never settled.",
    ),
    Internal(
        "celery.concurrency.base.BasePool.num_processes",
        ("worker",),
        "A worker claims more jobs ahead than it can run.",
    ),
    Internal("celery.worker.autoscale.Autoscaler.max_concurrency", ("worker",), "The same."),
    Internal(
        "celery.worker.consumer.Consumer.strategies",
        ("worker",),
        "A job of a task that the worker does not have is dead at once (`unknown_task_grace`).",
    ),
    Internal(
        "celery.worker.consumer.Consumer.task_consumer",
        ("worker",),
        "The channel does not learn which worker it delivers to.",
    ),
    Internal(
        "billiard.einfo.ExceptionWithTraceback",
        ("worker",),
        "A dead job's reason names a class of billiard, and not the task's exception.",
    ),
    Internal(
        "celery.app.task.Context.called_directly",
        ("tasks",),
        "`autoretry_for` repeats a task that was skipped because of its lock.",
    ),
    Internal(
        "celery.local.Proxy",
        ("tasks",),
        "`@single_instance` above `@app.task` is not refused, and locks nothing.",
    ),
    Internal(
        "celery.schedules.crontab.remaining_delta",
        ("beat",),
        "Beat before Celery 5.7 is off by an hour when the clocks change.",
    ),
    Internal("celery.schedules.BaseSchedule.nowfun", ("beat",), "The same."),
    Internal(
        "celery.beat.Scheduler.merge_inplace",
        ("beat",),
        "Entries of `beat_schedule` are not read.",
    ),
    Internal(
        "celery.beat.Scheduler.install_default_entries",
        ("beat",),
        "Expired results are not deleted once a day.",
    ),
    Internal(
        "celery.app.utils.find_app",
        ("cli",),
        "`mysqllock -A` does not find the application.",
    ),
    Internal(
        "kombu.transport.TRANSPORT_ALIASES",
        ("__init__.py",),
        "`mysql://` is no broker URL.",
    ),
    Internal(
        "kombu.transport.virtual.base.queue_declare_ok_t",
        ("broker",),
        "A queue that is declared passively cannot be counted.",
    ),
    Internal(
        "kombu.transport.base.to_rabbitmq_queue_arguments",
        ("broker",),
        "A queue's `expires` and `message_ttl` are lost.",
    ),
)

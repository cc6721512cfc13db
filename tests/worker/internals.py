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
        files: Where it is used, in the package.
        without: What breaks without it.
    """

    name: str
    files: tuple[str, ...]
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
        ("worker/step.py",),
        "No channel learns that a task has begun, so no delivery counts towards `max_deliveries`.",
    ),
    Internal(
        "celery.worker.request.Request.on_failure",
        ("worker/dead_reasons.py", "worker/guard.py"),
        "A dead job's row does not say how its task has failed.",
    ),
    Internal("celery.worker.request.Request.on_success", ("worker/guard.py",), _BURIED),
    Internal("celery.worker.request.Request.on_timeout", ("worker/guard.py",), _BURIED),
    Internal("celery.worker.WorkController._process_task", ("worker/guard.py",), _BURIED),
    Internal("celery.worker.consumer.Consumer.create_task_handler", ("worker/guard.py",), _BURIED),
    Internal(
        "celery.worker.consumer.Consumer.add_task_queue",
        ("worker/guard.py",),
        "`control add_consumer` with a name that no server takes ends the worker.",
    ),
    Internal(
        "celery.worker.consumer.Consumer.cancel_task_queue",
        ("worker/guard.py",),
        "`control cancel_consumer` with such a name ends the worker.",
    ),
    Internal(
        "celery.concurrency.base.BasePool.start",
        ("worker/guard.py",),
        "In pools of threads and greenlets, a task that raises `SystemExit` is never settled.",
    ),
    Internal(
        "celery.worker.consumer.mingle.Mingle.send_hello",
        ("worker/guard.py",),
        "A reply that cannot be read ends a worker that starts.",
    ),
    Internal(
        "celery.worker.consumer.mingle.Mingle.compatible_transports",
        ("worker/remote_control.py",),
        "A worker that starts does not learn which tasks are revoked.",
    ),
    Internal(
        "celery.worker.consumer.connection.Connection.info",
        ("worker/remote_control.py",),
        "`inspect stats` shows the passwords of all broker URLs but the first (Celery < 5.7).",
    ),
    Internal(
        "celery.worker.pidbox.gPidbox.loop",
        ("worker/remote_control.py",),
        "A gevent or eventlet worker answers no remote control after a lost connection.",
    ),
    Internal(
        "celery.worker.control.revoke",
        ("worker/remote_control.py",),
        "A revoked job keeps its unique key until it is due.",
    ),
    Internal(
        "celery.worker.control.scheduled",
        ("worker/remote_control.py",),
        "`inspect scheduled` shows nothing of what is scheduled in the table.",
    ),
    Internal(
        "celery.worker.control.dump_schedule",
        ("worker/remote_control.py",),
        "`dump_schedule`, the older name of `inspect scheduled`, shows nothing of the table.",
    ),
    Internal(
        "celery.Task.apply_async",
        ("tasks/decorator.py", "tasks/publishing.py"),
        '`unique=` and `on_conflict="queue"` have no effect.',
    ),
    Internal(
        "celery.app.utils.filter_hidden_settings",
        ("redaction.py",),
        "`celery report` and `inspect conf` show the passwords of URLs.",
    ),
    Internal(
        "kombu.messaging.Producer.publish",
        ("broker/other_brokers.py",),
        "A task for another broker is sent at once inside of a `transaction` block.",
    ),
    Internal(
        "kombu.Connection._init_params",
        ("broker/address.py",),
        "A connection shows its whole URL, password included, as its host until it connects.",
    ),
)

#: Attributes whose names begin with an underscore.
PRIVATE = (
    Internal(
        "celery.worker.request.Request._apply_result",
        ("worker/state.py",),
        "After a lost connection, jobs that the pool runs on go back to the queue and run twice.",
    ),
    Internal(
        "billiard.pool.ApplyResult._write_to",
        ("worker/state.py",),
        "The same for jobs that a process of the prefork pool was sent and has not confirmed.",
    ),
    Internal("billiard.process.BaseProcess._is_alive", ("worker/state.py",), "The same."),
    Internal(
        "celery.concurrency.prefork.TaskPool._pool",
        ("worker/guard.py",),
        "What the pool keeps of a task that could not be handed to it is never freed.",
    ),
    Internal("billiard.pool.Pool._cache", ("worker/guard.py",), "The same."),
    Internal("celery.concurrency.asynpool.AsynPool._payload", ("worker/guard.py",), "The same."),
    Internal(
        "celery.app.task.Task.__header__",
        ("broker/signature.py",),
        "A row with arguments that its task does not take runs and fails, instead of being dead.",
    ),
    Internal(
        "celery._state.get_current_task",
        ("tasks/locked_run.py",),
        "A task that calls another one directly is taken for that one.",
    ),
    Internal(
        "celery._state._get_active_apps",
        ("tasks/placing.py",),
        "`@single_instance` above `@shared_task` locks nothing.",
    ),
    Internal("celery._state.connect_on_app_finalize", ("tasks/placing.py",), "The same."),
    Internal("celery.app.base.Celery._decorated", ("tasks/placing.py",), "The same."),
    Internal("celery.local.PromiseProxy.__then__", ("tasks/placing.py",), "The same."),
    Internal("celery.local.PromiseProxy.__evaluated__", ("tasks/placing.py",), "The same."),
    Internal(
        "celery.app.autoretry._orig_run",
        ("tasks/locked_run.py", "tasks/rule.py"),
        "A task with `autoretry_for` locks nothing.",
    ),
    Internal(
        "celery.beat.Scheduler._ensure_connected",
        ("beat/scheduler.py",),
        "Beat does not start while the broker cannot be reached.",
    ),
    Internal(
        "celery.schedules.crontab._orig_",
        ("beat/entries.py",),
        "A crontab cannot be written into the schedule's table.",
    ),
    Internal(
        "kombu.transport.virtual.Channel._inplace_augment_message",
        ("broker/channel.py",),
        "A published message lacks its delivery tag, exchange and routing key.",
    ),
    Internal(
        "kombu.transport.virtual.Channel._get_message_priority",
        ("broker/channel.py", "broker/settling.py"),
        "A job is stored without its priority.",
    ),
    Internal(
        "kombu.transport.virtual.Channel._tag_to_queue",
        ("broker/channel.py",),
        "A consumer that is cancelled keeps the jobs that it has claimed.",
    ),
    Internal(
        "kombu.transport.virtual.Channel._active_queues",
        ("broker/channel.py",),
        "A channel does not know what to claim from.",
    ),
    Internal(
        "kombu.transport.virtual.Transport._deliver",
        ("broker/channel.py",),
        "No message reaches its consumer.",
    ),
    Internal(
        "kombu.transport.virtual.Channel._new_queue",
        ("broker/topology.py",),
        "A queue is not declared in the database.",
    ),
    Internal(
        "kombu.transport.virtual.Channel._purge",
        ("broker/topology.py",),
        "`celery purge` deletes nothing.",
    ),
    Internal(
        "kombu.message.Message._decode",
        ("broker/delivery.py",),
        "A body that cannot be decoded is acknowledged, instead of being kept as dead.",
    ),
)

#: Names without an underscore that no page of theirs describes. No scan finds these.
UNDOCUMENTED = (
    Internal(
        "celery.worker.state.reserved_requests",
        ("worker/state.py",),
        "After a lost connection, jobs that still run go back to the queue and run twice.",
    ),
    Internal("celery.worker.state.active_requests", ("worker/state.py",), "The same."),
    Internal(
        "celery.worker.state.should_stop",
        ("worker/node.py",),
        "A worker that was asked to end goes on for as long as no server answers.",
    ),
    Internal("celery.worker.state.should_terminate", ("worker/node.py",), "The same."),
    Internal("celery.worker.state.maybe_shutdown", ("worker/node.py",), "The same."),
    Internal(
        "celery.worker.state.task_ready",
        ("worker/guard.py",),
        "A task that could not be handed to the pool stays reserved.",
    ),
    Internal("celery.worker.WorkController.semaphore", ("worker/guard.py",), "The same."),
    Internal("celery.worker.WorkController.pool_putlocks", ("worker/guard.py",), "The same."),
    Internal("celery.concurrency.base.BasePool.uses_semaphore", ("worker/guard.py",), "The same."),
    Internal(
        "billiard.pool.ApplyResult.correlation_id",
        ("worker/guard.py",),
        "What the pool keeps of a task that could not be handed to it is never freed.",
    ),
    Internal(
        "billiard.pool.ApplyResult.discard", ("worker/guard.py", "worker/state.py"), "The same."
    ),
    Internal(
        "celery.concurrency.base.BasePool.apply_async",
        ("worker/guard.py",),
        "In pools of threads and greenlets, a task that raises `SystemExit` is never settled.",
    ),
    Internal(
        "celery.concurrency.base.BasePool.num_processes",
        ("worker/step.py",),
        "A worker claims more jobs ahead than it can run.",
    ),
    Internal(
        "celery.worker.autoscale.Autoscaler.max_concurrency", ("worker/step.py",), "The same."
    ),
    Internal(
        "celery.worker.consumer.Consumer.strategies",
        ("worker/step.py",),
        "A job of a task that the worker does not have is dead at once (`unknown_task_grace`).",
    ),
    Internal(
        "celery.worker.consumer.Consumer.task_consumer",
        ("worker/guard.py", "worker/remote_control.py", "worker/step.py"),
        "The channel does not learn which worker it delivers to.",
    ),
    Internal(
        "billiard.einfo.ExceptionWithTraceback",
        ("worker/dead_reasons.py",),
        "A dead job's reason names a class of billiard, and not the task's exception.",
    ),
    Internal(
        "celery.app.task.Context.called_directly",
        ("tasks/conflict.py",),
        "`autoretry_for` repeats a task that was skipped because of its lock.",
    ),
    Internal(
        "celery.schedules.crontab.remaining_delta",
        ("beat/due.py",),
        "Beat before Celery 5.7 is off by an hour when the clocks change.",
    ),
    Internal("celery.schedules.BaseSchedule.nowfun", ("beat/due.py",), "The same."),
    Internal(
        "celery.beat.Scheduler.merge_inplace",
        ("beat/scheduler.py",),
        "Entries of `beat_schedule` are not read.",
    ),
    Internal(
        "celery.beat.Scheduler.install_default_entries",
        ("beat/scheduler.py",),
        "Expired results are not deleted once a day.",
    ),
    Internal(
        "celery.app.utils.find_app",
        ("cli/place.py",),
        "`mysqllock -A` does not find the application.",
    ),
    Internal(
        "kombu.transport.TRANSPORT_ALIASES",
        ("__init__.py",),
        "`mysql://` is no broker URL.",
    ),
    Internal(
        "kombu.transport.virtual.base.queue_declare_ok_t",
        ("broker/topology.py",),
        "A queue that is declared passively cannot be counted.",
    ),
    Internal(
        "kombu.transport.base.to_rabbitmq_queue_arguments",
        ("broker/topology.py",),
        "A queue's `expires` and `message_ttl` are lost.",
    ),
)

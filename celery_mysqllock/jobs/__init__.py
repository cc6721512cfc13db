"""The job table: its shape, its statements, and the consumers that claim from it. No Celery."""

from __future__ import annotations

from celery_mysqllock.jobs.bell import Bell, Wanted
from celery_mysqllock.jobs.control import Control
from celery_mysqllock.jobs.counted import counted
from celery_mysqllock.jobs.ephemeral import Binding, EphemeralQueue, EphemeralQueues, MessageSink
from celery_mysqllock.jobs.fetcher import Fetcher
from celery_mysqllock.jobs.inspection import COUNT_LIMIT, Inspection
from celery_mysqllock.jobs.job import ClaimedJob, Destination, Settlement
from celery_mysqllock.jobs.liveness import Liveness
from celery_mysqllock.jobs.lock_names import LockNames
from celery_mysqllock.jobs.migrate import Migrations
from celery_mysqllock.jobs.new_job import NewJob, UniqueKey
from celery_mysqllock.jobs.ordering import OrderKey
from celery_mysqllock.jobs.publisher import JobSink, Publisher
from celery_mysqllock.jobs.records import (
    ConsumerStatus,
    Job,
    JobStatus,
    OpenTransaction,
    QueueStatus,
    ScheduledJob,
    Selection,
    ServerHealth,
)
from celery_mysqllock.jobs.schedule import PeriodicTask, Schedule
from celery_mysqllock.jobs.sweeper import Sweeper
from celery_mysqllock.jobs.table import JobTable, job_statements
from celery_mysqllock.jobs.throughput import Throughput
from celery_mysqllock.jobs.transactional import TransactionalPublisher
from celery_mysqllock.jobs.unique import UNIQUE_KINDS, UNTIL_DONE, unique_key
from celery_mysqllock.jobs.widening import Widening
from celery_mysqllock.jobs.work import Work

__all__ = [
    "COUNT_LIMIT",
    "UNIQUE_KINDS",
    "UNTIL_DONE",
    "Bell",
    "Binding",
    "ClaimedJob",
    "ConsumerStatus",
    "Control",
    "Destination",
    "EphemeralQueue",
    "EphemeralQueues",
    "Fetcher",
    "Inspection",
    "Job",
    "JobSink",
    "JobStatus",
    "JobTable",
    "Liveness",
    "LockNames",
    "MessageSink",
    "Migrations",
    "NewJob",
    "OpenTransaction",
    "OrderKey",
    "PeriodicTask",
    "Publisher",
    "QueueStatus",
    "Schedule",
    "ScheduledJob",
    "Selection",
    "ServerHealth",
    "Settlement",
    "Sweeper",
    "Throughput",
    "TransactionalPublisher",
    "UniqueKey",
    "Wanted",
    "Widening",
    "Work",
    "counted",
    "job_statements",
    "unique_key",
]

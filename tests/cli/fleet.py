"""What ``top``, ``metrics`` and ``web`` are to show: something of everything, in one database."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from celery_mysqllock.jobs import Control, JobTable, LockNames, Migrations, NewJob
from celery_mysqllock.jobs.registry import Registry
from celery_mysqllock.mysql import Session, get_lock

if TYPE_CHECKING:
    from collections.abc import Iterator

ME = "a" * 32
NAME = "celery@host-one.example"
REASON = "ValueError: no <b>such</b> account\n\nTraceback (most recent call last):\n  ..."
MESSAGE = '{"body": [["<i>7</i>"], {}, {}], "headers": {"task": "shop.pay", "id": "id-7"}}'


@contextmanager
def fleet(session: Session) -> Iterator[dict[str, int]]:
    """A fleet for the block; the ids of its jobs by what they are.

    In the queue emails two jobs are ready, one is scheduled, one running and one dead; the queue
    slow is paused. One consumer lives.
    """
    Migrations(session).apply()
    jobs = JobTable(session)
    ids = {
        "dead": jobs.publisher.put(NewJob("emails", MESSAGE)),
        "running": jobs.publisher.put(NewJob("emails", MESSAGE)),
    }
    jobs.claims.claim("emails", 2, ME)
    jobs.claims.bury(ids["dead"], ME, REASON)
    ids |= {name: jobs.publisher.put(NewJob("emails", MESSAGE)) for name in ("ready", "other")}
    ids["scheduled"] = jobs.publisher.put(NewJob("emails", MESSAGE, delay=600))
    Control(session).pause("slow")
    Registry(session).add(ME, NAME, ["emails", "slow"])
    with Session(session.address) as consumer:
        get_lock(consumer, LockNames.of(session, "jobs").consumer(ME), 0)
        yield ids

"""The locks that are measured, each as two calls: take it and give it back."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple
from uuid import uuid4

import pymysql
from celery_singleton.backends.redis import RedisBackend
from redis import Redis

from celery_mysqllock import MySQLLock
from celery_mysqllock.mysql import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Where flock's files are; whoever measures removes it.
FLOCK_FOLDER = Path(tempfile.gettempdir()) / f"celery-mysqllock-flock-{os.getuid()}"
TTL = 30  # seconds after which Redis frees the lock of a dead holder

OURS = "MySQLLock"
TWO_SELECTS = "two SELECT 1"
PYMYSQL_PAIR = "GET_LOCK by PyMySQL"
SET_NX = "Redis SET NX, DEL"
REDIS_PY = "redis-py Lock"
SINGLETON = "celery-singleton"
FLOCK = "flock"

_ON_REDIS = (SET_NX, REDIS_PY, SINGLETON)


class Pair(NamedTuple):
    """A lock, or what stands for one.

    Attributes:
        take: Takes it, waiting for it where that can be.
        give: Gives it back.
    """

    take: Callable[[], object]
    give: Callable[[], object]


def without_missing(kinds: Sequence[str], redis_url: str) -> list[str]:
    """The kinds that can be measured; those on Redis only when there is a URL."""
    return [kind for kind in kinds if redis_url or kind not in _ON_REDIS]


def make(kind: str, name: str, mysql_url: str, redis_url: str) -> Pair:
    """The lock of that kind and name, on a connection of this process."""
    if kind == OURS:
        lock = MySQLLock(name, url=mysql_url)
        return Pair(lambda: lock.acquire(None), lock.release)
    if kind in (TWO_SELECTS, PYMYSQL_PAIR):
        return _by_pymysql(kind, name, mysql_url)
    if kind == FLOCK:
        return _flock(name)
    return _on_redis(kind, name, redis_url)


def _by_pymysql(kind: str, name: str, url: str) -> Pair:
    address = Address.parse(url)
    cursor = pymysql.connect(
        host=address.host,
        port=address.port,
        user=address.user,
        password=address.password,
        ssl_disabled=True,
    ).cursor()

    def run(sql: str, *values: object) -> object:
        cursor.execute(sql, values or None)
        return cursor.fetchone()

    if kind == TWO_SELECTS:
        return Pair(lambda: run("SELECT 1"), lambda: run("SELECT 1"))
    return Pair(
        lambda: run("SELECT GET_LOCK(%s, 60)", name), lambda: run("SELECT RELEASE_LOCK(%s)", name)
    )


def _on_redis(kind: str, name: str, url: str) -> Pair:
    if kind == SINGLETON:
        backend, task_id = RedisBackend(url), str(uuid4())
        return Pair(lambda: backend.lock(name, task_id, expiry=TTL), lambda: backend.unlock(name))
    client = Redis.from_url(url)
    if kind == SET_NX:
        return Pair(
            lambda: client.set(name, "holder", nx=True, ex=TTL), lambda: client.delete(name)
        )
    lock = client.lock(name, timeout=TTL)
    return Pair(lock.acquire, lock.release)


def _flock(name: str) -> Pair:
    FLOCK_FOLDER.mkdir(mode=0o700, exist_ok=True)
    file = os.open(FLOCK_FOLDER / name, os.O_CREAT | os.O_RDWR, 0o600)
    return Pair(lambda: fcntl.flock(file, fcntl.LOCK_EX), lambda: fcntl.flock(file, fcntl.LOCK_UN))

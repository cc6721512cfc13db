"""The server's named locks: their names, and GET_LOCK and the like with each answer checked."""

from __future__ import annotations

import hashlib
import math
import re
import string
from contextlib import suppress
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import Interrupted, LockError, MissingPrivilege, NoSuchSession

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery_mysqllock.mysql.session import Session

#: Characters of the longest name that MySQL takes (error 4163, 3057 on 5.7); MariaDB: 192 bytes.
NAME_LIMIT = 64
_HASH_LENGTH = 16
# Locks asked about in one statement; MySQL and MariaDB allow 4096 columns.
_COLUMNS = 500
# A name of ``lock_name`` contains it only in front of a hash.
_OWN = "~"
# ASCII only, as SQL that makes these names can do no more
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_PLAIN = re.compile(r"[a-z0-9_.:@/+=,{}\[\]()<>!?*#%&|~^ -]+")


class OwnLockName(str):
    """The full name of a lock of this library; ``lock_name`` returns it unchanged."""

    __slots__ = ()


def lock_name(namespace: str, *parts: str) -> str:
    """Return a lock's name, such that MySQL and MariaDB agree on which names are equal.

    It is the namespace and the parts, joined by ``:``. MySQL ignores case and accents in lock
    names and MariaDB does not: a name that is too long, or not lower-case ASCII, is cut to a
    readable beginning, followed by ``~`` and a hash of the exact text.

    Raises:
        LockError: A part is empty.
    """
    if len(parts) == 1 and isinstance(parts[0], OwnLockName):
        return parts[0]
    if not all((namespace, *parts)):
        raise LockError(f"The lock name {':'.join((namespace, *parts))!r} has an empty part.")
    exact = ":".join((namespace, *parts))
    if len(exact) <= NAME_LIMIT and _PLAIN.fullmatch(exact) and "~" not in exact:
        return exact
    digest = hashlib.sha256(exact.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_LENGTH]
    return f"{_readable(exact)}~{digest}"


def own_lock_name(*parts: str) -> OwnLockName:
    """Return the name of a lock of this library; no name of ``lock_name`` is equal to it.

    Raises:
        ValueError: The parts have other characters than ``[a-z0-9_.:~-]``, or are too long.
    """
    name = _OWN + ":".join(parts)
    if len(name) > NAME_LIMIT or not re.fullmatch(r"[a-z0-9_.:~-]+", name):
        raise ValueError(f"{name!r} is no name for a lock of our own.")
    return OwnLockName(name)


def is_own_lock(name: str) -> bool:
    """Whether this is the full name of a lock of this library."""
    return name.startswith(_OWN)


def wait_lock_name(lock: str) -> str:
    """Return the name of the lock that sessions wait for in front of a lock's slots."""
    mark = f"{_OWN}gate"
    if len(lock) + len(mark) <= NAME_LIMIT:
        return lock + mark
    mark = f"{_OWN}{hashlib.sha256(lock.encode()).hexdigest()[:_HASH_LENGTH]}{mark}"
    return lock[: NAME_LIMIT - len(mark)] + mark


def is_in_namespace(name: str, namespace: str) -> bool:
    """Whether this is the full name of a lock of the namespace.

    Namespaces that differ only in what ``lock_name`` cannot keep, such as case, look the same.
    """
    exact = f"{namespace}:"
    return name.startswith((exact, _readable(exact)))


def _readable(exact: str) -> str:
    return re.sub(r"[^a-z0-9_.:-]+", "_", exact.translate(_LOWER))[: NAME_LIMIT - _HASH_LENGTH - 1]


def get_lock(session: Session, name: str, wait: float) -> bool:
    """Acquire the lock for the session; wait up to ``wait`` seconds in the server's queue.

    Args:
        session: The session that will hold it.
        name: A name from ``lock_name``.
        wait: Seconds, zero or more. Rounded up to whole seconds: MySQL rounds 0.3 to 0.

    Returns:
        True if the session has the lock, False if the time is over.

    Raises:
        LockError: The server answered NULL, which is an error and not "busy".
        ConnectionLost: The session has ended.
    """
    seconds = max(0, math.ceil(wait))
    with session.extend_timeout(seconds):
        answer = session.select_int("SELECT GET_LOCK(%s, %s)", name, seconds)
    if answer is None:
        raise LockError(
            f"GET_LOCK({name!r}) answered NULL: the statement was killed, or the server is out "
            "of memory. The lock is not held."
        )
    return bool(answer)


def release_lock(session: Session, name: str) -> bool:
    """Release the lock; return whether the session held it.

    A RELEASE_LOCK that was killed (error 1317) has released nothing, so it is sent again.

    Raises:
        ConnectionLost: The session has ended, and the lock with it.
    """
    while True:
        try:
            return bool(session.select_int("SELECT RELEASE_LOCK(%s)", name))
        except Interrupted:
            continue


def used_by(session: Session, name: str) -> int | None:
    """Return the connection id of the session that holds the lock, None when it is free."""
    return session.select_int("SELECT IS_USED_LOCK(%s)", name)


def wake(session: Session, connection_id: int | None) -> None:
    """End the statement in which a session waits; do nothing when the session is gone.

    A session of another user is left to wait where this one may not end its statement. No session
    depends on being woken: each also looks by itself after a while.

    Raises:
        ConnectionLost: The session that is to do it has ended.
    """
    if connection_id is not None:
        with suppress(NoSuchSession, MissingPrivilege):
            session.execute("KILL QUERY %s", (int(connection_id),))


def free_among(session: Session, names: Sequence[str]) -> list[str]:
    """Return the locks that are free, asking about 500 in one statement.

    Raises:
        LockError: The server answered NULL, which says neither yes nor no.
        ConnectionLost: The session has ended.
    """
    free: list[str] = []
    for start in range(0, len(names), _COLUMNS):
        part = names[start : start + _COLUMNS]
        asked = ", ".join(["IS_FREE_LOCK(%s)"] * len(part))
        (answers,) = session.query(f"SELECT {asked}", tuple(part))
        if None in answers:
            raise LockError("IS_FREE_LOCK answered NULL; nothing is known of the locks.")
        free += [name for name, is_free in zip(part, answers, strict=True) if is_free]
    return free

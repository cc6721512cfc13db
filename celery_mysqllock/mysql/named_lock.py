"""The server's named locks: their names, and GET_LOCK and its kin with every answer checked."""

from __future__ import annotations

import hashlib
import math
import re
import string
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import Interrupted, LockError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery_mysqllock.mysql.session import Session

#: The longest name that MySQL takes (error 4163, 3057 on 5.7); MariaDB takes 192 bytes.
NAME_LIMIT = 64
_HASH_LENGTH = 16
# So many answers of one statement; MySQL and MariaDB have a limit of 4096 columns.
_COLUMNS = 500
# In a name of ``lock_name`` it stands in front of a hash only.
_OWN = "~"
# of ASCII alone: SQL that makes these names has no other way to do the same
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_PLAIN = re.compile(r"[a-z0-9_.:@/+=,{}\[\]()<>!?*#%&|~^ -]+")


class OwnLockName(str):
    """The full name of a lock of this library's own; ``lock_name`` leaves it as it is."""

    __slots__ = ()


def lock_name(namespace: str, *parts: str) -> str:
    """Name a lock so that MySQL and MariaDB agree on which names are equal.

    The parts are joined by ``:`` behind the namespace. MySQL ignores case and accents in lock
    names and MariaDB does not; so a name that is too long, or not lower-case ASCII, keeps a
    readable beginning and gets a hash of the exact text behind ``~``.

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
    """Name a lock of this library's own; no name of ``lock_name`` is equal to it.

    Raises:
        ValueError: The parts are not plain, or too long.
    """
    name = _OWN + ":".join(parts)
    if len(name) > NAME_LIMIT or not re.fullmatch(r"[a-z0-9_.:~-]+", name):
        raise ValueError(f"{name!r} is no name for a lock of our own.")
    return OwnLockName(name)


def is_own_lock(name: str) -> bool:
    """Whether a lock of that full name is one of this library's own."""
    return name.startswith(_OWN)


def gate_name(lock: str) -> str:
    """The name of the lock in front of the slots of that lock, readable as far as there is room."""
    mark = f"{_OWN}gate"
    if len(lock) + len(mark) <= NAME_LIMIT:
        return lock + mark
    mark = f"{_OWN}{hashlib.sha256(lock.encode()).hexdigest()[:_HASH_LENGTH]}{mark}"
    return lock[: NAME_LIMIT - len(mark)] + mark


def is_in_namespace(name: str, namespace: str) -> bool:
    """Whether that is the full name of a lock of the namespace.

    Namespaces that differ in what ``lock_name`` cannot keep only, such as case, look the same.
    """
    exact = f"{namespace}:"
    return name.startswith((exact, _readable(exact)))


def _readable(exact: str) -> str:
    return re.sub(r"[^a-z0-9_.:-]+", "_", exact.translate(_LOWER))[: NAME_LIMIT - _HASH_LENGTH - 1]


def get_lock(session: Session, name: str, wait: float) -> bool:
    """Take the lock for the session, waiting up to so many seconds in the server's own line.

    Args:
        session: The session that will hold it.
        name: A name from ``lock_name``.
        wait: Seconds, zero or more. Rounded up to whole seconds: MySQL rounds 0.3 to 0.

    Returns:
        True when the session has the lock, False when the time is over.

    Raises:
        LockError: The server answered NULL, which is an error and not "busy".
        ConnectionLost: The session has ended.
    """
    seconds = max(0, math.ceil(wait))
    with session.waiting(seconds):
        answer = session.number("SELECT GET_LOCK(%s, %s)", name, seconds)
    if answer is None:
        raise LockError(
            f"GET_LOCK({name!r}) answered NULL: the statement was killed, or the server is out "
            "of memory. The lock is not held."
        )
    return bool(answer)


def release_lock(session: Session, name: str) -> bool:
    """Give the lock back; True when the session held it.

    A RELEASE_LOCK that was killed (error 1317) has released nothing, so it is sent again.

    Raises:
        ConnectionLost: The session has ended, and the lock with it.
    """
    while True:
        try:
            return bool(session.number("SELECT RELEASE_LOCK(%s)", name))
        except Interrupted:
            continue


def used_by(session: Session, name: str) -> int | None:
    """The connection id of the session that holds the lock, None when it is free."""
    return session.number("SELECT IS_USED_LOCK(%s)", name)


def free_among(session: Session, names: Sequence[str]) -> list[str]:
    """Those of the locks that nobody holds, with one statement for every few hundred.

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

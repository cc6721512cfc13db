"""All settings, with defaults and allowed values, checked once at the start."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

from celery_mysqllock.exceptions import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from _typeshed import DataclassInstance

    S = TypeVar("S", bound=DataclassInstance)

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_$]{0,44}")
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_LOCK_NAME_LIMIT = 64
_LONGEST = 1e10  # seconds
_TABLE_NAME = "a table's name: up to 45 letters, digits, '_' or '$', not beginning with a digit"


def check_identifier(setting: str, value: object) -> str:
    """Return the value if it is a valid name of the job table.

    At most 45 characters, so that the names of the other tables, ``<table>_ephemeral_messages``,
    stay below MySQL's limit of 64.

    Raises:
        SettingsError: It is not; the message names the setting.
    """
    if _is_identifier(value):
        return str(value)
    raise SettingsError(f"{setting}={value!r} is not allowed; it takes {_TABLE_NAME}.")


def duration(value: object) -> float | None:
    """Return the seconds of ``"7d"``, ``"90s"`` or a number above 0; None for anything else.

    The most is about 300 years: MySQL's times go no further back.
    """
    seconds: float = 0
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = value
    elif isinstance(value, str) and (found := re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", value)):
        seconds = float(found[1]) * _UNITS[found[2]]
    return float(seconds) if 0 < seconds <= _LONGEST else None


def answer_time(session_timeout: float) -> float:
    """Return the seconds in which a statement that does not wait must be answered, 8 to 15.

    Less than ``session_timeout``, so that a consumer that gets no answer reconnects before its jobs
    go to others; more than the lock wait timeouts that a session sets.
    """
    return min(15.0, max(8.0, session_timeout / 3))


def _is_identifier(value: object) -> bool:
    return isinstance(value, str) and _IDENTIFIER.fullmatch(value) is not None


def _is_name(value: object) -> bool:
    return value is None or (isinstance(value, str) and bool(value.strip()))


def _are_names(value: object) -> bool:
    return isinstance(value, dict) and all(
        name and _is_name(name) for pair in value.items() for name in pair
    )


def _is_number(least: float, most: float) -> Callable[[object], bool]:
    return lambda value: (
        isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= most
    )


def _is_whole(least: int, most: int) -> Callable[[object], bool]:
    return lambda value: (
        isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
    )


def _setting(
    default: object, allowed: str, accepts: Callable[[object], bool], *, secret: bool = False
) -> Any:  # noqa: ANN401 - stands for a field of any type
    return field(
        default=default, repr=not secret, metadata={"allowed": allowed, "accepts": accepts}
    )


def _namespace() -> Any:  # noqa: ANN401 - as _setting
    return _setting(None, "a name that is not empty, or None for the database's name", _is_name)


def _session_timeout() -> Any:  # noqa: ANN401 - as _setting
    return _setting(30, "whole seconds from 3 to 3600", _is_whole(3, 3600))


@dataclass(frozen=True)
class LockSettings:
    """How named locks are held; in Celery's configuration each name begins with ``mysqllock_``.

    Attributes:
        url: The database whose server keeps the locks, None for the broker's.
        namespace: The first part of each lock's name. None for the broker's ``namespace`` option if
            the URL is the broker's, and otherwise for the database's name. Two applications on one
            server never meet unless they share it.
        session_timeout: Whole seconds after which the server frees the locks of a host that has
            vanished from the network. A session sends a keep-alive three times in this period.
        allow_multi_primary: Whether a server that is one of several primaries (Galera, Group
            Replication) may keep the locks, which are valid on that one server only.
    """

    url: str | None = _setting(
        None, "a mysql:// URL, or None for the broker's", _is_name, secret=True
    )
    namespace: str | None = _namespace()
    session_timeout: int = _session_timeout()
    allow_multi_primary: bool = _setting(
        default=False, allowed="True or False", accepts=lambda value: isinstance(value, bool)
    )


@dataclass(frozen=True)
class BeatSettings:
    """How ``celery beat -S mysqllock`` works; each name begins with ``mysqllock_beat_``.

    Attributes:
        catch_up: How many seconds late a tick is still sent when no beat could send it in time.
            Older ticks are skipped, except the last one of each task.
    """

    catch_up: float = _setting(60.0, "seconds from 0 to 86400", _is_number(0, 86400))


@dataclass(frozen=True)
class BrokerSettings:
    """The options of the mysql:// transport, in ``broker_transport_options``.

    Attributes:
        table: The job table's name.
        create_table: Whether a missing job table is created on first use. An existing table is
            never changed on first use; ``celery -A app mysqllock migrate`` does that.
        text_task: The task that receives a row's text as its only argument when the text is not a
            JSON job, or a dict with such a task for each queue; None marks such rows as dead.
        legacy_lock: The exact name of the lock (``GET_LOCK``) that older programs hold while they
            take jobs from the same table with SELECT and UPDATE. Claims acquire it too, so that no
            job is taken twice; None if there are no such programs.
        polling_interval: Seconds after which a job is found that another program has inserted
            without ringing. One consumer of the fleet polls, whatever its size.
        claim_limit: The most jobs that one statement claims.
        claim_method: ``skip_locked``, ``two_steps`` (faster on MariaDB), ``compare_and_set`` for
            servers without SKIP LOCKED, or ``auto`` for the fastest that the server supports.
        namespace: The owner of the table. The table stores it and refuses programs with another
            one; ``migrate`` changes it while no worker is alive.
        session_timeout: As for locks; after it the jobs of a vanished host go back to the queue.
        unroutable: What happens to a task that no queue takes: ``raise`` an error to the sender, or
            ``log`` one, once for each exchange and routing key, and drop it.
        max_deliveries: A job that has started this many times, and whose worker died or returned it
            each time, becomes dead; 0 for no limit.
        retention: How long acknowledged jobs are kept as finished, such as ``"7d"``, ``"12h"`` or a
            number of seconds; None deletes them at once.
        unknown_task_grace: How long a job is left to other workers when a worker does not know its
            task, such as ``"10m"`` or a number of seconds, before it becomes dead; None for not at
            all.
        recovery_grace: Seconds for which a consumer must have been dead before its jobs go back to
            the queue, so that a reconnect does not run a job twice.
        unpacked_limit: The most bytes that a compressed body may unpack to; a job with a larger one
            becomes dead.
    """

    table: str = _setting("jobs", _TABLE_NAME, _is_identifier)
    create_table: bool = _setting(
        default=False, allowed="True or False", accepts=lambda value: isinstance(value, bool)
    )
    text_task: str | dict[str, str] | None = _setting(  # noqa: RUF009 - a field
        None,
        "the name of a task, a dict of queues and names of tasks, or None",
        lambda value: _is_name(value) or _are_names(value),
    )
    legacy_lock: str | None = _setting(
        None,
        "the name of a lock of 1 to 64 characters, or None",
        lambda value: _is_name(value) and len(str(value)) <= _LOCK_NAME_LIMIT,
    )
    polling_interval: float = _setting(2.0, "seconds from 0.2 to 60", _is_number(0.2, 60))
    claim_limit: int = _setting(64, "a whole number from 1 to 1000", _is_whole(1, 1000))
    claim_method: str = _setting(
        "auto",
        "'auto', 'skip_locked', 'two_steps' or 'compare_and_set'",
        lambda value: value in ("auto", "skip_locked", "two_steps", "compare_and_set"),
    )
    namespace: str | None = _namespace()
    session_timeout: int = _session_timeout()
    unroutable: str = _setting("raise", "'raise' or 'log'", lambda value: value in ("raise", "log"))
    max_deliveries: int = _setting(5, "a whole number from 0 to 1000", _is_whole(0, 1000))
    retention: str | float | None = _setting(
        None,
        "None, a number of seconds, or a number with s, m, h or d behind it",
        lambda value: value is None or duration(value) is not None,
    )
    unknown_task_grace: str | float | None = _setting(
        "10m",
        "None, a number of seconds, or a number with s, m, h or d behind it",
        lambda value: value is None or duration(value) is not None,
    )
    recovery_grace: float = _setting(3.0, "seconds from 1 to 600", _is_number(1, 600))
    unpacked_limit: int = _setting(
        64 * 1024 * 1024, "a whole number of bytes from 1 to 2147483647", _is_whole(1, 2**31 - 1)
    )

    @property
    def retention_seconds(self) -> float:
        """Seconds for which acknowledged jobs are kept, 0 for not at all."""
        return duration(self.retention) or 0.0

    @property
    def unknown_task_seconds(self) -> float:
        """Seconds for which jobs of unknown tasks are left to other workers, 0 for not at all."""
        return duration(self.unknown_task_grace) or 0.0


def read_settings(
    kind: type[S], values: Mapping[str, Any], *, source: str, ignore: frozenset[str] = frozenset()
) -> S:
    """Check the values and return them as settings.

    Args:
        kind: ``LockSettings``, ``BeatSettings`` or ``BrokerSettings``.
        values: The user's values, by name.
        source: How the user spells a name, such as ``mysqllock_{name}``.
        ignore: Names of settings that are not ours.

    Raises:
        SettingsError: A name is unknown or a value is not allowed; the message lists what is.
    """
    known = {known.name: known for known in fields(kind)}
    for name, value in values.items():
        if name in ignore:
            continue
        spelled = source.format(name=name)
        if name not in known:
            raise SettingsError(f"{spelled} is unknown; known are {', '.join(sorted(known))}.")
        if not known[name].metadata["accepts"](value):
            shown = f"={value!r}" if known[name].repr else ""  # a secret is not
            raise SettingsError(
                f"{spelled}{shown} is not allowed; it takes {known[name].metadata['allowed']} "
                f"(default {known[name].default!r})."
            )
    return kind(**{name: value for name, value in values.items() if name in known})

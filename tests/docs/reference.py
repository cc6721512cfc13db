"""Writes docs/reference from the docstrings: ``python -m tests.docs.reference``."""

from __future__ import annotations

import inspect
import re
import textwrap
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from celery_mysqllock import (
    MySQLLock,
    SingleInstanceTask,
    exceptions,
    signals,
    single_instance,
    transaction,
)
from celery_mysqllock.locks import Holder, Lock, MemoryLock, Process
from celery_mysqllock.settings import BeatSettings, BrokerSettings, LockSettings
from celery_mysqllock.tasks import current_lock, lock_for
from celery_mysqllock.tasks.options import LockOptions
from tests.docs.docstring import inline, items, markdown
from tests.worker.internals import PRIVATE, READ_IN, REPLACED, UNDOCUMENTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.worker.internals import Internal

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"

_APP = """The examples on this page begin with:

```python
from celery import Celery
from celery_mysqllock import SingleInstanceTask, single_instance

app = Celery("proj", broker="mysql://user:password@127.0.0.1:3306/shop")
```"""

_LOCK = """The example on this page begins with a table, a lock and a cursor:

```sql
CREATE TABLE account (id INT PRIMARY KEY, balance INT NOT NULL);
```

```python
import pymysql
from celery_mysqllock import MySQLLock

lock = MySQLLock("report", url="mysql://user:password@127.0.0.1:3306/shop")
lock.acquire()
connection = pymysql.connect(
    host="127.0.0.1", port=3306, user="user", password="password", database="shop"
)
cursor = connection.cursor()
```"""

_METHODS = (
    *("acquire", "waiting", "release", "owned", "locked", "holder", "held_for"),
    *("check", "fence", "reset"),
)


def pages() -> dict[str, str]:
    """Each page's file name and text."""
    return {
        "single-instance.md": _page("`@single_instance`", _APP, *_single_instance()),
        "locks.md": _page("Locks", _LOCK, *_locks()),
        "settings.md": _page("Settings", *_settings()),
        "transaction.md": _page(
            "`transaction`", _heading("transaction", transaction), markdown(transaction.__doc__)
        ),
        "exceptions.md": _page("Exceptions", *_exceptions()),
        "signals.md": _page("Signals", *_signals()),
        "internals.md": _page("Internals", *_internals()),
    }


def _page(title: str, *parts: str) -> str:
    return (
        "\n\n".join((f"# {title}", "<!-- Made by: python -m tests.docs.reference -->", *parts))
        + "\n"
    )


def _heading(name: str, function: Callable[..., Any] | None = None, level: int = 2) -> str:
    return f"{'#' * level} `{name}{'' if function is None else _parameters(function)}`"


def _parameters(function: Callable[..., Any]) -> str:
    known = inspect.signature(function)
    plain = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in known.parameters.values()
        if parameter.name != "self"
    ]
    return str(known.replace(parameters=plain, return_annotation=inspect.Signature.empty))


def _default(known: Any) -> str:
    return "" if known.default is MISSING else f"={known.default!r}"


def _single_instance() -> Iterator[str]:
    options = ", ".join(f"{known.name}{_default(known)}" for known in fields(LockOptions))
    yield f"## `single_instance(*, {options})`"
    yield markdown(single_instance.__doc__)
    yield _heading("SingleInstanceTask")
    yield markdown(SingleInstanceTask.__doc__)
    yield _heading("task.lock_for(*args, **kwargs)")
    yield markdown(lock_for.__doc__)
    yield _heading("celery_mysqllock.tasks.current_lock", current_lock)
    yield markdown(current_lock.__doc__)


def _locks() -> Iterator[str]:
    yield _heading("MySQLLock", MySQLLock)
    yield markdown(MySQLLock.__doc__)
    yield markdown(Lock.__doc__)
    for name in _METHODS:
        method = inspect.getattr_static(Lock, name)
        is_property = isinstance(method, property)
        yield _heading(f"lock.{name}", None if is_property else method, level=3)
        yield markdown(method.__doc__)
        own = inspect.cleandoc(vars(MySQLLock)[name].__doc__) if name in vars(MySQLLock) else ""
        more = own.removeprefix("As in ``Lock``").lstrip(",;. ")
        if more:
            yield markdown(f"With ``MySQLLock``: {more}")
    for kind in (Holder, Process):
        yield _heading(f"celery_mysqllock.locks.{kind.__name__}")
        yield markdown(kind.__doc__)
    yield _heading("celery_mysqllock.locks.MemoryLock", MemoryLock)
    yield markdown(MemoryLock.__doc__)


def _settings() -> Iterator[str]:
    for kind, where, spelled in (
        (LockSettings, "In Celery's configuration", "mysqllock_{name}"),
        (BeatSettings, "In Celery's configuration, for a beat", "mysqllock_beat_{name}"),
        (BrokerSettings, "In `broker_transport_options`", "{name}"),
    ):
        text, _, attributes = inspect.cleandoc(kind.__doc__ or "").partition("\n\nAttributes:\n")
        yield f"## {where}"
        yield markdown(text)
        said = {
            item[1]: item[2]
            for item in re.finditer(
                r"^    (\w+): (.*\n?(?:^        .*\n?)*)", attributes, re.MULTILINE
            )
        }
        yield "\n".join(
            (
                "| name | default | it takes | what it is |",
                "|---|---|---|---|",
                *(
                    f"| `{spelled.format(name=known.name)}` | `{known.default!r}` "
                    f"| {known.metadata['allowed']} | {inline(said[known.name])} |"
                    for known in fields(kind)
                ),
            )
        )


def _exceptions() -> Iterator[str]:
    yield inline(inspect.cleandoc(exceptions.__doc__ or "").partition("\n\n")[0])
    yield (
        "Import them from `celery_mysqllock.exceptions`. An exception is listed below the one that "
        "it derives from; what has a small first letter is an attribute."
    )
    yield "\n".join(_tree(exceptions.MySQLLockError, 0))


def _tree(kind: type[exceptions.MySQLLockError], depth: int) -> Iterator[str]:
    text, _, attributes = inspect.cleandoc(kind.__doc__ or "").partition("\n\nAttributes:\n")
    builtin = [base.__name__ for base in kind.__bases__ if base.__module__ == "builtins"]
    also = f" (also a `{builtin[0]}`)" if builtin and builtin != ["Exception"] else ""
    yield f"{'    ' * depth}- `{kind.__name__}`{also}: {inline(text)}"
    if attributes:
        yield textwrap.indent(items(textwrap.dedent(attributes)), "    " * (depth + 1))
    for below in sorted(kind.__subclasses__(), key=lambda it: it.__name__):
        if below.__module__ == exceptions.__name__:
            yield from _tree(below, depth + 1)


def _signals() -> Iterator[str]:
    yield markdown(signals.__doc__)
    yield "Import them from `celery_mysqllock.signals`."
    source = inspect.getsource(signals)
    for comment, name in re.findall(r"((?:^#: .*\n)+)^(\w+) = Signal\(", source, re.MULTILINE):
        arguments = ", ".join(f"`{argument}`" for argument in sorted(_arguments(name)))
        yield f"## `{name}`"
        yield inline(re.sub(r"^#: ", "", comment, flags=re.MULTILINE))
        yield f"Arguments: `sender`, {arguments}."


def _arguments(name: str) -> set[str]:
    return set(getattr(signals, name).providing_args)


def _internals() -> Iterator[str]:
    versions = ", ".join(f"{name} {version}" for name, version in READ_IN.items())
    yield (
        f"The names of Celery, kombu and billiard that they do not document, and that this package "
        f"uses. They were read in {versions}, and are the same from Celery 5.5 on. "
        "`tests/worker/test_internals.py` fails when one is gone, and when the package uses one "
        "that is not listed. Those of PyMySQL are in `tests/mysql/test_pymysql_internals.py`."
    )
    yield "## Replaced"
    yield "What this package replaces by a function of its own, which calls the former one."
    yield _table_of(REPLACED)
    yield "## Private"
    yield "What begins with an underscore, or is in a module that does."
    yield _table_of(PRIVATE)
    yield "## Undocumented"
    yield "What is public by its name, and on no page of the documentation."
    yield _table_of(UNDOCUMENTED)


def _table_of(internals: tuple[Internal, ...]) -> str:
    rows = (
        f"| `{one.name}` | {', '.join(f'`{room}`' for room in one.rooms)} | {one.without} |"
        for one in internals
    )
    return "\n".join(("| name | used in | without it |", "|---|---|---|", *rows))


def main() -> None:
    """Write the pages."""
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, "utf-8")


if __name__ == "__main__":
    main()

"""Several statements in one round trip, each with its own parameters and its own result."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

# A percent sign that stands for itself is written twice.
_PARAMETER = re.compile(r"%%|%\((?P<name>\w+)\)s")


class RunsScripts(Protocol):
    """The part of a ``Session`` that a script needs."""

    def script(self, sql: str, parameters: Mapping[str, object]) -> list[Any]:
        """Run statements separated by ``;``; for each its rows, or how many rows it changed."""


class ScriptResult:
    """The result of one statement of a script, available once the script has run."""

    def __init__(self, sql: str) -> None:
        self._sql = sql
        self._value: list[tuple[Any, ...]] | int | None = None

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """The rows that a SELECT found.

        Raises:
            LookupError: The statement has not run, or returns no rows.
        """
        if isinstance(self._value, list):
            return self._value
        raise LookupError(f"There are no rows of: {self._sql}")

    @property
    def changed(self) -> int:
        """How many rows the statement changed.

        Raises:
            LookupError: The statement has not run, or returns rows.
        """
        if isinstance(self._value, int):
            return self._value
        raise LookupError(f"There is no count of changed rows of: {self._sql}")

    def _set(self, value: list[tuple[Any, ...]] | int) -> None:
        self._value = value


class Script:
    """Collects statements and sends them together.

    ``add`` gives the handle of a statement's result, which ``run`` fills in. A transaction of
    several round trips is one script that runs several times: each ``run`` sends what was added
    since the one before. The same statement may be added several times, with other values.

    Args:
        session: The session to run the statements on.
    """

    def __init__(self, session: RunsScripts) -> None:
        self._session = session
        self._texts: list[str] = []
        self._values: dict[str, object] = {}
        self._results: list[ScriptResult] = []

    def add(self, sql: str, /, **values: object) -> ScriptResult:
        """Add one statement, to be sent by the next ``run``.

        Args:
            sql: The statement, with ``%(name)s`` for values and ``%%`` for a percent sign.
            **values: The values, by name; those that the statement does not have are not sent.

        Raises:
            KeyError: A value is missing.
        """
        suffix = f"_{len(self._results)}"

        def renamed(found: re.Match[str]) -> str:
            name = found["name"]
            if name is None:
                return found[0]
            self._values[f"{name}{suffix}"] = values[name]
            return f"%({name}{suffix})s"

        self._texts.append(_PARAMETER.sub(renamed, sql))
        result = ScriptResult(sql)
        self._results.append(result)
        return result

    def run(self) -> None:
        """Send what was added since the last time, in one round trip; nothing if there is nothing.

        A statement that fails ends the script: those before it have run, and no handle of this
        round trip has a result.

        Raises:
            MessageTooLarge: The server would not read so large a script; nothing was sent.
            ConnectionLost, DatabaseError: As ``Session.query``.
        """
        texts, values, results = self._texts, self._values, self._results
        self._texts, self._values, self._results = [], {}, []
        if texts:
            found = self._session.script("; ".join(texts), values)
            for result, value in zip(results, found, strict=True):
                result._set(value)  # noqa: SLF001 - its own

"""The kind and version of a server, and what that version can do."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SKIP_LOCKED_SINCE = {"MySQL": (8, 0, 1), "MariaDB": (10, 6, 0)}
_EXPRESSION_DEFAULTS_SINCE = {"MySQL": (8, 0, 13), "MariaDB": (10, 2, 1)}
_OLDEST = {"MySQL": (5, 7, 0), "MariaDB": (10, 4, 0)}


@dataclass(frozen=True)
class Server:
    """Kind and version of a server.

    Attributes:
        kind: ``MySQL`` or ``MariaDB``.
        version: Its three version numbers.
    """

    kind: str
    version: tuple[int, int, int]

    @classmethod
    def from_greeting(cls, greeting: str) -> Server:
        """Parse the version in a server's greeting, such as ``5.5.5-10.11.19-MariaDB-log``.

        MariaDB before 11 begins with ``5.5.5-``, for replicas of old MySQL versions.
        """
        kind = "MariaDB" if "mariadb" in greeting.lower() else "MySQL"
        if kind == "MariaDB":
            greeting = greeting.removeprefix("5.5.5-")
        found = re.match(r"(\d+)\.(\d+)(?:\.(\d+))?", greeting)
        major, minor, patch = (int(part or 0) for part in found.groups()) if found else (0, 0, 0)
        return cls(kind, (major, minor, patch))

    def __str__(self) -> str:
        return f"{self.kind} {'.'.join(map(str, self.version))}"

    @property
    def is_mariadb(self) -> bool:
        """Whether this is MariaDB."""
        return self.kind == "MariaDB"

    @property
    def has_skip_locked(self) -> bool:
        """Whether ``SELECT ... FOR UPDATE SKIP LOCKED`` works."""
        return self.version >= _SKIP_LOCKED_SINCE[self.kind]

    @property
    def has_expression_defaults(self) -> bool:
        """Whether a column's default may be computed from another column."""
        return self.version >= _EXPRESSION_DEFAULTS_SINCE[self.kind]

    @property
    def is_too_old(self) -> bool:
        """Whether this server is older than MySQL 5.7 and MariaDB 10.4."""
        return self.version < _OLDEST[self.kind]

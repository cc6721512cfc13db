"""Which server is asked for: a kind, and perhaps a release of it, as in `mariadb-11.8`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from celery_mysqllock.exceptions import SettingsError
from devserver.program import KINDS

VARIABLE = "MYSQLLOCK_SERVER"


@dataclass(frozen=True)
class Wanted:
    """What a server has to be to be taken.

    Attributes:
        kind: "mariadb" or "mysql"; None if either will do.
        release: The first numbers of its version, such as "11.8"; "" for any.
    """

    kind: str | None = None
    release: str = ""

    @classmethod
    def parse(cls, text: str | None) -> Wanted:
        """Read `mariadb`, `mysql`, `mariadb-11.8` or the like; None and "" ask for any server.

        Raises:
            SettingsError: The text is none of these.
        """
        if not text:
            return cls()
        found = re.fullmatch(rf"({'|'.join(KINDS)})(?:-(\d+(?:\.\d+)*))?", text)
        if not found:
            raise SettingsError(
                f"{text!r} is no kind of server ({VARIABLE} or --server): "
                f"it has to be {' or '.join(KINDS)}, with a release if you like: mariadb-11.8."
            )
        return cls(found[1], found[2] or "")

    def __str__(self) -> str:
        return "-".join(filter(None, (self.kind, self.release))) or " or ".join(KINDS)

    def suits(self, kind: str, version: str) -> bool:
        """Tell whether a server of this kind and version, such as 11.8.3, is what is asked for."""
        return self.kind in (None, kind) and f"{version}.".startswith(
            self.release and f"{self.release}."
        )

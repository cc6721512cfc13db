"""A server that is running already, named in MYSQLLOCK_URL and used as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from celery_mysqllock.mysql import Address, Session
from devserver.errors import NotOurServer
from devserver.server import create_database, drop_database

if TYPE_CHECKING:
    from typing import Self


class GivenServer:
    """The server behind a URL: never started, stopped, restarted or killed from here.

    Attributes:
        private: False.
        url: The URL as it was given.
        kind: "mariadb" or "mysql", as the server says.
        version: The three numbers of its version, such as "11.8.3".

    Raises:
        SettingsError: The URL is malformed.
        DatabaseError: The login fails.
    """

    private = False
    pid = 0

    def __init__(self, url: str) -> None:
        self.url = url
        self._address = Address.parse(url)
        with Session(self._address) as session:
            self.kind = session.server.kind.lower()
            self.version = ".".join(map(str, session.server.version))
        self._made: list[str] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def create_database(self, name: str | None = None) -> str:
        """Create a database and return its URL; `close` drops it again.

        Raises:
            DatabaseError: The server refuses, for instance because the database exists.
        """
        url = create_database(self._address, name)
        self._made.append(Address.parse(url).database)
        return url

    def drop_database(self, name: str) -> None:
        """Drop a database that `create_database` made here.

        Raises:
            NotOurServer: It was not made here.
        """
        if name not in self._made:
            raise NotOurServer(f"The database {name!r} was not made here, so it is not dropped.")
        drop_database(self._address, name)
        self._made.remove(name)

    def start(self) -> NoReturn:
        """Refuse: the server is not ours.

        Raises:
            NotOurServer: Always.
        """
        raise NotOurServer

    stop = restart = kill = start

    def check(self) -> None:
        """Do nothing: the server is not ours to watch."""

    def close(self) -> None:
        """Drop the databases that were made here; the server itself stays as it is."""
        for name in list(self._made):
            self.drop_database(name)

"""A private, throw-away server of the MySQL protocol on 127.0.0.1."""

from __future__ import annotations

import contextlib
import random
import re
import secrets
import signal
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.mysql import Address, Session
from celery_mysqllock.mysql.address import SERVER_KEY
from devserver.errors import ServerFailed
from devserver.folders import new_folder, remove
from devserver.guard import Guard
from devserver.program import HOST
from devserver.template import new_data

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from devserver.program import Program

USER = "mysqllock"
DATABASE = "mysqllock"
_TIMEOUT = 120.0  # seconds for a start, including crash recovery on a slow disk
_INTERVAL = 0.01  # seconds between two reads of the log of a server that is starting
_READY = b"ready for connections"
_TAKEN = b"Address already in use"
_TAIL = 15  # lines of the server's log that an error quotes
_PORTS_FROM = 15000
_PORTS_TO = 32768  # where ports for outgoing connections begin on Linux, unless set otherwise
_PORT_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


class DevServer:
    """One mysqld of our own, with a data directory of its own.

    It ends with the process that made it, however that ends, and leaves no file behind. It is not
    started when it is made: use it as a context manager, or call `start` and `close`.

    Args:
        program: The server's program.
        options: Further options of mysqld, such as ``--max-allowed-packet=1M``.

    Attributes:
        kind: "mariadb" or "mysql".
        options: As above; a change takes effect at the next start.
        private: True: a test may kill and restart it.
        url: The `mysql://` URL of its first database, for a user with all privileges.
        pid: mysqld's process id, 0 before the first start.
    """

    private = True

    def __init__(self, program: Program, options: Sequence[str] = ()) -> None:
        self.kind = program.kind
        self.options = options
        self.pid = 0
        self._program = program
        self._mutex = threading.RLock()
        self._folder = new_folder()
        self._guard = Guard(self._folder)
        self._address = Address(
            host=HOST,
            database=DATABASE,
            user=USER,
            password=secrets.token_hex(16),
            port=_free_port(),
            # one without TLS asks for the password in this way, and it is this process's own
            login_method=SERVER_KEY if "--tls-version=" in options else None,
        )

    @property
    def url(self) -> str:
        """The `mysql://` URL of the first database, with the password."""
        return self._address.url()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start the server and return once it answers queries; data and port stay the same.

        Raises:
            ServerFailed: mysqld ended, or did not answer within two minutes.
        """
        data, accounts = self._folder / "data", self._folder / "accounts.sql"
        with self._mutex:
            if not data.exists():
                new_data(self._program, data)
                self._write_accounts(accounts)
            while not self._started(data, accounts):
                self._address = replace(self._address, port=_free_port())
            accounts.unlink(missing_ok=True)

    def stop(self) -> None:
        """Shut the server down (SIGTERM); `start` starts it again on its data.

        Raises:
            ServerFailed: It did not end within two minutes.
        """
        with self._mutex:
            if not self._guard.signal(signal.SIGTERM, _TIMEOUT):
                raise ServerFailed(f"{self.kind} did not end within {_TIMEOUT:.0f} s.{self._log()}")

    def restart(self) -> None:
        """Shut the server down and start it again, with the same data and URL."""
        with self._mutex:
            self.stop()
            self.start()

    def kill(self) -> None:
        """End the server with SIGKILL, as a crash would; `start` recovers its data."""
        with self._mutex:
            self._guard.signal(signal.SIGKILL)

    def check(self) -> None:
        """Check that the server runs.

        Raises:
            ServerFailed: It does not; the message has the last lines of its log.
        """
        with self._mutex:
            code = self._guard.ended()
            if code is not None:
                raise ServerFailed(f"{self.kind} is not running ({_how(code)}).{self._log()}")

    def close(self) -> None:
        """Kill the server and remove its files. May be called twice."""
        with self._mutex:
            self._guard.close()
            if self._guard.ours:
                remove(self._folder)  # where the watchdog was killed and could not

    def create_database(self, name: str | None = None) -> str:
        """Create a database and return its URL.

        Args:
            name: Letters, digits and underscores; a random one when left out.
        """
        return create_database(self._address, name)

    def drop_database(self, name: str) -> None:
        """Drop a database and all that is in it."""
        drop_database(self._address, name)

    def _write_accounts(self, path: Path) -> None:
        path.touch(mode=0o600)
        user, password = self._address.user, self._address.password
        lines = [
            *(f"DROP USER IF EXISTS 'root'@'{host}';" for host in ("localhost", HOST, "::1")),
            f"CREATE USER IF NOT EXISTS '{user}'@'%' IDENTIFIED BY '{password}';",
            f"GRANT ALL PRIVILEGES ON *.* TO '{user}'@'%' WITH GRANT OPTION;",
            f"CREATE DATABASE IF NOT EXISTS {self._address.database};",
        ]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _started(self, data: Path, accounts: Path) -> bool:
        """Start mysqld; False when another program took its port before its first start."""
        log = self._folder / "mysqld.log"
        seen = log.stat().st_size if log.exists() else 0
        command = self._program.serving(self._folder, self._address.port)
        command += self.options
        if accounts.exists():
            command.append(f"--init-file={accounts}")
        self.pid = self._guard.start(command, self._program.environment, data)
        deadline = time.monotonic() + _TIMEOUT
        while time.monotonic() < deadline:
            code = self._guard.ended(_INTERVAL)
            news = log.read_bytes()[seen:] if log.exists() else b""
            if code is not None:
                if accounts.exists() and _TAKEN in news:
                    return False
                raise ServerFailed(f"{self.kind} ended at its start ({_how(code)}).{self._log()}")
            # before this line, the port may be that of another program
            if _READY in news:
                Session(self._address).open().close()
                return True
        raise ServerFailed(f"{self.kind} was not ready within {_TIMEOUT:.0f} s.{self._log()}")

    def _log(self) -> str:
        lines: list[str] = []
        for name in ("mysqld.out", "mysqld.log"):
            path = self._folder / name
            if path.exists():
                lines += path.read_text(encoding="utf-8", errors="replace").splitlines()[-_TAIL:]
        text = "\n".join(lines).replace(self._address.password, "**")
        return f" The last lines of its log:\n{text}" if text else ""


def create_database(server: Address, name: str | None) -> str:
    """Create a database on the server of `server` and return its URL; a random name for None.

    Raises:
        SettingsError: The name is not made of letters, digits and underscores.
        DatabaseError: The server refuses, for instance because the database exists.
    """
    name = name or f"mysqllock_{secrets.token_hex(6)}"
    with Session(server) as session:
        session.execute(f"CREATE DATABASE {_quoted(name)} CHARACTER SET utf8mb4")
    return replace(server, database=name).url()


def drop_database(server: Address, name: str) -> None:
    """Drop a database on the server of `server`; raises as `create_database` does."""
    with Session(server) as session:
        session.execute(f"DROP DATABASE {_quoted(name)}")


def _quoted(name: str) -> str:
    # An identifier cannot be a parameter of a statement.
    if not re.fullmatch(r"\w{1,64}", name, re.ASCII):
        raise SettingsError(f"{name!r} is no name for a database: letters, digits, underscores.")
    return f"`{name}`"


def _how(code: int) -> str:
    return f"signal {-code}" if code < 0 else f"exit code {code}"


def _free_port() -> int:
    """Return a free port outside the range from which outgoing connections get theirs.

    A client that reconnects to a killed server could otherwise be given the server's own port,
    connect to itself, and keep the server from starting again.
    """
    end = int(_PORT_RANGE.read_text().split()[0]) if _PORT_RANGE.exists() else _PORTS_TO
    for port in random.sample(range(min(_PORTS_FROM, end - 1000), end), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((HOST, port))
            return port
    raise ServerFailed(f"No port is free on {HOST}.")

"""Programs' own connections, of each driver and framework, and how their transactions go."""

from __future__ import annotations

import json
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import pymysql
import pytest

import celery_mysqllock
from celery_mysqllock.mysql import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery_mysqllock.mysql import Session


def sent(session: Session) -> list[str]:
    """The first argument of each job that is committed, in the order of the ids."""
    # not in SQL: MySQL 5.7 has no JSON_VALUE, and JSON_UNQUOTE of MariaDB 10.5 has no utf8mb4
    rows = session.query("SELECT message FROM jobs ORDER BY id")
    return [str(json.loads(message)["body"][0][0]) for (message,) in rows]


class Caller(Protocol):
    """A program with a connection of its own."""

    connection: Any

    def transaction(self) -> Any:
        """The block of one transaction, in which tasks are sent too."""

    def order(self, entry: str) -> None:
        """Write a row of the program's own."""

    def leave_rows_unread(self) -> None:
        """Begin to read rows one by one from the server."""


def has_mysqlclient() -> bool:
    """Whether it is installed, and not PyMySQL in its place."""
    try:
        version("mysqlclient")
    except PackageNotFoundError:
        return False
    return True


needs_mysqlclient = pytest.mark.skipif(
    not has_mysqlclient(), reason="mysqlclient is not installed; pip install --group mysqlclient"
)
MANY_ROWS = "SELECT 1 FROM information_schema.columns LIMIT 1000"
ORDER = "INSERT INTO orders VALUES (%(entry)s)"


def login(url: str) -> dict[str, Any]:
    """What PyMySQL and mysqlclient both take."""
    address = Address.parse(url)
    place: dict[str, Any] = {"host": address.host, "port": address.port}
    if address.unix_socket:
        place = {"unix_socket": address.unix_socket}
    return {
        **place,
        "user": address.user,
        "password": address.password,
        "database": address.database,
    }


def _leave_unread(connection: Any) -> Any:
    """The cursor of a driver's connection that has begun to read."""
    package = type(connection).__module__.partition(".")[0]
    cursor = connection.cursor(import_module(f"{package}.cursors").SSCursor)
    cursor.execute(MANY_ROWS)
    cursor.fetchone()
    return cursor


DRIVERS = ["pymysql", pytest.param("mysqldb", marks=needs_mysqlclient)]


class OutOfStockError(Exception):
    """What a program raises in its transaction."""


class Plain:
    """A connection of a driver, or what wraps one."""

    def __init__(
        self, url: str, driver: str, wrap: Callable[[Any], Any] | None = None, **options: Any
    ) -> None:
        # it need not be installed
        module = import_module("MySQLdb") if driver == "mysqldb" else pymysql
        connection = module.connect(**login(url), **options)
        self.connection: Any = connection if wrap is None else wrap(connection)
        self._unread: Any = None

    def transaction(self) -> Any:
        return celery_mysqllock.transaction(self.connection)

    def order(self, entry: str) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(ORDER, {"entry": entry})

    def leave_rows_unread(self) -> None:
        self._unread = _leave_unread(self.connection.cursor().connection)


class SQLAlchemy:
    """A Session, or a Connection."""

    def __init__(self, url: str, driver: str, *, core: bool, **options: Any) -> None:
        import sqlalchemy  # noqa: PLC0415 - the pure driver's programs go without

        given = login(url)
        address = sqlalchemy.URL.create(
            f"mysql+{driver}",
            username=given.pop("user"),
            password=given.pop("password"),
            database=given.pop("database"),
            **{name: given.pop(name) for name in ("host", "port") if name in given},
        )
        self.engine = sqlalchemy.create_engine(address, connect_args=given, **options)
        self.connection: Any = None
        self._core = core
        self._unread: Any = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        from sqlalchemy.orm import sessionmaker  # noqa: PLC0415

        begin: Any = self.engine.begin if self._core else sessionmaker(self.engine).begin
        with begin() as self.connection, celery_mysqllock.transaction(self.connection):
            yield

    def order(self, entry: str) -> None:
        connection = self.connection if self._core else self.connection.connection()
        connection.exec_driver_sql(ORDER, {"entry": entry})

    def leave_rows_unread(self) -> None:
        import sqlalchemy  # noqa: PLC0415

        rows = self.connection.execute(
            sqlalchemy.text(MANY_ROWS), execution_options={"yield_per": 10}
        )
        self._unread = iter(rows)
        next(self._unread)


class Django:
    """Django's connection, in ``atomic``."""

    def __init__(self, url: str, driver: str) -> None:
        configure_django(url, driver)
        from django.db import connection  # noqa: PLC0415 - it has to be configured first

        self.connection = connection
        self._unread: Any = None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        from django.db import transaction  # noqa: PLC0415

        with transaction.atomic(), celery_mysqllock.transaction(self.connection):
            yield

    def order(self, entry: str) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(ORDER, {"entry": entry})

    def leave_rows_unread(self) -> None:
        self._unread = _leave_unread(self.connection.connection)


def _opentelemetry(connection: Any) -> Any:
    module = import_module("opentelemetry.instrumentation.pymysql")
    return module.PyMySQLInstrumentor().instrument_connection(connection)


def _ddtrace(connection: Any) -> Any:
    return import_module("ddtrace.contrib.internal.pymysql.patch").patch_conn(connection)


def has_package(name: str) -> bool:
    """Whether it can be imported."""
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def configure_django(url: str, driver: str, **options: Any) -> None:
    """Make that database Django's, with that driver; the driver once a process."""
    from django.conf import settings  # noqa: PLC0415
    from django.db import connections  # noqa: PLC0415

    if driver == "pymysql":
        pymysql.install_as_MySQLdb()
    if not settings.configured:
        settings.configure(ROOT_URLCONF="tests.broker.django_views", ALLOWED_HOSTS=["*"])
    given = login(url)
    connections._settings = {  # noqa: SLF001 - a process has one database, but for tests
        "default": {
            "ENGINE": "django.db.backends.mysql",
            "HOST": given.get("unix_socket", given.get("host")),
            "PORT": given.get("port", ""),
            "USER": given["user"],
            "PASSWORD": given["password"],
            "NAME": given["database"],
            **options,
        }
    }
    vars(connections).pop("settings", None)


#: Each kind of caller, by the name that the tests show.
KINDS: dict[str, Callable[[str], Caller]] = {
    "PyMySQL": lambda url: Plain(url, "pymysql"),
    "mysqlclient": lambda url: Plain(url, "mysqldb"),
    "Session, PyMySQL": lambda url: SQLAlchemy(url, "pymysql", core=False),
    "Session, mysqlclient": lambda url: SQLAlchemy(url, "mysqldb", core=False),
    "Connection, PyMySQL": lambda url: SQLAlchemy(url, "pymysql", core=True),
    "Connection, mysqlclient": lambda url: SQLAlchemy(url, "mysqldb", core=True),
    "Django, PyMySQL": lambda url: Django(url, "pymysql"),
    "Django, mysqlclient": lambda url: Django(url, "mysqldb"),
    "OpenTelemetry, PyMySQL": lambda url: Plain(url, "pymysql", _opentelemetry),
    "ddtrace, PyMySQL": lambda url: Plain(url, "pymysql", _ddtrace),
}
_NEEDS = {
    "OpenTelemetry": "opentelemetry.instrumentation.pymysql",
    "ddtrace": "ddtrace",
}


def is_installed(kind: str) -> bool:
    """Whether there is what it needs."""
    package = _NEEDS.get(kind.partition(",")[0])
    if "mysqlclient" in kind:
        return has_mysqlclient()
    return package is None or has_package(package)


def skip_what_django_refuses(kind: str, session: Session) -> None:
    """Skip the test of a caller whose library refuses the server."""
    if not can_use(kind, session):
        pytest.skip(f"Django refuses {session.server}")


def can_use(kind: str, session: Session) -> bool:
    """Whether it takes the server; Django 5 wants MySQL 8.0.11 or MariaDB 10.5."""
    server = session.server
    return not kind.startswith("Django") or server.version >= (
        (10, 5) if server.is_mariadb else (8, 0, 11)
    )


#: The same, for ``pytest.mark.parametrize``.
EACH_KIND = [
    pytest.param(
        kind,
        marks=pytest.mark.skipif(not is_installed(kind), reason="its package is not installed"),
        id=kind,
    )
    for kind in KINDS
]

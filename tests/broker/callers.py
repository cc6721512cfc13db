"""Programs' own connections, of each driver and framework, and how their transactions go."""

from __future__ import annotations

from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Protocol

import pymysql
import pytest

import celery_mysqllock
from celery_mysqllock.mysql import Address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Caller(Protocol):
    """A program with a connection of its own."""

    def transaction(self) -> Any:
        """The block of one transaction, in which tasks are sent too."""

    def order(self, entry: str) -> None:
        """Write a row of the program's own."""


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


class Plain:
    """A connection of a driver."""

    def __init__(self, url: str, driver: str, **options: Any) -> None:
        # it need not be installed
        module = import_module("MySQLdb") if driver == "mysqldb" else pymysql
        self.connection: Any = module.connect(**login(url), **options)

    def transaction(self) -> Any:
        return celery_mysqllock.transaction(self.connection)

    def order(self, entry: str) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(ORDER, {"entry": entry})


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

    @contextmanager
    def transaction(self) -> Iterator[None]:
        from sqlalchemy.orm import sessionmaker  # noqa: PLC0415

        begin: Any = self.engine.begin if self._core else sessionmaker(self.engine).begin
        with begin() as self.connection, celery_mysqllock.transaction(self.connection):
            yield

    def order(self, entry: str) -> None:
        connection = self.connection if self._core else self.connection.connection()
        connection.exec_driver_sql(ORDER, {"entry": entry})


class Django:
    """Django's connection, in ``atomic``."""

    def __init__(self, url: str, driver: str) -> None:
        configure_django(url, driver)
        from django.db import connection  # noqa: PLC0415 - it has to be configured first

        self.connection = connection

    @contextmanager
    def transaction(self) -> Iterator[None]:
        from django.db import transaction  # noqa: PLC0415

        with transaction.atomic(), celery_mysqllock.transaction(self.connection):
            yield

    def order(self, entry: str) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(ORDER, {"entry": entry})


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
}
#: The same, for ``pytest.mark.parametrize``.
EACH_KIND = [
    pytest.param(kind, marks=[needs_mysqlclient] if "mysqlclient" in kind else [], id=kind)
    for kind in KINDS
]

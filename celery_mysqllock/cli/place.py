"""Where a command works: the servers, the job table and the locks, of an app or of a URL."""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import click
from celery.app.utils import find_app
from click.core import ParameterSource

from celery_mysqllock.broker.address import read_broker_settings
from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.jobs import Control, Inspection, LockNames, Migrations
from celery_mysqllock.mysql import Address, Session, open_first
from celery_mysqllock.settings import BrokerSettings, LockSettings, check_identifier
from celery_mysqllock.tasks.configuration import broker_addresses, lock_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from celery import Celery

#: The environment variable that stands for ``--url``.
URL_VARIABLE = "MYSQLLOCK_URL"
_NOWHERE = (
    "Say where to work: 'celery -A <app> mysqllock ...', 'mysqllock -A <app> ...', or "
    "'mysqllock --url mysql://user:password@host:3306/database ...' (or --url-file, or "
    "MYSQLLOCK_URL)."
)


@dataclass(frozen=True)
class Place:
    """What a command works with; read when it is first asked for, so that ``--help`` needs nothing.

    Attributes:
        app: The Celery app, None when a URL was given instead.
        url: The URL, None for the app's.
        table: The job table's name, None for the app's setting.
    """

    app: Celery | None = None
    url: str | None = field(default=None, repr=False)
    table: str | None = None

    @property
    def settings(self) -> BrokerSettings:
        """The broker's settings.

        Raises:
            SettingsError: One is wrong.
        """
        options = {} if self.app is None else self.app.conf.broker_transport_options or {}
        settings = read_broker_settings(options)
        if self.table is None:
            return settings
        return replace(settings, table=check_identifier("--table", self.table))

    @property
    def addresses(self) -> list[Address]:
        """Where the job table is: on each server, when the broker is a list of URLs.

        Raises:
            SettingsError: Nobody says where, or one of the app's brokers is no mysql:// URL.
        """
        if self.url is not None:
            return [Address.parse(self.url)]
        if self.app is None:
            raise SettingsError(_NOWHERE)
        found = broker_addresses(self.app)
        if not found:
            raise SettingsError(
                "broker_url names no MySQL database, so there is no job table. Set it to "
                "mysql://user:password@host:3306/database."
            )
        return found

    def namespace(self, session: Session) -> str | None:
        """The namespace of the app's broker, None when a URL was given instead of an app."""
        if self.app is None:
            return None
        return self.settings.namespace or LockNames.of(session, self.settings.table).database

    @property
    def table_beside_locks(self) -> str:
        """The job table whose name the beat's lock has; the default one beside another broker."""
        is_broker_ours = self.app is None or bool(broker_addresses(self.app))
        return self.settings.table if is_broker_ours else BrokerSettings.table

    @property
    def locks(self) -> LockSettings:
        """Where the locks are.

        Raises:
            SettingsError: Nobody says where.
        """
        if self.url is not None:
            return LockSettings(url=self.url)
        if self.app is None:
            raise SettingsError(_NOWHERE)
        return lock_settings(self.app)

    def open_session(self, *, patience: float | None = None) -> Session:
        """Open a session with the first server of the job table that answers.

        Args:
            patience: Seconds after which an answer that has not come counts as a lost connection,
                None for as many as with any session.

        Raises:
            CannotConnect: None does.
            LoginRefused, UnknownDatabase, MissingPrivilege: The server says no.
        """
        return open_first(
            [
                Session(address) if patience is None else Session(address, patience=patience)
                for address in self.addresses
            ]
        )

    @contextmanager
    def session(self) -> Iterator[Session]:
        """A session for the block; errors as in ``open_session``."""
        with self.open_session() as session:
            yield session

    @contextmanager
    def inspection(self) -> Iterator[Inspection]:
        """A look at the job table, on a session of its own; errors as in ``session``.

        Raises:
            TableMissing, TableMismatch: There is no job table of this release's shape.
        """
        with self.session() as session:
            Migrations(session, self.settings.table).check()
            yield Inspection(session, self.settings.table)

    @contextmanager
    def control(self) -> Iterator[Control]:
        """Changes to jobs and queues, on a session of its own; errors as in ``inspection``."""
        with self.session() as session:
            Migrations(session, self.settings.table).check()
            yield Control(session, self.settings.table)


def choose_url(context: click.Context, url: str | None, file: Path | None) -> str | None:
    """The URL out of the options ``--url`` and ``--url-file``, or of the environment.

    Raises:
        click.UsageError: Both options are given; the file cannot be read, has no URL in its first
            line, or may be read by all users of the host.
    """
    if file is None:
        return url
    if context.get_parameter_source("url") == ParameterSource.COMMANDLINE:
        raise click.UsageError("--url and --url-file exclude each other.")
    try:
        with file.open(encoding="utf-8") as opened:
            is_open_to_all = os.fstat(opened.fileno()).st_mode & stat.S_IROTH
            found = "" if is_open_to_all else opened.readline().strip()
    except (OSError, UnicodeDecodeError) as error:
        # not chained: what cannot be decoded is a part of the file
        reason = (error.strerror if isinstance(error, OSError) else None) or "it is no text"
        raise click.UsageError(f"--url-file {file} cannot be read: {reason}.") from None
    if is_open_to_all:
        raise click.UsageError(
            f"--url-file {file} may be read by all users of this host. Take that away: "
            f"chmod o= {file}"
        )
    if not found:
        raise click.UsageError(f"--url-file {file} has no URL in its first line.")
    return found


def find_place(
    context: click.Context, app: str | None, url: str | None, table: str | None
) -> Place:
    """The place that the options say; under ``celery -A app`` that app's.

    Raises:
        click.UsageError: There is no such app.
    """
    if app is not None:
        return Place(_find_app(app), url, table)
    return Place(getattr(context.find_object(object), "app", None), url, table)


def _find_app(name: str) -> Celery:
    try:
        return find_app(name)
    except (ImportError, AttributeError) as error:
        raise click.UsageError(f"There is no Celery app {name!r}: {error}") from error

"""Broker, locks, beat and commands log in to the same server, however a configuration spells it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from celery_mysqllock.app import address_of, lock_address, lock_settings
from celery_mysqllock.beat import Scheduler
from celery_mysqllock.broker import Transport
from celery_mysqllock.cli.deployment import Deployment
from celery_mysqllock.cli.doctor import servers_of
from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.mysql import Address, Tls
from celery_mysqllock.tasks import lock_for, single_instance

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST, SECOND = (
    "mysql://jane:s3cret@one:3307/shop",
    "mysql://joe:s3cret@two/store?ssl_mode=REQUIRED",
)
ELSEWHERE = "memory://"  # a broker of another kind that needs no library
ONE = Address("one", "shop", "jane", "s3cret", 3307, connect_timeout=4.0)
TWO = Address("two", "store", "joe", "s3cret", connect_timeout=4.0, tls=Tls("REQUIRED"))
VERIFIED = Tls("VERIFY_CA", "/ca.pem")
PARTS = {"transport": "mysql", "host": "one", "port": 3307, "user": "jane", "password": "s3cret"}


@dataclass(frozen=True)
class Expected:
    """What a configuration says.

    Attributes:
        servers: The broker's.
        table: The job table.
        namespace: That of broker and locks, None for the database's name.
        locks: The server of the locks, None for the broker's first.
    """

    servers: tuple[Address, ...] = (ONE,)
    table: str = "jobs"
    namespace: str | None = None
    locks: Address | None = None


def report() -> None:
    """A task that runs alone."""


def modern(**settings: Any) -> Celery:
    app = Celery("shop", set_as_current=False)
    app.conf.update(settings)
    return app


def from_object(*, prefix: str = "", **settings: Any) -> Celery:
    """An app with the settings in capitals, as in a Django project or before Celery 4."""
    app = Celery("shop", set_as_current=False)
    source = SimpleNamespace(**{f"{prefix}{name}".upper(): settings[name] for name in settings})
    app.config_from_object(source, namespace=prefix.rstrip("_").upper() or None)
    return app


def capitals(**settings: Any) -> Celery:
    return from_object(**settings)


def prefixed(**settings: Any) -> Celery:
    return from_object(prefix="celery_", **settings)


@pytest.mark.parametrize("spelled", [modern, capitals, prefixed])
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({"broker_url": FIRST}, Expected(), id="one URL"),
        pytest.param({"broker_url": FIRST.replace("mysql", "MySQL")}, Expected(), id="scheme"),
        pytest.param({"broker_url": f" {FIRST}\n"}, Expected(), id="space round one URL"),
        pytest.param({"broker_url": f"{FIRST};{SECOND}"}, Expected((ONE, TWO)), id="semicolon"),
        pytest.param({"broker_url": [FIRST, SECOND]}, Expected((ONE, TWO)), id="list"),
        pytest.param({"broker_url": (FIRST, SECOND)}, Expected((ONE, TWO)), id="tuple"),
        pytest.param(
            {**{f"broker_{name}": PARTS[name] for name in PARTS}, "broker_vhost": "shop"},
            Expected(),
            id="parts",
        ),
        pytest.param(
            {"broker_url": FIRST, "broker_transport": "celery_mysqllock.broker:Transport"},
            Expected(),
            id="transport by path",
        ),
        pytest.param(
            {"broker_url": FIRST, "broker_transport_options": {"table": "t", "namespace": "n"}},
            Expected(table="t", namespace="n"),
            id="options",
        ),
        pytest.param(
            {"broker_url": FIRST, "broker_use_ssl": True},
            Expected((replace(ONE, tls=Tls()),)),
            id="TLS: True",
        ),
        pytest.param(
            {"broker_url": FIRST, "broker_use_ssl": {"ssl_mode": "VERIFY_CA", "ssl_ca": "/ca.pem"}},
            Expected((replace(ONE, tls=VERIFIED),)),
            id="TLS: MySQL's names",
        ),
        pytest.param(
            {
                "broker_url": [FIRST, SECOND],
                "broker_use_ssl": {"ca_certs": "/ca.pem", "check_hostname": False},
            },
            Expected((replace(ONE, tls=VERIFIED), TWO)),
            id="TLS: Python's names, and a URL's own",
        ),
        pytest.param(
            {"broker_url": FIRST, "broker_connection_timeout": 9},
            Expected((replace(ONE, connect_timeout=9.0),)),
            id="timeout",
        ),
        pytest.param(
            {"broker_url": f"{FIRST}?connect_timeout=7", "broker_connection_timeout": 9},
            Expected((replace(ONE, connect_timeout=7.0),)),
            id="timeout of the URL",
        ),
        pytest.param(
            {"broker_url": FIRST, "broker_login_method": "get-server-public-key"},
            Expected((replace(ONE, login_method="get-server-public-key"),)),
            id="login method",
        ),
        pytest.param(
            {"broker_url": f"{FIRST}?unix_socket=%2Frun%2Fmysqld.sock"},
            Expected((replace(ONE, host="localhost", unix_socket="/run/mysqld.sock"),)),
            id="socket file",
        ),
        pytest.param(
            {"broker_url": FIRST, "broker_use_ssl": True, "mysqllock_url": FIRST},
            Expected((replace(ONE, tls=Tls()),)),
            id="locks at the same URL",
        ),
        pytest.param(
            {
                "broker_url": FIRST,
                "broker_use_ssl": True,
                "mysqllock_url": "mysql://joe:s3cret@two/store",
            },
            Expected((replace(ONE, tls=Tls()),), locks=replace(TWO, tls=Tls())),
            id="locks at a URL of their own",
        ),
    ],
)
def test_everything_logs_in_to_the_same_server(
    spelled: Callable[..., Celery], settings: dict[str, Any], expected: Expected
) -> None:
    answers(spelled(**settings), expected)


@pytest.mark.parametrize(
    ("variables", "settings"),
    [
        ({"CELERY_BROKER_URL": FIRST}, {"broker_url": ELSEWHERE}),
        ({"CELERY_BROKER_WRITE_URL": FIRST}, {"broker_url": ELSEWHERE}),
        ({}, {"broker_url": ELSEWHERE, "broker_write_url": FIRST}),
        ({}, {"broker_write_url": FIRST, "broker_read_url": SECOND}),
    ],
)
def test_what_is_published_to_comes_first(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], settings: dict[str, str]
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    answers(modern(**settings), Expected())


def answers(app: Celery, expected: Expected) -> None:
    """Check what each part of the library says."""
    first, *_ = expected.servers
    connection = app.connection_for_write()
    assert isinstance(connection.transport, Transport)
    assert connection.transport.settings.table == expected.table
    assert connection.transport.settings.namespace == expected.namespace
    assert address_of(connection) == first
    for server in expected.servers[1:]:
        connection.maybe_switch_next()
        assert address_of(connection) == server

    locks = lock_settings(app)
    assert lock_address(locks) == (expected.locks or first)
    assert locks.namespace == expected.namespace
    task = app.task(single_instance(report), name="report", lazy=False, shared=False)
    beside = Address.parse(locks.url or "")
    assert lock_for(task).name.startswith(f"{expected.namespace or beside.database}:task:")

    beat = beat_of(app)
    assert (beat.servers, beat.table, beat.has_jobs) == (expected.servers, expected.table, True)

    deployment = Deployment(app)
    assert deployment.addresses == expected.servers
    assert deployment.settings.table == expected.table
    assert deployment.locks == locks
    own = () if expected.locks is None else (expected.locks,)
    assert tuple(servers_of(deployment)) == (*expected.servers, *own)


def beat_of(app: Celery) -> Scheduler:
    """A beat that has read its settings and asked no server."""
    beat = Scheduler.__new__(Scheduler)
    beat.app = app
    beat.read_settings()
    return beat


@pytest.mark.parametrize("variable", [True, False])
def test_a_broker_that_workers_only_read_has_the_locks_and_no_jobs_of_the_beat(
    monkeypatch: pytest.MonkeyPatch, *, variable: bool
) -> None:
    app = modern(broker_url=ELSEWHERE)
    if variable:
        monkeypatch.setenv("CELERY_BROKER_READ_URL", FIRST)
    else:
        app.conf.broker_read_url = FIRST
    assert address_of(app.connection_for_read()) == ONE
    assert lock_address(lock_settings(app)) == ONE
    assert Deployment(app).addresses == (ONE,)
    # it publishes as the application does
    assert not beat_of(app).has_jobs


@pytest.mark.parametrize("broker", [ELSEWHERE, "sqla+mysql://jane:s3cret@one/shop"])
def test_the_settings_of_another_broker_are_its_own(broker: str) -> None:
    locks = Address("two", "store", "joe", "s3cret", tls=Tls("REQUIRED"))
    app = modern(
        broker_url=broker,
        broker_use_ssl={"ssl_version": 5},
        broker_transport_options={"visibility_timeout": 3600, "table": "theirs"},
        mysqllock_url=SECOND,
    )
    assert lock_address(lock_settings(app)) == locks
    beat = beat_of(app)
    assert (beat.servers, beat.table, beat.has_jobs) == ((locks,), "jobs", False)
    deployment = Deployment(app)
    assert (deployment.has_jobs, deployment.settings.table) == (False, "jobs")
    assert servers_of(deployment) == {locks: None}


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"broker_url": "mysql://jane:s3cret@one:3307"}, "names no database"),
        ({"broker_url": "mysql://one:3307/shop"}, "names no user"),
        ({"broker_url": f"{FIRST}; {SECOND}"}, "has a space"),
        ({"broker_url": [FIRST, f"{SECOND}&tsl=1"]}, "unknown option 'tsl'"),
        ({"broker_url": FIRST, "broker_use_ssl": {"verify": 1}}, "unknown option 'verify'"),
        ({"broker_url": FIRST, "broker_transport_options": {"tabel": "t"}}, "'tabel'] is unknown"),
    ],
)
def test_everything_refuses_what_is_wrong(settings: dict[str, Any], says: str) -> None:
    app = modern(**settings)
    for ask in (
        lambda: address_of(app.connection_for_write().transport.client),
        lambda: lock_settings(app),
        lambda: beat_of(app),
        lambda: Deployment(app).addresses,
        lambda: servers_of(Deployment(app)),
    ):
        with pytest.raises(SettingsError, match=says) as caught:
            ask()
        assert "s3cret" not in str(caught.value)

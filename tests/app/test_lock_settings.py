"""The settings of an application's locks."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from celery import Celery

from celery_mysqllock.app import lock_address, lock_settings
from celery_mysqllock.exceptions import SettingsError
from celery_mysqllock.mysql import Address
from celery_mysqllock.settings import LockSettings

MYSQL = "mysql://user:secret@host/db"


def test_the_settings_are_read_from_the_configuration() -> None:
    app = Celery()
    app.conf.update(
        mysqllock_url=MYSQL,
        mysqllock_namespace="mine",
        mysqllock_session_timeout=60,
        mysqllock_allow_multi_primary=True,
    )
    assert lock_settings(app) == LockSettings(MYSQL, "mine", 60, allow_multi_primary=True)


def test_the_url_with_its_password_is_in_no_repr() -> None:
    app = Celery()
    app.conf.update(mysqllock_url=MYSQL)
    assert "secret" not in repr(lock_settings(app))


def test_the_url_with_its_password_is_in_no_error() -> None:
    app = Celery()
    app.conf.update(mysqllock_url=[MYSQL])
    with pytest.raises(SettingsError, match="mysqllock_url is not allowed") as caught:
        lock_settings(app)
    assert "secret" not in str(caught.value)


def test_a_namespace_of_the_configuration_works() -> None:
    app = Celery()
    app.config_from_object(SimpleNamespace(CELERY_MYSQLLOCK_URL=MYSQL), namespace="CELERY")
    assert lock_settings(app).url == MYSQL


def test_names_in_capitals_work_as_celerys_old_ones_do() -> None:
    app = Celery()
    app.config_from_object(SimpleNamespace(BROKER_URL=MYSQL, MYSQLLOCK_NAMESPACE="mine"))
    assert lock_settings(app).namespace == "mine"


def test_on_the_brokers_server_the_locks_have_its_namespace() -> None:
    options = {"namespace": "brokers", "table": "tasks"}
    for given, namespace in (
        ({"broker_url": MYSQL}, "brokers"),
        ({"broker_url": MYSQL, "mysqllock_namespace": "mine"}, "mine"),
        ({"broker_url": MYSQL, "mysqllock_url": MYSQL}, None),
        ({"broker_url": "amqp://elsewhere", "mysqllock_url": MYSQL}, None),
    ):
        app = Celery()
        app.conf.update(given, broker_transport_options=options)
        assert lock_settings(app).namespace == namespace


@pytest.mark.parametrize(
    "configuration",
    [
        {"broker_url": MYSQL},
        {"broker_url": ["amqp://elsewhere", MYSQL]},
        {"broker_url": f"amqp://elsewhere;{MYSQL}"},
        {"broker_url": "amqp://elsewhere", "broker_write_url": MYSQL},
    ],
)
def test_the_broker_is_the_default(configuration: dict[str, object]) -> None:
    app = Celery()
    app.conf.update(configuration)
    # with the timeout of the broker's connections, Celery's broker_connection_timeout
    assert lock_address(lock_settings(app)) == Address.parse(MYSQL, connect_timeout=4.0)


@pytest.mark.parametrize("broker", ["memory://", "amqp://user:secret@host//", None])
def test_without_a_mysql_broker_the_url_must_be_set(broker: str | None) -> None:
    app = Celery("shop")
    app.conf.update(broker_url=broker)
    with pytest.raises(SettingsError, match=r"shop.*Set mysqllock_url") as caught:
        lock_settings(app)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("session_timeout", 1), ("namespace", " "), ("url", ""), ("allow_multi_primary", 1)],
)
def test_a_wrong_setting_is_named_as_it_is_written(setting: str, value: object) -> None:
    app = Celery()
    app.conf.update({"broker_url": MYSQL, f"mysqllock_{setting}": value})
    with pytest.raises(SettingsError, match=f"mysqllock_{setting}"):
        lock_settings(app)

"""What holds for the package as a whole."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points, version
from typing import TYPE_CHECKING

import pytest

import celery_mysqllock
from celery_mysqllock import exceptions

if TYPE_CHECKING:
    from celery_mysqllock.mysql import Session

# What only the extras need, and the private server, which the wheel does not contain.
EXTRAS = (
    "flask",
    "jinja2",
    "werkzeug",
    "waitress",
    "prometheus_client",
    "gevent",
    "eventlet",
    "devserver",
)


def test_importing_the_package_makes_mysql_a_broker_url() -> None:
    code = (
        "import celery_mysqllock; from kombu import Connection; "
        "print(Connection('mysql://u:p@h/d').transport_cls)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "mysql"


def test_a_configuration_can_name_the_transport_instead(session: Session) -> None:
    code = (
        "import sys; from celery import Celery; app = Celery('proj', broker=sys.argv[1]); "
        "app.conf.broker_transport = 'celery_mysqllock.broker:Transport'; "
        "app.send_task('proj.add', (1, 2), retry=False)"
    )
    subprocess.run([sys.executable, "-c", code, session.address.url()], check=True)
    assert session.value("SELECT COUNT(*) FROM jobs") == 1


def test_without_the_extras_all_rooms_can_be_imported() -> None:
    rooms = "app", "beat", "broker", "cli", "jobs", "locks", "mysql", "tasks", "worker"
    code = (
        f"import sys, importlib; extras = {EXTRAS}\n"
        "sys.modules.update(dict.fromkeys(extras))  # none of them can be imported\n"
        f"for room in {rooms}: importlib.import_module('celery_mysqllock.' + room)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", celery_mysqllock.__all__)
def test_every_public_name_can_be_imported(name: str) -> None:
    assert getattr(celery_mysqllock, name).__name__ == name


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        celery_mysqllock.no_such_name  # noqa: B018 - the access is the test


def test_the_version_is_that_of_the_installed_package() -> None:
    assert celery_mysqllock.__version__ == version("celery-mysqllock")


def test_every_error_is_in_one_tree_and_has_a_message_of_its_own() -> None:
    own = exceptions.__name__
    errors = [kind for kind in vars(exceptions).values() if getattr(kind, "__module__", "") == own]
    for kind in errors:
        assert issubclass(kind, exceptions.MySQLLockError)
        assert str(kind()).endswith((".", "?"))


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("celery.commands", "mysqllock"),
        ("celery.beat_schedulers", "mysqllock"),
        ("pytest11", "celery_mysqllock"),
    ],
)
def test_every_entry_point_leads_somewhere(group: str, name: str) -> None:
    (found,) = entry_points(group=group, name=name)
    assert found.load() is not None

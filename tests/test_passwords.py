"""No password in what anybody but its owner sees: output, logs, web pages, lists of processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import pytest
from celery import Celery

import celery_mysqllock  # noqa: F401 - hides passwords in Celery's settings
from celery_mysqllock.exceptions import LoginRefused
from celery_mysqllock.locks import MySQLLock
from celery_mysqllock.mysql import Address, Session
from celery_mysqllock.redaction import hide_passwords
from tests.cli.serving import serving
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What is looked for; in the middle of a password that has to be percent-encoded.
MARK = "Gr8heim"
PASSWORD = f"p@s;s:{MARK}/#? %x"
_BIN = Path(sys.executable).parent
_APP = """
from celery import Celery
from celery_mysqllock import single_instance

app = Celery("passworded")
app.conf.update(SETTINGS)

@app.task
@single_instance
def fail():
    raise ValueError("as it should")
"""


@dataclass(frozen=True)
class Programs:
    """Runs programs beside an app in whose settings the password is."""

    folder: Path
    environment: dict[str, str]

    def write(self, module: str, **settings: object) -> None:
        """Write an app with these settings."""
        text = _APP.replace("SETTINGS", repr(settings))
        (self.folder / f"{module}.py").write_text(text, encoding="utf-8")

    def run(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(_BIN / words[0]), *words[1:]],
            env={**self.environment, **environment},
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
        )

    @contextmanager
    def start(self, log: Path, *words: str) -> Iterator[int]:
        """Run a program for the block, its output in the log; its process id."""
        with log.open("wb") as out:
            started = subprocess.Popen(
                [str(_BIN / words[0]), *words[1:]],
                env=self.environment,
                cwd=self.folder,
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=out,
            )
        try:
            yield started.pid
        finally:
            assert started.stdin is not None
            started.stdin.close()
            started.terminate()
            started.wait(60)


@pytest.fixture
def place(url: str) -> Iterator[str]:
    """The URL of a database, for a user with the password."""
    own = Address.parse(url)
    user = f"u{os.urandom(6).hex()}"
    with Session(own) as session:
        session.execute("CREATE USER %s@'%%' IDENTIFIED BY %s", (user, PASSWORD))
        session.execute(f"GRANT ALL ON {own.database}.* TO {user}@'%'")
        yield replace(own, user=user, password=PASSWORD).url()
        session.execute("DROP USER %s@'%%'", (user,))


@pytest.fixture
def programs(tmp_path: Path) -> Programs:
    others = {name: value for name, value in os.environ.items() if name != "MYSQLLOCK_URL"}
    return Programs(tmp_path, {**others, "PYTHONPATH": f"{tmp_path}:{Path.cwd()}"})


def arguments(pid: int) -> str:
    """The arguments of a process and of all that descends from it, as ps shows them."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    own = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return "\n".join([own, *(arguments(int(child)) for child in children)])


@pytest.mark.timeout(400)  # a worker and a good many commands
def test_no_command_shows_the_password(place: str, programs: Programs, tmp_path: Path) -> None:
    programs.write(
        "passworded",
        broker_url=[place, place],
        broker_read_url=[place, place],
        broker_write_url=f"{place};{place}",
        mysqllock_url=place,
    )
    shop, log = ("celery", "-A", "passworded"), tmp_path / "worker.log"
    assert programs.run(*shop, "mysqllock", "migrate").returncode == 0
    said: dict[str, str] = {}
    with programs.start(log, *shop, "-b", place, "worker", "--loglevel=DEBUG", "-c1") as worker:
        eventually(lambda: " ready." in log.read_text(), what="the worker is ready")
        programs.run(*shop, "call", "passworded.fail")
        eventually(lambda: "as it should" in log.read_text(), what="the task fails")
        for line in ("report", "status", "inspect conf", "inspect stats"):
            said[f"celery {line}"] = output(programs.run(*shop, *line.split()))
        for line in (
            *(
                "doctor",
                "-A passworded doctor --json",
                "jobs list",
                "-A passworded jobs list --json",
            ),
            *("locks", "-A passworded consumers", "--url URL consumers", "--url URL doctor"),
            *("-A passworded stats", "queues list", "-A passworded metrics --once", "migrate"),
            *("run it -- env", "--url URL run it -- env", "-A passworded run it -- env", "--help"),
        ):
            words = (place if word == "URL" else word for word in line.split())
            said[line] = output(programs.run("mysqllock", *words, MYSQLLOCK_URL=place))
        said["ps"] = arguments(worker)
    with serving(place, "web") as site, urlopen(site.url) as page:  # noqa: S310 - http://
        said["web page"] = page.read().decode()
    said["worker's log"] = log.read_text()
    assert "mysql://u" in said["ps"], "the argument is there, without the password"
    assert "mysqllock_url" in said["celery report"]
    assert "broker_read_url" in said["celery inspect conf"]
    shown = [name for name, text in said.items() if MARK in text]
    assert shown == []


def output(done: subprocess.CompletedProcess[str]) -> str:
    assert done.stdout + done.stderr
    return done.stdout + done.stderr


def test_a_login_that_fails_shows_no_password(place: str, programs: Programs) -> None:
    wrong = replace(Address.parse(place), password=f"{PASSWORD}, but wrong").url()
    programs.write(
        "passworded",
        broker_url=[wrong, wrong],
        broker_connection_retry_on_startup=False,
        mysqllock_url=wrong,
    )
    shop = ("celery", "-A", "passworded")
    for words in (
        *((*shop, "worker", "--loglevel=DEBUG"), (*shop, "beat", "-S", "mysqllock")),
        *((*shop, "inspect", "stats"), (*shop, "call", "passworded.fail"), (*shop, "events")),
        *((*shop, "mysqllock", "doctor"), ("mysqllock", "--url", wrong, "doctor")),
        *(("mysqllock", "--url", wrong, "run", "it", "--", "env"), (*shop, "report")),
    ):
        assert MARK not in output(programs.run(*words, TERM="dumb")), words
    with pytest.raises(LoginRefused) as caught:
        MySQLLock("it", url=wrong).acquire(0)
    assert MARK not in repr(caught.value)


@pytest.mark.parametrize("how", ["--url", "--url="])
def test_the_list_of_processes_shows_no_password(
    how: str, place: str, programs: Programs, tmp_path: Path
) -> None:
    log = tmp_path / "run.log"
    option = [how + place] if how.endswith("=") else [how, place]
    with programs.start(log, "mysqllock", *option, "run", "it", "--", "sh", "-c", "env; cat") as me:
        eventually(lambda: "PATH=" in log.read_text(), what="the command runs")
        shown = arguments(me)
    assert "mysql://u" in shown
    assert "/mysqllock --url" in shown
    assert "run it -- sh -c env; cat" in shown
    assert MARK not in shown + log.read_text()


# -- where the URL is ------------------------------------------------------------------------------


def test_the_url_may_be_in_a_file(place: str, programs: Programs, tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.touch(mode=0o600)
    secret.write_text(f"{place}\nThis is for the nightly jobs.\n")
    # before the variable, which is there for every command
    elsewhere = "mysql://nobody@127.0.0.1:1/none"
    done = programs.run("mysqllock", "--url-file", "url", "migrate", MYSQLLOCK_URL=elsewhere)
    assert (done.returncode, done.stderr) == (0, "")
    secret.chmod(0o640)
    assert programs.run("mysqllock", "--url-file", "url", "locks").returncode == 0


def test_a_file_that_all_may_read_is_refused(
    place: str, programs: Programs, tmp_path: Path
) -> None:
    (tmp_path / "url").write_text(place)
    (tmp_path / "url").chmod(0o644)
    done = programs.run("mysqllock", "--url-file", "url", "migrate")
    assert done.returncode == 2
    assert "chmod o= url" in done.stderr


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"", "no URL in its first line"), (b"mysql://u:\xffGr8heim@h/d", "cannot be read: it is no")],
)
def test_a_file_without_a_url_is_said_so(
    content: bytes, complaint: str, programs: Programs, tmp_path: Path
) -> None:
    (tmp_path / "url").touch(mode=0o600)
    (tmp_path / "url").write_bytes(content)
    done = programs.run("mysqllock", "--url-file", "url", "migrate")
    assert done.returncode == 2
    assert complaint in done.stderr
    assert MARK not in done.stderr


def test_a_url_and_a_file_exclude_each_other(programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "url").touch(mode=0o600)
    done = programs.run("mysqllock", "--url", "mysql://u@h/d", "--url-file", "url", "migrate")
    assert done.returncode == 2
    assert "exclude each other" in done.stderr


# -- what Celery shows of its settings -------------------------------------------------------------

_URL = f"mysql://u:{MARK}%40@h/db"


@pytest.mark.parametrize(
    ("prefix", "settings"),
    [
        (None, {"broker_url": _URL, "mysqllock_url": _URL}),
        (None, {"broker_read_url": _URL, "broker_write_url": [_URL, _URL], "broker_url": _URL}),
        (None, {"BROKER_URL": [_URL, _URL], "CELERY_RESULT_SERIALIZER": "json"}),
        (None, {"BROKER_HOST": _URL, "MYSQLLOCK_URL": _URL, "CELERY_RESULT_SERIALIZER": "json"}),
        ("CELERY", {"CELERY_BROKER_URL": f"{_URL};{_URL}", "CELERY_MYSQLLOCK_URL": _URL}),
        ("SHOP", {"SHOP_BROKER_READ_URL": (_URL, _URL), "SHOP_MYSQLLOCK_URL": _URL}),
        ("SHOP", {"SHOP_BROKER_URL": f"amqp://u:{MARK}@h//", "SHOP_BEAT": {"urls": [_URL]}}),
    ],
)
def test_settings_are_shown_without_passwords(prefix: str | None, settings: dict[str, Any]) -> None:
    app = Celery("shop", set_as_current=False)
    app.config_from_object(SimpleNamespace(**settings), namespace=prefix)
    for with_defaults in (False, True):
        assert MARK not in json.dumps(app.conf.table(with_defaults), default=repr)
        assert MARK not in app.conf.humanize(with_defaults)
    assert MARK not in app.bugreport()
    assert MARK in repr(app.conf.table(censored=False)), "only what is shown is changed"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"mysql://u:{MARK}@h:3306/d", "mysql://u:********@h:3306/d"),
        (f"mysql://u:/{MARK}#@x@h/d", "mysql://u:********@h/d"),
        (f"mysql://u:;{MARK}@h/d;mysql://v:x@i/d", "mysql://u:********@h/d;mysql://v:********@i/d"),
        (f"mysql://u:{MARK}@h/d; amqp://v:x@i//", "mysql://u:********@h/d; amqp://v:********@i//"),
        (f"db+mysql+pymysql://u:{MARK}@h/d", "db+mysql+pymysql://u:********@h/d"),
        (f"mysql://:{MARK}@h/d", "mysql://:********@h/d"),
        ("mysql://u@h:3306/d", "mysql://u@h:3306/d"),
        ("http://h:80/of?mail=a@b", "http://h:80/of?mail=a@b"),
        ("a:b@c", "a:b@c"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert hide_passwords(url) == shown
    assert hide_passwords({"a": [(url,)], "b": {url}, "c": 1}) == {
        "a": [(shown,)],
        "b": {shown},
        "c": 1,
    }

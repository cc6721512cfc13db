"""Workers and producers of the release before and of this one on one table, through a migration."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.jobs import Migrations
from celery_mysqllock.jobs.schema import NEWEST, OLDEST
from celery_mysqllock.mysql import Address, Session
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: The release before, of which a table may come and beside which this one works.
BEFORE = "92f32b3"
ROOT = Path(__file__).parents[2]
OLD, NEW = "old", "new"
pytestmark = pytest.mark.timeout(600)  # many programs start, one after another
BOTH = pytest.mark.parametrize(("one", "other"), [(OLD, NEW), (NEW, OLD)])


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where the packages of the two releases lie."""
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", BEFORE, "celery_mysqllock"],
        capture_output=True,
        check=False,
    )
    if packed.returncode:
        pytest.skip(f"There is no commit {BEFORE} here, the release before: {packed.stderr!r}")
    folder = tmp_path_factory.mktemp("before")
    # not tarfile: what its extraction takes differs among releases of Python 3.11
    subprocess.run(["tar", "-x", "-C", str(folder)], input=packed.stdout, check=True)
    return {OLD: folder, NEW: ROOT}


class Releases:
    """Starts programs of the two releases on one empty database.

    Args:
        url: The database.
        roots: Where the releases lie.
        folder: Where the app and its ledger are.
    """

    def __init__(self, url: str, roots: dict[str, Path], folder: Path) -> None:
        self._url = url
        self._roots = roots
        self._folder = folder
        self._ledger = folder / "ledger"
        self._ledger.touch()
        self._workers: list[subprocess.Popen[bytes]] = []
        shutil.copy(Path(__file__).with_name("release_app.py"), folder)

    def _environment(self, release: str) -> dict[str, str]:
        root = str(self._roots[release])
        own = {"RELEASE": release, "ROOT": root, "PYTHONPATH": root, "LEDGER": str(self._ledger)}
        return {**os.environ, **own, "BROKER_URL": self._url}

    def python(self, release: str, code: str) -> str:
        """Run code that has imported all of the app."""
        done = subprocess.run(
            [sys.executable, "-c", f"from release_app import *\n{code}"],
            cwd=self._folder,
            env=self._environment(release),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def migrate(self, release: str) -> None:
        migrations = "from celery_mysqllock.jobs import Migrations"
        session = "from celery_mysqllock.mysql import Address, Session"
        apply = "with Session(Address.parse(os.environ['BROKER_URL'])) as session:\n"
        self.python(release, f"{migrations}\n{session}\n{apply}    Migrations(session).apply()")

    def start(self, release: str, *options: str) -> subprocess.Popen[bytes]:
        """Start a worker and wait until it is ready."""
        name = f"{release}{len(self._workers)}"
        log = self._folder / f"{name}.log"
        command = [sys.executable, "-m", "celery", "-A", "release_app", "worker", "-n", f"{name}@t"]
        with log.open("wb") as out:
            worker = subprocess.Popen(
                [*command, "--loglevel=INFO", "--concurrency=2", *options],
                cwd=self._folder,
                env=self._environment(release),
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self._workers.append(worker)
        eventually(lambda: " ready." in log.read_text() or worker.poll() is not None, 60)
        assert worker.poll() is None, log.read_text()
        return worker

    def stop(self, worker: subprocess.Popen[bytes]) -> None:
        worker.terminate()
        assert worker.wait(60) == 0

    def kill_all(self) -> None:
        for worker in self._workers:
            if worker.poll() is None:
                os.killpg(worker.pid, signal.SIGKILL)
                worker.wait()

    def entries(self) -> list[tuple[str, str]]:
        """What was done, each with the release that did it."""
        lines = (line.partition(" ") for line in self._ledger.read_text().splitlines())
        return [(release, entry) for release, _, entry in lines]


@pytest.fixture
def releases(url: str, roots: dict[str, Path], tmp_path: Path) -> Iterator[Releases]:
    releases = Releases(url, roots, tmp_path)
    yield releases
    releases.kill_all()


@pytest.fixture
def session(url: str) -> Iterator[Session]:
    with Session(Address.parse(url)) as session:
        yield session


def expected(batch: str, sender: str) -> list[str]:
    """What the jobs note that ``release_app.send_all`` sends."""
    name = f"{batch} {sender}"
    return [
        *(f"plain {name} {number}" for number in range(20)),
        *(f"ordered {name} {number}" for number in range(20)),
        *(f"{kind} {name} {number}" for kind in ("eta", "urgent") for number in range(5)),
        *(f"{kind} {name} {n} {sender}" for kind in ("once", "queued_once") for n in range(3)),
    ]


def test_a_rolling_deploy_runs_each_job_once(
    releases: Releases, session: Session, record_property: Callable[[str, object], None]
) -> None:
    def run(batch: str) -> None:
        for sender in (OLD, NEW):
            releases.python(sender, f"send_all({batch!r}, RELEASE)")
        wanted = sorted(expected(batch, OLD) + expected(batch, NEW))

        def found() -> list[str]:
            return sorted(entry for _, entry in releases.entries() if f" {batch} " in entry)

        eventually(lambda: len(found()) >= len(wanted), 90, f"all jobs of the batch {batch}")
        eventually(lambda: session.value("SELECT COUNT(*) FROM jobs") == 0, 30, "an empty table")
        assert found() == wanted
        for sender in (OLD, NEW):
            line = [e for _, e in releases.entries() if e.startswith(f"ordered {batch} {sender} ")]
            assert line == [f"ordered {batch} {sender} {number}" for number in range(20)]
        ran = Counter(release for release, entry in releases.entries() if f" {batch} " in entry)
        sys.stdout.write(f"{batch}: {dict(ran)}\n")
        record_property(batch, dict(ran))
        assert set(ran) == {OLD, NEW}

    releases.migrate(OLD)
    assert Migrations(session).version() == OLDEST
    workers = [releases.start(OLD), releases.start(NEW)]
    run("before")
    releases.migrate(NEW)
    releases.migrate(OLD)  # changes nothing
    assert Migrations(session).version() == NEWEST
    assert Migrations(session).pending() == []
    run("after")
    newer = [releases.start(OLD), releases.start(NEW)]
    for worker in workers:
        releases.stop(worker)
    run("anew")
    replies = releases.python(NEW, "print(len(app.control.ping(timeout=20, limit=2)))")
    assert replies == "2\n"
    for worker in newer:
        releases.stop(worker)


@pytest.mark.parametrize("version", [OLDEST, NEWEST], ids=str)
@BOTH
def test_a_key_of_one_release_excludes_the_other(
    version: object, one: str, other: str, releases: Releases, session: Session
) -> None:
    releases.migrate(OLD if version == OLDEST else NEW)
    send = "once.delay('key', RELEASE); queued_once.delay('key', RELEASE)"
    for sender in (one, other):
        releases.python(sender, send)
    assert session.value("SELECT COUNT(*) FROM jobs") == 2
    worker = releases.start(other)
    eventually(lambda: len(releases.entries()) == 2, 30, "both jobs")
    assert sorted(releases.entries()) == [
        (other, f"once key {one}"),
        (other, f"queued_once key {one}"),
    ]
    eventually(lambda: session.value("SELECT COUNT(*) FROM jobs") == 0, 30, "an empty table")
    # the keys are free again
    releases.python(one, send)
    eventually(lambda: len(releases.entries()) == 4, 30, "both jobs again")
    releases.stop(worker)


@BOTH
def test_a_job_of_a_killed_worker_is_recovered_by_the_other_release(
    one: str, other: str, releases: Releases
) -> None:
    releases.migrate(NEW)
    killed = releases.start(one, "--pool=solo")
    releases.python(other, "stuck.delay()")
    eventually(lambda: releases.entries() == [(one, "begun")], 30, "the job in one worker")
    worker = releases.start(other)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    eventually(
        lambda: releases.entries()[1:] == [(other, "begun"), (other, "done")],
        60,
        "the other's turn",
    )
    releases.stop(worker)

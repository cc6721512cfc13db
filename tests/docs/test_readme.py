"""The README's example works as it is printed, and its commands are those of the Makefile."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZipFile

import pytest

from celery_mysqllock.mysql import Address, Session
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_NUMBERS = dict(enumerate(("nine", "ten", "eleven", "twelve"), start=9))
PLACEHOLDER = "mysql://user:password@127.0.0.1:3306/shop"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


@pytest.fixture
def environment(url: str, tmp_path: Path) -> dict[str, str]:
    """A folder with the README's proj.py in it, and the PATH of its commands."""
    app, _ = blocks("python")
    assert PLACEHOLDER in app
    (tmp_path / "proj.py").write_text(app.replace(PLACEHOLDER, url))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(tmp_path), "PYTHONUNBUFFERED": "1"}


@pytest.fixture
def worker_log(environment: dict[str, str], tmp_path: Path) -> Iterator[Path]:
    """The log of a worker that the README's own commands have started."""
    migrate, worker = next(block for block in blocks("sh") if "worker" in block).splitlines()
    subprocess.run(migrate.split(), cwd=tmp_path, env=environment, check=True)
    log = tmp_path / "worker.log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            worker.split(), cwd=tmp_path, env=environment, stdout=out, stderr=out
        )
    yield log
    process.send_signal(signal.SIGTERM)
    process.wait(60)


def test_the_example_runs_as_printed(
    environment: dict[str, str], worker_log: Path, tmp_path: Path, url: str
) -> None:
    _, producer = blocks("python")
    subprocess.run([sys.executable, "-c", producer], cwd=tmp_path, env=environment, check=True)
    (insert,) = blocks("sql")
    with Session(Address.parse(url)) as session:
        session.execute(insert)
    for printed in ("rebuilding account 7", "rebuilding account 8"):
        eventually(lambda text=printed: text in worker_log.read_text(), what=printed)  # type: ignore[misc]


def test_the_commands_are_those_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    commands = [line for block in blocks("sh") for line in block.splitlines() if "make" in line]
    assert commands == ["make demo", "make test"]
    for command in commands:
        assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE)


def test_the_install_commands_name_this_project(tmp_path: Path) -> None:
    clone, from_checkout, build, from_wheel = (
        line
        for block in blocks("sh")
        for line in block.splitlines()
        if "git" in line or "pip" in line
    )
    assert clone.split()[-1] == PROJECT["urls"]["Source"]
    assert from_checkout == f"pip install ./{clone.rpartition('/')[2]}"
    pytest.importorskip("hatchling", reason="hatchling, which builds the wheel, is not installed")
    (tmp_path / "celery-mysqllock").symlink_to(ROOT)
    subprocess.run(
        [sys.executable, "-m", *build.split(), "--no-build-isolation", "--quiet"],
        cwd=tmp_path,
        check=True,
    )
    with ZipFile(tmp_path / from_wheel.split()[-1]) as wheel:
        folders = {name.split("/")[0] for name in wheel.namelist()}
    assert folders == {"celery_mysqllock", f"celery_mysqllock-{PROJECT['version']}.dist-info"}


def test_it_can_be_read_in_five_minutes() -> None:
    assert len(README.splitlines()) <= 150
    assert len(README.split()) <= 1000


def test_the_links_hold_outside_of_the_repository_too() -> None:
    """A package index shows this page, and knows none of the files beside it."""
    source = PROJECT["urls"]["Source"]
    raw = source.replace("github.com", "raw.githubusercontent.com")
    for link in _LINK.findall(README):
        own = re.match(rf"(?:{source}/blob/main|{raw}/main)/([^#]+)", link)
        assert own is not None, link
        assert (ROOT / own[1]).is_file(), link


def test_it_says_what_migrate_makes(session: Session) -> None:
    tables = session.query(
        "SELECT table_name, table_type FROM information_schema.tables "
        "WHERE table_schema = DATABASE() ORDER BY table_name"
    )
    beside = [name for name, kind in tables if kind == "BASE TABLE" and name != "jobs"]
    assert all(str(name).startswith("jobs_") for name in beside)
    assert f"{_NUMBERS[len(beside)]} tables `jobs_*` beside it" in README
    (view,) = (name for name, kind in tables if kind == "VIEW")
    assert f"the view `{view}`" in README
    ((procedure,),) = session.query(
        "SELECT routine_name FROM information_schema.routines WHERE routine_schema = DATABASE()"
    )
    assert f"`{procedure}`" in README

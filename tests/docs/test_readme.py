"""The README's example works as it is printed, and its commands are those of the Makefile."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.mysql import Address, Session
from celery_mysqllock.settings import BrokerSettings
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
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
    for printed in ("1 + 2 = 3", "rebuilding account 7", "rebuilding account 8"):
        eventually(lambda text=printed: text in worker_log.read_text(), what=printed)  # type: ignore[misc]


def test_the_commands_are_those_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    commands = [line for block in blocks("sh") for line in block.splitlines() if "make" in line]
    assert commands == ["make demo", "make test"]
    for command in commands:
        assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE)


def test_every_broker_option_is_listed_with_its_default() -> None:
    listed = dict(re.findall(r"^\| `(\w+)` \| (.+?) \|", README, re.MULTILINE))
    for name, known in BrokerSettings.__dataclass_fields__.items():
        default = known.default
        shown = f'"{default}"' if isinstance(default, str) else str(default)
        assert listed[name].strip("`") == ("the database's name" if name == "namespace" else shown)

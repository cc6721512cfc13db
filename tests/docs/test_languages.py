"""The examples in other languages store a job that runs, where their interpreters are installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from celery_mysqllock.jobs import JobTable, Migrations
from celery_mysqllock.mysql import Address, Session
from tests.docs.page import blocks

if TYPE_CHECKING:
    from celery_mysqllock.jobs import ClaimedJob

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "insert-jobs.md"
# What runs a language, and a command that fails where its driver is not installed.
INTERPRETERS = {
    "sh": ("sh", ["mysql", "--version"]),
    "php": ("php", ["php", "-r", "exit(extension_loaded('pdo_mysql') ? 0 : 1);"]),
    "javascript": ("node", ["node", "-e", "require('mysql2/promise')"]),
}


def is_there(command: list[str]) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def localised(text: str, address: Address) -> str:
    """The example with this test's database in the place of the reader's."""
    places = {
        "mysql://user:password@127.0.0.1:3306/shop": address.url(),
        "host=127.0.0.1;port=3306;dbname=shop', 'user', 'password'": (
            f"host={address.host};port={address.port};dbname={address.database}', "
            f"'{address.user}', '{address.password}'"
        ),
        "MYSQL_PWD=password": f"MYSQL_PWD={address.password}",
        "--host=127.0.0.1 --port=3306 --user=user --table shop": (
            f"--host={address.host} --port={address.port} --user={address.user} "
            f"--table {address.database}"
        ),
    }
    for place, own in places.items():
        text = text.replace(place, own)
    assert "password" not in text.replace(address.password, "")
    return text


@pytest.mark.parametrize("language", INTERPRETERS)
def test_the_example_stores_a_job_and_prints_the_ids(
    language: str, url: str, tmp_path: Path
) -> None:
    interpreter, check = INTERPRETERS[language]
    if not is_there(check):
        pytest.skip(f"{' '.join(check[:2])} is not there, or has no driver for MySQL")
    (block,) = (block for block in blocks(PAGE) if block.language == language)
    address = Address.parse(url)
    program = tmp_path / (block.title or "")
    program.write_text(localised(block.text, address))
    with Session(address) as session:
        Migrations(session).apply()
        done = subprocess.run(
            [interpreter, program.name],
            cwd=tmp_path,
            env=os.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        # MariaDB's client from 11.4 warns of a login without a password, as on a private server
        warnings = "WARNING: option --ssl-verify-server-cert is disabled"
        said = [line for line in done.stderr.splitlines() if not line.startswith(warnings)]
        assert (done.returncode, said) == (0, [])
        (job,) = JobTable(session).claims.claim("celery", 9, "a" * 32)
    assert content(job)["task"] == "proj.greet"
    assert job.task_id
    assert str(uuid.UUID(job.task_id)) in done.stdout
    assert re.search(rf"\b{job.id}\b", done.stdout)


def content(job: ClaimedJob) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(job.message or "")
    return found

"""The doctor asks for what a role needs and no more, and sees a stranger with a lock of ours."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.cli.checks.roles import MIGRATING, ROLES
from celery_mysqllock.jobs import LockNames
from celery_mysqllock.jobs.ephemeral import table_names
from celery_mysqllock.mysql import Session, get_lock
from tests.cli.test_deployment import run
from tests.privileges.grants import roles

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.mysql import Address
    from tests.privileges.conftest import Program

_GRANT = re.compile(r"GRANT (?P<what>.+) ON (?P<table>\S+) TO ")
#: Those that the page and the doctor both know. SQL programs ask no doctor.
PARTS = sorted(ROLES)


def doctor(address: Address, role: str) -> tuple[int, dict[str, dict[str, str]]]:
    """The exit code, and what is no ok, by its subject; save that the server is an old one."""
    done = run("doctor", "--for", role, "--json", MYSQLLOCK_URL=address.url())
    assert done.stderr == ""
    (server,) = json.loads(done.stdout)["servers"]
    found = {
        finding["subject"]: finding
        for finding in server["findings"]
        if finding["level"] != "ok" and "has no SKIP LOCKED" not in finding["text"]
    }
    return done.returncode, found


def granted(role: str) -> dict[str, set[str]]:
    """What the page grants the role, by table."""
    found = {}
    for statement in roles()[role.replace("-", "_")]:
        if grant := _GRANT.match(" ".join(statement.split())):
            found[grant["table"]] = _parts(grant["what"])
    return found


def _parts(what: str) -> set[str]:
    return {part.strip() for part in re.split(r",(?![^(]*\))", what)}


@pytest.mark.parametrize("role", PARTS)
def test_the_doctor_asks_for_what_the_page_grants(role: str) -> None:
    names = {"jobs": "jobs", **table_names("jobs")}
    needed = {names[kind]: _parts(what) for kind, what in ROLES[role].items()}
    if role == "migrating":
        needed["*"] = set(MIGRATING)
    assert granted(role) == needed


@pytest.mark.parametrize("role", PARTS)
def test_nothing_is_wrong_with_the_user_of_a_role(
    role: str, user: Callable[[str], Address]
) -> None:
    address = user(role.replace("-", "_"))
    if role == "locking":
        address = replace(address, database="information_schema")
        done = run(
            *("-A", "tests.privileges.app", "doctor", "--json", "--for", role),
            BROKER_URL="memory://",
            LOCK_URL=address.url(),
        )
        assert (done.returncode, done.stderr) == (0, "")
        return
    assert doctor(address, role) == (0, {})


def test_what_is_missing_is_said_with_the_grant(
    user: Callable[[str], Address], session: Session
) -> None:
    address = user("unique_producer")
    code, found = doctor(address, "unique-producer")
    assert (code, found) == (0, {})
    session.execute("REVOKE UPDATE (ready_at) ON jobs FROM %s@'%%'", (address.user,))
    session.execute("REVOKE UPDATE ON jobs_order_locks FROM %s@'%%'", (address.user,))
    code, found = doctor(address, "unique-producer")
    assert (code, list(found)) == (1, ["privileges"])
    database = address.database
    assert found["privileges"]["advice"] == (
        f"GRANT UPDATE (ready_at) ON {database}.jobs TO this user. "
        f"GRANT UPDATE ON {database}.jobs_order_locks TO this user."
    )


def test_a_stranger_with_a_lock_of_ours_is_named(
    user: Callable[[str], Address], session: Session
) -> None:
    stranger = replace(user("locking"), database="information_schema")
    names = LockNames.of(session, "jobs")
    with Session(stranger) as holding:
        for name in (names.sweeper, names.beat):
            assert get_lock(holding, name, 0)
            code, found = doctor(session.address, "worker")
            assert (code, list(found)) == (0, ["lock holders"])
            text = found["lock holders"]["text"]
            assert f"Session {holding.connection_id}, of {stranger.user} at " in text
            assert name in text
            # who does not see other users' sessions is told which one it is all the same
            code, found = doctor(user("looking"), "looking")
            assert f"Session {holding.connection_id} holds" in found["lock holders"]["text"]
            holding.query("SELECT RELEASE_ALL_LOCKS()")
            session.execute("DROP USER %s@'%%'", (f"looking_{session.address.database[-8:]}",))


def test_workers_and_beats_are_no_strangers(
    user: Callable[[str], Address], session: Session, start: Callable[..., Program]
) -> None:
    worker = start(user("worker"), "worker", "--pool=solo")
    beat = start(user("beat"), "beat", "-S", "mysqllock", "--pidfile=")
    worker.await_log(" ready.")
    beat.await_log("This beat is the active one")
    assert doctor(session.address, "worker") == (0, {})
    assert doctor(user("looking"), "looking") == (0, {})

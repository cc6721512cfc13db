"""What a claim on an old server does where statements fail, without a server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from celery_mysqllock.exceptions import RowsLocked, TransientError
from celery_mysqllock.jobs.claim_strategies import Claim, CompareAndSet
from celery_mysqllock.jobs.table import job_statements
from celery_mysqllock.mysql import Script

if TYPE_CHECKING:
    from collections.abc import Mapping

CLAIM = Claim("a" * 32, "q", 3, 0)


class Server:
    """Claims what it is asked for, save where an error is set for just these ids."""

    def __init__(self, errors: Mapping[tuple[int, ...], Exception]) -> None:
        self._errors = dict(errors)
        self.claimed: set[int] = set()

    def script(self, sql: str, parameters: Mapping[str, Any]) -> list[Any]:  # noqa: ARG002
        ids = tuple(parameters["ids_0"])
        if error := self._errors.pop(ids, None):
            raise error
        self.claimed.update(ids)
        return [len(ids), [(job_id,) for job_id in ids]]


@pytest.mark.parametrize("error", [TransientError("a deadlock"), RowsLocked("locked")])
def test_what_was_claimed_before_an_error_is_delivered(error: TransientError) -> None:
    server = Server({(1, 2, 3): error, (2,): TransientError("a deadlock")})
    found = [(job_id, 0) for job_id in (1, 2, 3)]
    taken = CompareAndSet(job_statements("jobs")).take(Script(server), found, CLAIM)
    assert {row[0] for row in taken.rows} == server.claimed == {1, 3}

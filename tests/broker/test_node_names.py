"""A node whose name is no UTF-8, as in a shell of another charset, works as others do."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.broker.app import note
from tests.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_mysqllock.mysql import Session
    from tests.broker.worker import Worker

pytestmark = pytest.mark.usefixtures("producer_url")
ODD = os.fsdecode(b"caf\xe9")


@pytest.mark.parametrize("options", [(), ("--without-mingle", "--without-gossip"), ("-E",)])
def test_a_node_whose_name_is_no_utf8_works(
    options: tuple[str, ...], session: Session, start_worker: Callable[..., Worker]
) -> None:
    worker = start_worker("--hostname", f"{ODD}@here", *options)
    for entry in ("a", "b"):
        note.delay(entry)
    eventually(lambda: session.value("SELECT COUNT(*) FROM ledger") == 2)
    assert worker.stop() == 0

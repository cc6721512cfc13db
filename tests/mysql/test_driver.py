"""What is read past PyMySQL: the answer to a SELECT of one number."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.exceptions import ConnectionLost, DatabaseError, TableMissing
from celery_mysqllock.mysql import Address, Session, driver

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def session(url: str) -> Iterator[Session]:
    with Session(Address.parse(url)) as session:
        yield session


@pytest.mark.parametrize(
    ("sql", "number"),
    [("1", 1), ("0", 0), ("-7", -7), ("18446744073709551615", 2**64 - 1), ("NULL", None)],
)
@pytest.mark.parametrize("chunk", [1, 7, 4096], ids="{} bytes at a time".format)
def test_a_number_arrives_whole_in_however_many_pieces(
    session: Session, monkeypatch: pytest.MonkeyPatch, sql: str, number: int | None, chunk: int
) -> None:
    monkeypatch.setattr(driver, "_CHUNK", chunk)
    assert session.select_int(f"SELECT {sql}") == number
    assert session.value("SELECT 'the next answer'") == "the next answer"


def test_an_error_leaves_the_session_usable(session: Session) -> None:
    with pytest.raises(TableMissing, match="nowhere"):
        session.select_int("SELECT a FROM nowhere")
    with pytest.raises(DatabaseError, match="1242"):  # after the description of the column
        session.select_int("SELECT (SELECT 1 UNION SELECT 2)")
    assert session.select_int("SELECT 2") == 2


def test_a_session_that_was_ended_is_lost(url: str, session: Session) -> None:
    with Session(Address.parse(url)) as other:
        other.execute("KILL %s", (session.connection_id,))
    with pytest.raises(ConnectionLost):
        session.select_int("SELECT 1")
    assert not session.is_open

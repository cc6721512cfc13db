"""Names of locks, and GET_LOCK and its kin."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from celery_mysqllock.exceptions import Interrupted, LockError
from celery_mysqllock.mysql import (
    NAME_LIMIT,
    Session,
    free_among,
    get_lock,
    lock_name,
    release_lock,
    used_by,
)
from tests.waiting import eventually

if TYPE_CHECKING:
    from celery_mysqllock.mysql import Address


def test_a_plain_name_stays_readable() -> None:
    assert lock_name("shop", "task", "report:7") == "shop:task:report:7"


@pytest.mark.parametrize(
    "part", ["Größe", "UPPER", "x" * 200, "new\nline", "it's", "a~b", "\ud800"]
)
def test_any_other_name_becomes_plain_and_keeps_what_can_be_read(part: str) -> None:
    name = lock_name("shop", part)
    assert len(name) <= NAME_LIMIT
    assert name.isascii()
    assert name == name.lower()
    assert name.startswith("shop:")
    assert "~" in name
    assert name == lock_name("shop", part)


def test_names_that_differ_in_case_accent_or_end_stay_different() -> None:
    parts = ["é", "É", "e", "E", "x" * 100, "x" * 101, "a b", "a  b", "a ", "a"]
    assert len({lock_name("shop", part) for part in parts}) == len(parts)


@pytest.mark.parametrize("parts", [("", "x"), ("shop", ""), ("shop", "x", "")])
def test_an_empty_part_is_refused(parts: tuple[str, ...]) -> None:
    with pytest.raises(LockError, match="empty"):
        lock_name(*parts)


def test_every_plain_character_makes_a_lock_of_its_own(session: Session, other: Session) -> None:
    # MySQL must not take two names of ours for one, nor refuse one.
    names = [lock_name("shop", f"x{character}") for character in "abz09_.:@/+=,{}[]()<>!?*#%&|^ -"]
    for name in names:
        assert get_lock(session, name, 0), name
    for name in names:
        assert used_by(other, name) == session.connection_id, name
        assert release_lock(session, name), name
        assert free_among(other, [name]) == [name]


def test_a_lock_is_held_by_one_session_at_a_time(
    session: Session, other: Session, name: str
) -> None:
    assert free_among(session, [name, "nobody's"]) == [name, "nobody's"]
    assert used_by(session, name) is None
    assert get_lock(session, name, 0)
    assert not get_lock(other, name, 0)
    assert free_among(other, [name]) == []
    assert used_by(other, name) == session.connection_id
    assert not release_lock(other, name)
    assert release_lock(session, name)
    assert get_lock(other, name, 0)


def test_the_end_of_the_session_frees_the_lock(address: Address, other: Session, name: str) -> None:
    with Session(address) as session:
        assert get_lock(session, name, 0)
    assert get_lock(other, name, 10)


@pytest.mark.parametrize("wait", [0.3, 0.5, 1])
def test_a_fraction_of_a_second_is_waited_for(
    session: Session, other: Session, wait: float, name: str
) -> None:
    # MySQL rounds 0.3 to 0, and would not wait at all.
    assert get_lock(session, name, 0)
    got: list[bool] = []
    thread = threading.Thread(target=lambda: got.append(get_lock(other, name, wait)))
    thread.start()
    thread.join(0.15)
    assert thread.is_alive()
    assert release_lock(session, name)
    thread.join()
    assert got == [True]


def test_a_killed_wait_is_an_error_and_not_a_no(
    address: Address, session: Session, other: Session, name: str
) -> None:
    assert get_lock(session, name, 0)
    errors: list[Exception] = []

    def wait() -> None:
        try:
            get_lock(other, name, 60)
        except (Interrupted, LockError) as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    with Session(address) as third:
        while thread.is_alive():
            third.execute("KILL QUERY %s", (other.connection_id,))
            thread.join(0.05)
    assert len(errors) == 1
    assert used_by(session, name) == session.connection_id


def test_who_waits_is_served_in_turn(address: Address, session: Session, name: str) -> None:
    assert get_lock(session, name, 0)
    order: list[int] = []
    waiters: list[threading.Thread] = []

    def wait(number: int, own: Session) -> None:
        with own:
            get_lock(own, name, 60)
            order.append(number)

    for number in range(4):
        own = Session(address).open()
        thread = threading.Thread(target=wait, args=(number, own))
        thread.start()
        waiters.append(thread)
        eventually(
            lambda own=own: (
                session.value(  # type: ignore[misc]
                    "SELECT STATE FROM information_schema.PROCESSLIST WHERE ID = %s",
                    (own.connection_id,),
                )
                == "User lock"
            )
        )
    assert release_lock(session, name)
    for thread in waiters:
        thread.join()
    assert order == [0, 1, 2, 3]

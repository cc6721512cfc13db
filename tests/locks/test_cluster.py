"""Servers of which there are several primaries are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from celery_mysqllock.exceptions import DatabaseError, LockError, MultiPrimaryServer
from celery_mysqllock.locks.cluster import refuse_multi_primary

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_mysqllock.mysql import Session
    from tests.locks.conftest import MakeMySQLLock

_GROUP = "aaaaaaaa-aaaa-aaaa-aaaa-aaaaaaaaaaaa"


class _Answers:
    """A session with a server whose variables are these; no such server can be had in a test."""

    address = "mysql://jane@db/shop"

    def __init__(self, *variables: tuple[str, str]) -> None:
        self._variables = list(variables)

    def query(self, _: str) -> list[tuple[str, str]]:
        return self._variables


@pytest.mark.parametrize(
    "variables",
    [
        [("wsrep_on", "ON"), ("wsrep_provider", "/usr/lib/galera/libgalera_smm.so")],
        [
            ("group_replication_group_name", _GROUP),
            ("group_replication_single_primary_mode", "OFF"),
        ],
    ],
)
def test_a_node_among_several_primaries_is_refused(variables: list[tuple[str, str]]) -> None:
    with pytest.raises(MultiPrimaryServer, match="allow_multi_primary") as caught:
        refuse_multi_primary(cast("Session", _Answers(*variables)))
    assert isinstance(caught.value, LockError)


@pytest.mark.parametrize(
    "variables",
    [
        [],
        [("wsrep_on", "OFF"), ("wsrep_provider", "none")],
        [("wsrep_on", "ON"), ("wsrep_provider", "none")],
        [
            ("group_replication_group_name", _GROUP),
            ("group_replication_single_primary_mode", "ON"),
        ],
        [("group_replication_group_name", ""), ("group_replication_single_primary_mode", "OFF")],
    ],
)
def test_any_other_server_is_taken(variables: list[tuple[str, str]]) -> None:
    refuse_multi_primary(cast("Session", _Answers(*variables)))


@pytest.fixture
def group_replication(session: Session) -> Iterator[None]:
    """MySQL's plugin, loaded and set up for several primaries, and not started."""
    if session.server.is_mariadb:
        pytest.skip("MariaDB has no Group Replication")
    try:
        session.execute("INSTALL PLUGIN group_replication SONAME 'group_replication.so'")
    except DatabaseError as error:
        pytest.skip(f"the plugin cannot be loaded: {error}")
    try:
        session.execute("SET GLOBAL group_replication_group_name = %s", (_GROUP,))
        session.execute("SET GLOBAL group_replication_single_primary_mode = OFF")
        yield
    finally:
        session.execute("UNINSTALL PLUGIN group_replication")


@pytest.mark.usefixtures("group_replication")
def test_a_server_that_is_set_up_for_several_primaries_is_refused_until_allowed(
    mysql_lock: MakeMySQLLock,
) -> None:
    lock = mysql_lock()
    with pytest.raises(MultiPrimaryServer, match="several primaries"):
        lock.acquire()
    assert not lock.owned()
    with mysql_lock(allow_multi_primary=True):
        pass
    with pytest.raises(MultiPrimaryServer):
        lock.acquire()

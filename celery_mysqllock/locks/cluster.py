"""Refuses a server that is one of several primaries, where named locks exclude no one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from celery_mysqllock.exceptions import MultiPrimaryServer

if TYPE_CHECKING:
    from celery_mysqllock.mysql import Session

# SHOW, because a server that was built without the feature refuses SELECT @@variable.
_VARIABLES = """
SHOW GLOBAL VARIABLES WHERE Variable_name IN ('wsrep_on', 'wsrep_provider',
    'group_replication_group_name', 'group_replication_single_primary_mode')
"""


def refuse_multi_primary(session: Session) -> None:
    """Do nothing if all writers of the database log in to this one server.

    GET_LOCK is local to a server: the other nodes of a Galera cluster or of a Group Replication
    group do not know of it, so two nodes would give the same lock to two holders.

    Raises:
        MultiPrimaryServer: The server is set up as a node of such a cluster or group.
    """
    variables = dict(session.query(_VARIABLES))
    if variables.get("wsrep_on") == "ON" and variables.get("wsrep_provider", "none") != "none":
        raise _refusal(session, "a node of a Galera cluster (wsrep_on=ON)")
    if (
        variables.get("group_replication_group_name")
        and variables.get("group_replication_single_primary_mode") == "OFF"
    ):
        raise _refusal(
            session,
            "set up for Group Replication with several primaries "
            "(group_replication_single_primary_mode=OFF)",
        )


def _refusal(session: Session, what: str) -> MultiPrimaryServer:
    return MultiPrimaryServer(
        f"The server {session.address} is {what}. Its named locks do not reach the other nodes, so "
        "two holders could have the same lock. Point the URL at a server that all holders share, "
        "or, when every holder is sure to log in to this very node, set allow_multi_primary=True."
    )

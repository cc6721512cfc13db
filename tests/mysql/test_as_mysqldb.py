"""A program that has PyMySQL stand in for mysqlclient, as many with Django do."""

from __future__ import annotations

import subprocess
import sys

# Django's backend imports MySQLdb.converters: Python then loads a second copy of PyMySQL's errors,
# which takes the place of the first one as the attribute `pymysql.err`.
_PROGRAM = """
import sys
import pymysql

pymysql.install_as_MySQLdb()
import MySQLdb.converters

from celery_mysqllock.exceptions import ConnectionLost
from celery_mysqllock.mysql import Address, Session

address = Address.parse(sys.argv[1])
with Session(address) as session, Session(address) as other:
    other.execute("KILL %s", (session.connection_id,))
    try:
        session.query("SELECT 1")
    except ConnectionLost:
        print("told")
"""


def test_the_drivers_errors_are_translated(url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, url], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("told\n", "")

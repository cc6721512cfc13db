"""A private, throw-away server for the demo, the tests and the benchmarks.

`with private_server() as server:` uses the first of these that is there: the server that
MYSQLLOCK_URL names, as it is; an installed mariadbd or mysqld, run on 127.0.0.1 with a data
directory of its own; on Debian and Ubuntu, the distribution's server package, unpacked into the
user's cache. MYSQLLOCK_SERVER=mariadb or mysql chooses the kind, MYSQLLOCK_SERVER=mariadb-11.8 a
release: on Debian that one is unpacked from the Debian release that has it, with the C library that
it needs. Needs a POSIX system. It lives in the repository only: the wheel does not contain it.
"""

from __future__ import annotations

from devserver.choice import private_server
from devserver.errors import NoServer, NotOurServer, ServerFailed
from devserver.given import GivenServer
from devserver.server import DevServer

__all__ = [
    "DevServer",
    "GivenServer",
    "NoServer",
    "NotOurServer",
    "ServerFailed",
    "private_server",
]

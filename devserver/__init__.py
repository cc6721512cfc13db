"""A private, throw-away server for the demo, the tests and the benchmarks.

`with private_server() as server:` gives one, in this order: the server that MYSQLLOCK_URL names,
used as is; an installed mariadbd or mysqld, run on 127.0.0.1 with a data directory of its own; on
Debian and Ubuntu the distribution's server package, unpacked into the user's cache. The kind can
be chosen with MYSQLLOCK_SERVER=mariadb or mysql, and a release of it with MYSQLLOCK_SERVER=
mariadb-11.8: on Debian it is unpacked from the Debian release that has it, together with the C
library that it needs. Needs a POSIX system.
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

"""The options that a private mysqld runs with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from devserver.program import MARIADB

if TYPE_CHECKING:
    from pathlib import Path

    from devserver.program import Program

HOST = "127.0.0.1"
SOCKET = "mysqld.sock"  # relative to the data directory: a socket's path may have 107 bytes

# Small memory and files that are quick to copy. Durability is the server's own: doublewrite and a
# flush at each commit stay on, so that what a kill test shows is true of a real server.
_COMMON = (
    "--skip-name-resolve",
    "--skip-log-bin",
    "--character-set-server=utf8mb4",
    "--max-connections=500",
    "--innodb-buffer-pool-size=128M",
    "--innodb-log-buffer-size=16M",
    "--key-buffer-size=1M",
)
# "loose": older and newer versions that do not know the option pass over it
_MYSQL = ("--loose-mysqlx=OFF",)
_MARIADB = ("--loose-aria-pagecache-buffer-size=8M",)


def layout_options(program: Program) -> tuple[str, ...]:
    """Return the options that shape the files of a data directory, for every start the same."""
    if program.kind == MARIADB:
        return ("--innodb-log-file-size=48M",)
    return ("--loose-innodb-redo-log-capacity=64M",)


def server_options(program: Program, folder: Path, port: int) -> list[str]:
    """Return the command that runs `program` on 127.0.0.1 with the data below `folder`."""
    own = _MARIADB if program.kind == MARIADB else _MYSQL
    command = [
        *program.argv,
        "--no-defaults",  # has to be the first: the machine's configuration is not ours
        *program.options,
        *_COMMON,
        *own,
        *layout_options(program),
        f"--datadir={folder / 'data'}",
        f"--tmpdir={folder / 'tmp'}",
        f"--secure-file-priv={folder / 'tmp'}",  # Debian's own default is a folder of the package
        f"--log-error={folder / 'mysqld.log'}",
        f"--socket={SOCKET}",
        "--pid-file=mysqld.pid",
        f"--bind-address={HOST}",
        f"--port={port}",
    ]
    if os.geteuid() == 0:
        command.append("--user=root")  # mysqld refuses to run as root without being told so
    return command

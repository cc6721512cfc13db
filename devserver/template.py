"""Fresh data directories: initialised once for each server version, then copied."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from typing import TYPE_CHECKING

from devserver import cache
from devserver.errors import ServerFailed
from devserver.program import MARIADB
from devserver.progress import say

if TYPE_CHECKING:
    from pathlib import Path

    from devserver.program import Program

_SYS_SCHEMA = "_sys_schema.sql"  # since MariaDB 10.6
# The files that mariadb-install-db feeds to --bootstrap, in its order, without help texts and test
# database. Their prefix depends on the version of MariaDB: mysql, maria or mariadb.
_SYSTEM_SQL = (
    "_system_tables.sql",
    "_performance_tables.sql",
    "_system_tables_data.sql",
    "_add_gis_sp_bootstrap.sql",
    _SYS_SCHEMA,
)
_TAIL = 15  # lines of output that an error quotes


def new_data(program: Program, target: Path) -> None:
    """Fill `target`, which must not exist, with a fresh data directory.

    It contains a `root` without a password: remove that before anyone can connect.

    Raises:
        ServerFailed: The server could not initialise a data directory.
        NoServer: The cache folder cannot be written.
    """
    template = cache.kept(f"templates/{_key(program)}", lambda part: _initialise(program, part))
    shutil.copytree(template / "data", target)
    (target / "auto.cnf").unlink(missing_ok=True)  # MySQL's server_uuid: one for each server


def _key(program: Program) -> str:
    recipe = f"{program.version}\n{program.layout}"
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    return f"{program.kind}-{program.number}-{digest}"


def _initialise(program: Program, folder: Path) -> None:
    say(f"preparing a data directory of {program.kind} for this and later starts")
    data = folder / "data"
    data.mkdir(mode=0o700)
    command = program.command(data)
    if program.kind == MARIADB:
        command.append("--bootstrap")
        sql = _system_sql(program.share())
    else:
        command.append("--initialize-insecure")
        sql = ""
    done = subprocess.run(  # noqa: S603 - the server that was chosen, with fixed options
        command,
        env=program.environ(),
        cwd=data,
        input=sql,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        tail = "\n".join(done.stdout.splitlines()[-_TAIL:])
        raise ServerFailed(f"{program.argv[-1]} could not make a data directory:\n{tail}")


def _system_sql(share: Path) -> str:
    lines = ["create database mysql;", "use mysql;", "SET @auth_root_socket=NULL;"]
    for name in _SYSTEM_SQL:
        file = next(share.glob(f"m*{name}"), None)
        if file is None and name == _SYS_SCHEMA:
            continue
        if file is None:
            raise ServerFailed(
                f"The installed MariaDB is not complete: below {share} is no mariadb{name} "
                f"(nor mysql{name}). Install its server package again."
            )
        lines += file.read_text(encoding="utf-8").splitlines()
    # as mariadb-install-db --cross-bootstrap: no account for this machine's host name
    return "\n".join(line for line in lines if "@current_hostname" not in line) + "\n"

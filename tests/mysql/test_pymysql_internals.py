"""The names of PyMySQL that it does not document: which we use, and that they are still there.

Read in PyMySQL 1.2.4. When a test here fails with a new PyMySQL, read its ``connections.py`` for
what has taken the place of the name, and change the one module that uses it.
"""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pymysql
import pytest
from pymysql import _auth, connections, err, protocol

import celery_mysqllock

PACKAGE = Path(celery_mysqllock.__file__).parent

#: Private attributes of ``pymysql.connections.Connection``, and what for.
DRIVER = {
    "_sock": "the socket: its descriptor, to shut it down, to detach it after a fork",
    "_rfile": "the socket's buffered reader: to read a short answer in one go",
    "_force_close": "closes the socket without COM_QUIT",
    "_read_timeout": "seconds for an answer, changed while a statement waits for a lock",
    "_write_timeout": "the same for sending",
    "_current_timeout": "the timeout that the driver believes the socket has",
    "_secure": "whether TLS has begun, when the server asks for a password",
    "_execute_command": "sends a statement without waiting for the answer",
    "_read_ok_packet": "reads the answer that has no rows",
    "_create_ssl_ctx": "replaced: takes a TLS context of ours as it is",
    "_process_auth": "replaced: refuses to send a password in clear text",
}
#: The same, of a connection that the caller of ``transaction`` has made.
BORROWED = {
    "_result": "whether rows of another statement are still to be read",
    "_rfile": "whether all that is left of them is the end of a procedure",
}
BY_FILE = {"mysql/driver.py": DRIVER, "mysql/caller/wrapped.py": BORROWED}


@pytest.mark.parametrize("name", sorted(DRIVER | BORROWED))
def test_a_private_name_is_still_there(name: str) -> None:
    source = inspect.getsource(connections.Connection)
    is_there = hasattr(connections.Connection, name) or f"self.{name} = " in source
    purpose = (DRIVER | BORROWED)[name]
    assert is_there, f"PyMySQL {pymysql.VERSION_STRING} has no Connection.{name}: {purpose}"


def test_the_undocumented_public_names_are_still_there() -> None:
    assert callable(err.raise_mysql_exception)
    assert "self.ctx = self._create_ssl_ctx(" in inspect.getsource(connections.Connection)
    # where the key that a server sends for the password is stored, and our setter refuses it
    assert "conn.server_public_key = " in inspect.getsource(_auth)
    assert hasattr(protocol.MysqlPacket, "is_ok_packet")
    assert hasattr(protocol, "OKPacketWrapper")
    source = inspect.getsource(connections.MySQLResult)
    assert "self.unbuffered_active = " in source
    assert "self.has_next = " in source


@pytest.mark.parametrize("file", sorted(BY_FILE))
def test_the_list_is_complete(file: str) -> None:
    assert _private_names(PACKAGE / file) == BY_FILE[file].keys()


def test_no_other_file_uses_them() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).as_posix() not in BY_FILE:
            assert not _private_names(path) & (DRIVER | BORROWED).keys(), path


def _private_names(path: Path) -> set[str]:
    """The private names that a file asks of a connection, or replaces in a class of it."""
    tree = ast.parse(path.read_text("utf-8"))
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) in (
            "connection",
            "self._connection",
            "super()",
        ):
            found.add(node.attr)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr":
            found.add(str(getattr(node.args[1], "value", "")))
        elif isinstance(node, ast.ClassDef) and node.name == "Connection":
            found |= {
                part.name
                for part in node.body
                if isinstance(part, ast.FunctionDef) and hasattr(connections.Connection, part.name)
            }
    return {name for name in found if re.match(r"_[a-z]", name)}

"""Finds the names of Celery, kombu and billiard in the package that are private to them.

``python -m tests.worker.scan`` prints them.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
import re
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import celery_mysqllock

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PACKAGE = Path(celery_mysqllock.__file__).parent
_LIBRARIES = ("celery", "kombu", "billiard", "vine")
_PRIVATE = re.compile(r"_[a-z]\w*|__[a-z]+__")
# What Python and its library give such names.
_PYTHONS = {name for kind in (object, type, int, list, str) for name in dir(kind)}
_PYTHONS |= {*dir(inspect.signature), *dir(inspect), *dir(ValueError()), *dir(_LIBRARIES[0].join)}
_PYTHONS |= {"_asdict", "_replace", "_exit", "__func__", "__signature__", "__stderr__"}
_PYTHONS |= {"__wrapped__"}
# Names that a library and the package have; the library's are asked of another object.
_BOTH = {"_deliver"}


def private_names() -> dict[str, set[str]]:
    """The names, by the package's rooms: used, imported or overridden.

    A name is a library's when nothing in the package defines it. Those of PyMySQL are found by
    ``tests/mysql/test_pymysql_internals.py``.
    """
    trees = {file: tree for file, tree in _trees() if not file.startswith("mysql/")}
    ours = {name for tree in trees.values() for name in _defined(tree)} - _BOTH | _PYTHONS
    found = defaultdict(set, _overridden())
    for file, tree in trees.items():
        found[file] |= {name for name in _attributes(tree) if name not in ours}
        if imports := _imports(tree):
            own = {*_defined(tree), *_PYTHONS}
            found[file] |= {name for name in _quoted(tree) if name not in own}
            found[file] |= {
                name for name, module in imports.items() if "._" in module or name[0] == "_"
            }
    return _by_room(found)


def replaced_names() -> dict[str, set[str]]:
    """What the package assigns in classes and modules of the libraries, by its rooms."""
    return _by_room({file: set(_assigned(tree, _imports(tree))) for file, tree in _trees()})


def imported_modules() -> dict[str, set[str]]:
    """The modules of the libraries that names are imported from, by the package's rooms."""
    return _by_room({file: set(_imports(tree).values()) for file, tree in _trees()})


def _by_room(names: Mapping[str, set[str]]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for file, those in names.items():
        if those:
            found[file.partition("/")[0]] |= those
    return found


def _is_theirs(module: str) -> bool:
    return module.partition(".")[0] in _LIBRARIES


def _trees() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield path.relative_to(PACKAGE).as_posix(), ast.parse(path.read_text("utf-8"))


def _defined(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name
            case ast.Name(id=name, ctx=ast.Store()):
                yield name
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name, ctx=ast.Store()):
                yield name


def _attributes(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=owner, attr=name) if _PRIVATE.fullmatch(name):
                if name not in _BOTH or ast.unparse(owner) != "self":
                    yield name


def _quoted(tree: ast.AST) -> Iterator[str]:
    """What may be asked for by ``getattr``, or be looked for in ``vars``."""
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)) if _PRIVATE.fullmatch(text):
                yield text


def _imports(tree: ast.AST) -> Mapping[str, str]:
    """Where the names come from that are imported of the libraries."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(module=str(module)) if _is_theirs(module):
                found |= {alias.asname or alias.name: module for alias in node.names}
    return found


def _assigned(tree: ast.AST, imports: Mapping[str, str]) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id=owner), attr=name, ctx=ast.Store()):
                if owner in imports:
                    yield name
            case ast.Call(
                func=ast.Name(id="replace" | "replace_item"),
                args=[owner, ast.Constant(value=str(name)), _],
            ):
                if ast.unparse(owner).partition(".")[0] in imports:
                    yield name


def _overridden() -> Iterator[tuple[str, set[str]]]:
    """The private methods of the libraries' classes that ours override."""
    found: dict[str, set[str]] = defaultdict(set)
    for info in pkgutil.walk_packages([str(PACKAGE)], f"{celery_mysqllock.__name__}."):
        module = importlib.import_module(info.name)
        for _, kind in inspect.getmembers(module, inspect.isclass):
            theirs = [one for one in kind.__mro__ if _is_theirs(one.__module__)]
            if theirs and kind.__module__ == info.name:
                file = Path(inspect.getfile(kind)).relative_to(PACKAGE).as_posix()
                found[file] |= {
                    name
                    for name in vars(kind)
                    if re.match(r"_[a-z]", name) and any(name in vars(one) for one in theirs)
                }
    yield from found.items()


if __name__ == "__main__":
    for listed in (private_names(), replaced_names()):
        for room, its_names in listed.items():
            print(f"{room}: {', '.join(sorted(its_names))}")  # noqa: T201
        print(len(set().union(*listed.values())))  # noqa: T201

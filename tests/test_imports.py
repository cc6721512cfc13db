"""No module of the package imports itself by way of others, not even for type checkers."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

import celery_mysqllock

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "celery_mysqllock"
ROOT = Path(celery_mysqllock.__file__).parent


def modules() -> dict[str, Path]:
    """All modules of the package; a room goes by its own name."""
    names = {}
    for path in ROOT.rglob("*.py"):
        parts = (PACKAGE, *path.relative_to(ROOT).with_suffix("").parts)
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def imported(source: str, known: set[str]) -> Iterator[str]:
    """The modules that a module names in its imports, wherever they stand.

    The face of a room imports what is in it, so a name that is imported from a face counts as an
    import of the face only where it is not a module.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        elif isinstance(node, ast.ImportFrom) and node.module is not None and not node.level:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in known:
                    yield inner
                elif node.module in known:
                    yield node.module


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The sets of modules that reach each other."""

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        left = [start]
        while left:
            for name in graph.get(left.pop(), set()) - found:
                found.add(name)
                left.append(name)
        return found

    reach = {name: reached(name) for name in graph}
    found: list[set[str]] = []
    for name, others in reach.items():
        circle = {name} | {other for other in others if name in reach.get(other, set())}
        if name in others and circle not in found:
            found.append(circle)
    return found


def test_no_module_imports_itself_by_way_of_others() -> None:
    paths = modules()
    known = set(paths)
    graph = {
        name: set(imported(path.read_text("utf-8"), known)) - {name} for name, path in paths.items()
    }
    assert graph[f"{PACKAGE}.broker.transport"] >= {f"{PACKAGE}.broker.channel"}
    assert circles(graph) == []


def test_a_circle_is_found() -> None:
    source = "if TYPE_CHECKING:\n    from a.b import c\nimport a.d\nfrom a import b, thing"
    assert list(imported(source, {"a", "a.b", "a.d"})) == ["a.d", "a.b", "a", "a.b"]
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [{"b", "c"}]

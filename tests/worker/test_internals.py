"""The undocumented names of Celery, kombu and billiard are still there, and all are listed.

When a test here fails with a new release, read in that what has taken the place of the name, and
change the rooms that the list names.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections import defaultdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
from celery.worker import state
from celery.worker.consumer import tasks
from celery.worker.control import Panel

from tests.worker.internals import PRIVATE, READ_IN, REPLACED, UNDOCUMENTED, Internal
from tests.worker.scan import PACKAGE, imported_modules, private_names, replaced_names

if TYPE_CHECKING:
    from collections.abc import Iterable

EVERY = (*REPLACED, *PRIVATE, *UNDOCUMENTED)
# It is no name of Celery's: the decorator gives it to Celery's tasks.
_ADDED = {"tasks": {"lock_for"}}


@pytest.mark.parametrize("internal", EVERY, ids=[one.name for one in EVERY])
def test_a_name_is_still_there(internal: Internal) -> None:
    assert _is_there(internal.name), (
        f"{internal.library} {version(internal.library)} has no {internal.name} (read in "
        f"{READ_IN[internal.library]}), which {', '.join(internal.rooms)} needs. Without it: "
        f"{internal.without}"
    )


def test_a_name_that_is_gone_is_noticed() -> None:
    assert not _is_there("celery.worker.request.Request._gone")
    assert not _is_there("celery.worker.gone.Gone.name")


def _is_there(name: str) -> bool:
    """Whether a class or module has the name, or its module gives it to instances."""
    owner, _, last = name.rpartition(".")
    try:
        module, found = _imported(owner)
    except (ImportError, AttributeError):
        return False
    boundary = "" if last.endswith("_") else r"\b"
    return hasattr(found, last) or bool(
        re.search(rf"\.{last}{boundary}|\b{last} = |'{last}'", inspect.getsource(module))
    )


def _imported(name: str) -> tuple[Any, Any]:
    """A class or module by its name, and the module that it is defined in."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        found = functools.reduce(getattr, parts[length:], module)
        return inspect.getmodule(found), found
    raise ModuleNotFoundError(name)


def test_the_commands_are_where_they_are_replaced() -> None:
    assert {"revoke", "scheduled", "dump_schedule"} <= Panel.data.keys()


def test_the_requests_can_be_copied_while_they_change() -> None:
    assert isinstance(set(state.reserved_requests), set)
    assert isinstance(set(state.active_requests), set)


def test_celery_warns_of_disable_prefetch_as_the_filter_expects() -> None:
    source = inspect.getsource(tasks)
    # Celery 5.5 does not know the setting
    is_known = "worker_disable_prefetch" in source
    assert is_known == ("worker_disable_prefetch is only supported for Redis" in source)
    assert tasks.logger.name == "celery.worker.consumer.tasks"


def test_the_private_names_of_the_package_are_those_of_the_list() -> None:
    replaced = (one for one in REPLACED if one.last.startswith("_"))
    assert private_names() == _by_room([*PRIVATE, *replaced])


def test_what_the_package_replaces_is_on_the_list() -> None:
    listed = _by_room(REPLACED)
    for room, names in _ADDED.items():
        listed[room] |= names
    assert replaced_names() == listed


@pytest.mark.parametrize("internal", UNDOCUMENTED, ids=[one.name for one in UNDOCUMENTED])
def test_an_undocumented_name_is_used_where_the_list_says(internal: Internal) -> None:
    for room in internal.rooms:
        path = PACKAGE / room
        files = path.glob("*.py") if path.is_dir() else [path]
        assert any(re.search(rf"\b{internal.last}\b", file.read_text("utf-8")) for file in files)


def test_only_the_room_worker_imports_celerys_worker() -> None:
    for room, modules in imported_modules().items():
        insides = {name for name in modules if re.match(r"celery\.(worker|concurrency)\b", name)}
        assert bool(insides) == (room == "worker"), (room, insides)


def _by_room(listed: Iterable[Internal]) -> dict[str, set[str]]:
    names: dict[str, set[str]] = defaultdict(set)
    for one in listed:
        for room in one.rooms:
            names[room].add(one.last)
    return names

"""The cache folder: whole folders only, made once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from devserver import NoServer, cache

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def fill(part: Path) -> None:
    (part / "content").write_text("all of it")


def test_a_folder_is_made_once_and_found_again() -> None:
    assert (cache.kept("a/b", fill) / "content").read_text() == "all of it"

    def fail(_: Path) -> None:
        pytest.fail("it was there already")

    assert (cache.kept("a/b", fail) / "content").read_text() == "all of it"


def test_two_that_ask_at_once_get_one_folder_made_once() -> None:
    made: list[Path] = []
    begun, go_on = threading.Event(), threading.Event()

    def slowly(part: Path) -> None:
        made.append(part)
        begun.set()
        assert go_on.wait(20)
        fill(part)

    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(cache.kept("x", slowly))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    assert begun.wait(20)
    assert not (cache.folder() / "x").exists()
    go_on.set()
    for thread in threads:
        thread.join(20)
    assert found == [cache.folder() / "x"] * 2
    assert len(made) == 1


def test_a_failure_leaves_nothing_that_looks_complete() -> None:
    def fail(part: Path) -> None:
        fill(part)
        raise RuntimeError("the network is gone")

    with pytest.raises(RuntimeError):
        cache.kept("x", fail)
    assert [path.name for path in cache.folder().iterdir()] == ["x.lock"]
    assert (cache.kept("x", fill) / "content").exists()


def test_what_a_killed_process_left_half_made_is_removed() -> None:
    left = cache.folder() / "x.part-left"
    left.mkdir(parents=True)
    cache.kept("x", fill)
    assert not left.exists()


def test_a_forgotten_folder_is_made_anew() -> None:
    path = cache.kept("x", fill)
    cache.forget(path)
    assert not path.exists()
    assert cache.kept("x", fill).is_dir()


def test_a_cache_that_cannot_be_written_is_a_clear_error(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = home / "file"
    file.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    with pytest.raises(NoServer, match="Point XDG_CACHE_HOME at one that can"):
        cache.kept("x", fill)


def test_a_relative_cache_home_counts_as_unset(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "somewhere")
    monkeypatch.setenv("HOME", str(home))
    assert cache.folder() == home / ".cache/celery-mysqllock"

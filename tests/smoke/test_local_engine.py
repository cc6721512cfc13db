"""The stand-in for a Docker engine, in what the other tests would not notice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.smoke.engine import VARIABLE, docker_engine
from tests.smoke.local_engine import Owner
from tests.waiting import eventually

_CHECKOUT = Path(__file__).parents[2]
_NO_ENGINE = "unix:///nonexistent/docker.sock"

# A container's process 1 with a child; both keep the named pipe $0 open for as long as they live.
_FAMILY = ["sh", "-c", 'exec 3>"$0"; sleep 600 & echo born >&3; wait']

_TEST_RUN = f"""
import sys, time
from tests.smoke.local_engine import Owner

owner = Owner()
owner.start([*{_FAMILY!r}, sys.argv[1]], {{}}, owner.folder, owner.folder / "log")
print(owner.folder, flush=True)
time.sleep(600)
"""


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    """A named pipe for the family: it can be read to its end when nobody of them is left."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def test_a_killed_container_takes_its_children_with_it(pipe: Path) -> None:
    with Owner() as owner:
        pid = owner.start([*_FAMILY, str(pipe)], {}, owner.folder, owner.folder / "log")
        with pipe.open() as family:
            assert family.readline() == "born\n"
            owner.signal(pid, signal.SIGKILL)
            assert family.read() == ""
        assert owner.ended(pid) == -signal.SIGKILL


def test_nothing_is_left_of_a_test_run_that_is_killed(pipe: Path) -> None:
    test_run = subprocess.Popen(
        [sys.executable, "-c", _TEST_RUN, str(pipe)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=_CHECKOUT,
    )
    assert test_run.stdout is not None
    folder = Path(test_run.stdout.readline().strip())
    with pipe.open() as family:
        assert family.readline() == "born\n"
        test_run.kill()
        assert family.read() == ""
    test_run.communicate()
    eventually(lambda: not folder.exists(), what="the end of the folder")


def test_without_an_engine_the_stand_in_is_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("DOCKER_HOST", _NO_ENGINE)
    assert docker_engine() is None


def test_docker_without_an_engine_is_an_error_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "docker")
    monkeypatch.setenv("DOCKER_HOST", _NO_ENGINE)
    with pytest.raises(RuntimeError, match=VARIABLE):
        docker_engine()


def test_an_unknown_engine_is_an_error_that_names_the_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(VARIABLE, "podman")
    with pytest.raises(ValueError, match="docker or local"):
        docker_engine()

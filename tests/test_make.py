"""The virtual environment that make builds: told what is missing, repaired when half made."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAKEFILE = ROOT / "Makefile"

# A Python that only makes virtual environments. It notes what it is asked; whether it has
# ensurepip, that is python3-venv on Debian, says the file "complete".
PYTHON = """\
#!/bin/sh
echo "$*" >>"{folder}/asked"
case "$1 $2" in
"-c import venv, ensurepip") test -e "{folder}/complete" ;;
"-m venv")
    rm -rf "$4" && mkdir -p "$4/bin" && echo "#!/bin/sh" >"$4/bin/python"
    chmod +x "$4/bin/python" ;;
esac
"""

WITHOUT_PIP = """\
#!/bin/sh
case "$*" in *pip*) exit 1 ;; esac
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout with a Python that lacks python3-venv."""
    if not MAKEFILE.exists() or not shutil.which("make"):
        pytest.skip("needs make and the repository")
    shutil.copy(MAKEFILE, tmp_path)
    (tmp_path / "pyproject.toml").touch()
    _program(tmp_path / "python3", PYTHON.format(folder=tmp_path))
    return tmp_path


def test_what_is_missing_is_said_in_one_line(folder: Path) -> None:
    made = _make(folder)
    assert made.returncode == 2
    said = [line for line in made.stderr.splitlines() if not line.startswith("make")]
    assert len(said) == 1
    assert "apt install python3-venv" in said[0]
    assert not (folder / ".venv").exists()


def test_make_goes_on_once_python3_venv_is_there(folder: Path) -> None:
    assert _make(folder).returncode
    (folder / "complete").touch()
    made = _make(folder)
    assert made.returncode == 0, made.stderr
    assert (folder / ".venv/.demo").exists()


@pytest.mark.parametrize("python", ["", "#!/gone/bin/python3\n", WITHOUT_PIP])
def test_a_half_made_environment_is_made_anew(folder: Path, python: str) -> None:
    (folder / "complete").touch()
    (folder / ".venv/bin").mkdir(parents=True)
    if python:
        _program(folder / ".venv/bin/python", python)
    made = _make(folder)
    assert made.returncode == 0, made.stderr
    assert "-m venv --clear .venv" in (folder / "asked").read_text()


@pytest.mark.parametrize("python", ["#!/gone/bin/python3\n", WITHOUT_PIP])
def test_a_finished_environment_that_breaks_later_is_made_anew(folder: Path, python: str) -> None:
    (folder / "complete").touch()
    assert _make(folder).returncode == 0
    _program(folder / ".venv/bin/python", python)
    made = _make(folder)
    assert made.returncode == 0, made.stderr
    assert (folder / "asked").read_text().count("-m venv --clear .venv") == 2


def test_an_environment_that_was_moved_is_made_anew(folder: Path, tmp_path: Path) -> None:
    (folder / "complete").touch()
    assert _make(folder).returncode == 0
    moved = tmp_path / "moved"
    moved.mkdir()
    for name in ("Makefile", "pyproject.toml", ".venv"):
        (folder / name).rename(moved / name)
    made = _make(moved, python=folder / "python3")
    assert made.returncode == 0, made.stderr
    assert (folder / "asked").read_text().count("-m venv --clear .venv") == 2


def test_a_finished_environment_is_left_alone(folder: Path) -> None:
    (folder / "complete").touch()
    assert _make(folder).returncode == 0
    asked = (folder / "asked").read_text()
    made = _make(folder)
    assert "is up to date" in made.stdout
    assert (folder / "asked").read_text() == asked


def test_an_environment_that_works_is_kept(folder: Path) -> None:
    (folder / ".venv/bin").mkdir(parents=True)
    _program(folder / ".venv/bin/python", "#!/bin/sh\n")
    assert _make(folder).returncode == 0
    assert not (folder / "asked").exists()


def test_whatever_ci_makes_can_be_made() -> None:
    programs = [ROOT / ".ci/run", *ROOT.glob(".github/workflows/*.yml")]
    if not all(program.exists() for program in programs) or len(programs) == 1:
        pytest.skip("needs the repository")
    text = "\n".join(program.read_text() for program in programs)
    asked = set(re.findall(r"(?:\bmake|^tests \S+) ([a-z][a-z-]+)", text, re.MULTILINE))
    assert {"lint", "test", "docs", "wheel", "conformance"} <= asked
    assert asked <= set(re.findall(r"^([a-z-]+):", MAKEFILE.read_text(), re.MULTILINE))


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def _make(folder: Path, python: Path | None = None) -> subprocess.CompletedProcess[str]:
    outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    return subprocess.run(
        ["make", ".venv/.demo", f"PYTHON={python or folder / 'python3'}"],
        cwd=folder,
        env={**outer, "LC_ALL": "C"},
        capture_output=True,
        text=True,
        check=False,
    )

"""``make matrix``: build wheel and sdist, and test the wheel on each Python that is here.

For each Python that is found and for the lowest and the newest dependencies that it allows, a fresh
environment gets the wheel. The tests come out of the sdist, beside which the package does not lie.
``--here`` tests this Python with the newest dependencies only: is what is shipped whole?
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).parents[2]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
#: Further interpreters, separated as in PATH, that are tested as well.
VARIABLE = "MYSQLLOCK_PYTHONS"
LOWEST, HIGHEST = "lowest-direct", "highest"
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
# what a wrong version of a dependency would break
TESTS = (
    "tests/test_package.py",
    "tests/mysql",
    "tests/jobs",
    "tests/locks/test_contract.py",
    "tests/tasks/test_options.py",
    "tests/tasks/test_signals.py",
    "tests/broker/test_transport.py",
    "tests/broker/test_worker.py",
    "tests/worker/test_internals.py",
    "tests/cli/test_migrate.py",
)
# what a file that is missing from the wheel would break
TESTS_HERE = ("tests/test_package.py", "tests/cli/test_migrate.py", "tests/broker/test_worker.py")
_SHOWN = ("celery", "kombu", "PyMySQL", "click", "rich")


@dataclass
class Cell:
    """One Python with one set of dependencies.

    Attributes:
        python: Its version, or that of one that is not here.
        resolution: Which dependencies, in uv's words.
        versions: The installed ones.
        result: The last line of pytest, or why there is none.
        ok: Whether every test passed.
        seconds: How long that took.
    """

    python: str
    resolution: str
    versions: str = ""
    result: str = "not on this machine"
    ok: bool | None = None
    seconds: float = 0.0


def main() -> int:
    """Test each cell and print the table; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix")
    parser.add_argument("--here", action="store_true", help="this Python, newest dependencies")
    found = _interpreters()
    here = parser.parse_args().here
    if here:
        cells = [Cell(HERE, HIGHEST)]
    else:
        cells = [Cell(python, which) for python in PYTHONS for which in (LOWEST, HIGHEST)]
    with tempfile.TemporaryDirectory(prefix="matrix-") as name, Progress() as progress:
        folder = Path(name)
        _build(folder)
        step = progress.add_task("matrix", total=len(cells))
        for cell in cells:
            progress.update(step, description=f"Python {cell.python}, {cell.resolution}")
            if cell.python in found:
                _test(cell, found[cell.python], folder, TESTS_HERE if here else TESTS)
            progress.advance(step)
    Console().print(_table(cells))
    return int(any(cell.ok is False for cell in cells))


def _interpreters() -> dict[str, str]:
    given = [path for path in os.environ.get(VARIABLE, "").split(os.pathsep) if path]
    candidates = [*given, sys.executable, *(f"python{version}" for version in PYTHONS)]
    found: dict[str, str] = {}
    for candidate in candidates:
        if path := shutil.which(candidate):
            code = "import sys; print('%d.%d' % sys.version_info[:2])"
            found.setdefault(_run([path, "-c", code]).stdout.strip(), path)
    return found


def _build(folder: Path) -> None:
    """Make the wheel in ``dist``, and the sdist in ``sources`` without the package."""
    _run(["uv", "build", "--out-dir", str(folder / "dist"), str(ROOT)]).check_returncode()
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "sources")  # noqa: S202 - we have just made it
    (sources,) = (folder / "sources").iterdir()
    shutil.rmtree(sources / "celery_mysqllock")


def _test(cell: Cell, python: str, folder: Path, tests: Sequence[str]) -> None:
    (wheel,) = (folder / "dist").glob("*.whl")
    (sources,) = (folder / "sources").iterdir()
    began = time.monotonic()
    home = folder / f"{cell.python}-{cell.resolution}"
    own = str(home / "bin" / "python")
    install = ["uv", "pip", "install", "--quiet", "--python", own]
    for command in (
        ["uv", "venv", "--quiet", "--python", python, str(home)],
        # by name, since the lowest versions are those of what is asked for directly
        [*install, "--resolution", cell.resolution, "-r", str(sources / "pyproject.toml")],
        [*install, "--no-deps", str(wheel)],
        # what the tests need must not lift what was just installed
        [*install, "--group", f"{sources / 'pyproject.toml'}:test"],
    ):
        done = _run(command)
        if done.returncode:
            cell.result, cell.ok = done.stderr.strip().splitlines()[-1], False
            return
    cell.versions = _versions(own)
    done = _run([own, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests], cwd=sources)
    cell.result, cell.ok = done.stdout.strip().splitlines()[-1].strip("= "), not done.returncode
    if not cell.ok:
        print(done.stdout)  # noqa: T201 - what failed, above the table
    cell.seconds = time.monotonic() - began


def _versions(python: str) -> str:
    listed = _run(["uv", "pip", "list", "--python", python]).stdout
    versions = dict(re.findall(r"^(\S+) +(\S+)", listed.lower(), re.MULTILINE))
    return ", ".join(f"{name} {versions.get(name.lower(), '?')}" for name in _SHOWN)


def _run(command: list[str], cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def _table(cells: list[Cell]) -> Table:
    table = Table("Python", "dependencies", "installed", "result", "s")
    for cell in cells:
        style = {True: "green", False: "red", None: "dim"}[cell.ok]
        words = (cell.python, cell.resolution, cell.versions, cell.result, f"{cell.seconds:.0f}")
        table.add_row(*words, style=style)
    return table


if __name__ == "__main__":
    sys.exit(main())

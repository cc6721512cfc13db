"""The integration suites of kombu and Celery, out of the sdists of the releases installed here."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from devserver import cache

if TYPE_CHECKING:
    from types import ModuleType

_KOMBUS = PurePosixPath("t/integration/common.py")


def load_kombu_suite() -> ModuleType:
    """Import kombu's suite; errors as in ``unpacked``."""
    file = unpacked("kombu", str(_KOMBUS)) / _KOMBUS
    spec = importlib.util.spec_from_file_location("kombu_integration_suite", file)
    assert spec is not None
    assert spec.loader is not None
    suite = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(suite)
    return suite


def unpacked(project: str, *wanted: str) -> Path:
    """A folder with some of a project's sdist, which is downloaded once a version.

    Args:
        project: Its name.
        *wanted: Files and folders of the sdist; nothing else of it is unpacked.

    Raises:
        CalledProcessError: pip could not download the sdist; it has said why.
    """
    release = f"{project}-{version(project)}"
    return cache.kept(f"sdists/{release}", lambda folder: _get(project, release, wanted, folder))


def _get(project: str, release: str, wanted: tuple[str, ...], folder: Path) -> None:
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-binary", project, "--dest", str(folder)),
            release.replace("-", "==", 1),
        ],
        check=True,
    )
    archive = folder / f"{release}.tar.gz"
    with tarfile.open(archive) as sdist:
        for member in sdist.getmembers():
            name = member.name.partition("/")[2]
            if member.isfile() and any(name == one or name.startswith(f"{one}/") for one in wanted):
                source = sdist.extractfile(member)
                assert source is not None
                target = folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read())
    archive.unlink()

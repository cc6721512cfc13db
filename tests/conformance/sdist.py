"""kombu's own integration suite, out of the sdist of the kombu that is installed."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tarfile
from importlib.metadata import version
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from celery_mysqllock.devserver import cache

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

_SUITE = PurePosixPath("t/integration/common.py")


def load_suite() -> ModuleType:
    """Import the suite; its sdist is downloaded once a version, and nothing else of it is used.

    Raises:
        CalledProcessError: pip could not download the sdist; it has said why.
    """
    release = f"kombu-{version('kombu')}"
    file = cache.kept(f"suites/{release}", lambda folder: _get(release, folder)) / _SUITE.name
    spec = importlib.util.spec_from_file_location("kombu_integration_suite", file)
    assert spec is not None
    assert spec.loader is not None
    suite = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(suite)
    return suite


def _get(release: str, folder: Path) -> None:
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--no-binary", "kombu", "--dest", str(folder)),
            release.replace("-", "==", 1),
        ],
        check=True,
    )
    with tarfile.open(folder / f"{release}.tar.gz") as sdist:
        source = sdist.extractfile(f"{release}/{_SUITE}")
        assert source is not None, f"the sdist has no {_SUITE}"
        (folder / _SUITE.name).write_bytes(source.read())

"""``python -m benchmarks.pictures``: make docs/pictures/top.svg and web-*.png of a busy fleet.

The pages are shown by a headless Chromium; without one on the PATH only top.svg is made.
"""

from __future__ import annotations

import argparse
import io
import re
import secrets
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from rich.console import Console

from benchmarks.pictures.fleet import busy_fleet
from benchmarks.programs import Programs
from celery_mysqllock.cli.frame import frame
from celery_mysqllock.cli.overview import OverviewReader
from celery_mysqllock.jobs import JobStatus, Selection
from devserver import DevServer
from devserver.choice import choose
from tests.browser import find_browser, photograph, signed_in

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery_mysqllock.cli.deployment import Deployment

_ROOT = Path(__file__).resolve().parents[2]
_PICTURES = _ROOT / "docs" / "pictures"
_WIDTH, _HEIGHT = 80, 24
_LARGE, _WIDE = (1080, 1000), (1080, 640)
# MariaDB lists its locks, and shows what sessions tell of themselves, only with these.
_TELLING = (
    "--performance-schema=ON",
    "--performance-schema-instrument=wait/lock/metadata/sql/mdl=ON",
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=__doc__)
    parser.add_argument("--folder", type=Path, default=_PICTURES, help="where they go")
    parser.add_argument("--seconds", type=float, default=30.0, help="of work before (30)")
    parser.add_argument("--server", help="mariadb, mysql, or a release: mariadb-11.8")
    parser.add_argument("--keep", action="store_true", help="print the URL and wait for Ctrl-C")
    options = parser.parse_args(arguments)
    with (
        DevServer(choose(options.server), _TELLING) as server,
        tempfile.TemporaryDirectory(prefix="pictures-") as folder,
        Programs(Path(folder), {"SHOP_URL": server.url}) as programs,
        busy_fleet(programs, server.url) as deployment,
    ):
        time.sleep(options.seconds)
        _draw_top(deployment, options.folder / "top.svg")
        if find_browser() is not None:
            _photograph(programs, deployment, options.folder)
        if options.keep:
            sys.stdout.write(f"{server.url}\n")
            sys.stdout.flush()
            time.sleep(3600)


def _draw_top(deployment: Deployment, path: Path) -> None:
    reader = OverviewReader(deployment)
    console = Console(
        record=True,
        file=io.StringIO(),
        width=_WIDTH,
        height=_HEIGHT,
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
    )
    console.print(frame(reader.read(), height=_HEIGHT))
    reader.close()
    picture = console.export_svg(title="mysqllock top")
    # nothing is loaded from elsewhere: any monospaced font will do
    path.write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL), "utf-8")


def _photograph(programs: Programs, deployment: Deployment, folder: Path) -> None:
    token = secrets.token_hex()
    arguments = ("celery", "-A", "benchmarks.pictures.shop", "mysqllock", "web", "--port", "0")
    web = programs.start("web", *arguments, MYSQLLOCK_WEB_TOKEN=token)
    programs.until(lambda: "http://" in web.log, "the page is served", 60)
    url = web.log.split()[-1]
    with deployment.open_session() as session:
        # the paths of this machine say nothing about a shop
        values = (sys.prefix, "/srv/shop/.venv", str(_ROOT), "/srv/shop")
        session.execute("UPDATE jobs SET reason = REPLACE(REPLACE(reason, %s, %s), %s, %s)", values)
    with deployment.inspection() as inspection:
        dead = inspection.jobs(Selection("celery", JobStatus.DEAD), 1)[0]
    photograph(url, folder / "web-overview.png", _LARGE)
    with signed_in(url, token) as acting:
        photograph(f"{acting}jobs?status=dead", folder / "web-jobs.png", _WIDE)
        dark = "--blink-settings=preferredColorScheme=0"
        photograph(f"{acting}jobs/{dead.id}", folder / "web-job-dark.png", _LARGE, dark)
    for path in folder.glob("web-*.png"):
        with Image.open(path) as picture:
            picture.quantize(256, kmeans=3).save(path, optimize=True)


if __name__ == "__main__":
    main()

"""``python -m benchmarks.pictures``: make docs/pictures/top.svg and web-*.png of a busy fleet.

The pages are shown by a headless Chromium; without one on the PATH only top.svg is made.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmarks.pictures.fleet import busy_fleet
from benchmarks.programs import Programs
from celery_mysqllock.cli.frame import frame
from celery_mysqllock.cli.overview import Watch
from celery_mysqllock.devserver import DevServer
from celery_mysqllock.devserver.choice import choose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from celery_mysqllock.cli.place import Place

_PICTURES = Path(__file__).resolve().parents[2] / "docs" / "pictures"
_WIDTH, _HEIGHT = 80, 24


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the pictures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pictures", description=__doc__)
    parser.add_argument("--folder", type=Path, default=_PICTURES, help="where they go")
    parser.add_argument("--seconds", type=float, default=45.0, help="of work before (45)")
    parser.add_argument("--server", choices=("mariadb", "mysql"), help="the kind of server")
    parser.add_argument("--keep", action="store_true", help="print the URL and wait for Ctrl-C")
    options = parser.parse_args(arguments)
    with (
        DevServer(choose(options.server)) as server,
        tempfile.TemporaryDirectory(prefix="pictures-") as folder,
        Programs(Path(folder), {"SHOP_URL": server.url}) as programs,
        busy_fleet(programs, server.url) as place,
    ):
        time.sleep(options.seconds)
        _draw_top(place, options.folder / "top.svg")
        if options.keep:
            print(server.url, flush=True)
            time.sleep(3600)


def _draw_top(place: Place, path: Path) -> None:
    watch = Watch(place)
    console = Console(
        record=True,
        file=io.StringIO(),
        width=_WIDTH,
        height=_HEIGHT,
        force_terminal=True,
        color_system="truecolor",
        highlight=False,
    )
    console.print(frame(watch.read(), height=_HEIGHT))
    watch.close()
    path.write_text(console.export_svg(title="mysqllock top"), "utf-8")


if __name__ == "__main__":
    main()

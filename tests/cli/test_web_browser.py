"""``mysqllock web`` in a real headless browser, where there is one."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING

import pytest

from tests.browser import find_browser, look, photograph, signed_in
from tests.cli.fleet import fleet
from tests.cli.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from celery_mysqllock.mysql import Session

pytestmark = pytest.mark.skipif(find_browser() is None, reason="there is no Chromium here")

TOKEN = "a token of a test"  # noqa: S105 - it opens nothing else
# of the bar at the top; a page without its style has neither of both in the dark
LIGHT, DARK = (0xFF, 0xFF, 0xFF), (0x1A, 0x20, 0x28)


@pytest.fixture
def url(session: Session) -> Iterator[str]:
    """The page of a fleet."""
    with (
        fleet(session),
        serving(session.address.url(), "web", MYSQLLOCK_WEB_TOKEN=TOKEN) as site,
    ):
        yield site.url


def first_pixel(png: Path) -> tuple[int, ...]:
    """The colour of the upper left corner, which no filter of the format changes."""
    data, at, packed = png.read_bytes(), 8, b""
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        if data[at + 4 : at + 8] == b"IDAT":
            packed += data[at + 8 : at + 8 + length]
        at += length + 12
    return tuple(zlib.decompress(packed)[1:4])


@pytest.mark.parametrize("path", ["", "jobs", "jobs/1", "sign-in", "nothing"])
def test_a_browser_shows_each_page_and_has_nothing_to_complain_of(url: str, path: str) -> None:
    seen = look(f"{url}{path}", "--dump-dom")
    assert "<h1>" in seen.stdout
    assert "CONSOLE" not in seen.stderr


def test_who_is_signed_in_sees_buttons(url: str) -> None:
    with signed_in(url, TOKEN) as acting:
        seen = look(f"{acting}jobs/1", "--dump-dom")
        assert ">Retry</button>" in seen.stdout
        assert ">Pause</button>" in look(acting, "--dump-dom").stdout
    assert ">Retry</button>" not in look(f"{url}jobs/1", "--dump-dom").stdout


@pytest.mark.parametrize(
    ("options", "colour"),
    [((), LIGHT), (("--blink-settings=preferredColorScheme=0",), DARK)],
    ids=["light", "dark"],
)
def test_its_colours_are_those_that_the_reader_likes(
    url: str, tmp_path: Path, options: tuple[str, ...], colour: tuple[int, ...]
) -> None:
    picture = tmp_path / "page.png"
    photograph(url, picture, (800, 600), *options)
    assert first_pixel(picture) == colour

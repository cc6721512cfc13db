"""A small run of ``make fuzz``, always of the same rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from benchmarks.fuzz.__main__ import Fuzz, options_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("seed", [6, 20261127])
def test_odd_rows_end_no_worker_and_each_is_answered(url: str, tmp_path: Path, seed: int) -> None:
    console = Console(record=True, width=200)
    options = options_of(["--rows", "600", "--seed", str(seed)])
    assert Fuzz(console, options, url, tmp_path).run(), console.export_text()

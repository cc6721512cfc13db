#!/usr/bin/env python3
"""Print, of pytest's JUnit reports: the counts, the slowest tests, and each reason to skip."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Iterator

SLOWEST = 10


def summary(report: Path) -> Iterator[str]:
    """Yield the lines about one report."""
    cases = list(ET.parse(report).iter("testcase"))  # noqa: S314 - ours
    skips = Counter(skip.get("message", "") for case in cases for skip in case.iter("skipped"))
    failed = [case for case in cases if {"failure", "error"} & {part.tag for part in case}]
    skipped = skips.total()
    passed = len(cases) - len(failed) - skipped
    yield f"\n{report.stem}: {passed} passed, {len(failed)} failed, {skipped} skipped"
    yield from (f"  failed        {_name(case)}" for case in failed)
    for case in sorted(cases, key=_seconds, reverse=True)[:SLOWEST]:
        yield f"  {_seconds(case):8.1f} s    {_name(case)}"
    yield from (f"  skipped {count:4}  {reason}" for reason, count in skips.most_common())


def _name(case: ET.Element) -> str:
    return f"{case.get('classname', '')}::{case.get('name', '')}"


def _seconds(case: ET.Element) -> float:
    return float(case.get("time", "0"))


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        print("\n".join(line[:160] for line in summary(Path(argument))))  # noqa: T201

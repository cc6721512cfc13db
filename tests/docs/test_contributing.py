"""CONTRIBUTING.md names commands and files that exist."""

from __future__ import annotations

import re

import pytest

from tests.docs.test_pages import DOCS

ROOT = DOCS.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
_PATH = re.compile(r"(?<![\w/.])((?:tests|docs|celery_mysqllock)(?:/[\w.-]+)+)")


@pytest.mark.parametrize("path", sorted(set(_PATH.findall(PAGE)) - {""}))
def test_a_path_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize(
    "target", sorted(set(re.findall(r"(?:^|`)make ([a-z-]+)", PAGE, re.MULTILINE)))
)
def test_a_target_exists(target: str) -> None:
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE)


def test_the_hooks_run_what_make_lint_runs() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text("utf-8")
    lint = re.search(r"^lint:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert lint is not None
    for command in re.findall(r"\$\(BIN\)/([\w-]+)(?: (?:format|check))?", lint[1]):
        assert f"entry: .venv/bin/{command}" in hooks

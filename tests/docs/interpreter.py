"""The Python of one page: runs the blocks that it is sent, one after another, in one namespace."""

from __future__ import annotations

import contextlib
import doctest
import io
import json
import sys
import traceback
from typing import Any

_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def _type(code: str, namespace: dict[str, Any]) -> str:
    """Run a session as a person types it; the report of what differs, empty if nothing does."""
    report = io.StringIO()
    session = doctest.DocTestParser().get_doctest(code, namespace, "page", None, 0)
    session.globs = namespace  # get_doctest made a copy
    runner = doctest.DocTestRunner(verbose=False, optionflags=_FLAGS)
    result = runner.run(session, out=report.write, clear_globs=False)
    return report.getvalue() if result.failed else ""


def _run(language: str, code: str, namespace: dict[str, Any]) -> str:
    try:
        if language == "pycon":
            return _type(code, namespace)
        exec(compile(code, "page", "exec"), namespace)  # noqa: S102 - that is what it is for
    except Exception:  # noqa: BLE001 - whatever it is, the test shows it
        return traceback.format_exc()
    return ""


def main() -> None:
    """Read requests from stdin, a line each, and answer on stdout what went wrong."""
    answers = sys.stdout
    sys.path.insert(0, "")
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for line in sys.stdin:
        request = json.loads(line)
        # What a block prints is the reader's, not an answer.
        with contextlib.redirect_stdout(io.StringIO()):
            problem = _run(request["language"], request["code"], namespace)
        print(json.dumps(problem), file=answers, flush=True)


if __name__ == "__main__":
    main()

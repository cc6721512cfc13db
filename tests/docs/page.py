"""A page of the documentation and its code blocks.

Every block is run. Its language and title alone say what a reader does with it, and the test:

``python title=F``   save it as the file F
``python``           run it in the page's Python
``pycon``            type it into the page's Python; what it prints is as shown
``console``          type each line that begins with ``$``; what is shown below it is printed
``console title=T``  likewise, in a terminal T of its own, where the command goes on
``text title=T``     see these lines in terminal T, in this order
``sql``              give it to the server
``sh title=F``       save it as the file F, as ``php`` and ``javascript``; test_languages.py runs it

In outputs ``...`` stands for anything, as in doctest. Any other block is an error.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$", re.DOTALL | re.MULTILINE
)
_INFO = re.compile(r'(?P<language>\w+)(?: title="(?P<title>[^"]+)")?')
#: Each kind of block, and whether it has a title.
KINDS = {
    ("python", True),
    ("python", False),
    ("pycon", False),
    ("console", False),
    ("console", True),
    ("text", True),
    ("sql", False),
    ("sh", True),
    ("php", True),
    ("javascript", True),
}


@dataclass(frozen=True)
class Block:
    """A code block.

    Attributes:
        language: As written behind the fence.
        title: As written there, None for none.
        text: What is in it.
        where: File and line, for messages.
    """

    language: str
    title: str | None
    text: str
    where: str


def blocks(path: Path) -> list[Block]:
    """The blocks of a page, in order.

    Raises:
        ValueError: A block is of no kind that can be run.
    """
    page = path.read_text("utf-8")
    found = []
    for fence in _FENCE.finditer(page):
        where = f"{path.name}:{page.count(chr(10), 0, fence.start()) + 1}"
        info = _INFO.fullmatch(fence["info"])
        if info is None or (info["language"], info["title"] is not None) not in KINDS:
            raise ValueError(f"{where}: a block {fence['info']!r} cannot be run")
        text = re.sub(rf"^{fence['indent']}", "", fence["text"], flags=re.MULTILINE)
        found.append(Block(info["language"], info["title"], text, where))
    if page.count("```") != 2 * len(found):
        raise ValueError(f"{path.name}: a fence is not closed, or not at the beginning of a line")
    return found

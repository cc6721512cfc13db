"""Text for people that any server can store, whatever it was."""

from __future__ import annotations


def storable(text: str) -> str:
    """The text, with half characters spelled out.

    What a program was called with need not be UTF-8: Python keeps its bytes as half characters
    (surrogates), which no server stores.
    """
    return text.encode("utf-8", "backslashreplace").decode()

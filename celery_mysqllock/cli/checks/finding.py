"""One thing that was looked at: what is there, whether it will do, and what to do if not."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """Whether it will do."""

    OK = "ok"
    WARNING = "warning"  #: it works, and may surprise
    PROBLEM = "problem"  #: something will fail


@dataclass(frozen=True)
class Finding:
    """What was found.

    Attributes:
        subject: What was looked at, in one or two words.
        level: Whether it will do.
        text: What is there, and what would come of it.
        advice: What to do; empty when there is nothing to do.
    """

    subject: str
    level: Level
    text: str
    advice: str = ""


def ok(subject: str, text: str, advice: str = "") -> Finding:
    """Nothing has to be done; the advice is how to have more."""
    return Finding(subject, Level.OK, text, advice)


def warning(subject: str, text: str, advice: str) -> Finding:
    """It works, and may surprise."""
    return Finding(subject, Level.WARNING, text, advice)


def problem(subject: str, text: str, advice: str) -> Finding:
    """Something will fail."""
    return Finding(subject, Level.PROBLEM, text, advice)

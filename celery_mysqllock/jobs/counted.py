"""Numbers with their noun, for messages: ``1 job``, ``2 jobs``."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """The number and the noun, with an ``s`` after it unless the number is 1."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def in_each_delivery(number: int) -> str:
    """For something that happened each time: ``in each of 5 deliveries``."""
    return "in its only delivery" if number == 1 else f"in each of {number} deliveries"

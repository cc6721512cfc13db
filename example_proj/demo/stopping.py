"""Signals that end the demo cleanly."""

from __future__ import annotations

import signal
from typing import NoReturn

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """A signal has come; raised wherever the main thread is.

    Attributes:
        number: The signal.
    """

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number


def raise_on_signals() -> None:
    """Let the first SIGINT, SIGTERM or SIGHUP raise ``Stopped``; further ones do nothing."""
    for number in _SIGNALS:
        signal.signal(number, _stop)


def _stop(number: int, _frame: object) -> NoReturn:
    for other in _SIGNALS:
        signal.signal(other, signal.SIG_IGN)  # nothing interrupts the cleaning up
    raise Stopped(signal.Signals(number))

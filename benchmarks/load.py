"""How busy others kept the machine while something was measured."""

from __future__ import annotations

import os


class Load:
    """Samples of the machine's load average over the last minute, this benchmark's own included."""

    def __init__(self) -> None:
        self._seen: list[float] = []

    def look(self) -> None:
        """Take one sample."""
        self._seen.append(os.getloadavg()[0])

    def __str__(self) -> str:
        low, high = min(self._seen, default=0.0), max(self._seen, default=0.0)
        return f"load average {low:.1f} to {high:.1f} on {os.cpu_count()} cores"

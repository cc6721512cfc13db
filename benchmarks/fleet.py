"""The programs under fault: each has a place, and another name after each death."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from benchmarks.programs import Program, Programs


class Fleet:
    """Programs in places: who dies is followed by another one in the same place.

    Args:
        programs: Starts them.
        commands: For each place (its kind, a dash and a number) the module and its arguments, in
            which ``{name}`` stands for the program's name.
    """

    def __init__(self, programs: Programs, commands: Mapping[str, tuple[str, ...]]) -> None:
        self._programs = programs
        self._commands = commands
        self._running: dict[str, Program] = {}
        self._lives: dict[str, int] = dict.fromkeys(commands, 0)

    def fill(self, place: str) -> Program:
        """Start the next program of the place."""
        self._lives[place] += 1
        name = f"{place}.{self._lives[place]}"
        command = (argument.replace("{name}", name) for argument in self._commands[place])
        program = self._programs.start(name, *command, AUTHOR=name)
        self._running[place] = program
        return program

    def fill_all(self) -> None:
        """Start a program in each place that is empty."""
        for place in self._commands:
            if place not in self._running:
                self.fill(place)

    def awake(self, kind: str) -> dict[str, Program]:
        """The places of that kind whose program runs and is not frozen."""
        return {
            place: program
            for place, program in self._running.items()
            if place.startswith(kind) and program.exit_code is None and not program.is_frozen
        }

    def pick(self, kind: str, spare: int) -> tuple[str, Program] | None:
        """One of the awake programs of that kind at random, so that so many others stay awake."""
        awake = self.awake(kind)
        if len(awake) <= spare:
            return None
        return random.choice(list(awake.items()))  # noqa: S311 - no secret

    def names(self, places: Iterable[str] | None = None) -> frozenset[str]:
        """The names of the running programs, of all places unless told which."""
        wanted = self._running if places is None else places
        return frozenset(self._running[place].name for place in wanted)

    def by_group(self) -> dict[int, str]:
        """The names of the running programs by the number of their process group."""
        return {program.pid: program.name for program in self._running.values()}

    def remove(self, place: str) -> None:
        """Leave the place empty; its program was killed."""
        del self._running[place]

    def fallen(self) -> list[tuple[str, Program]]:
        """Who has ended without having been killed; their places are empty now."""
        ended = [(place, one) for place, one in self._running.items() if one.exit_code is not None]
        for place, _ in ended:
            self.remove(place)
        return ended

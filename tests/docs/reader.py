"""Does what a reader of a page does: saves files, types commands, looks at what is printed."""

from __future__ import annotations

import doctest
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from celery_mysqllock.mysql import Address, Session
from tests.waiting import eventually

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from tests.docs.page import Block

#: What the pages write for the reader's own server, and what stands in its place in a test.
URL = "mysql://user:password@127.0.0.1:3306/shop"
LOGIN = 'host="127.0.0.1", port=3306, user="user", password="password", database="shop"'

_FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
_INTERPRETER = Path(__file__).with_name("interpreter.py")
_SECONDS = 60
_FILES = ("python", "sh", "php", "javascript")


class Reader:
    """A reader with a folder and a database of their own, who follows one page.

    Args:
        url: The database.
        folder: An empty folder.
    """

    def __init__(self, url: str, folder: Path) -> None:
        self._address = Address.parse(url)
        self._folder = folder
        self._terminals: dict[str, tuple[subprocess.Popen[bytes], Path]] = {}
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1", "COLUMNS": "80"}
        self._errors = folder.with_suffix(".stderr").open("w+")
        self._python = subprocess.Popen(
            [sys.executable, str(_INTERPRETER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            cwd=folder,
            env=self._environment,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process, _ in self._terminals.values():
            process.send_signal(signal.SIGTERM)
        for process, _ in self._terminals.values():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(20)
        self._python.communicate(timeout=20)
        self._errors.close()

    def follow(self, block: Block) -> None:
        """Do what the block says.

        Raises:
            AssertionError: Something else came of it than the page says.
        """
        if block.language in _FILES and block.title is not None:
            path = self._folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self._own(block.text))
        elif block.language in ("python", "pycon"):
            self._type_python(block)
        elif block.language == "sql":
            with Session(self._address) as session:
                for statement in re.split(r";\s*$", block.text, flags=re.MULTILINE):
                    if statement.strip():
                        session.execute(self._own(statement))
        elif block.language == "text":
            self._see(block, block.title or "", block.text.splitlines())
        elif block.title is not None:
            self._open_terminal(block, block.title)
        else:
            self._type_commands(block)

    def _own(self, text: str) -> str:
        """The text with the reader's own server in the place of the page's."""
        login = (
            f"host={self._address.host!r}, port={self._address.port}, "
            f"user={self._address.user!r}, password={self._address.password!r}, "
            f"database={self._address.database!r}, unix_socket={self._address.unix_socket!r}"
        )
        return text.replace(URL, self._address.url()).replace(LOGIN, login)

    def _printed(self, text: str) -> str:
        """What was printed, as the page's reader would see it."""
        return text.replace(self._address.database, "shop")

    def _type_python(self, block: Block) -> None:
        assert self._python.stdin is not None
        assert self._python.stdout is not None
        # The page prints its own database's name, and so must the session compare it.
        code = self._own(block.text).replace("shop:", f"{self._address.database}:")
        self._python.stdin.write(json.dumps({"language": block.language, "code": code}) + "\n")
        self._python.stdin.flush()
        answer = self._python.stdout.readline()
        self._errors.seek(0)
        assert answer, f"{block.where}: Python ended: {self._errors.read()}"
        problem = json.loads(answer)
        assert not problem, f"{block.where}:\n{problem}\n{self._errors.read()}"

    def _type_commands(self, block: Block) -> None:
        for command, want in _commands(block):
            done = subprocess.run(
                ["sh", "-c", self._own(command)],
                cwd=self._folder,
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=_SECONDS,
                text=True,
                check=False,
            )
            got = self._printed(done.stdout)
            assert done.returncode == 0, f"{block.where}: $ {command}\n{got}"
            matches = doctest.OutputChecker().check_output(want, got, _FLAGS)
            assert matches or not want, f"{block.where}: $ {command}\n{got}\nand not\n{want}"

    def _open_terminal(self, block: Block, title: str) -> None:
        ((command, want),) = _commands(block)
        log = self._folder / f"{title}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["sh", "-c", f"exec {self._own(command)}"],
                cwd=self._folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._terminals[title] = (process, log)
        self._see(block, title, want.splitlines())

    def _see(self, block: Block, title: str, lines: list[str]) -> None:
        process, log = self._terminals[title]

        def seen() -> bool:
            is_over = process.poll() is not None
            printed = iter(self._printed(log.read_text("utf-8")).splitlines())
            checker = doctest.OutputChecker()
            found = all(
                any(checker.check_output(line, got, _FLAGS) for got in printed)
                for line in lines
                if line.strip() not in ("", "...")
            )
            assert found or not is_over, "the command has ended"
            return found

        try:
            eventually(seen, within=_SECONDS)
        except AssertionError:
            said = self._printed(log.read_text("utf-8"))
            raise AssertionError(f"{block.where}: {title} says\n{said}\nand not\n{lines}") from None


def _commands(block: Block) -> list[tuple[str, str]]:
    """Each command of a console block, and the output that is printed below it."""
    commands = re.findall(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", block.text, re.MULTILINE)
    assert commands, f"{block.where}: a console block has no command"
    return commands

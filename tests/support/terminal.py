"""Programs in a pseudo-terminal of a given size, as a person sees them."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from support.forking import Python
from support.project import Project, _environment

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SEQUENCE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b[=>78]|[\r\n\b]|[^\x1b\r\n\b]+", re.DOTALL)


def in_terminal(
    project: Project, *args: str, columns: int, env: Mapping[str, str] | None = None, typed: str = ""
) -> str:
    """Run vecmig with stdout and stderr on one terminal; give all that it has written, control sequences included.

    What is ``typed`` waits for whoever reads it.
    """
    with terminal(project, "-m", "vecmig", *args, columns=columns, env=env, typed=typed) as opened:
        return opened.to_its_end().replace("\r\n", "\n")


@contextmanager
def terminal(
    project: Project,
    *args: str,
    columns: int,
    rows: int = 24,
    env: Mapping[str, str] | None = None,
    typed: str = "",
) -> Iterator[Terminal]:
    """Run ``python ARGS`` in the project's directory, on a terminal; it is killed at the end at the latest."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    fixed = ("COLUMNS", "LINES", "NO_COLOR")
    variables = {name: value for name, value in _environment().items() if name not in fixed}
    with Python(
        args,
        cwd=project.path,
        env=variables | {"TERM": "xterm"} | dict(env or {}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        os.write(ours, typed.encode())
        try:
            yield Terminal(process, ours, columns, rows)
        finally:
            process.kill()
            os.close(ours)


@dataclass
class Terminal:
    """A terminal on which a program runs."""

    process: subprocess.Popen[str]
    descriptor: int
    columns: int
    rows: int
    #: All that was written so far, control sequences included.
    written: str = ""
    _decoder: Any = field(default_factory=codecs.getincrementaldecoder("utf-8"))

    def read(self, seconds: float) -> bool:
        """Take what is written within some seconds; return whether there may be more."""
        if not select.select([self.descriptor], [], [], seconds)[0]:
            return True
        try:
            piece = os.read(self.descriptor, 65536)
        except OSError:  # how Linux says that the other side is closed
            piece = b""
        # the end of a piece may be in the middle of a character
        self.written += self._decoder.decode(piece)
        return bool(piece)

    def to_its_end(self) -> str:
        """Wait until the program has ended; return all that it has written."""
        while self.read(120):
            pass
        return self.written

    def wait_for(self, condition: Callable[[Screen], bool]) -> Screen:
        """Wait until the screen is as it should be."""
        deadline = time.monotonic() + 60
        while not condition(shown := self.screen):
            assert self.read(1), f"it ended:\n{shown.text}"
            assert time.monotonic() < deadline, f"it never came true:\n{shown.text}"
        return shown

    @property
    def screen(self) -> Screen:
        """What a person sees now, and what was scrolled out above it."""
        return shown(self.written, columns=self.columns, rows=self.rows)


@dataclass
class Screen:
    """What a terminal shows, by the sequences that vecmig and rich write."""

    columns: int
    rows: int
    #: All lines, those included that were scrolled out above the screen.
    lines: list[list[str]] = field(default_factory=lambda: [[]])
    row: int = 0
    column: int = 0
    #: The lines behind the second screen, while that is shown.
    behind: tuple[list[list[str]], int, int] | None = None

    @property
    def text(self) -> str:
        """All lines, without blanks at their ends."""
        return "\n".join("".join(line).rstrip() for line in self.lines).rstrip("\n")

    @property
    def scrolled(self) -> int:
        """How many lines were scrolled out."""
        return max(len(self.lines) - self.rows, 0)

    def write(self, text: str) -> None:
        """Show a text without sequences."""
        for character in text:
            if self.column >= self.columns:
                self._to(self.row + 1, 0)
            line = self.lines[self.row]
            line.extend(" " * (self.column + 1 - len(line)))
            line[self.column] = character
            self.column += 1

    def obey(self, numbers: str, letter: str) -> None:
        """Do what a sequence says; those for colours, the cursor's looks and synchronised output change no text."""
        private, values = numbers.startswith("?"), [int(n or 0) for n in numbers.lstrip("?").split(";")]
        many = max(values[0], 1)
        match letter:
            case "A":
                self._to(max(self.row - many, self.scrolled), self.column)
            case "B":
                self._to(min(self.row + many, self.scrolled + self.rows - 1), self.column)
            case "H":
                self._to(self.scrolled + many - 1, max(values[-1], 1) - 1 if len(values) > 1 else 0)
            case "K":
                line = self.lines[self.row]
                line[:] = [] if values[0] == 2 else line[: self.column]
            case "J":
                if values[0] == 2:
                    self.lines[self.scrolled :] = [[]]
                    self.row = min(self.row, len(self.lines) - 1)
                else:
                    self.lines[self.row] = self.lines[self.row][: self.column]
                    del self.lines[self.row + 1 :]
            case "h" if private and 1049 in values:
                self.behind = self.lines, self.row, self.column
                self.lines, self.row, self.column = [[]], 0, 0
            case "l" if private and 1049 in values:
                assert self.behind is not None
                (self.lines, self.row, self.column), self.behind = self.behind, None
            case "m" | "h" | "l":
                pass
            case _:
                raise AssertionError(f"a sequence that this terminal does not know: {numbers}{letter}")

    def _to(self, row: int, column: int) -> None:
        self.row, self.column = row, column
        while len(self.lines) <= row:
            self.lines.append([])

    def control(self, character: str) -> None:
        """Obey a control character."""
        if character == "\n":
            self._to(self.row + 1, self.column)
        elif character == "\r":
            self.column = 0


def shown(written: str, *, columns: int, rows: int = 24) -> Screen:
    """Return what a terminal shows of all that was written to it, with a carriage return at the end of each line."""
    screen = Screen(columns, rows)
    for match in _SEQUENCE.finditer(written):
        if match[2]:
            screen.obey(match[1], match[2])
        elif match[0] in "\r\n\b":
            screen.control(match[0])
        elif not match[0].startswith("\x1b"):
            screen.write(match[0])
    return screen


def plain(text: str) -> str:
    """Take the control sequences out, and what was written over."""
    shown = [line.rsplit("\r", 1)[-1] for line in _CONTROL.sub("", text).split("\n")]
    return "\n".join(shown)

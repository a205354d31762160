"""Everything that is printed: results to stdout, the rest to stderr; colour only where a terminal shows it."""

from __future__ import annotations

import io
import json
import math
import os
import re
import shutil
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import date, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from vecmig.errors import VecmigError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

#: Width where there is no terminal to ask: lines are then left as long as they are.
_UNLIMITED = 10_000
#: What stands before the second column of a line: where its first word is followed by two spaces.
_FIRST_COLUMN = re.compile(r" *(?:\S+ {2,})?")
#: A command with the options behind it.
_COMMAND = re.compile(r"\bvecmig [a-z_]+(?: -\S+)*")
#: What stands for its spaces while lines are broken, as wide as they are: a character that nobody uses.
_GLUE = "\ue000"
#: What a terminal obeys instead of showing it, but for line breaks and tabs: C0 and C1 controls, and what turns the
#: direction of writing, behind which a text looks like another one.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u202a-\u202e\u2066-\u2069]")
#: Width of the page that is being told; 0 for none.
_page_width: ContextVar[int] = ContextVar("page_width", default=0)
#: Whether results are broken at spaces where the terminal ends, and what takes them in place of stdout, if anything.
_breaking: ContextVar[bool] = ContextVar("breaking", default=False)
_taken: ContextVar[list[str] | None] = ContextVar("taken", default=None)


@contextmanager
def page(width: int) -> Iterator[None]:
    """Tell one page: notes go to stdout with the rest, and lines are broken at ``width``, or the terminal's if less."""
    token = _page_width.set(width)
    try:
        yield
    finally:
        _page_width.reset(token)


@contextmanager
def breaking() -> Iterator[None]:
    """Break results at spaces where the terminal would break them within a word."""
    token = _breaking.set(True)
    try:
        yield
    finally:
        _breaking.reset(token)


@contextmanager
def taken(width: int) -> Iterator[list[str]]:
    """Yield a list that the lines of a result come to in place of stdout, styled, none of them wider than ``width``."""
    lines: list[str] = []
    page, taking = _page_width.set(width), _taken.set(lines)
    try:
        yield lines
    finally:
        _taken.reset(taking)
        _page_width.reset(page)


def prepare_streams() -> None:
    """Keep printing from ending a run: a character that a terminal lacks shows as ?, and a closed stream takes all."""
    sys.stdout = sys.stdout or _nowhere()
    sys.stderr = sys.stderr or _nowhere()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _nowhere() -> IO[str]:
    return Path(os.devnull).open("w", encoding="utf-8")


def moves() -> bool:
    """Return whether a line among the notes may move: on a terminal that is not to be plain."""
    return not _is_plain(_notes())


def redraws() -> bool:
    """Return whether a result may be drawn over the one before: on a terminal that is not to be plain."""
    return not _is_plain(sys.stdout)


def moving() -> Status:
    """Return a line among the notes that moves, once it is started; once it was stopped, it takes another one."""
    return _console(_notes()).status("")


def width() -> int:
    """Return the width that results are laid out for."""
    return _width(sys.stdout)


def _notes() -> IO[str]:
    """Return the stream for progress, warnings and errors."""
    return sys.stdout if _page_width.get() else sys.stderr


def _width(stream: IO[str]) -> int:
    room = shutil.get_terminal_size().columns if stream.isatty() else _UNLIMITED
    return min(_page_width.get() or room, room)


def _is_plain(stream: IO[str]) -> bool:
    return not stream.isatty() or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def _console(stream: IO[str]) -> Console:
    # only what is coloured or moves needs it, and it takes as long to load as all the rest of a short command
    from rich.console import Console

    plain = _is_plain(stream)
    return Console(
        file=stream,
        force_terminal=not plain,
        no_color=plain,
        color_system=None if plain else "auto",
        width=_width(stream),
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=True,
    )


def visible(text: str) -> str:
    r"""Write out what would command a terminal: a record, a tag or a server's message may hold it; ESC becomes \x1b."""
    return _CONTROL.sub(_escape, text.replace("\r\n", "\n"))


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def line(text: str = "", *, style: str | None = None) -> None:
    """Print one line of a result; a long one is wrapped by the terminal, never cut."""
    _print(sys.stdout, text, style)


def note(text: str, *, style: str | None = None) -> None:
    """Print one line to stderr."""
    _print(_notes(), text, style)


def _print(stream: IO[str], text: str, style: str | None = None) -> None:
    text, width, taken = visible(text).expandtabs(), _width(stream), _taken.get() if stream is sys.stdout else None
    pieces = broken(text, width) if _page_width.get() or _breaking.get() else [text]
    if taken is not None:
        # a word that is longer is cut, or what is drawn below it would be out of place
        pieces = [cut for piece in pieces for cut in _cut(piece, width)]
    if style is not None and not _is_plain(stream):
        console = _console(stream)
        with console.capture() as captured:
            for piece in pieces:
                console.print(piece, style=style, markup=False, soft_wrap=True)
        pieces = captured.get().removesuffix("\n").split("\n")
    if taken is not None:
        taken.extend(pieces)
    else:
        _write(stream, "".join(f"{piece}\n" for piece in pieces))


def write(text: str) -> None:
    """Write to stdout as it is: what a terminal is to obey."""
    _write(sys.stdout, text)


def _write(stream: IO[str], text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        # whoever read it has read enough, as head does; what Python writes at its end goes nowhere
        with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), stream.fileno())
        raise SystemExit(1) from None


def broken(text: str, width: int) -> list[str]:
    """Break a line at spaces; what follows goes below its second column, if it has one."""
    match = _FIRST_COLUMN.match(text)
    indent = match.end() if match else 0
    first, *rest = _wrapped(text[indent:], max(width - indent, 1))
    return [text[:indent] + first, *(" " * indent + piece for piece in rest)]


def as_json(value: Any) -> None:
    """Print a value as one JSON document to stdout."""
    _write_json(value, indent=2)


def as_json_line(value: Any) -> None:
    """Print a value as a JSON document of one line to stdout, where others follow."""
    _write_json(value, indent=None)


def _write_json(value: Any, *, indent: int | None) -> None:
    text = json.dumps(_finite(value), indent=indent, ensure_ascii=False, default=_plain)
    # of what terminals obey, JSON itself writes out the first 32
    _write(sys.stdout, _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n")


def error(problem: VecmigError) -> None:
    """Print an error: what happened, how things stand now, what to run next."""
    note(problem.message, style="bold red")
    for text in filter(None, (problem.state, problem.hint)):
        note(text)


def traceback_of(problem: BaseException) -> None:
    """Print a traceback to stderr, without the values of variables, which may be secret."""
    sys.stderr.write(visible("".join(traceback.format_exception(problem))))


def columns(rows: Sequence[Sequence[str]], *, heads: Sequence[str] = (), right: Iterable[int] = ()) -> None:
    """Print rows in columns two spaces apart.

    The last column is wrapped under itself where the terminal is too narrow; where even that leaves it less than
    20 characters, each row is printed as a block of ``head: value`` lines. Nothing is cut.
    """
    for text in column_lines(rows, heads=heads, right=frozenset(right), width=width()):
        line(text)


def column_lines(
    rows: Sequence[Sequence[str]], *, heads: Sequence[str] = (), right: frozenset[int] = frozenset(), width: int = 80
) -> list[str]:
    """Lay out rows as `columns` prints them; the lines have no blanks at their end."""
    if not rows:
        return []
    # before the cells are measured
    rows = [[visible(text) for text in row] for row in rows]
    table = [*([list(heads)] if heads else []), *rows]
    widths = [max(cells(row[at]) for row in table) for at in range(len(table[0]))]
    before = sum(widths[:-1]) + 2 * (len(widths) - 1)
    if before + widths[-1] > width and width - before < 20:
        names = [f"{head}: " for head in heads] or [""] * len(rows[0])
        blocks = [[f"{name}{text}" for name, text in zip(names, row, strict=True) if text] for row in rows]
        return [text for at, block in enumerate(blocks) for text in ([""] if at else []) + block]
    return [text for row in table for text in _row(row, widths, right, max(width - before, 1))]


def _row(row: Sequence[str], widths: Sequence[int], right: frozenset[int], last: int) -> list[str]:
    cells = [_pad(text, widths[at], right=at in right) for at, text in enumerate(row[:-1])]
    at = len(row) - 1
    pieces = _wrapped(_pad(row[-1], widths[-1], right=True) if at in right else row[-1], last)
    indent = " " * (sum(widths[:-1]) + 2 * at)
    return ["  ".join([*cells, pieces[0]]).rstrip(), *(indent + piece for piece in pieces[1:])]


def _wrapped(text: str, width: int) -> list[str]:
    """Break at spaces only, and not within a command, so that an id, a tag or a path can be copied in one piece."""
    pieces = [""]
    for word in _COMMAND.sub(lambda match: match[0].replace(" ", _GLUE), text).split(" "):
        if pieces[-1] and cells(pieces[-1]) + 1 + cells(word) > width:
            pieces.append(word)
        else:
            pieces[-1] = f"{pieces[-1]} {word}" if pieces[-1] else word
    return [piece.replace(_GLUE, " ") for piece in pieces]


def _pad(text: str, width: int, *, right: bool) -> str:
    blanks = " " * (width - cells(text))
    return blanks + text if right else text + blanks


def _cut(text: str, width: int) -> list[str]:
    from rich.cells import chop_cells

    return [text] if cells(text) <= width else chop_cells(text, width)


def cells(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    from rich.cells import cell_len

    return cell_len(text)


def _finite(value: Any) -> Any:
    """Return a value with the numbers that JSON does not know, NaN and infinity, as texts."""
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return [_finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def _plain(value: object) -> object:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, set | frozenset):
        return sorted(value)
    # a key may be of any type that PostgreSQL has: uuid, numeric, inet, …
    return bytes(value).hex() if isinstance(value, bytes | memoryview) else str(value)

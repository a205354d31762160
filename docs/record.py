"""Run the tutorial and write what its commands print into the pages that show it.

    python docs/record.py           write docs/tutorial.md, README.md and the picture
    python docs/record.py --check   write nothing; exit with 1 where a page says something else than the program

Every line of a ``console`` block that begins with ``$`` is run, in a terminal, in an empty directory with an embedded
PostgreSQL, and what is below it is replaced. A command may fail only if the next one is ``echo $?``. A comment before
a block says more: ``<!-- write FILE -->`` (the block is that file), ``<!-- edit FILE -->`` (each line replaces the one
that sets the same name), ``<!-- picture FILE -->`` (the terminal becomes an image, too). A page that shows some of the
commands again, in their order, gets the same output. What merely differs from run to run (ids, times, sizes, scores)
stays.
"""

from __future__ import annotations

import argparse
import fcntl
import html
import io
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import unified_diff
from pathlib import Path

import psycopg
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from vecmig.postgres.embedded import remove_embedded, start_embedded

ROOT = Path(__file__).parents[1]
TUTORIAL = ROOT / "docs" / "tutorial.md"
#: Pages that show some of the tutorial's commands again.
OTHERS = [ROOT / "README.md"]
#: Columns of the terminal: what vecmig status takes.
WIDTH = 110
#: Where the pages say that it all was.
SHOWN_HOME = "/home/you/shop"

BLOCK = re.compile(r"(?:^<!-- (\w+) (\S+) -->\n)?^```(\w+)\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{12}(?![0-9a-f])")
#: What differs from run to run.
VARYING = {
    ID: "<id>",
    re.compile(r"\d{4}-\d\d-\d\d(?: \d\d:\d\d)?"): "<date>",
    re.compile(r"\b\d[\d,.]* (?:ms|s|min|h|kB|MB)\b(?: \d+ (?:s|min)\b)?"): "<amount>",
    re.compile(r"\b[\d,]+/s\b"): "<rate>",
    # chance has a part in building an index, so what a search finds by it differs a little
    re.compile(r"^(?:overlap@|rank-biased |another first |   0\.\d\d ).*$", re.MULTILINE): "<comparison>",
    re.compile(r"(?<=index recall) +\S+ %(?:\s+≥\s+\S+\s%\s+the search finds [^)]*\)[^\d]*)?"): "<recall>",
    re.compile(r"no difference shown|(?:higher|lower) here"): "<verdict>",
    re.compile(r"[+-]?\b[01]\.\d{2,}|<0\.001"): "<score>",
}
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@dataclass
class Recording:
    """The commands of one run with what they printed, in order."""

    home: Path
    printed: list[tuple[str, str]] = field(default_factory=list)
    #: By file, the terminal with its colors.
    pictures: dict[str, str] = field(default_factory=dict)
    _exit_code: int = 0

    def block(self, what: str, where: str, language: str, body: str) -> None:
        """Do what a block of the tutorial says."""
        if what == "write":
            (self.home / where).write_text(body, encoding="utf-8")
        elif what == "edit":
            (file,) = self.home.glob(where)
            file.write_text(edited(file.read_text(encoding="utf-8"), body), encoding="utf-8")
        elif language == "console":
            terminal = "".join(self._run(command) for command, _ in COMMAND.findall(body))
            if what == "picture":
                self.pictures[where] = terminal

    def _run(self, command: str) -> str:
        """Run a command, and return what the terminal shows of it, with its colors."""
        if self._exit_code and command != "echo $?":
            sys.exit(f"$ {self.printed[-1][0]}\n{self.printed[-1][1]}exit code {self._exit_code}")
        # a shell of its own for each, that knows how the one before ended
        output, self._exit_code = in_terminal(["sh", "-c", f"(exit {self._exit_code}); {command}"], self.home)
        shown = settled(output).replace(str(self.home), SHOWN_HOME)
        lines = ANSI.sub("", shown).splitlines()
        self.printed.append((command, "".join(f"{line.rstrip()}\n" for line in lines)))
        return f"\x1b[1;32m$\x1b[0m \x1b[1m{command}\x1b[0m\n{shown}"


def edited(text: str, lines: str) -> str:
    """Return a script in which each of the lines stands in place of the one that sets the same name."""
    for line in filter(None, lines.splitlines()):
        name = re.escape(re.split(r" = | import ", line)[0])
        before = re.search(rf"^(?:# )?{name}(?: = | import ).*$", text, re.MULTILINE)
        if before is None:
            sys.exit(f"no line to replace by: {line}")
        text = f"{text[: before.start()]}{line}{text[before.end() :]}"
    return text


def in_terminal(command: list[str], directory: Path) -> tuple[str, int]:
    """Run a program in a terminal of its own; return all that it wrote there, and its exit code."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, WIDTH, 0, 0))
    foreign = ("VECMIG_", "OPENAI_", "PG", "CI", "COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment |= {"PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "TERM": "xterm-256color"}
    with subprocess.Popen(
        command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        pieces = []
        try:
            while piece := os.read(ours, 65536):
                pieces.append(piece)
        except OSError:  # how Linux says that the other side is closed
            pass
        os.close(ours)
    return b"".join(pieces).decode(), process.returncode


def settled(output: str) -> str:
    """Take out what the terminal showed for a while only: spinners, and what was written over."""
    output = re.sub(r"\x1b\[\?25[lh]", "", output.replace("\r\n", "\n"))
    output = re.sub(r"[^\n]*\n\r\x1b\[1A\x1b\[2K", "", output)
    return re.sub(r"[^\n]*\r(?:\x1b\[2K)?", "", output)


def comparable(output: str) -> str:
    """Return what must be the same in every run; where lines break may depend on a time."""
    for pattern, name in VARYING.items():
        output = pattern.sub(name, output)
    return " ".join(output.split())


def svg(terminal: str) -> str:
    """Draw a terminal, in whatever font of fixed width there is: an image on a page may load none."""
    console = Console(width=WIDTH, record=True, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(terminal.rstrip("\n")))
    drawn = console.export_svg(title="vecmig", theme=MONOKAI, unique_id="vecmig")
    return re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL) + "\n"


def svg_text(picture: str) -> str:
    """Return the words of a drawing."""
    return html.unescape("\n".join(re.findall(r"<text[^>]*>([^<]*)</text>", picture))).replace("\xa0", " ")


@contextmanager
def scratch() -> Iterator[Path]:
    """Yield an empty directory with a PostgreSQL in the place where ``vecmig init`` has it."""
    with tempfile.TemporaryDirectory(prefix="vecmig-docs-") as directory:
        home = Path(directory).resolve() / "shop"
        server = home / ".vecmig" / "pgdata"
        try:
            # each command would start and stop it
            url = start_embedded(server)
            with psycopg.connect(url, autocommit=True) as connection:
                # a reader's has it from the first file on
                connection.execute("DROP EXTENSION vector")
            yield home
        finally:
            remove_embedded(server)


def record() -> Recording:
    """Run the tutorial."""
    with scratch() as home:
        recording = Recording(home)
        for block in BLOCK.findall(TUTORIAL.read_text(encoding="utf-8")):
            recording.block(*block)
    return recording


def with_output(page: str, printed: Iterable[tuple[str, str]], ids: Mapping[str, str] | None = None) -> str:
    """Return a page with the output of each command: all of it, or with ``ids`` where it says something else."""
    rest = iter(printed)

    def command(match: re.Match[str]) -> str:
        wanted, shown = match.groups()
        output = next((output for name, output in rest if name == wanted), None)
        if output is None:
            sys.exit(f"The tutorial has no command, or not at this place: {wanted}")
        if ids is None or comparable(shown) != comparable(output):
            shown = renamed(output, ids or {})
        return f"$ {wanted}\n{shown}"

    def block(match: re.Match[str]) -> str:
        body = COMMAND.sub(command, match[4]) if match[3] == "console" else match[4]
        return match[0].removesuffix(f"{match[4]}```\n") + f"{body}```\n"

    return BLOCK.sub(block, page)


def renamed(text: str, ids: Mapping[str, str]) -> str:
    """Return a text with other ids of revisions."""
    return ID.sub(lambda found: ids.get(found[0], found[0]), text)


def unique_ids(text: str) -> list[str]:
    """Return the ids of revisions in the order in which they first appear."""
    return list(dict.fromkeys(ID.findall(text)))


def main() -> None:
    """Run the tutorial; write its output, or compare it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where something differs")
    check = parser.parse_args().check
    recording = record()
    written = written_files(recording)
    changed = {
        file: text for file, text in written.items() if text != (file.read_text("utf-8") if file.exists() else "")
    }
    for file, text in changed.items():
        if check:
            before = file.read_text("utf-8").splitlines() if file.exists() else []
            print(*unified_diff(before, text.splitlines(), str(file), "what the program prints", lineterm=""), sep="\n")
        else:
            file.write_text(text, encoding="utf-8")
            print(f"Wrote {file.relative_to(ROOT)}")
    if check and changed:
        sys.exit(f"To bring the pages up to date, run: python {Path(__file__).relative_to(ROOT)}")


def written_files(recording: Recording) -> dict[Path, str]:
    """Return pages and pictures as they should be."""
    tutorial = TUTORIAL.read_text("utf-8")
    # the ids that are there stay, so that a new run changes no more than it must
    ids = dict(zip(unique_ids("".join(output for _, output in recording.printed)), unique_ids(tutorial), strict=False))
    tutorial = with_output(tutorial, recording.printed, ids)
    shown = [
        pair
        for *_, language, body in BLOCK.findall(tutorial)
        if language == "console"
        for pair in COMMAND.findall(body)
    ]
    files = {TUTORIAL: tutorial} | {page: with_output(page.read_text("utf-8"), shown) for page in OTHERS}
    for name, terminal in recording.pictures.items():
        file = TUTORIAL.parent / name
        before, drawn = file.read_text("utf-8") if file.exists() else "", svg(renamed(terminal, ids))
        files[file] = before if comparable(svg_text(before)) == comparable(svg_text(drawn)) else drawn
    return files


if __name__ == "__main__":
    main()

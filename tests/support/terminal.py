"""vecmig in a pseudo-terminal of a given width, as a person sees it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
from collections.abc import Mapping

from support.forking import Python
from support.project import Project, _environment

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def in_terminal(
    project: Project, *args: str, columns: int, env: Mapping[str, str] | None = None, typed: str = ""
) -> str:
    """Run vecmig with stdout and stderr on one terminal; give all that it has written, control sequences included.

    What is ``typed`` waits for whoever reads it.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = {name: value for name, value in _environment().items() if name not in ("COLUMNS", "NO_COLOR")}
    with Python(
        ["-m", "vecmig", *args],
        cwd=project.path,
        env=variables | {"TERM": "xterm"} | dict(env or {}),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    ):
        os.close(theirs)
        os.write(ours, typed.encode())
        return _read_all(ours).replace("\r\n", "\n")


def _read_all(descriptor: int) -> str:
    pieces = []
    try:
        while piece := os.read(descriptor, 65536):
            pieces.append(piece)
    except OSError:  # how Linux says that the other side is closed
        pass
    os.close(descriptor)
    return b"".join(pieces).decode()


def plain(text: str) -> str:
    """Take the control sequences out, and what was written over."""
    shown = [line.rsplit("\r", 1)[-1] for line in _CONTROL.sub("", text).split("\n")]
    return "\n".join(shown)

"""Opening files in the user's editor."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path

from vecmig.errors import UsageError, VecmigError


def open_in_editor(paths: Sequence[Path]) -> None:
    """Open files in $VISUAL or $EDITOR and wait until it is closed.

    Raises:
        UsageError: neither is set, or it names no program.
        VecmigError: the editor reports a failure.
    """
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not command:
        raise UsageError("No editor is set.", hint="Set EDITOR, for example: export EDITOR=nano")
    try:
        done = subprocess.run([*shlex.split(command), *map(str, paths)], check=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"The editor {command!r} cannot be started: {error}.", hint="Correct EDITOR.") from error
    if done.returncode:
        raise VecmigError(f"The editor {command!r} failed with exit code {done.returncode}.")

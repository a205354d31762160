"""Finding the templates, filling them in, and writing the result so that no file is ever half there or lost."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Template

from vecmig.errors import ScriptError
from vecmig.text import nearest, shown

SUFFIX = ".tmpl"
#: Where a tuple is put on lines of its own; formatters leave such a tuple alone at any line length.
WIDTH = 88
#: What a file system without hard links answers.
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK)
_PACKAGE = Path(__file__).parents[1]
#: In a wheel the templates lie inside the package, in a checkout beside it.
_PLACES = (_PACKAGE / "templates", _PACKAGE.parent / "templates")


def template_folders() -> dict[str, Path]:
    """Return the folder of every template that comes with vecmig, by name."""
    place = next((place for place in _PLACES if place.is_dir()), None)
    return {path.name: path for path in sorted(place.iterdir()) if path.is_dir()} if place else {}


def template_folder(name: str) -> Path:
    """Return the folder of one template.

    Raises:
        ScriptError: there is no such template.
    """
    folders = template_folders()
    if name not in folders:
        close = nearest(name, folders)
        hint = f"Did you mean {close}?" if close else "To see what there is: vecmig list_templates"
        raise ScriptError(f"There is no template {name!r}.", hint=hint)
    return folders[name]


def description(folder: Path) -> str:
    """Return the first line of a template's README."""
    try:
        return (folder / "README").read_text(encoding="utf-8").partition("\n")[0]
    except OSError:
        return ""


def render(path: Path, values: Mapping[str, str]) -> str:
    """Fill in one template file: ``${name}`` is replaced, ``$$`` stands for a dollar sign.

    Raises:
        ScriptError: the file is missing, or asks for a name that there is not.
    """
    try:
        return Template(path.read_text(encoding="utf-8")).substitute(values)
    except OSError as error:
        raise ScriptError(f"The template {shown(path)} cannot be read: {error.strerror}.") from error
    except KeyError as error:
        raise ScriptError(
            f"The template {shown(path)} asks for {error.args[0]!r}, which there is not.",
            hint=f"There are: {', '.join(sorted(values))}",
        ) from None
    except ValueError as error:
        raise ScriptError(f"The template {shown(path)} cannot be filled in: {error}.") from None


def literal(value: str | tuple[str, ...] | None, *, name: str = "") -> str:
    """Write a value as Python source the way a formatter would: a tuple of one as its text, an empty one as None."""
    if isinstance(value, tuple) and len(value) > 1:
        items = [literal(item) for item in value]
        line = f"({', '.join(items)})"
        return line if len(f"{name} = {line}") <= WIDTH else "(\n" + "".join(f"    {item},\n" for item in items) + ")"
    if isinstance(value, tuple):
        return literal(value[0] if value else None)
    if value is None:
        return "None"
    return repr(value) if '"' in value and "'" not in value else json.dumps(value, ensure_ascii=False)


def docstring(message: str) -> str:
    """Put a message on one line that can begin a docstring."""
    line = " ".join("".join(char if char.isprintable() else " " for char in message).split())
    escaped = line.replace("\\", "\\\\").replace('"""', r"\"\"\"")
    return f"\\{escaped}" if escaped.startswith('"') else escaped


def write_new(path: Path, text: str) -> None:
    """Write a file that is there completely or not at all.

    Raises:
        ScriptError: it exists already, or cannot be written.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        _publish(draft, path)
    except FileExistsError:
        raise ScriptError(f"{shown(path)} exists already; it was left as it is.") from None
    except OSError as error:
        raise ScriptError(f"{shown(path)} cannot be written: {error.strerror}.") from error
    finally:
        draft.unlink(missing_ok=True)


def write_all_new(files: Iterable[tuple[Path, str]]) -> None:
    """Write several new files, or none.

    Raises:
        ScriptError: one of them exists already, or cannot be written; those before it are removed again.
    """
    written: list[Path] = []
    try:
        for path, text in files:
            write_new(path, text)
            written.append(path)
    except BaseException:
        for path in written:
            with contextlib.suppress(OSError):
                path.unlink()
        raise


def _publish(draft: Path, path: Path) -> None:
    """Return the draft its name. A rename would replace a file that has appeared meanwhile; a link refuses to."""
    try:
        os.link(draft, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if path.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from None
        draft.rename(path)

"""Making a new project: vecmig.ini and the directory of scripts."""

from __future__ import annotations

import os
from pathlib import Path

from vecmig.errors import ScriptError
from vecmig.script.template import SUFFIX, render, template_folder, write_all_new
from vecmig.text import shown


def init_project(
    directory: Path, *, ini: Path = Path("vecmig.ini"), template: str = "generic", package: bool = False
) -> tuple[Path, ...]:
    """Write what a project needs and give the files; an ini file that is there already is kept and not among them.

    Args:
        directory: The script location to make; it may exist if it is empty.
        ini: The configuration file.
        template: A folder of ``templates/``.
        package: Whether to add ``__init__.py`` files.

    Raises:
        ScriptError: the directory is in use, the template is unknown, or a file cannot be written.
    """
    folder = template_folder(template)
    if directory.exists() and not directory.is_dir():
        raise ScriptError(f"{shown(directory)} is a file.", hint="Name another directory: vecmig init DIRECTORY")
    if directory.is_dir() and any(directory.iterdir()):
        raise ScriptError(
            f"The directory {shown(directory)} is not empty; nothing was written.",
            hint="Name another directory: vecmig init DIRECTORY",
        )
    versions = directory / "versions"
    place = Path(os.path.relpath(directory.absolute(), ini.absolute().parent)).as_posix()
    values = {"script_location": place, "collections": f"{place}/collections.yaml"}
    files = [(directory / name, _text(folder, name, values)) for name in ("collections.yaml", "README")]
    files += [(path / "__init__.py", "") for path in (directory, versions) if package]
    if not ini.exists():
        files.append((ini, _text(folder, "vecmig.ini", values)))
    write_all_new(files)
    versions.mkdir(exist_ok=True)
    return tuple(path for path, _ in files)


def is_example(path: Path, template: str) -> bool:
    """Return whether a collections.yaml is still as ``init_project`` has written it: an example that nobody edited."""
    values = {"script_location": path.parent.as_posix(), "collections": path.as_posix()}
    return path.read_text(encoding="utf-8") == _text(template_folder(template), "collections.yaml", values)


def _text(folder: Path, name: str, values: dict[str, str]) -> str:
    template = folder / f"{name}{SUFFIX}"
    return render(template, values) if template.is_file() else (folder / name).read_text(encoding="utf-8")

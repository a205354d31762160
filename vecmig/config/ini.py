"""Where vecmig finds its database, its scripts and its settings: vecmig.ini or [tool.vecmig] in pyproject.toml."""

from __future__ import annotations

import configparser
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from vecmig.config.options import OPTIONS, Setting, text_of
from vecmig.config.redaction import redact
from vecmig.config.settings import EMBEDDED, Config
from vecmig.errors import ConfigError
from vecmig.text import shown, unknown

INI: Final = "vecmig.ini"
PYPROJECT: Final = "pyproject.toml"
#: Seconds of ``provider_wait`` where no person watches the run.
UNATTENDED_WAIT: Final = 600.0

_VARIABLE = re.compile(r"\$\{([^}]*)\}?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SCHEMES = ("postgresql://", "postgres://", "postgresql+psycopg://")


def load_config(
    path: Path | None = None,
    *,
    overrides: Mapping[str, str] | None = None,
    environ: Mapping[str, str] = os.environ,
    x: Iterable[str] = (),
    database: bool = True,
    at_terminal: bool = False,
) -> Config:
    """Read the project's settings: flag (``overrides``), then ``VECMIG_…``, then the file, then the default.

    Args:
        path: The file to read; else ``VECMIG_CONFIG``, else vecmig.ini and then [tool.vecmig] of pyproject.toml
            in the working directory.
        overrides: Options given on the command line, by the name that they have in the file.
        environ: The environment.
        x: ``key=value`` pairs for the scripts; a key without a value has an empty one.
        database: Whether ``database_url`` is needed. Where it is not, one that is missing, or that names an unset
            variable, is read as an empty text, so that ``history`` works without a database.
        at_terminal: Whether somebody sees what a run waits for, and can end it; so the default of provider_wait.

    Raises:
        ConfigError: there is no file, it cannot be read, or an option is unknown, missing or malformed.
    """
    file = _find(path, environ)
    settings = {setting.name: setting for setting in _from_file(file)}
    for name, value in _from_environment(environ).items():
        settings[name] = Setting(name, value, f"The variable VECMIG_{name.upper()}")
    for name, value in (overrides or {}).items():
        settings[name] = Setting(_known(name, "The command line"), value, "The command line")
    values = _Values(settings, environ, file)
    found = values.config(dict(_pair(text) for text in x), database)
    if "provider_wait" in settings or (at_terminal and not _on_build_server(environ)):
        return found
    return replace(found, provider_wait=UNATTENDED_WAIT)


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


def _on_build_server(environ: Mapping[str, str]) -> bool:
    return environ.get("CI", "").strip().lower() not in ("", "0", "false")


def _find(path: Path | None, environ: Mapping[str, str]) -> Path:
    if path is None and environ.get("VECMIG_CONFIG"):
        path = Path(environ["VECMIG_CONFIG"])
    if path is not None:
        if not path.exists():
            raise ConfigError(f"The configuration file {shown(path)} does not exist.", hint="Run: vecmig init")
        return path.absolute()
    for name in (INI, PYPROJECT):
        candidate = Path.cwd() / name
        if candidate.exists() and (name == INI or _toml_table(candidate) is not None):
            return candidate
    raise ConfigError(
        f"There is no {INI} in {Path.cwd()}, and no [tool.vecmig] in a {PYPROJECT} there.",
        hint="Run: vecmig init, or name the file with -c",
    )


def _from_file(file: Path) -> Iterable[Setting]:
    section = _toml_table(file) if file.suffix == ".toml" else _ini_section(file)
    header = "[tool.vecmig]" if file.suffix == ".toml" else "[vecmig]"
    if section is None:
        raise ConfigError(f"{shown(file)} has no section {header}.", hint=f"Add {header}, or run: vecmig init")
    lines = _option_lines(_read(file), header)
    for name, value in section.items():
        line = lines.get(name)
        place = f"{shown(file)}:{line}" if line else shown(file)
        yield Setting(_known(name, place), value, place, in_file=True)


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    variables = {name: f"VECMIG_{name.upper()}" for name in OPTIONS}
    return {name: environ[variable] for name, variable in variables.items() if variable in environ}


def _known(name: str, place: str) -> str:
    if name not in OPTIONS:
        raise ConfigError(f"{place}: {unknown('option', name, OPTIONS)}")
    return name


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{shown(file)} is not UTF-8: byte {error.start} cannot be read.") from None
    except OSError as error:
        raise ConfigError(f"{shown(file)} cannot be read: {error.strerror}.") from None


def _toml_table(file: Path) -> dict[str, Any] | None:
    try:
        data = tomllib.loads(_read(file))
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{shown(file)} is not TOML: {error}.") from None
    tool = data.get("tool")
    table = tool.get("vecmig") if isinstance(tool, dict) else None
    return table if isinstance(table, dict) else None


def _ini_section(file: Path) -> dict[str, str] | None:
    # A default section would add its options to [vecmig] without a word.
    parser = configparser.RawConfigParser(delimiters=("=",), default_section="\0")
    try:
        parser.read_string(_read(file))
    except configparser.MissingSectionHeaderError as error:
        raise _not_an_ini(file, error.lineno, "stands before any [section]") from None
    except configparser.DuplicateOptionError as error:
        raise _not_an_ini(file, error.lineno, f"says {error.option} twice") from None
    except configparser.DuplicateSectionError as error:
        raise _not_an_ini(file, error.lineno, f"opens [{error.section}] a second time") from None
    except configparser.ParsingError as error:
        # The error's own text quotes the line, which may hold a password.
        found = getattr(error, "errors", None)
        line = found[0][0] if found else getattr(error, "lineno", None)
        raise _not_an_ini(file, line, "is not of the form option = value") from None
    return dict(parser["vecmig"]) if parser.has_section("vecmig") else None


def _not_an_ini(file: Path, line: int | None, what: str) -> ConfigError:
    return ConfigError(f"{shown(file)}:{line}: this line {what}.", hint="A line reads: option = value, below [vecmig]")


def _option_lines(text: str, header: str) -> dict[str, int]:
    """Find the line of each option of a section; the parsers do not tell."""
    lines: dict[str, int] = {}
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("["):
            inside = line.split("#")[0].strip() == header
        elif inside and (match := re.match(r"\"?([A-Za-z0-9_.-]+)\"?\s*=", line)):
            lines.setdefault(match[1].lower() if header == "[vecmig]" else match[1], number)
    return lines


class _Values:
    """Turns what was found into checked values."""

    def __init__(self, settings: Mapping[str, Setting], environ: Mapping[str, str], file: Path) -> None:
        self._settings = settings
        self._environ = environ
        self._file = file

    def config(self, x: Mapping[str, str], database: bool) -> Config:
        scripts = self._path("script_location", Path("migrations"))
        own = {name: check(setting) for name, setting, check in self._plain()}
        return Config(
            path=self._file,
            database_url=self._database_url(database),
            script_location=scripts,
            version_locations=self._paths("version_locations") or (scripts / "versions",),
            collections_path=self._path("collections", scripts / "collections.yaml"),
            x=x,
            **own,
        )

    def _plain(self) -> Iterable[tuple[str, Setting, Callable[[Setting], Any]]]:
        for name, check in OPTIONS.items():
            if check is not None and name in self._settings:
                yield name, self._expanded(self._settings[name]), check

    def _expanded(self, setting: Setting) -> Setting:
        if not setting.in_file:
            return setting
        if isinstance(setting.value, list):
            value: Any = [self._expanded(replace(setting, value=part)).value for part in setting.value]
        elif isinstance(setting.value, str):
            value = _VARIABLE.sub(lambda match: self._variable(setting, match), setting.value)
        else:
            return setting
        return replace(setting, value=value)

    def _variable(self, setting: Setting, match: re.Match[str]) -> str:
        name = match[1]
        if _NAME.fullmatch(name) is None or not match[0].endswith("}"):
            raise setting.error("has a ${ that is not followed by the name of a variable and }")
        if name not in self._environ:
            hint = f"Set it: export {name}=…"
            raise setting.error(f"needs the environment variable {name}, which is not set", hint=hint)
        return self._environ[name]

    def _path(self, name: str, default: Path) -> Path:
        if name not in self._settings:
            return self._file.parent / default
        return self._absolute(text_of(self._expanded(self._settings[name])))

    def _paths(self, name: str) -> tuple[Path, ...]:
        if name not in self._settings:
            return ()
        setting = self._expanded(self._settings[name])
        parts = setting.value if isinstance(setting.value, list) else re.split(r"[,\n]", text_of(setting))
        return tuple(self._absolute(text_of(replace(setting, value=part))) for part in parts if part not in ("", " "))

    def _absolute(self, text: str) -> Path:
        return Path(os.path.normpath(self._file.parent / Path(text).expanduser()))

    def _database_url(self, needed: bool) -> str:
        if "database_url" not in self._settings:
            if not needed:
                return ""
            raise ConfigError(
                f"{shown(self._file)} does not say database_url.",
                hint="Add database_url = postgresql://…, or set VECMIG_DATABASE_URL",
            )
        try:
            setting = self._expanded_url(self._settings["database_url"])
        except ConfigError:
            if needed:
                raise
            return ""
        url = text_of(setting)
        if url.startswith(_SCHEMES):
            return url
        directory = url.removeprefix(EMBEDDED)
        if directory and url.startswith(EMBEDDED):
            return f"{EMBEDDED}{self._absolute(directory)}"
        raise setting.error(
            f"{redact(url)!r} is not a database that vecmig knows",
            hint="Write postgresql://user@host/database, or embedded:.vecmig/pgdata",
        )

    def _expanded_url(self, setting: Setting) -> Setting:
        """Expand a URL; what stands for a user or password may hold any character, and is encoded as a URL wants it."""
        if not setting.in_file or not isinstance(setting.value, str) or "://" not in setting.value:
            return self._expanded(setting)
        scheme, _, rest = setting.value.partition("://")
        user, at, host = rest.rpartition("@")
        user = _VARIABLE.sub(lambda match: quote(self._variable(setting, match), safe=""), user)
        host = _VARIABLE.sub(lambda match: self._variable(setting, match), host)
        return replace(setting, value=f"{scheme}://{user}{at}{host}")

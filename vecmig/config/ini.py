"""Where vecmig finds its database, its scripts and its settings: vecmig.ini or [tool.vecmig] in pyproject.toml."""

from __future__ import annotations

import configparser
import math
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import Formatter
from typing import Any, Final, Literal, get_args
from urllib.parse import quote

from vecmig.config.redaction import redact
from vecmig.config.sql_text import fragment_problem
from vecmig.errors import ConfigError
from vecmig.text import shown, unknown

INI: Final = "vecmig.ini"
PYPROJECT: Final = "pyproject.toml"
EMBEDDED: Final = "embedded:"
Engine = Literal["local", "ray"]
ENGINES: Final[tuple[Engine, ...]] = get_args(Engine)
FILE_TOKENS: Final = ("rev", "slug", "year", "month", "day", "hour", "minute", "second", "epoch")
#: Longest name of vecmig's schema, in bytes: with ``_route`` behind it, it names the channel on which a cutover is
#: announced, and that must fit PostgreSQL's 63.
MAX_SCHEMA: Final = 57
#: Most parallel workers that PostgreSQL lets anybody ask for.
MAX_WORKERS: Final = 1024
#: What ``provider_wait`` says for a wait without end, and its seconds where no person watches the run.
UNLIMITED: Final = "unlimited"
UNATTENDED_WAIT: Final = 600.0

_VARIABLE = re.compile(r"\$\{([^}]*)\}?")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SCHEMES = ("postgresql://", "postgres://", "postgresql+psycopg://")


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of one project; every path is absolute."""

    #: The file that was read.
    path: Path | None
    #: A PostgreSQL URL, or ``embedded:`` and the absolute directory of the embedded database.
    database_url: str = field(repr=False)
    script_location: Path
    version_locations: tuple[Path, ...]
    collections_path: Path
    #: An SQLAlchemy engine that opens the connections, in place of the URL: with a team's events and tokens.
    database_engine: Any = field(default=None, repr=False, compare=False)
    #: The schema that holds vecmig's own tables.
    schema: str = "vecmig"
    #: The schema that holds the vectors of new collections; None for vecmig's own.
    vectors_schema: str | None = None
    #: Name of a new script, without ``.py``; a ``str.format`` template over ``FILE_TOKENS``.
    file_template: str = "{rev}_{slug}"
    truncate_slug_length: int = 40
    #: The folder under ``templates/`` that ``init`` and ``revision`` write from.
    template: str = "generic"
    #: Seconds for which a lock is tried again before giving up.
    lock_wait: float = 30.0
    #: Most memory for an index build, in MB.
    maintenance_work_mem_mb: int = 2048
    #: Parallel workers of an index build; None for the server's max_parallel_maintenance_workers.
    index_workers: int | None = None
    #: Seconds for which a run tries to reach a database again that has gone away; 0 to stop at once.
    reconnect_wait: float = 300.0
    #: Seconds for which a run waits for a provider that answers no request; 0 to stop at the first try that fails.
    provider_wait: float = math.inf
    #: A SELECT of one number; while that is above 0, backfills wait.
    throttle_query: str | None = None
    #: Seconds that a replica may be behind before backfills wait; None to let it.
    max_replica_lag: float | None = None
    #: Who embeds in a backfill: this process, or workers on Ray; and how many, None for as many as there is room for.
    engine: Engine = "local"
    workers: int | None = None
    #: US dollars that embedding may cost, as the command line has it: in place of a recipe's ``budget_usd``.
    max_cost: float | None = None
    #: The ``-x key=value`` pairs of the command line.
    x: Mapping[str, str] = field(default_factory=dict)
    #: Told why a command waits that tells nothing else meanwhile, and what for: the same as long as it does. Any thread
    #: may call it.
    on_wait: Callable[[str, str], None] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True, slots=True)
class _Setting:
    """One option as it was found: what it says, and how to name the place in a message."""

    name: str
    value: Any
    place: str
    #: Whether it stands in the file; only there are variables expanded.
    in_file: bool = False

    def error(self, what: str, *, hint: str = "") -> ConfigError:
        stop = "" if what.endswith("?") else "."
        return ConfigError(f"{self.place}: {self.name} {what}{stop}", hint=hint)


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
        settings[name] = _Setting(name, value, f"The variable VECMIG_{name.upper()}")
    for name, value in (overrides or {}).items():
        settings[name] = _Setting(_known(name, "The command line"), value, "The command line")
    values = _Values(settings, environ, file)
    found = values.config(dict(_pair(text) for text in x), database)
    if "provider_wait" in settings or (at_terminal and not _on_build_server(environ)):
        return found
    return replace(found, provider_wait=UNATTENDED_WAIT)


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value


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


def _from_file(file: Path) -> Iterable[_Setting]:
    section = _toml_table(file) if file.suffix == ".toml" else _ini_section(file)
    header = "[tool.vecmig]" if file.suffix == ".toml" else "[vecmig]"
    if section is None:
        raise ConfigError(f"{shown(file)} has no section {header}.", hint=f"Add {header}, or run: vecmig init")
    lines = _option_lines(_read(file), header)
    for name, value in section.items():
        line = lines.get(name)
        place = f"{shown(file)}:{line}" if line else shown(file)
        yield _Setting(_known(name, place), value, place, in_file=True)


def _from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    variables = {name: f"VECMIG_{name.upper()}" for name in _OPTIONS}
    return {name: environ[variable] for name, variable in variables.items() if variable in environ}


def _known(name: str, place: str) -> str:
    if name not in _OPTIONS:
        raise ConfigError(f"{place}: {unknown('option', name, _OPTIONS)}")
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

    def __init__(self, settings: Mapping[str, _Setting], environ: Mapping[str, str], file: Path) -> None:
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

    def _plain(self) -> Iterable[tuple[str, _Setting, Callable[[_Setting], Any]]]:
        for name, check in _OPTIONS.items():
            if check is not None and name in self._settings:
                yield name, self._expanded(self._settings[name]), check

    def _expanded(self, setting: _Setting) -> _Setting:
        if not setting.in_file:
            return setting
        if isinstance(setting.value, list):
            value: Any = [self._expanded(replace(setting, value=part)).value for part in setting.value]
        elif isinstance(setting.value, str):
            value = _VARIABLE.sub(lambda match: self._variable(setting, match), setting.value)
        else:
            return setting
        return replace(setting, value=value)

    def _variable(self, setting: _Setting, match: re.Match[str]) -> str:
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
        return self._absolute(_text(self._expanded(self._settings[name])))

    def _paths(self, name: str) -> tuple[Path, ...]:
        if name not in self._settings:
            return ()
        setting = self._expanded(self._settings[name])
        parts = setting.value if isinstance(setting.value, list) else re.split(r"[,\n]", _text(setting))
        return tuple(self._absolute(_text(replace(setting, value=part))) for part in parts if part not in ("", " "))

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
        url = _text(setting)
        if url.startswith(_SCHEMES):
            return url
        directory = url.removeprefix(EMBEDDED)
        if directory and url.startswith(EMBEDDED):
            return f"{EMBEDDED}{self._absolute(directory)}"
        raise setting.error(
            f"{redact(url)!r} is not a database that vecmig knows",
            hint="Write postgresql://user@host/database, or embedded:.vecmig/pgdata",
        )

    def _expanded_url(self, setting: _Setting) -> _Setting:
        """Expand a URL; what stands for a user or password may hold any character, and is encoded as a URL wants it."""
        if not setting.in_file or not isinstance(setting.value, str) or "://" not in setting.value:
            return self._expanded(setting)
        scheme, _, rest = setting.value.partition("://")
        user, at, host = rest.rpartition("@")
        user = _VARIABLE.sub(lambda match: quote(self._variable(setting, match), safe=""), user)
        host = _VARIABLE.sub(lambda match: self._variable(setting, match), host)
        return replace(setting, value=f"{scheme}://{user}{at}{host}")


def _text(setting: _Setting) -> str:
    if not isinstance(setting.value, str):
        raise setting.error(f"must be a text, not {_kind(setting.value)}")
    if not setting.value.strip():
        raise setting.error("is empty")
    return setting.value.strip()


def _kind(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a table"}
    return names.get(type(value), "a date")


def _whole(setting: _Setting) -> int:
    value = setting.value
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,9}\s*", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise setting.error(f"is {setting.value!r}; a whole number from 1 is needed")
    return value


def _workers(setting: _Setting) -> int:
    text = str(setting.value).strip()
    if not re.fullmatch(r"[0-9]{1,4}", text) or int(text) > MAX_WORKERS:
        raise setting.error(f"is {setting.value!r}; a whole number from 0 to {MAX_WORKERS} is needed")
    return int(text)


def _seconds(setting: _Setting) -> float:
    try:
        value = math.nan if isinstance(setting.value, bool | list | dict) else float(setting.value)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise setting.error(f"is {setting.value!r}; a number of seconds from 0 is needed")
    return value


def _seconds_above_0(setting: _Setting) -> float:
    value = _seconds(setting)
    if value == 0:
        raise setting.error(f"is {setting.value!r}; a number of seconds above 0 is needed")
    return value


def _seconds_or_unlimited(setting: _Setting) -> float:
    if setting.value == UNLIMITED:
        return math.inf
    try:
        return _seconds(setting)
    except ConfigError:
        raise setting.error(f"is {setting.value!r}; a number of seconds from 0 is needed, or {UNLIMITED}") from None


def _on_build_server(environ: Mapping[str, str]) -> bool:
    return environ.get("CI", "").strip().lower() not in ("", "0", "false")


def _engine(setting: _Setting) -> Engine:
    name = _text(setting)
    if name not in ENGINES:
        raise setting.error(f"is {name!r}; it is one of {', '.join(ENGINES)}")
    return name


def _query(setting: _Setting) -> str:
    text = _text(setting).rstrip("; \n")
    problem = fragment_problem(text)
    if problem is not None:
        raise setting.error(f"is not one query: it {problem}")
    if re.match(r"(SELECT|WITH|VALUES|TABLE)\b", text, re.IGNORECASE) is None:
        raise setting.error("is not a query", hint="Write it like: SELECT count(*) FROM … ; above 0 means: wait")
    return text


def _schema(setting: _Setting) -> str:
    name = _text(setting)
    size = len(name.encode("utf-8", "surrogatepass"))
    if size > MAX_SCHEMA:
        raise setting.error(f"has {size} bytes; at most {MAX_SCHEMA} are allowed")
    if "\0" in name or name.startswith("pg_"):
        raise setting.error("is not a name that PostgreSQL takes for a schema")
    return name


def _folder(setting: _Setting) -> str:
    name = _text(setting)
    if name in (".", "..") or re.search(r"[/\\]", name):
        raise setting.error(
            f"is {name!r}; the name of a folder under templates/ is needed", hint="Run: vecmig list_templates"
        )
    return name


def _file_template(setting: _Setting) -> str:
    template = _text(setting)
    try:
        tokens = [name for _, name, _, _ in Formatter().parse(template) if name is not None]
        for name in tokens:
            if name not in FILE_TOKENS:
                raise setting.error(f"has an {unknown('token', name, FILE_TOKENS)}")
        template.format(**dict.fromkeys(FILE_TOKENS, 1))
    except ValueError as error:
        raise setting.error(f"is not a template: {error}", hint="Write it like {rev}_{slug}") from None
    if "rev" not in tokens or "/" in template:
        raise setting.error("must hold {rev} and name a file, not a path", hint="Write it like {rev}_{slug}")
    return template


#: The options and what checks them; None for those that ``_Values`` builds itself.
_OPTIONS: Final[dict[str, Callable[[_Setting], Any] | None]] = {
    "script_location": None,
    "database_url": None,
    "collections": None,
    "version_locations": None,
    "schema": _schema,
    "vectors_schema": _schema,
    "file_template": _file_template,
    "truncate_slug_length": _whole,
    "template": _folder,
    "lock_wait": _seconds,
    "maintenance_work_mem_mb": _whole,
    "index_workers": _workers,
    "reconnect_wait": _seconds,
    "provider_wait": _seconds_or_unlimited,
    "throttle_query": _query,
    "max_replica_lag": _seconds_above_0,
    "engine": _engine,
    "workers": _whole,
}

"""The options of vecmig.ini, and what checks each."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from string import Formatter
from typing import Any, Final

from vecmig.config.settings import ENGINES, FILE_TOKENS, UNLIMITED, Engine
from vecmig.config.sql_text import fragment_problem
from vecmig.errors import ConfigError
from vecmig.text import unknown

#: Longest name of vecmig's schema, in bytes: with ``_route`` behind it, it names the channel on which a cutover is
#: announced, and that must fit PostgreSQL's 63.
MAX_SCHEMA: Final = 57
#: Most parallel workers that PostgreSQL lets anybody ask for.
MAX_WORKERS: Final = 1024
#: Most days that something is kept, short of for good.
_MOST_DAYS: Final = 36_500.0


@dataclass(frozen=True, slots=True)
class Setting:
    """One option as it was found: what it says, and how to name the place in a message."""

    name: str
    value: Any
    place: str
    #: Whether it stands in the file; only there are variables expanded.
    in_file: bool = False

    def error(self, what: str, *, hint: str = "") -> ConfigError:
        """Return the error that says what is wrong with it."""
        stop = "" if what.endswith("?") else "."
        return ConfigError(f"{self.place}: {self.name} {what}{stop}", hint=hint)


def text_of(setting: Setting) -> str:
    """Return the text of an option that must be one, and not an empty one."""
    if not isinstance(setting.value, str):
        raise setting.error(f"must be a text, not {_kind(setting.value)}")
    if not setting.value.strip():
        raise setting.error("is empty")
    return setting.value.strip()


def _kind(value: object) -> str:
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "a table"}
    return names.get(type(value), "a date")


def _whole(setting: Setting) -> int:
    value = setting.value
    if isinstance(value, str) and re.fullmatch(r"\s*[0-9]{1,9}\s*", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise setting.error(f"is {setting.value!r}; a whole number from 1 is needed")
    return value


def _workers(setting: Setting) -> int:
    text = str(setting.value).strip()
    if not re.fullmatch(r"[0-9]{1,4}", text) or int(text) > MAX_WORKERS:
        raise setting.error(f"is {setting.value!r}; a whole number from 0 to {MAX_WORKERS} is needed")
    return int(text)


def _seconds(setting: Setting) -> float:
    try:
        value = math.nan if isinstance(setting.value, bool | list | dict) else float(setting.value)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise setting.error(f"is {setting.value!r}; a number of seconds from 0 is needed")
    return value


def _seconds_above_0(setting: Setting) -> float:
    value = _seconds(setting)
    if value == 0:
        raise setting.error(f"is {setting.value!r}; a number of seconds above 0 is needed")
    return value


def _seconds_or_unlimited(setting: Setting) -> float:
    if setting.value == UNLIMITED:
        return math.inf
    try:
        return _seconds(setting)
    except ConfigError:
        raise setting.error(f"is {setting.value!r}; a number of seconds from 0 is needed, or {UNLIMITED}") from None


def _days_or_unlimited(setting: Setting) -> float:
    if setting.value == UNLIMITED:
        return math.inf
    try:
        value = _seconds_above_0(setting)
    except ConfigError:
        value = math.inf
    if value > _MOST_DAYS:
        raise setting.error(
            f"is {setting.value!r}; a number of days above 0 is needed, at most {_MOST_DAYS:g}, or {UNLIMITED}"
        )
    return value


def _engine(setting: Setting) -> Engine:
    name = text_of(setting)
    if name not in ENGINES:
        raise setting.error(f"is {name!r}; it is one of {', '.join(ENGINES)}")
    return name


def _query(setting: Setting) -> str:
    text = text_of(setting).rstrip("; \n")
    problem = fragment_problem(text)
    if problem is not None:
        raise setting.error(f"is not one query: it {problem}")
    if re.match(r"(SELECT|WITH|VALUES|TABLE)\b", text, re.IGNORECASE) is None:
        raise setting.error("is not a query", hint="Write it like: SELECT count(*) FROM … ; above 0 means: wait")
    return text


def _schema(setting: Setting) -> str:
    name = text_of(setting)
    size = len(name.encode("utf-8", "surrogatepass"))
    if size > MAX_SCHEMA:
        raise setting.error(f"has {size} bytes; at most {MAX_SCHEMA} are allowed")
    if "\0" in name or name.startswith("pg_"):
        raise setting.error("is not a name that PostgreSQL takes for a schema")
    return name


def _folder(setting: Setting) -> str:
    name = text_of(setting)
    if name in (".", "..") or re.search(r"[/\\]", name):
        raise setting.error(
            f"is {name!r}; the name of a folder under templates/ is needed", hint="Run: vecmig list_templates"
        )
    return name


def _file_template(setting: Setting) -> str:
    template = text_of(setting)
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


#: The options and what checks them; None for those that ``ini`` builds itself.
OPTIONS: Final[dict[str, Callable[[Setting], Any] | None]] = {
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
    "lock_timeout": _seconds_above_0,
    "maintenance_work_mem_mb": _whole,
    "index_workers": _workers,
    "reconnect_wait": _seconds,
    "provider_wait": _seconds_or_unlimited,
    "keep_shadow_days": _days_or_unlimited,
    "keep_sync_days": _days_or_unlimited,
    "throttle_query": _query,
    "max_replica_lag": _seconds_above_0,
    "engine": _engine,
    "workers": _whole,
}

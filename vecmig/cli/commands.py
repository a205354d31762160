"""Which module has which command. Only the module of the command that is run is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any, Final, cast

import typer
from typer.core import TyperGroup, TyperOption

from vecmig.cli.completion import offer

#: The modules with their commands; in this order ``vecmig --help`` lists them.
FAMILIES: Final = {
    "writing": ("init", "revision", "merge", "edit", "list_templates"),
    "scripts": ("history", "heads", "branches", "show"),
    "discover": ("discover",),
    "plan": ("plan",),
    "migrate": ("upgrade", "downgrade", "release", "stamp", "current", "backfill", "sync", "ensure_version"),
    "batches": ("batches",),
    "checking": ("check",),
    "retire": ("retire",),
    "adopting": ("adopt-source",),
    "untracking": ("untrack",),
    "uninstalling": ("uninstall",),
    "control": ("pause", "resume", "tune"),
    "views": ("view",),
    "vectors": ("vectors",),
    "status": ("status",),
    "serve": ("serve", "report"),
    "metrics": ("metrics",),
    "inspect": ("gate", "rejected", "search"),
    "events": ("events",),
    "audit": ("audit",),
    "evals": ("eval",),
    "routes": ("route", "compare"),
    "demo": ("demo",),
}
#: The module of each name; a name with an underscore is taken with a dash, too.
_MODULES: Final = {
    spelt: module
    for module, names in FAMILIES.items()
    for name in names
    for spelt in dict.fromkeys((name, name.replace("_", "-")))
}


class _Commands(Mapping[str, Any]):
    """The commands by name, each read from its module when it is asked for."""

    def __getitem__(self, name: str) -> Any:
        return _family(_MODULES[name])[name]

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


class Root(TyperGroup):
    """``vecmig`` itself."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = cast(Any, _Commands())


@cache
def _family(module: str) -> Mapping[str, Any]:
    family = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    import_module(f"vecmig.cli.{module}").register(family)
    commands = typer.main.get_group(family).commands
    offer(commands)
    return commands


_read = TyperOption.process_value


def _read_if_given(option: TyperOption, ctx: Any, value: Any) -> Any:
    if value is not None or option.required:
        return _read(option, ctx, value)
    return None if option.callback is None else option.callback(ctx, option, None)


# typer reads also an option that was not given, even --help, by pydantic, which takes 70 ms to load: a fifth of a start
TyperOption.process_value = _read_if_given  # type: ignore[method-assign,assignment]

"""What a shell offers for the names that stand in a project: collections, tags, revisions, suites.

No database is asked, and nothing is said where the project cannot be read: whoever presses Tab wants to go on typing.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from vecmig.config import Config

#: The variable by which a shell asks; typer's own.
_ASKED: Final = "_VECMIG_COMPLETE"
_Names = Callable[["Config"], Iterator[tuple[str, str]]]


class _Item(NamedTuple):
    """One offer, as typer writes it for a shell."""

    value: str
    help: str
    type: str = "plain"


def offer(commands: Any) -> None:
    """Let the parameters of commands offer what stands in the project, if a shell is asking."""
    if _ASKED in os.environ:
        for command in commands.values():
            offer(getattr(command, "commands", {}))
            for parameter in command.params:
                if (names := _BY_PARAMETER.get(parameter.name)) is not None:
                    parameter.shell_complete = _completer(names)


def _completer(names: _Names) -> Callable[[Any, str], list[Any]]:
    def complete(ctx: Any, begun: str) -> list[Any]:
        # a script may print when it is loaded
        with suppress(Exception), redirect_stdout(io.StringIO()):
            return [_Item(name, said) for name, said in names(_config(ctx)) if name.startswith(begun)]
        return []

    return complete


def _config(ctx: Any) -> Config:
    from vecmig.config import load_config

    given = ctx.find_root().params
    return load_config(given.get("config"), x=tuple(given.get("x") or ()), database=False)


def _collections(config: Config) -> Iterator[tuple[str, str]]:
    from vecmig.config.collections import load_collections

    for name, collection in load_collections(config.collections_path).collections.items():
        yield name, ".".join(collection.source)


def _settings(config: Config) -> Iterator[tuple[str, str]]:
    yield from _collections(config)
    yield "concurrency=", "requests in flight"
    yield "max-rate=", "records per second"


def _tags(config: Config) -> Iterator[tuple[str, str]]:
    from vecmig.config.collections import load_collections

    for tag, recipe in load_collections(config.collections_path).recipes.items():
        yield tag, f"{recipe.provider}, {recipe.dims} dimensions"


def _revisions(config: Config) -> Iterator[tuple[str, str]]:
    from vecmig.script import ScriptDirectory

    yield "head", "the newest revision"
    yield "base", "before the first one"
    scripts = ScriptDirectory(config)
    for revision in scripts.map.history():
        yield revision.id, scripts[revision.id].message
        yield from ((label, f"branch at {revision.id}") for label in revision.branch_labels)


def _suites(config: Config) -> Iterator[tuple[str, str]]:
    from vecmig.config.suites import suite_paths

    yield from ((path.stem, "") for path in suite_paths(config))


#: What is offered for a parameter, by its name, whichever command has it.
_BY_PARAMETER: Final[dict[str, _Names]] = {
    "collection": _collections,
    "of": _collections,
    "words": _settings,
    "tag": _tags,
    "from_tag": _tags,
    "to_tag": _tags,
    "shadow": _tags,
    "rev": _revisions,
    "revision": _revisions,
    "revisions": _revisions,
    "head": _revisions,
    "depends_on": _revisions,
    "suite": _suites,
}

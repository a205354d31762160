"""The recipes of collections.yaml: each read with its line, and one that derives from another after that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import date
from typing import Any, Final

from vecmig.config.redaction import is_keyless, is_keyless_header
from vecmig.config.values import Problems, Value
from vecmig.errors import RecipeError, TagError
from vecmig.model.index import Index, choice_problems
from vecmig.model.recipe import Recipe, Service, derivation_problems, recipe_problems
from vecmig.model.tag import Tag

_RECIPE_FIELDS: Final = tuple(f.name for kind in (Recipe, Service) for f in fields(kind) if f.name != "service")


def read_recipes(
    problems: Problems, section: Mapping[str, Value], recorded: Mapping[str, Recipe]
) -> dict[str, Recipe | None]:
    """Read ``tags:``; a tag whose recipe is wrong is there with None, so that it is not called missing as well."""
    recipes: dict[str, Recipe | None] = {}
    read: dict[Tag, Value] = {}
    spelled: dict[str, tuple[str, int]] = {}
    for text, value in section.items():
        try:
            tag = Tag.parse(text)
        except TagError as error:
            problems.add(value.line, error.message.removesuffix("."))
            continue
        if str(tag) in spelled:
            first, line = spelled[str(tag)]
            problems.add(value.line, f"{text} and {first} (line {line}) are the same tag; keep one of them")
            continue
        spelled[str(tag)] = (text, value.line)
        read[tag] = value
    # a recipe that derives from another is read once that is known
    for tag, value in sorted(read.items(), key=lambda item: _derives(item[1])):
        derived = _derives(value)
        recipes[str(tag)] = (
            _derived(problems, tag, value, recipes, recorded) if derived else _recipe(problems, tag, value)
        )
    return {str(tag): recipes[str(tag)] for tag in read}


def read_indexes(problems: Problems, section: Mapping[str, Value]) -> dict[str, Index]:
    """Read ``index:`` of each tag that has it, which stands beside its recipe and is no part of it."""
    indexes: dict[str, Index] = {}
    for text, value in section.items():
        said = value.data.get("index") if isinstance(value.data, dict) else None
        if said is None:
            continue
        try:
            tag = Tag.parse(text)
        except TagError:
            # it is told where the recipes are read
            continue
        if not isinstance(said.data, dict):
            problems.add(said.line, f"index of {tag}: it must be a mapping like {{type: halfvec}}")
            continue
        problems.refuse_unknown(said.data, [field.name for field in fields(Index)])
        data = said.plain()
        found = list(choice_problems(data, tag.dims))
        for name, what in found:
            problems.add(said.data[name].line, f"index of {tag}: {name}: {what}")
        if not found:
            indexes[str(tag)] = Index.from_mapping(data)
    return indexes


def _derives(value: Value) -> bool:
    return isinstance(value.data, dict) and "derive" in value.data


def _derived(
    problems: Problems,
    tag: Tag,
    value: Value,
    recipes: Mapping[str, Recipe | None],
    recorded: Mapping[str, Recipe],
) -> Recipe | None:
    """Read a recipe that is another one's, cut."""
    said = value.data["derive"]
    line, fields = said.line, said.data if isinstance(said.data, dict) else {}
    before = len(problems.found)
    others = [name for name in value.data if name not in ("derive", "index")]
    if others:
        problems.add(value.line, f"the recipe of {tag}: derive stands alone; take out {', '.join(others)}")
    if set(fields) != {"from", "dims"}:
        problems.add(line, f"the recipe of {tag}: derive: it must be a mapping like {{from: TAG, dims: {tag.dims}}}")
        return None
    base, dims = str(fields["from"].data), fields["dims"].data
    if dims != tag.dims:
        problems.add(
            fields["dims"].line, f"the recipe of {tag}: derive: dims: {dims!r}, but the tag says dim-{tag.dims}"
        )
    for what in derivation_problems(tag, base):
        problems.add(fields["from"].line, f"the recipe of {tag}: derive: {what}")
    if len(problems.found) > before:
        return None
    base = str(Tag.parse(base))
    known = recipes.get(base) or recorded.get(base)
    if known is None:
        if base not in recipes:
            problems.add(fields["from"].line, f"the recipe of {tag}: derive: there is no recipe for {base}")
        return None
    if known.derive is not None:
        problems.add(fields["from"].line, f"the recipe of {tag}: derive: {base} is derived itself; take {known.derive}")
        return None
    return known.derived(Tag.parse(base), tag)


def _recipe(problems: Problems, tag: Tag, value: Value) -> Recipe | None:
    if not isinstance(value.data, dict):
        problems.add(value.line, f"the recipe of {tag} must be a mapping like {{provider: openai, dims: {tag.dims}}}")
        return None
    before = len(problems.found)
    problems.refuse_unknown(value.data, (*_RECIPE_FIELDS, "index"))
    known = {name: item for name, item in value.data.items() if name in _RECIPE_FIELDS}
    plain = {name: item.plain() for name, item in known.items()}
    if "headers" in known:
        plain["headers"] = _headers(known["headers"])
    for name, what in recipe_problems(tag, plain):
        line = known[name].line if name in known else value.line
        problems.add(line, f"the recipe of {tag}: {name}: {what}" if name else f"the recipe of {tag}: {what}")
    if len(problems.found) == before:
        for line, what in _keys_written_out(known, plain):
            problems.add(line, f"the recipe of {tag}: {what}")
    try:
        return Recipe.from_mapping(tag, plain) if len(problems.found) == before else None
    except RecipeError as error:
        problems.add(value.line, error.message.removesuffix("."))
        return None


def _headers(value: Value) -> Any:
    """Return headers as they are written: YAML reads 2024-10-21 as a date, and a header is a text."""
    if not isinstance(value.data, dict):
        return value.data
    scalar = str | bool | int | float | date
    return {name: item.written if isinstance(item.data, scalar) else item.plain() for name, item in value.data.items()}


def _keys_written_out(known: Mapping[str, Value], plain: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield what may be a key that stands in the file, by its line."""
    if not is_keyless(plain.get("base_url") or ""):
        what = "its path may be a key, which would be stored in the database; write that part as ${NAME}"
        yield known["base_url"].line, f"base_url: {what}"
    for name, value in plain.get("headers", {}).items():
        if not is_keyless_header(name, value):
            what = f"the value of {name} may be a key, which would be stored in the database; write it as ${{NAME}}"
            yield known["headers"].data[name].line, f"headers: {what}"

"""A tag has one recipe for ever: what is configured must be what is recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from vecmig.errors import RecipeError
from vecmig.ledger.rows import TagRow
from vecmig.model.recipe import Recipe


def check_recipes(recorded_tags: Iterable[TagRow], recipes: Mapping[str, Recipe]) -> None:
    """Refuse recipes, by tag, of which one differs from that recorded under the same tag.

    Raises:
        RecipeError: one does.
    """
    for recorded in recorded_tags:
        recipe = recipes.get(recorded.tag)
        if recipe is not None and recorded.fingerprint != recipe.fingerprint:
            raise _changed(recorded, recipe)


def _changed(recorded: TagRow, recipe: Recipe) -> RecipeError:
    differences = "; ".join(recipe.differences(recorded.recipe)) or "its fingerprint"
    if recorded.canary is None and recorded.state == "building":
        return RecipeError(
            f"The recipe of {recorded.tag} changed since the tag was recorded: {differences}.",
            state="No vector was made by the recorded one yet. Nothing was changed.",
            hint="Begin the tag again: vecmig downgrade -1 --discard, then: vecmig upgrade. Or take the change back in "
            "collections.yaml",
        )
    return RecipeError(
        f"The recipe of {recorded.tag} changed since its vectors were made: {differences}.",
        state="Nothing was changed.",
        hint="A tag never changes its recipe. Undo the change in collections.yaml, or make a new tag "
        "(for example with a new version after the @) and: vecmig revision",
    )

"""Find the recipe of a recorded tag: in collections.yaml, or in the database where it is trusted."""

from __future__ import annotations

import os

from vecmig.config.collections import load_collections
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.recipe_check import check_recipes
from vecmig.ledger.rows import TagRow, tag_among
from vecmig.ledger.trusted_recipes import refuse_unvouched
from vecmig.model.recipe import Recipe
from vecmig.operations.context import Context
from vecmig.text import shown


def recipe_of(context: Context, ledger: Ledger, collection: str, tag: str) -> Recipe:
    """Return a recorded tag's recipe: as collections.yaml has it, or as recorded when it is no longer there.

    What decides the vectors must agree; how the provider is reached and paid may have changed since.

    Raises:
        RecipeError: they disagree, or the database alone has the recipe and it is not trusted.
    """
    rows = ledger.tags.all()
    recorded = tag_among(rows, collection, tag)
    known = context.collections
    # the file may be younger than a service that has read it
    configured = known.recipes.get(tag) or load_collections(known.path, known.recorded).recipes.get(tag)
    if configured is None:
        return trusted_recipe(context, recorded)
    check_recipes(rows, {tag: configured})
    return configured


def trusted_recipe(context: Context, recorded: TagRow) -> Recipe:
    """Return a recorded recipe that collections.yaml lacks.

    Raises:
        RecipeError: by it, whoever may write to ``vecmig.tag`` could do harm here.
    """
    path = shown(context.collections.path)
    hint = f"If it is yours, write the recipe of {recorded.tag} into {path}, as vecmig audit shows it."
    refuse_unvouched(recorded.tag, recorded.recipe, os.environ, records=True, hint=hint)
    return recorded.recipe

"""Which recipes are trusted when only the database has them: whoever may write to it may have made them."""

from __future__ import annotations

from collections.abc import Mapping

from vecmig.errors import RecipeError
from vecmig.model.recipe import OPENAI_KEY, Recipe, is_openai


def unvouched(recipe: Recipe, environ: Mapping[str, str], *, records: bool) -> str:
    """Say what a recipe does that no database may decide: run code here, collect secrets, or collect the records.

    Args:
        recipe: as the database alone has it.
        environ: where the keys of providers are looked up.
        records: whether it is to embed records, and not the queries of one application alone.

    Returns:
        What it does, as a predicate; empty where it may be trusted.
    """
    service = recipe.service
    url = service.base_url or ""
    if recipe.provider == "python":
        return f"runs the function {recipe.callable}"
    if recipe.provider == "sentence-transformers":
        # anybody's repository, or a directory; a model's files may hold code that loading runs
        return f"loads the model {recipe.model} from a hub or a directory"
    if "${" in url:
        return "puts environment variables into base_url"
    if service.headers:
        # another variable's value, or a key by which the provider shows somebody else what it is asked
        return f"sends headers of its own: {', '.join(service.headers)}"
    if service.api_key_env not in (None, OPENAI_KEY):
        return f"sends the variable {service.api_key_env} as the key"
    if url and not is_openai(url):
        if service.api_key_env is not None and environ.get(service.api_key_env):
            return f"sends the variable {service.api_key_env} to another server than OpenAI's"
        if records:
            return "sends the records to another server than OpenAI's"
    if records and service.ray_address is not None:
        return f"has the Ray cluster {service.ray_address} do the work"
    return ""


def refuse_unvouched(tag: str, recipe: Recipe, environ: Mapping[str, str], *, records: bool, hint: str) -> None:
    """Refuse the recipe of a tag by which whoever may write to ``vecmig.tag`` could do harm; see ``unvouched``."""
    problem = unvouched(recipe, environ, records=records)
    if problem:
        raise RecipeError(
            f"The recipe of {tag}, as the database alone has it, {problem}.",
            state="Nothing was run or sent.",
            hint=hint,
        )

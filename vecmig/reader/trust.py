"""Which recipes a reader believes, when the database alone has them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from vecmig.errors import RecipeError
from vecmig.store.ledger import TagRow
from vecmig.tags import Service

_DEFAULT: Final = Service()
_OPENAI: Final = re.compile(r"https://api\.openai\.com(:443)?(/|$)")


def refuse_unvouched(row: TagRow, environ: Mapping[str, str]) -> None:
    """Refuse a recipe by which whoever may write to ``vecmig.tag`` could run code here, or collect secrets."""
    service = row.recipe.service
    url = service.base_url or ""
    if row.recipe.provider == "python":
        problem = f"runs the function {row.recipe.callable}"
    elif "${" in url:
        problem = "puts environment variables into base_url"
    elif service.api_key_env != _DEFAULT.api_key_env:
        problem = f"sends the variable {service.api_key_env} as the key"
    elif url and environ.get(service.api_key_env) and not _OPENAI.match(url):
        problem = f"sends the variable {service.api_key_env} to another server than OpenAI's"
    else:
        return
    raise RecipeError(
        f"The recipe of {row.tag}, as the database alone has it, {problem}.",
        state="Nothing was run or sent.",
        hint="Use Reader.from_config, with the recipe in collections.yaml, or pass recipes= to say that it is yours.",
    )

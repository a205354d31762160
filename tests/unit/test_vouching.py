"""Which recipes are believed when the database alone has them."""

from __future__ import annotations

from typing import Any

import pytest

from vecmig.ledger.trusted_recipes import unvouched
from vecmig.model.recipe import Recipe
from vecmig.model.tag import Tag

TAG = Tag.parse("m@1/dim-64/chunk-none/norm-l2")
KEYS = {"OPENAI_API_KEY": "sk-s3cr3t", "SECRET": "s3cr3t"}
ELSEWHERE = "http://localhost:1/v1"


def recipe(**fields: Any) -> Recipe:
    """Make a recipe of 64 dimensions."""
    return Recipe.from_mapping(TAG, {"provider": "openai", "dims": 64} | fields)


@pytest.mark.parametrize("records", [False, True])
@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"provider": "python", "callable": "os:system"}, "runs the function os:system"),
        ({"provider": "sentence-transformers"}, "loads the model m from a hub or a directory"),
        ({"base_url": "http://localhost:1/${SECRET}"}, "puts environment variables into base_url"),
        ({"api_key_env": "SECRET"}, "sends the variable SECRET as the key"),
        ({"headers": {"x-app": "${SECRET}"}}, "sends headers of its own: x-app"),
        ({"headers": {"Authorization": "Bearer theirs"}}, "sends headers of its own: Authorization"),
        (
            {"base_url": ELSEWHERE, "api_key_env": "OPENAI_API_KEY"},
            "sends the variable OPENAI_API_KEY to another server than OpenAI's",
        ),
        (
            {"base_url": "https://api.openai.com.host/", "api_key_env": "OPENAI_API_KEY"},
            "sends the variable OPENAI_API_KEY to another server than OpenAI's",
        ),
    ],
)
def test_no_code_and_no_secrets(fields: dict[str, Any], problem: str, records: bool) -> None:
    assert unvouched(recipe(**fields), KEYS, records=records) == problem


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"base_url": ELSEWHERE}, "sends the records to another server than OpenAI's"),
        ({"ray_address": "host:1"}, "has the Ray cluster host:1 do the work"),
    ],
)
def test_whoever_embeds_records_believes_less(fields: dict[str, Any], problem: str) -> None:
    assert unvouched(recipe(**fields), KEYS, records=False) == ""
    assert unvouched(recipe(**fields), {}, records=True) == problem


@pytest.mark.parametrize("records", [False, True])
@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"provider": "wordllama"},
        {"base_url": "https://api.openai.com/v1"},
        {"request": {"user": "x"}, "query_request": {"user": "y"}, "request_model": "z"},
        {"price_per_million_tokens": 0.02, "concurrency": 2, "query_prompt": "q: {text}"},
    ],
)
def test_what_does_no_harm_is_believed(fields: dict[str, Any], records: bool) -> None:
    assert unvouched(recipe(**fields), KEYS, records=records) == ""

"""The grammar of tags, the rules of recipes, and the fingerprint."""

from __future__ import annotations

import json
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecmig.errors import RecipeError, TagError
from vecmig.model.gate import Gate
from vecmig.model.recipe import Chunking, Recipe, Service, recipe_problems
from vecmig.model.tag import MAX_TAG_LENGTH, Tag, short_name

TEXT = "text-embedding-3-small@1/dim-1536/chunk-512/norm-l2"
TAG = Tag.parse(TEXT)
PLAIN = Tag.parse("m@1/dim-8/chunk-none/norm-l2")
EXAMPLE = "text-embedding-3-small@1/dim-1536/chunk-none/norm-l2"

words = st.text(string.ascii_letters + string.digits + "._-/:é", min_size=1, max_size=20)
labels = st.from_regex(r"[a-z][a-z0-9]{0,5}-[A-Za-z0-9_.-]{1,8}", fullmatch=True).filter(
    lambda label: label.partition("-")[0] not in ("dim", "chunk", "norm")
)
tags = st.builds(
    Tag,
    model=words,
    version=words.filter(lambda word: "/" not in word),
    dims=st.integers(1, 16_000),
    chunk=st.none() | st.integers(1, 999_999_999),
    norm=st.sampled_from(["l2", "none"]),
    labels=st.lists(labels, unique=True, max_size=3).map(lambda found: tuple(sorted(found))),
)


@given(tag=tags, randomness=st.randoms())
def test_a_tag_reads_back_from_its_canonical_form_and_from_any_order(tag: Tag, randomness: Any) -> None:
    head, _, _ = str(tag).partition("@")
    version, *parts = str(tag)[len(head) + 1 :].split("/")
    randomness.shuffle(parts)
    assert Tag.parse(str(tag)) == tag
    assert Tag.parse(f"{head}@{version}/{'/'.join(parts)}") == tag


@given(st.text(max_size=60))
def test_any_text_is_a_tag_or_a_tag_error(text: str) -> None:
    try:
        tag = Tag.parse(text)
    except TagError:
        return
    assert Tag.parse(str(tag)) == tag


def test_parts_of_a_tag() -> None:
    tag = Tag.parse("BAAI/bge-m3@2024-01/norm-none/prompt-b/chunk-300/lang-de/dim-1024")
    assert tag == Tag("BAAI/bge-m3", "2024-01", 1024, 300, "none", ("lang-de", "prompt-b"))
    assert str(tag) == "BAAI/bge-m3@2024-01/dim-1024/chunk-300/norm-none/lang-de/prompt-b"


NOT_A_TAG = f"A tag reads model@version/part/part…, like {EXAMPLE}"
INCOMPLETE = f"A complete tag looks like {EXAMPLE}"


@pytest.mark.parametrize("text", ["", "m", "m@1", "@1/dim-8", "m@/dim-8", "m@1/", "a b@1/dim-8", "a@b@1/dim-8"])
def test_what_is_not_a_tag(text: str) -> None:
    with pytest.raises(TagError) as caught:
        Tag.parse(text)
    assert (caught.value.message, caught.value.hint) == (f"{text!r} is not a tag.", NOT_A_TAG)


@pytest.mark.parametrize(
    ("parts", "what"),
    [
        ("chunk-none/norm-l2", "does not say its dim: add dim-256"),
        ("dim-8/norm-l2", "does not say its chunk: add chunk-none or chunk-512"),
        ("dim-8/chunk-none", "does not say its norm: add norm-l2 or norm-none"),
        ("dim-8/dim-8/chunk-none/norm-l2", "says dim twice"),
        ("dim-8/chunk-none/norm-l2/x-1/x-1", "says x-1 twice"),
        ("dim-8/chunk-none/norm-l2/X1", "has a part 'X1' that is not of the form word-value"),
        ("dim-8//chunk-none/norm-l2", "has a part '' that is not of the form word-value"),
        ("dim-0/chunk-none/norm-l2", "says dim-0; a whole number from 1 is needed, without leading zeros"),
        ("dim-08/chunk-none/norm-l2", "says dim-08; a whole number from 1 is needed, without leading zeros"),
        ("dim-٣/chunk-none/norm-l2", "says dim-٣; a whole number from 1 is needed, without leading zeros"),
        ("dim-16001/chunk-none/norm-l2", "says dim-16001; pgvector stores at most 16000 dimensions"),
        ("dim-8/chunk-x/norm-l2", "says chunk-x; a whole number from 1 is needed, without leading zeros"),
        ("dim-8/chunk-none/norm-l1", "says norm-l1; write norm-l2 or norm-none"),
    ],
)
def test_what_a_tag_lacks(parts: str, what: str) -> None:
    with pytest.raises(TagError) as caught:
        Tag.parse(f"m@1/{parts}")
    assert (caught.value.message, caught.value.hint) == (f"The tag 'm@1/{parts}' {what}.", INCOMPLETE)


def test_a_tag_has_a_limit() -> None:
    text = "m" * MAX_TAG_LENGTH + "@1/dim-8/chunk-none/norm-l2"
    with pytest.raises(TagError) as caught:
        Tag.parse(text)
    assert caught.value.message == f"The tag {'m' * 40!r}… has {len(text)} characters; at most 200 are allowed."


GOOD: dict[str, Any] = {"provider": "openai", "dims": 1536, "chunk": {"size": 512, "unit": "tokens", "overlap": 64}}


def test_a_recipe_takes_from_its_tag_what_it_does_not_say() -> None:
    recipe = Recipe.from_mapping(TAG, GOOD)
    assert recipe == Recipe("openai", "text-embedding-3-small", 1536, Chunking(512, "tokens", 64))
    assert recipe.service == Service()
    assert Recipe.from_mapping(Tag.parse("m@1/dim-8/chunk-none/norm-none"), {"provider": "wordllama", "dims": 8}) == (
        Recipe("wordllama", "m", 8, normalise="none")
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"provider": "opnai"}, "provider: 'opnai' is not one of openai, wordllama, sentence-transformers, python"),
        ({"provider": None}, ("provider: None is not one of openai, wordllama, sentence-transformers, python; "
         "provider is missing: one of openai, wordllama, sentence-transformers, python")),
        ({"provider": "python"}, 'the python provider needs callable: "package.module:function"'),
        ({"callable": "a.b:c"}, "callable: only the python provider has one"),
        ({"provider": "python", "callable": "a.b.c"}, "callable: 'a.b.c' is not of the form package.module:function"),
        ({"dims": 8}, "dims: 8, but the tag says dim-1536"),
        ({"dims": "1536"}, "dims: '1536' is not a whole number from 1; dims: '1536', but the tag says dim-1536"),
        ({"model": "x"}, "model: 'x', but the tag says text-embedding-3-small"),
        ({"chunk": {"size": 500}}, "chunk: size 500, but the tag says chunk-512"),
        ({"chunk": {"size": 512, "overlap": 512}}, "chunk: overlap 512 is not smaller than size 512"),
        ({"chunk": {"size": 512, "overlp": 5}}, ("chunk: {'size': 512, 'overlp': 5} is not a mapping like "
         "{size: 512, unit: tokens, overlap: 64}")),
        ({"chunk": None}, "the tag says chunk-512, so chunk: {size: 512, unit: tokens, overlap: 0} is missing"),
        ({"normalise": "none"}, "normalise: 'none', but the tag says norm-l2"),
        ({"normalise": "l2"}, "normalise: 'l2' is not one of apply, verify, none"),
        ({"document_prompt": "passage:"}, "document_prompt: 'passage:' is not a text with {text} in it"),
        ({"base_url": "host/v1"}, "base_url: its value is not a URL without a user, password and query"),
        ({"base_url": "https://host/v1?key=1"}, "base_url: its value is not a URL without a user, password and query"),
        ({"base_url": "https://r.openai.azure.com/openai/deployments/d?api-version=2024-10-21"},
         ("base_url: its value is not a URL without a user, password and query; Azure's address that wants no version "
          "is https://RESOURCE.openai.azure.com/openai/v1")),
        ({"base_url": "${HOST}/v1?key=1"}, "base_url: its value is not a URL without a user, password and query"),
        ({"timeout": 0}, "timeout: 0 is not a number of seconds above 0"),
        ({"price_per_million_tokens": -1}, "price_per_million_tokens: -1 is not a number from 0"),
        ({"max_batch": True}, "max_batch: True is not a whole number from 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_recipe(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.from_mapping(TAG, GOOD | change)
    assert caught.value.message == f"The recipe of {TAG} cannot be used: {problem}."


def test_all_problems_of_a_recipe_are_found_at_once() -> None:
    problems = list(recipe_problems(TAG, {"provider": "x", "mdoel": "y", "dims": 1}))
    assert [name for name, _ in problems] == ["provider", "mdoel", "dims", ""]
    assert problems[1][1].startswith("unknown field; a recipe has api_key_env, base_url, batch, budget_usd, callable, ")


def test_a_tag_with_norm_none_takes_no_normalising() -> None:
    tag = Tag.parse("m@1/dim-8/chunk-none/norm-none")
    data = {"provider": "openai", "dims": 8, "normalise": "verify"}
    assert list(recipe_problems(tag, data)) == [("normalise", "'verify', but the tag says norm-none")]


def test_a_recipe_without_dims() -> None:
    assert list(recipe_problems(PLAIN, {"provider": "openai"})) == [("", "dims is missing: the tag says 8")]


def test_a_chunk_under_chunk_none() -> None:
    data = {"provider": "openai", "dims": 8, "chunk": {"size": 9}}
    assert list(recipe_problems(PLAIN, data)) == [("chunk", "size 9, but the tag says chunk-none")]


values = st.none() | st.booleans() | st.integers(-3, 2000) | st.text(max_size=4) | st.floats() | st.just({"size": 512})


@given(st.dictionaries(st.sampled_from(["provider", "model", "dims", "chunk", "normalise", "timeout"]), values))
def test_a_recipe_of_any_types_never_breaks_the_checks(data: dict[str, Any]) -> None:
    list(recipe_problems(TAG, data))


@given(
    chunk=st.just({"size": 512}) | st.just({"size": 512, "unit": "characters", "overlap": 3}),
    prompt=st.text(max_size=10).map(lambda text: text + "{text}"),
    batch=st.none() | st.integers(1, 100),
)
def test_a_recipe_survives_being_stored_as_json(chunk: dict[str, Any], prompt: str, batch: int | None) -> None:
    data = GOOD | {"chunk": chunk, "document_prompt": prompt} | ({"max_batch": batch} if batch else {})
    recipe = Recipe.from_mapping(TAG, data)
    again = Recipe.from_mapping(TAG, json.loads(json.dumps(recipe.to_mapping())))
    assert again == recipe
    assert again.fingerprint == recipe.fingerprint


def test_the_fingerprint_is_fixed_for_ever() -> None:
    # A change here would make every database refuse its own recipes.
    assert Recipe.from_mapping(TAG, GOOD).fingerprint == (
        "25cd7adabd0a47959f8d7fec29d1437e9f9910efe527d7163b57418cadda139e"
    )


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"base_url": "http://h/v1"}, True),
        ({"max_batch": 5, "timeout": 3, "price_per_million_tokens": 9}, True),
        ({"encoding_format": "float"}, True),
        ({"model": "text-embedding-3-small"}, True),
        ({"document_prompt": "passage: {text}"}, False),
        ({"query_prompt": "query: {text}"}, False),
        ({"normalise": "verify"}, False),
        ({"too_long": "cut"}, False),
        ({"chunk": {"size": 512, "overlap": 65}}, False),
        ({"chunk": {"size": 512, "unit": "characters", "overlap": 64}}, False),
        ({"provider": "sentence-transformers"}, False),
    ],
)
def test_the_fingerprint_stands_on_what_decides_a_vector(change: dict[str, Any], same: bool) -> None:
    ours, theirs = Recipe.from_mapping(TAG, GOOD), Recipe.from_mapping(TAG, GOOD | change)
    assert (ours.fingerprint == theirs.fingerprint) is same
    assert (ours.differences(theirs) == []) is same


def test_differences_name_the_field_and_both_values() -> None:
    ours, theirs = Recipe.from_mapping(TAG, GOOD), Recipe.from_mapping(TAG, GOOD | {"too_long": "cut"})
    assert ours.differences(theirs) == ["too_long: 'reject', not 'cut'"]


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), "1", True, None])
def test_a_gate_takes_shares_only(value: Any) -> None:
    with pytest.raises(RecipeError) as caught:
        Gate(coverage=value)
    assert caught.value.message == f"Gate(coverage={value!r}): a share from 0 to 1 is needed, such as 0.995."
    assert Gate() == Gate(0.995, 0.005)


def test_a_recipe_with_a_broken_chunk_is_refused_without_a_crash() -> None:
    tag = Tag.parse("m@1/dim-8/chunk-none/norm-l2")
    assert ("chunk", "{'size': None} is not a mapping like {size: 512, unit: tokens, overlap: 64}") in list(
        recipe_problems(tag, {"provider": "wordllama", "dims": 8, "chunk": {"size": None}})
    )


def test_a_budget_needs_a_price() -> None:
    tag = Tag.parse("m@1/dim-8/chunk-none/norm-l2")
    recipe = {"provider": "wordllama", "dims": 8, "budget_usd": 2.5}
    for price in ({}, {"price_per_million_tokens": 0}):
        assert list(recipe_problems(tag, recipe | price)) == [
            ("budget_usd", "price_per_million_tokens must say what tokens cost, or it is not known when it is spent")
        ]
    assert list(recipe_problems(tag, recipe | {"price_per_million_tokens": 0.02})) == []


@pytest.mark.parametrize("name", ["requests_per_minute", "tokens_per_minute", "budget_usd"])
@pytest.mark.parametrize("value", [0, -1, True, "10", float("nan"), float("inf"), None])
def test_a_limit_is_a_number_above_0(name: str, value: Any) -> None:
    tag = Tag.parse("m@1/dim-8/chunk-none/norm-l2")
    recipe = {"provider": "wordllama", "dims": 8, "price_per_million_tokens": 1}
    needed = "a number above 0" if name == "budget_usd" else "a whole number from 1"
    assert list(recipe_problems(tag, recipe | {name: value})) == [(name, f"{value!r} is not {needed}")]


def test_limits_and_budget_are_no_part_of_the_fingerprint() -> None:
    tag = Tag.parse("m@1/dim-8/chunk-none/norm-l2")
    recipe = {"provider": "wordllama", "dims": 8, "price_per_million_tokens": 1}
    limits = {"requests_per_minute": 60, "tokens_per_minute": 1000, "budget_usd": 0.5}
    plain, limited = Recipe.from_mapping(tag, recipe), Recipe.from_mapping(tag, recipe | limits)
    assert plain.fingerprint == limited.fingerprint
    assert (limited.service.requests_per_minute, limited.service.budget_usd) == (60, 0.5)
    assert Recipe.from_mapping(tag, limited.to_mapping()) == limited


@pytest.mark.parametrize(("name", "value"), [("timeout", float("inf")), ("price_per_million_tokens", float("nan"))])
def test_numbers_that_a_database_cannot_keep_are_refused(name: str, value: float) -> None:
    tag = Tag.parse("m@1/dim-8/chunk-none/norm-l2")
    assert [found for found, _ in recipe_problems(tag, {"provider": "wordllama", "dims": 8, name: value})] == [name]


def test_a_recipe_never_repeats_what_may_be_a_secret() -> None:
    tag = Tag.parse("m@1/dim-8/chunk-none/norm-l2")
    data = {"provider": "openai", "dims": 8, "base_url": "http://me:secret@h/v1", "api_key_env": "sk-secret"}
    with pytest.raises(RecipeError) as caught:
        Recipe.from_mapping(tag, data)
    assert "secret" not in caught.value.message


# Money -------------------------------------------------------------------------------------------------------------


# Short names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "others", "short"),
    [
        (TEXT, [], "text-embedding-3-small/dim-1536"),
        (TEXT, [TEXT, "other@1/dim-1536/chunk-none/norm-l2"], "text-embedding-3-small/dim-1536"),
        (TEXT, [EXAMPLE], "text-embedding-3-small/dim-1536/chunk-512"),
        (TEXT, [TEXT.replace("@1", "@2")], "text-embedding-3-small@1/dim-1536"),
        (TEXT, [TEXT + "/prompt-2"], "text-embedding-3-small/dim-1536"),
        (TEXT + "/prompt-2", [TEXT], "text-embedding-3-small/dim-1536/prompt-2"),
        (TEXT, ["no tag at all"], TEXT),
        ("no tag at all", [TEXT], "no tag at all"),
        ("BAAI/bge-m3@1/dim-8/chunk-none/norm-l2", [PLAIN.__str__()], "BAAI/bge-m3/dim-8"),
    ],
)
def test_a_short_name_has_what_tells_a_tag_apart(tag: str, others: list[str], short: str) -> None:
    assert short_name(tag, others) == short


@given(found=st.lists(tags.map(str), min_size=2, max_size=6, unique=True))
def test_no_two_tags_have_one_short_name(found: list[str]) -> None:
    assert len({short_name(tag, found) for tag in found}) == len(found)


def test_a_recipe_that_orders_nothing_is_written_as_earlier_versions_read_it() -> None:
    tag = Tag.parse("m@1/dim-8/chunk-none/norm-l2")
    written = Recipe.from_mapping(tag, {"provider": "wordllama", "dims": 8, "batch": False}).to_mapping()
    assert "batch" not in written
    ordering = {"provider": "openai", "dims": 8, "batch": True}
    assert Recipe.from_mapping(tag, Recipe.from_mapping(tag, ordering).to_mapping()).service.batch
    with pytest.raises(RecipeError, match="batch: only the openai provider has it"):
        Recipe.from_mapping(tag, ordering | {"provider": "wordllama"})

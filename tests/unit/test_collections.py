"""collections.yaml: what it means, and every mistake with its line, all of them at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecmig.config.collections import Collections, load_collections
from vecmig.config.sql_text import fragment_problem, parse_relation
from vecmig.errors import ConfigError, TagError
from vecmig.model.collection import Collection, Hnsw
from vecmig.model.index import Index, choice_problems, index_problem
from vecmig.model.recipe import Chunking, Recipe, Service
from vecmig.model.tag import Tag

SMALL = "wordllama@0.4/dim-64/chunk-none/norm-l2"
DOCUMENTS = """\
collections:
  documents:
    source: public.documents
    key: [id]
    text: body
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty directory to stand in."""
    monkeypatch.chdir(tmp_path)


def load(text: str) -> Collections:
    path = Path("collections.yaml")
    path.write_text(text)
    return load_collections(path)


def problems(text: str) -> list[str]:
    """Return the message's lines without the heading."""
    with pytest.raises(ConfigError) as caught:
        load(text)
    first, *others = caught.value.message.split("\n  ")
    if not others:
        return [first]
    assert first == f"collections.yaml has {len(others)} problems:"
    return others


def test_a_collection_as_short_as_it_can_be() -> None:
    assert load(DOCUMENTS).collections == {
        "documents": Collection(
            name="documents",
            source=("public", "documents"),
            key=("id",),
            text="body",
            where=None,
            storage="vector",
            metric="cosine",
            tag=None,
            change_tracking="triggers",
            hnsw=Hnsw(16, 64),
        )
    }


def test_a_collection_that_says_everything() -> None:
    loaded = load(
        f"""
collections:
  Team docs-2:
    source: '"My ""own"" one".Docs'
    key: [Tenant, "id"]
    text: |
      title || E'\\n\\n' || body  -- both
      || ''
    where: tenant = 'a;b' AND NOT deleted
    storage: halfvec
    metric: ip
    tag: wordllama@0.4/norm-l2/dim-64/chunk-none
    change_tracking: scan
    hnsw: {{m: 24, ef_construction: 100}}
tags:
  {SMALL}: {{provider: wordllama, dims: 64}}
"""
    )
    assert loaded.collection("Team docs-2") == Collection(
        name="Team docs-2",
        source=('My "own" one', "docs"),
        key=("Tenant", "id"),
        text="title || E'\\n\\n' || body  -- both\n|| ''",
        where="tenant = 'a;b' AND NOT deleted",
        storage="halfvec",
        metric="ip",
        tag=SMALL,
        change_tracking="scan",
        hnsw=Hnsw(24, 100),
    )
    assert loaded.recipe("wordllama@0.4/chunk-none/dim-64/norm-l2") == Recipe("wordllama", "wordllama", 64)


def test_recipes_keep_their_variables() -> None:
    loaded = load(
        """
tags:
  text-embedding-3-small@1/dim-1536/chunk-512/norm-l2:
    provider: openai
    dims: 1536
    chunk: {size: 512, unit: tokens, overlap: 64}
    base_url: ${OPENAI_BASE_URL}
    price_per_million_tokens: 0.02
"""
    )
    (recipe,) = loaded.recipes.values()
    assert recipe.chunk == Chunking(512, "tokens", 64)
    assert recipe.service == Service(base_url="${OPENAI_BASE_URL}", price_per_million_tokens=0.02)


def test_recipes_may_share_lines() -> None:
    loaded = load(
        """
tags:
  m@1/dim-8/chunk-none/norm-l2: &base {provider: openai, dims: 8, base_url: "http://a/v1", max_batch: 9}
  m@1/dim-16/chunk-none/norm-l2: {<<: *base, dims: 16, max_batch: 10}
"""
    )
    first, second = loaded.recipes.values()
    assert (second.dims, second.service.max_batch, second.service.base_url) == (16, 10, first.service.base_url)


@pytest.mark.parametrize("text", ["", "# nothing yet\n", "collections:\ntags:\n", "collections: {}\n"])
def test_nothing_yet(text: str) -> None:
    loaded = load(text)
    assert (loaded.collections, loaded.recipes) == ({}, {})
    with pytest.raises(ConfigError) as caught:
        loaded.collection("documents")
    assert caught.value.message == "collections.yaml has no collection 'documents'; it has: none."
    assert caught.value.hint == "Add it under collections: in collections.yaml"


def test_an_unknown_collection() -> None:
    with pytest.raises(ConfigError) as caught:
        load(DOCUMENTS).collection("document")
    assert caught.value.message == "collections.yaml has no collection 'document'; it has: documents."
    assert caught.value.hint == "Did you mean documents?"


def test_a_tag_without_a_recipe() -> None:
    loaded = load(DOCUMENTS)
    with pytest.raises(ConfigError) as caught:
        loaded.recipe("text-embedding-3-small@1/norm-l2/chunk-512/dim-1536")
    assert caught.value.message == (
        "collections.yaml has no recipe for the tag text-embedding-3-small@1/dim-1536/chunk-512/norm-l2."
    )
    assert caught.value.hint == (
        "Add to collections.yaml:\ntags:\n  text-embedding-3-small@1/dim-1536/chunk-512/norm-l2: "
        "{provider: openai, dims: 1536, chunk: {size: 512, unit: tokens, overlap: 0}}"
    )
    load(caught.value.hint.partition("\n")[2])
    with pytest.raises(TagError):
        loaded.recipe("nonsense")


def test_no_file() -> None:
    with pytest.raises(ConfigError) as caught:
        load_collections(Path("collections.yaml"))
    assert (caught.value.message, caught.value.hint) == ("collections.yaml does not exist.", "Run: vecmig init")


def test_a_file_that_is_not_text_or_not_a_file() -> None:
    Path("collections.yaml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match=r"^collections.yaml is not UTF-8: byte 0 cannot be read\.$"):
        load_collections(Path("collections.yaml"))
    with pytest.raises(ConfigError, match=r"^\. cannot be read: Is a directory\.$"):
        load_collections(Path.cwd())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1\nb: 2\n", "collections.yaml:2: this is not YAML: expected ',' or ']', but got ':'."),
        ("a: b: c\n", "collections.yaml:1: this is not YAML: mapping values are not allowed here."),
        ("a: *x\n", "collections.yaml:1: this is not YAML: found undefined alias 'x'."),
        ("a: 1\n---\nb: 2\n", "collections.yaml:2: this is not YAML: but found another document."),
        ("a: \x00\n", ("collections.yaml: this is not YAML: unacceptable character #x0000: special characters are not "
         "allowed.")),
        ("- a\n", "collections.yaml:1: the file must be a mapping of names to values."),
        ("collections: [a]\n", "collections.yaml:1: collections must be a mapping of names to values."),
        ("colections: {}\n", "collections.yaml:1: unknown field 'colections'; did you mean collections?"),
        ("[a]: 1\n", "collections.yaml:1: this key is not a text."),
        ("tags: &a {x: *a}\n", "collections.yaml:1: this alias stands inside the value that it names."),
        ("tags: {<<: 3}\n", "collections.yaml:1: <<: must name a mapping."),
    ],
)  # fmt: skip
def test_what_is_not_a_collections_file(text: str, message: str) -> None:
    assert message in problems(text)


def test_everything_at_once_and_in_order() -> None:
    assert problems(
        f"""\
collections:
  documents:
    source: public.documents
    key: [id, id, tag]
    text: "title) || (body"
    stroage: vector
    metric: cosin
    tag: {SMALL}
  documents: {{}}
  1bad:
    source: a.b.c
    key: id
    text: ""
    where: "true; drop table x"
    tag: nonsense
    hnsw: {{m: 70, ef: 3, ef_construction: 20}}
  lacking: {{}}
  wrong: 5
tags:
  m@1/dim-64/chunk-none/norm-l2: {{provider: openai, dims: 64, mdoel: x}}
  m@1/norm-l2/dim-64/chunk-none: {{provider: openai, dims: 64}}
  n@1/dim-64/chunk-none/norm-l2:
    provider: openai
    dims: 25
    normalise: no
  bad: {{}}
  o@1/dim-64/chunk-none/norm-l2:
"""
    ) == [
        "collections.yaml:4: collection documents: key: names the column 'id' more than once.",
        (
            "collections.yaml:4: collection documents: key: the vectors table has a column 'tag' of its own; "
            "rename it in a view, as the source."
        ),
        "collections.yaml:5: collection documents: text: closes a ')' that it did not open.",
        "collections.yaml:6: unknown field 'stroage'; did you mean storage?",
        "collections.yaml:7: collection documents: metric: 'cosin' is not one of cosine, l2, ip; did you mean cosine?",
        (
            "collections.yaml:8: collection documents: tag: there is no recipe for it; add under tags: "
            f"{SMALL}: {{provider: wordllama, dims: 64}}."
        ),
        "collections.yaml:9: the key 'documents' stands here a second time; first in line 2.",
        (
            "collections.yaml:10: collection 1bad: a name begins with a letter or _ and goes on with letters, digits, "
            "_, - and spaces."
        ),
        (
            "collections.yaml:11: collection 1bad: source: 'a.b.c' is not a table; "
            'write table, schema.table or "My Schema"."My Table".'
        ),
        "collections.yaml:12: collection 1bad: key: a list of column names is needed, like [id].",
        (
            "collections.yaml:13: collection 1bad: text: SQL is needed: an expression over the source's columns, "
            "like \"title || ' ' || body\"."
        ),
        "collections.yaml:14: collection 1bad: where: holds a ';': one expression is needed, not a statement.",
        "collections.yaml:15: collection 1bad: tag: 'nonsense' is not a tag.",
        "collections.yaml:16: collection 1bad: hnsw: ef_construction must be at least twice m, so 140 or more.",
        "collections.yaml:16: unknown field 'ef'; known: m, ef_construction.",
        "collections.yaml:17: collection lacking: key is missing.",
        "collections.yaml:17: collection lacking: source is missing.",
        "collections.yaml:17: collection lacking: text is missing.",
        "collections.yaml:18: collection wrong: must be a mapping with source, key and text.",
        "collections.yaml:20: unknown field 'mdoel'; did you mean model?",
        (
            "collections.yaml:21: m@1/norm-l2/dim-64/chunk-none and m@1/dim-64/chunk-none/norm-l2 (line 20) are the "
            "same tag; keep one of them."
        ),
        "collections.yaml:24: the recipe of n@1/dim-64/chunk-none/norm-l2: dims: 25, but the tag says dim-64.",
        (
            "collections.yaml:25: the recipe of n@1/dim-64/chunk-none/norm-l2: normalise: False is not one of apply, "
            "verify, none."
        ),
        "collections.yaml:26: 'bad' is not a tag.",
        (
            "collections.yaml:27: the recipe of o@1/dim-64/chunk-none/norm-l2 must be a mapping like "
            "{provider: openai, dims: 64}."
        ),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("key: []", "key: a list of column names is needed, like [id]; quote a name that YAML reads otherwise."),
        ("key: [no]", "key: a list of column names is needed, like [id]; quote a name that YAML reads otherwise."),
        ("text: 5", "text: SQL is needed: an expression over the source's columns, like \"title || ' ' || body\"."),
        ("where: '  '", 'where: SQL is needed: a condition, like "published", or null.'),
        ("where: a -- b", "where: ends in a comment --, which would swallow what follows: use /* … */."),
        ("source: documents_vectors", ("source: 'documents_vectors' is the name of an object that vecmig makes for "
         "this collection.")),
        (f"source: {'s' * 64}", "source: a name in PostgreSQL has at most 63 bytes."),
        ("source: 7", 'source: 7 is not a table; write table, schema.table or "My Schema"."My Table".'),
        ("storage: sparsevec", "storage: 'sparsevec' is not one of vector, halfvec."),
        ("metric: 1", "metric: 1 is not one of cosine, l2, ip."),
        ("change_tracking: trigger", "change_tracking: 'trigger' is not one of triggers, scan; did you mean triggers?"),
        ("metric: [1]", "metric: [1] is not one of cosine, l2, ip."),
        ("tag: [{a: b}]", "tag: [{'a': 'b'}] is not a tag."),
        ("key: {a: b}", "key: a list of column names is needed, like [id]; quote a name that YAML reads otherwise."),
        ("hnsw: {m: [1]}", "hnsw: m is [1]; a whole number from 2 to 100 is needed."),
        ("hnsw: 5", "hnsw: a mapping like {m: 16, ef_construction: 64} is needed."),
        ("hnsw: {m: 1}", "hnsw: m is 1; a whole number from 2 to 100 is needed."),
        ("hnsw: {ef_construction: true}", "hnsw: ef_construction is True; a whole number from 4 to 1000 is needed."),
        ("tag: 5", "tag: 5 is not a tag."),
        ("tag: m@1/dim-2001/chunk-none/norm-l2", ("tag: HNSW indexes at most 2,000 dimensions of vector, and the tag "
         "has 2,001: use storage: halfvec, index: {type: halfvec} beside its recipe, index: {type: bit} beside its "
         "recipe, or a smaller dims, if the model has an option for it (dimensions of text-embedding-3).")),
        ("tag: m@1/dim-4001/chunk-none/norm-l2", ("tag: HNSW indexes at most 2,000 dimensions of vector, and the tag "
         "has 4,001: use index: {type: bit} beside its recipe, or a smaller dims, if the model has an option for it "
         "(dimensions of text-embedding-3).")),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_field(line: str, message: str) -> None:
    name = line.partition(":")[0]
    kept = [own for own in DOCUMENTS.splitlines() if not own.strip().startswith(f"{name}:")]
    recipes = "".join(f"  m@1/dim-{n}/chunk-none/norm-l2: {{provider: openai, dims: {n}}}\n" for n in (2001, 4001))
    text = "\n".join([*kept, f"    {line}", "tags:", recipes])
    assert problems(text) == [f"collections.yaml:{len(kept) + 1}: collection documents: {message}"]


def test_misplaced_secrets_are_not_repeated() -> None:
    fields = "base_url: 'http://me:secret@h/v1', api_key_env: sk-secret"
    assert problems(f"tags:\n  m@1/dim-8/chunk-none/norm-l2: {{provider: openai, dims: 8, {fields}}}\n") == [
        (
            "collections.yaml:2: the recipe of m@1/dim-8/chunk-none/norm-l2: api_key_env: its value is not the name of "
            "an environment variable (the key itself never stands in a file)."
        ),
        (
            "collections.yaml:2: the recipe of m@1/dim-8/chunk-none/norm-l2: base_url: its value is not a URL without "
            "a user, password and query."
        ),
    ]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("d" * 41, "the name has 41 bytes; at most 40 are allowed."),
        ("é" * 21, "the name has 42 bytes; at most 40 are allowed."),
        ('"a.b"', "a name begins with a letter or _ and goes on with letters, digits, _, - and spaces."),
        ('"a "', "a name begins with a letter or _ and goes on with letters, digits, _, - and spaces."),
    ],
)
def test_names_that_cannot_be(name: str, message: str) -> None:
    (problem,) = problems(DOCUMENTS.replace("documents:", f"{name}:"))
    assert problem.endswith(message)


@pytest.mark.parametrize(
    ("storage", "dims", "index", "ok"),
    [
        ("vector", 2000, Index(), True),
        ("vector", 2001, Index(), False),
        ("vector", 4000, Index(type="halfvec"), True),
        ("vector", 4001, Index(type="halfvec"), False),
        ("vector", 16_000, Index(type="bit"), True),
        ("halfvec", 4000, Index(), True),
        ("halfvec", 4001, Index(), False),
        ("halfvec", 4001, Index(type="bit"), True),
        ("halfvec", 64, Index(type="vector"), False),
    ],
)
def test_the_limits_of_the_index(storage: str, dims: int, index: Index, ok: bool) -> None:
    assert (index_problem(storage, dims, index) is None) is ok


# How a tag is indexed -------------------------------------------------------------------------------------------------

TALL = "m@1/dim-3072/chunk-none/norm-l2"


def indexed(index: str, tag: str = SMALL, provider: str = "wordllama") -> str:
    dims = tag.split("/dim-")[1].split("/", maxsplit=1)[0]
    return f"{DOCUMENTS}    tag: {tag}\ntags:\n  {tag}: {{provider: {provider}, dims: {dims}, index: {index}}}\n"


def test_a_tag_may_say_how_it_is_indexed_and_its_recipe_stays_the_same() -> None:
    plain = load(f"{DOCUMENTS}    tag: {SMALL}\ntags:\n  {SMALL}: {{provider: wordllama, dims: 64}}\n")
    said = load(indexed("{type: bit, m: 24, ef_construction: 100, ef_search: 200, rerank: 20}"))
    assert said.recipes == plain.recipes
    assert plain.collection("documents").index_of(SMALL) == Index()
    index = said.collection("documents").index_of(SMALL)
    assert index == Index(type="bit", m=24, ef_construction=100, ef_search=200, rerank=20)
    assert Index.from_mapping(index.to_mapping()) == index
    # what is stored is what is indexed where nothing else is said
    assert load(indexed("{type: vector}")).collection("documents").index_of(SMALL) == Index()


def test_a_tag_that_derives_may_have_an_index_of_its_own() -> None:
    small, large = "w@1/dim-64/chunk-none/norm-l2", "w@1/dim-256/chunk-none/norm-l2"
    loaded = load(
        f"""
{DOCUMENTS}
tags:
  {large}: {{provider: openai, dims: 256, index: {{type: bit}}}}
  {small}: {{derive: {{from: {large}, dims: 64}}, index: {{type: halfvec}}}}
"""
    )
    collection = loaded.collection("documents")
    assert [collection.index_of(tag).type for tag in (large, small)] == ["bit", "halfvec"]
    assert loaded.recipe(small).derive == large


def test_an_index_of_another_type_makes_room_for_more_dims() -> None:
    assert load(indexed("{type: halfvec}", TALL, "openai")).collection("documents").tag == TALL


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("hnsw", "index of {}: it must be a mapping like {{type: halfvec}}."),
        ("{type: bits}", "index of {}: type: 'bits' is not one of vector, halfvec, bit."),
        ("{method: hsnw}", "index of {}: method: 'hsnw' is not one of hnsw."),
        ("{typ: bit}", "unknown field 'typ'; did you mean type?"),
        ("{m: 1}", "index of {}: m: 1; a whole number from 2 to 100 is needed."),
        ("{ef_search: 1001}", "index of {}: ef_search: 1001; a whole number from 1 to 1000 is needed."),
        ("{ef_construction: true}", "index of {}: ef_construction: True; a whole number from 4 to 1000 is needed."),
        ("{m: 40, ef_construction: 64}",
         "index of {}: ef_construction: it must be at least twice m, so 80 or more."),
        ("{type: bit, rerank: 0}", "index of {}: rerank: 0; a whole number from 1 to 1000 is needed."),
        ("{rerank: 10}",
         "index of {}: rerank: only an index of type bit has it: the others have the distance itself."),
        ("{type: halfvec, rerank: 10}",
         "index of {}: rerank: only an index of type bit has it: the others have the distance itself."),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_index(index: str, message: str) -> None:
    assert problems(indexed(index)) == [f"collections.yaml:8: {message.format(SMALL)}"]


@pytest.mark.parametrize(
    ("dims", "type_", "most"), [(2001, "vector", "2,000"), (4001, "halfvec", "4,000"), (65_000, "bit", "64,000")]
)
def test_an_index_that_takes_fewer_dims_than_the_tag_has(dims: int, type_: str, most: str) -> None:
    tag = f"m@1/dim-{dims}/chunk-none/norm-l2"
    said = f"type: an index has at most {most} dimensions of {type_}, and the tag has {dims:,}."
    try:
        Tag.parse(tag)
    except TagError:
        assert list(choice_problems({"type": type_}, dims)) == [tuple(said.removesuffix(".").split(": ", maxsplit=1))]
    else:
        assert f"collections.yaml:8: index of {tag}: {said}" in problems(indexed(f"{{type: {type_}}}", tag, "openai"))


@pytest.mark.parametrize(
    ("text", "relation"),
    [
        ("documents", ("documents",)),
        (" Public . Docs_1$ ", ("public", "docs_1$")),
        ('"Public"."a.b"', ("Public", "a.b")),
        ('"a""b"', ('a"b',)),
        ("ÄPFEL", ("Äpfel",)),
        ("", None),
        ("a.b.c", None),
        ("1a", None),
        ('""', None),
        ('a."b', None),
        ("a b", None),
        ("a; drop", None),
    ],
)
def test_names_of_tables_follow_sql(text: str, relation: tuple[str, ...] | None) -> None:
    assert parse_relation(text) == relation


@given(st.lists(st.text(st.characters(blacklist_characters="\0"), min_size=1), min_size=1, max_size=2))
def test_any_quoted_name_reads_back(parts: list[str]) -> None:
    quoted = ".".join('"' + part.replace('"', '""') + '"' for part in parts)
    assert parse_relation(quoted) == tuple(parts)


@pytest.mark.parametrize(
    "sql",
    [
        "title || E'\\n\\n' || body",
        "coalesce(title, ';)') || (a[1])",
        "E'it\\'s ; ('",
        "'it''s ; ('",
        "\"we;ird(\" || 'x'",
        "$$ ; ( ' $$ || $t$ $$ ; $t$",
        "a /* ; ( /* nested ' */ ) */ || b",
        "a -- ; ('\n || b",
        "case when a then b end",
        "price::text || '$'",
        "a$b$c || d$b$e",
        "'abc\\' || ';'",
    ],
)
def test_fragments_that_stand_by_themselves(sql: str) -> None:
    assert fragment_problem(sql) is None


@pytest.mark.parametrize(
    ("sql", "problem"),
    [
        ("a; b", "holds a ';': one expression is needed, not a statement"),
        ("(a; b)", "holds a ';': one expression is needed, not a statement"),
        ("true) OR (true", "closes a ')' that it did not open"),
        ("f(a]", "closes a ']' that it did not open"),
        ("f(a", "opens a '(' that it does not close"),
        ("a[1", "opens a '[' that it does not close"),
        ("'abc", "opens a quote ' that it does not close"),
        ("'abc''", "opens a quote ' that it does not close"),
        ("E'abc\\'", "opens a quote ' that it does not close"),
        ('"abc', 'opens a quote " that it does not close'),
        ("$x$ abc $$", "opens a quote $x$ that it does not close"),
        ("a /* /* */", "opens a comment /* that it does not close"),
        ("a -- b", "ends in a comment --, which would swallow what follows: use /* … */"),
        ("a\0", "holds a NUL character"),
    ],
)
def test_fragments_that_would_break_out(sql: str, problem: str) -> None:
    assert fragment_problem(sql) == problem


@given(st.text(st.sampled_from("'\"$();[]-/*\\eEx \n"), max_size=40))
def test_any_fragment_is_judged(sql: str) -> None:
    fragment_problem(sql)


_SCALARS = st.sampled_from(["", "5", "null", "true", "a.b", "id", "x; y", "m@1/dim-8/chunk-none/norm-l2", "2024-13-45"])
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=2).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(st.sampled_from(["m", "size", "<<", "a"]), inner, max_size=2).map(
            lambda data: "{" + ", ".join(f"{name}: {value}" for name, value in data.items()) + "}"
        )
    ),
    max_leaves=4,
)


@given(
    st.dictionaries(st.sampled_from(["source", "key", "text", "where", "storage", "metric", "tag", "hnsw"]), _VALUES)
)
def test_whatever_the_types_it_is_a_config_error_or_fine(fields: dict[str, str]) -> None:
    body = "".join(f"    {name}: {value}\n" for name, value in fields.items())
    message = ""
    try:
        load(f"collections:\n  documents:\n{body}")
    except ConfigError as error:
        message = error.message
    assert "Value(" not in message

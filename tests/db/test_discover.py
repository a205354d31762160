"""``vecmig discover``: what a database has of vectors, by layout, and what is wrong with them; nothing is written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support import layouts
from support.lab import Lab
from support.layouts import fill, make
from support.postgres import Connect
from vecmig import runner
from vecmig.config import Config, load_config
from vecmig.errors import UsageError
from vecmig.runner import Discovered, Offer
from vecmig.script.project import init_project

Connection = psycopg.Connection[Any]
Configured = Callable[[str], Config]
UNIT = "({v})::vector"
SIZES = (
    "vectors of 2 sizes in one column: {0} of {1} dims, public.vector_dims(embedding) = {1}; {2} of {3} dims, "
    "public.vector_dims(embedding) = {3}"
)
TAG = "MODEL@1/dim-64/chunk-none/norm-l2"


@pytest.fixture
def configured(tmp_path: Path) -> Configured:
    """``configured(url)`` gives a project as ``vecmig init`` makes it, on that database."""
    init_project(tmp_path / "migrations", ini=tmp_path / "vecmig.ini")
    return lambda url: load_config(tmp_path / "vecmig.ini", overrides={"database_url": url})


@pytest.fixture
def config(configured: Configured, database_url: str) -> Config:
    """The project on the test's own database."""
    return configured(database_url)


def only(config: Config, names: Sequence[str] = (), **options: Any) -> Discovered:
    """Return the only column that is found."""
    (found,) = runner.discover(config, names, **options).columns
    return found


def offered(config: Config, names: Sequence[str] = (), **options: Any) -> Offer:
    """Return the only offer for the only column."""
    (one,) = only(config, names, **options).offers
    return one


def shape(connection: Connection, table: str, call: Any, where: str | None = None) -> list[tuple[int, int]]:
    """Return how many rows give vectors of how many dims, by what would be adopted."""
    conditions = " AND ".join(f"({one})" for one in (where, call.where) if one) or "true"
    query = (
        f"SELECT vector_dims(v), count(*) FROM (SELECT ({call.expression})::vector AS v FROM {table} "
        f"WHERE {conditions}) s WHERE v IS NOT NULL GROUP BY 1 ORDER BY 1"
    )
    return connection.execute(query.encode()).fetchall()


# The layouts -------------------------------------------------------------------------------------------------------


def _pgvectorstore(connection: Connection) -> None:
    make(connection, layouts.PGVECTORSTORE)
    fill(connection, '"Handbook"', ["content", "embedding"], ["'text ' || i", UNIT])


def _llamaindex(connection: Connection) -> None:
    make(connection, layouts.LLAMAINDEX)
    fill(connection, "data_handbook", ["text", "node_id", "embedding"], ["'text ' || i", "'n' || i", UNIT])


def _pgai(connection: Connection) -> None:
    make(connection, layouts.PGAI)
    connection.execute("INSERT INTO blog SELECT i, 'title', 'body' FROM generate_series(1, 3) i")
    columns = ["id", "chunk_seq", "chunk", "embedding"]
    fill(connection, "blog_embedding_store", columns, ["i % 3 + 1", "i", "'chunk ' || i", UNIT])


def _haystack(connection: Connection) -> None:
    make(connection, layouts.HAYSTACK)
    fill(connection, "haystack_documents", ["id", "content", "embedding"], ["'h' || i", "'text ' || i", UNIT])


def _mem0(connection: Connection) -> None:
    make(connection, layouts.MEM0)
    data = "jsonb_build_object('data', 'memory ' || i)"
    fill(connection, "mem0", ["id", "payload", "vector"], ["gen_random_uuid()", data, UNIT])


def _dify(connection: Connection, number: int = 0) -> None:
    name = f"embedding_vector_index_{number}f2b6e0e_5c1d_4b7e_9a2b_0d1e2f3a4b5c_node"[:63]
    make(connection, layouts.DIFY, name=name)
    fill(connection, name, ["id", "text", "meta", "embedding"], ["gen_random_uuid()", "'t' || i", "'{}'", UNIT])


def _open_webui(connection: Connection) -> None:
    make(connection, layouts.OPEN_WEBUI, n=96)
    padded = "(({v}) || array_fill(0::real, ARRAY[32]))::vector"
    columns = ["id", "text", "collection_name", "vector"]
    fill(connection, "document_chunk", columns, ["'x' || i", "'text ' || i", "'file-1'", padded])


@dataclass(frozen=True)
class Known:
    """What is proposed for one layout."""

    layout: str
    name: str
    source: str
    key: str
    text: str
    adopted: str = "embedding"
    #: The index that would go on serving in place.
    index: str | None = None


LAYOUTS = [
    (
        _pgvectorstore,
        Known(
            "LangChain PGVectorStore",
            "Handbook",
            'public."Handbook"',
            "langchain_id",
            "content",
            index="handbook_hnsw",
        ),
    ),
    (_llamaindex, Known("LlamaIndex", "handbook", "public.data_handbook", "id", "text")),
    (_pgai, Known("pgai", "blog", "public.blog_embedding_store", "embedding_uuid", "chunk")),
    (_haystack, Known("Haystack", "haystack_documents", "public.haystack_documents", "id", "content")),
    (_mem0, Known("Mem0", "mem0", "public.mem0", "id", "payload->>'data'", "vector", "mem0_hnsw_idx")),
    (
        _dify,
        Known(
            "Dify",
            "dify_0f2b6e0e",
            "public.embedding_vector_index_0f2b6e0e_5c1d_4b7e_9a2b_0d1e2f3a4b5c_nod",
            "id",
            "text",
        ),
    ),
    (
        _open_webui,
        Known("Open WebUI", "document_chunk", "public.document_chunk", "id", "text", "public.subvector(vector, 1, 64)"),
    ),
]


@pytest.mark.parametrize(("prepare", "known"), LAYOUTS, ids=[known.layout for _, known in LAYOUTS])
def test_each_layout_is_known(
    config: Config, connection: Connection, prepare: Callable[[Connection], None], known: Known
) -> None:
    prepare(connection)
    found = only(config)
    (one,) = found.offers
    proposal = one.proposal
    assert (found.layout.name, one.name, one.tag, found.reason) == (known.layout, known.name, TAG, "")
    assert (proposal.source, proposal.key, proposal.text) == (known.source, (known.key,), known.text)
    assert (proposal.where, proposal.text_guessed, proposal.metric, proposal.storage) == (
        None,
        False,
        "cosine",
        "vector",
    )
    assert (proposal.call.expression, proposal.call.where, proposal.vectors) == (known.adopted, None, 12)
    assert found.column.measured is not None
    assert (found.column.measured.rows, found.column.measured.exact, found.column.measured.sample) == (12, True, None)
    assert shape(connection, known.source, proposal.call) == [(64, 12)]
    if proposal.must_copy:
        with pytest.raises(UsageError, match="is not what stands in the column"):
            runner.discover(config, in_place=True)
    else:
        assert offered(config, in_place=True).proposal.call.in_place
        assert proposal.index == known.index


def test_langchain_keeps_many_collections_in_one_table(config: Config, connection: Connection) -> None:
    uuids = [f"{n}1111111-1111-1111-1111-111111111111" for n in range(4)]
    make(connection, layouts.LANGCHAIN)
    for uuid, name in zip(uuids, ["handbook", "mail's", "empty", "mail s"], strict=True):
        connection.execute("INSERT INTO langchain_pg_collection VALUES (%s, %s)", [uuid, name])
    columns = ["id", "collection_id", "embedding", "document"]
    for at, (count, dims, start) in {0: (30, 64, 0), 1: (10, 32, 100), 3: (5, 64, 300)}.items():
        values = ["'e' || i", f"'{uuids[at]}'::uuid", UNIT, "'text ' || i"]
        fill(connection, "langchain_pg_embedding", columns, values, count, start=start, dims=dims)
    more = ["'e' || i", f"'{uuids[1]}'::uuid", UNIT, "'text ' || i"]
    fill(connection, "langchain_pg_embedding", columns, more, 3, start=200, dims=64)
    fill(connection, "langchain_pg_embedding", columns, ["'e' || i", "NULL", UNIT, "'text'"], 2, start=400)

    found = only(config)
    assert (found.layout.name, found.column.attribute.dims) == ("LangChain PGVector", None)
    by_name = {one.name: one for one in found.offers}
    assert list(by_name) == ["handbook", "mail_s", "mail_s_2"]
    assert [one.proposal.dims for one in found.offers] == [64, 64, 32]
    for one, vectors, uuid in zip(found.offers, (30, 5, 10), (uuids[0], uuids[3], uuids[1]), strict=True):
        proposal = one.proposal
        assert proposal.where == f"collection_id = '{uuid}'"
        assert (proposal.key, proposal.text, proposal.vectors) == (("id",), "document", vectors)
        assert shape(connection, proposal.source, proposal.call, proposal.where) == [(proposal.dims, vectors)]
    assert [one.proposal.call.where for one in found.offers] == [None, None, "public.vector_dims(embedding) = 32"]
    assert found.problems == (
        f"mail's: {SIZES.format(10, 32, 3, 64)}",
        "2 rows belong to no collection",
    )
    assert [one.name for one in only(config, ["mail_s*"]).offers] == ["mail_s", "mail_s_2"]


def test_supabase_has_the_type_elsewhere(configured: Configured, bare_database_url: str, connect: Connect) -> None:
    connection = connect(bare_database_url)
    connection.execute("CREATE SCHEMA extensions; CREATE EXTENSION vector SCHEMA extensions")
    make(connection, layouts.SUPABASE)
    half = "(({v}) || array_fill(0::real, ARRAY[16]))::extensions.vector"
    fill(connection, "documents", ["content", "embedding"], ["'text ' || i", half], dims=48)
    found = only(configured(bare_database_url))
    assert (found.layout.name, found.column.attribute.type) == ("Supabase", "extensions.vector(64)")
    assert found.column.table.row_security
    assert found.column.table.readers == ("public.match_documents(extensions.vector,integer,jsonb)",)
    (one,) = found.offers
    assert (one.name, one.proposal.text, one.proposal.metric) == ("documents", "content", "ip")
    assert one.proposal.call.expression == "extensions.subvector(embedding, 1, 48)"
    (problem,) = found.problems
    assert problem == (
        "all vectors are padded: of 64 dims only the first 48 are not zero; extensions.subvector(embedding, 1, 48) is "
        "the vector without them"
    )


def test_tables_alike_are_a_collection_each(config: Config, connection: Connection) -> None:
    for number in range(3):
        _dify(connection, number)
    names = [one.name for one in runner.discover(config).offers]
    assert names == ["dify_0f2b6e0e", "dify_1f2b6e0e", "dify_2f2b6e0e"]
    assert [one.name for one in runner.discover(config, ["embedding_vector_index_1*"]).offers] == ["dify_1f2b6e0e"]


def test_a_table_of_ones_own(config: Config, connection: Connection) -> None:
    connection.execute(
        'CREATE TABLE "My Notes" (part int, "No" int, title text, words varchar, "Emb" halfvec(64), emb2 vector(64), '
        'UNIQUE (title), PRIMARY KEY (part, "No"))'
    )
    columns = ["part", '"No"', "title", "words", '"Emb"', "emb2"]
    values = ["1", "i", "'title ' || i", "repeat('word ', 10 + i)", "({v})::halfvec", UNIT]
    fill(connection, '"My Notes"', columns, values)
    connection.execute('CREATE INDEX l2 ON "My Notes" USING hnsw ((emb2::vector(64)) vector_l2_ops)')
    half, whole = runner.discover(config).columns
    assert (half.offers[0].name, whole.offers[0].name) == ("My_Notes_Emb", "My_Notes_emb2")
    proposal = half.offers[0].proposal
    assert (proposal.source, proposal.key, proposal.text) == ('public."My Notes"', ("part", "No"), "words")
    assert (proposal.text_guessed, proposal.storage, proposal.call.expression) == (True, "halfvec", '"Emb"')
    assert half.offers[0].tag == TAG
    (index,) = whole.column.indexes
    assert (index.name, index.method, index.metric, index.valid) == ("l2", "hnsw", "l2", True)
    assert whole.offers[0].proposal.metric == "l2"
    assert half.offers[0].collection.lines()[3] == "    text: words # a guess: is this what was embedded?"


def test_partitions_and_materialized_views_count_once(config: Config, connection: Connection) -> None:
    connection.execute(
        "CREATE TABLE notes (id int, body text, embedding vector(64), PRIMARY KEY (id)) PARTITION BY RANGE (id); "
        "CREATE TABLE notes_1 PARTITION OF notes FOR VALUES FROM (0) TO (10); "
        "CREATE TABLE notes_2 PARTITION OF notes FOR VALUES FROM (10) TO (100)"
    )
    fill(connection, "notes", ["id", "body", "embedding"], ["i", "'text'", UNIT], 30)
    connection.execute("CREATE MATERIALIZED VIEW copied AS SELECT * FROM notes; CREATE UNIQUE INDEX ON copied (id)")
    copied, notes = runner.discover(config).columns
    for found in (copied, notes):
        assert found.column.measured is not None
        assert (found.column.measured.rows, found.column.measured.sizes[0].vectors) == (30, 30)
        assert found.offers[0].proposal.key == ("id",)
    assert copied.offers[0].proposal.must_copy.startswith("public.copied is a materialized view")
    assert shape(connection, "notes", notes.offers[0].proposal.call) == [(64, 30)]


def test_arrays_that_look_like_vectors(config: Config, connection: Connection) -> None:
    connection.execute(
        "CREATE TABLE notes (id int PRIMARY KEY, body text, emb real[], wide double precision[], short real[], "
        "uneven real[], holes real[], grid real[], none real[])"
    )
    values = ["i", "'text'", "{v}", "{v}::double precision[]", "ARRAY[1, 2, 3]", "({v})[:40 + i % 2]"]
    more = ["array_replace({v}, ({v})[3], NULL)", "ARRAY[{v}, {v}]", "NULL"]
    columns = ["id", "body", "emb", "wide", "short", "uneven", "holes", "grid", "none"]
    fill(connection, "notes", columns, [*values, *more])
    emb, wide = runner.discover(config).columns
    assert (emb.column.attribute.name, wide.column.attribute.name) == ("emb", "wide")
    (one,) = emb.offers
    assert (one.tag, one.proposal.call.expression) == (TAG, "emb")
    assert one.proposal.must_copy == "real[] is no type that an index of pgvector's takes"
    assert shape(connection, "notes", one.proposal.call) == [(64, 12)]
    with pytest.raises(UsageError, match="cannot be adopted in place: real"):
        runner.discover(config, in_place=True)


# What is wrong with them -------------------------------------------------------------------------------------------


@pytest.fixture
def notes(connection: Connection) -> str:
    """A table whose vectors declare no dims."""
    connection.execute("CREATE TABLE notes (id int PRIMARY KEY, body text, model text, embedding vector)")
    return "notes"


def test_two_sizes_in_one_column_are_separated(config: Config, connection: Connection, notes: str) -> None:
    fill(connection, notes, ["id", "embedding"], ["i", UNIT], 20)
    fill(connection, notes, ["id", "embedding"], ["i", UNIT], 7, start=100, dims=32)
    fill(connection, notes, ["id", "embedding"], ["i", "NULL"], 3, start=200)
    found = only(config)
    measured = found.column.measured
    assert measured is not None
    assert (measured.rows, measured.vectors, {size.dims: size.vectors for size in measured.sizes}) == (
        30,
        27,
        {64: 20, 32: 7},
    )
    assert found.problems == (SIZES.format(20, 64, 7, 32),)
    (one,) = found.offers
    assert shape(connection, notes, one.proposal.call) == [(64, 20)]


def test_rows_of_two_models_are_separated(config: Config, connection: Connection, notes: str) -> None:
    said = "CASE WHEN i < 5 THEN 'text-embedding-ada-002' WHEN i < 7 THEN NULL ELSE 'it''s-embed-2' END"
    fill(connection, notes, ["id", "model", "embedding"], ["i", said, UNIT], 20)
    found = only(config)
    (problem,) = found.problems
    assert problem == (
        "vectors of 3 models in one column: 14 where model = 'it''s-embed-2'; 4 where model = "
        "'text-embedding-ada-002'; 2 where model IS NULL"
    )
    (most,) = found.offers
    assert (most.tag, most.provider) == ("it's-embed-2@1/dim-64/chunk-none/norm-l2", None)
    assert shape(connection, notes, most.proposal.call) == [(64, 14)]
    named = offered(config, model="text-embedding-ada-002@2")
    assert (named.tag, named.provider) == ("text-embedding-ada-002@2/dim-64/chunk-none/norm-l2", "openai")
    assert named.proposal.call.where == "model = 'text-embedding-ada-002'"


def test_a_model_that_is_none_of_embeddings_separates_nothing(
    config: Config, connection: Connection, notes: str
) -> None:
    fill(connection, notes, ["id", "model", "embedding"], ["i", "CASE WHEN i < 5 THEN 'Golf' ELSE 'Up' END", UNIT])
    found = only(config)
    assert (found.problems, found.offers[0].model, found.offers[0].proposal.call.where) == ((), None, None)


def test_padded_vectors_of_two_models_are_separated(config: Config, connection: Connection, notes: str) -> None:
    for start, count, dims, zeros in ((1, 9, 48, 80), (100, 12, 64, 64), (200, 5, 96, 32)):
        padded = f"(({{v}}) || array_fill(0::real, ARRAY[{zeros}]))::vector"
        fill(connection, notes, ["id", "embedding"], ["i", padded], count, start=start, dims=dims)
    found = only(config)
    assert found.column.measured is not None
    assert found.column.measured.padding == ((48, 9), (64, 12), (96, 5))
    (one,) = found.offers
    assert (one.proposal.dims, shape(connection, notes, one.proposal.call)) == (64, [(64, 12)])
    (problem,) = found.problems
    assert problem.startswith("vectors of 3 sizes, so of 3 models, are padded to 128 dims: 9 of 48 dims, ")
    conditions = [part.partition("dims, ")[2] for part in problem.partition(": ")[2].split("; ")]
    ids = [
        connection.execute(f"SELECT min(id), count(*) FROM notes WHERE {condition}".encode()).fetchone()
        for condition in conditions
    ]
    assert ids == [(1, 9), (100, 12), (200, 5)]


def test_a_vector_that_ends_with_zeros_by_chance_is_not_padded(
    config: Config, connection: Connection, notes: str
) -> None:
    fill(connection, notes, ["id", "embedding"], ["i", UNIT], 20)
    fill(connection, notes, ["id", "embedding"], ["i", "(({v}) || ARRAY[0, 0])::vector"], 2, start=90, dims=62)
    assert only(config).problems == ()


def test_cut_zero_and_unfinished(config: Config, connection: Connection, notes: str) -> None:
    cut = "(({v})[:32])::vector"
    fill(connection, notes, ["id", "embedding"], ["i", cut], 20)
    fill(connection, notes, ["id", "embedding"], ["i", "array_fill(0, ARRAY[32])::vector"], 2, start=90)
    connection.execute("CREATE INDEX broken ON notes USING hnsw ((embedding::vector(32)) vector_cosine_ops)")
    connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'broken'::regclass")
    found = only(config)
    zero, short, broken = found.problems
    assert zero == "2 vectors are zero in each dimension: cosine search never finds these"
    assert short.startswith("all vectors are shorter than 1, from 0.")
    assert broken == "the index broken is invalid: its build was cut short, and no query uses it"
    (one,) = found.offers
    assert (one.tag, one.proposal.index) == ("MODEL@1/dim-32/chunk-none/norm-none", None)


def test_large_dims_want_halfvec(config: Config, connection: Connection) -> None:
    connection.execute("CREATE TABLE wide (id int PRIMARY KEY, body text, a vector(2100), b vector(4001))")
    connection.execute("CREATE INDEX half ON wide USING hnsw ((a::halfvec(2100)) halfvec_l2_ops)")
    values = [f"(SELECT array_agg((i * j % 7)::real) FROM generate_series(1, {n}) j)::vector" for n in (2100, 4001)]
    fill(connection, "wide", ["id", "a", "b"], ["i", *values])
    wide, widest = runner.discover(config).columns
    proposal = wide.offers[0].proposal
    assert (proposal.storage, proposal.metric, proposal.index, proposal.must_copy) == ("halfvec", "l2", "half", "")
    assert (widest.offers, widest.reason[:29]) == ((), "HNSW indexes at most 4,000 di")


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("ALTER TABLE notes DROP CONSTRAINT notes_pkey", "the table has no primary key, and no other unique index"),
        ("ALTER TABLE notes DROP COLUMN body, DROP COLUMN model", "the table has no column of text"),
        ("ALTER TABLE notes RENAME id TO chunk", "its key has a column chunk, as vectors have"),
        ("UPDATE notes SET embedding = NULL", "it has no vectors"),
        ("TRUNCATE notes", "it has no vectors"),
    ],
)
def test_where_nothing_can_be_proposed_it_says_why(
    config: Config, connection: Connection, notes: str, statement: str, reason: str
) -> None:
    fill(connection, notes, ["id", "embedding"], ["i", UNIT])
    connection.execute(statement.encode())
    found = only(config)
    assert found.offers == ()
    assert found.reason.startswith(reason)


def test_encrypted_texts_are_none(config: Config, connection: Connection) -> None:
    make(connection, layouts.OPEN_WEBUI.replace("text text", "text bytea"))
    fill(connection, "document_chunk", ["id", "collection_name", "text", "vector"], ["i", "'k'", r"'\x00'", UNIT])
    assert only(config).reason == "text is bytea: encrypted, so a model could never be given the texts"


# What is not read --------------------------------------------------------------------------------------------------


def test_large_tables_are_sampled(config: Config, connection: Connection, notes: str) -> None:
    connection.execute(
        "INSERT INTO notes SELECT i, 'text', NULL, CASE WHEN i % 10 > 0 THEN ARRAY[sin(i), cos(i)]::vector END "
        "FROM generate_series(1, 200000) i"
    )
    for _ in range(2):
        connection.execute("SELECT pg_stat_reset()")
        found = only(config)
        measured = found.column.measured
        assert measured is not None
        assert not measured.exact
        assert measured.sample is not None
        assert 500 < measured.sample < 20_000
        assert 180_000 < measured.rows < 220_000
        assert 0.85 < measured.vectors / measured.rows < 0.95
        assert found.offers[0].tag == "MODEL@1/dim-2/chunk-none/norm-l2"
        connection.execute("SELECT pg_stat_force_next_flush()")
        (read,) = connection.execute(
            "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'notes'"
        ).fetchone() or (0,)
        assert read < 100_000
        # and the same with what statistics say
        connection.execute("ANALYZE notes")


def test_a_rare_part_of_a_large_table_is_named_and_not_searched_for(config: Config, connection: Connection) -> None:
    make(connection, layouts.LANGCHAIN)
    uuids = [f"{n}1111111-1111-1111-1111-111111111111" for n in range(2)]
    for uuid, name in zip(uuids, ["most", "rare"], strict=True):
        connection.execute("INSERT INTO langchain_pg_collection VALUES (%s, %s)", [uuid, name])
    connection.execute(
        "INSERT INTO langchain_pg_embedding SELECT i, CASE WHEN i = 1 THEN %s ELSE %s END::uuid, "
        "ARRAY[sin(i), cos(i)]::vector, 'text' FROM generate_series(1, 150000) i",
        [uuids[1], uuids[0]],
    )
    connection.execute("SELECT pg_stat_reset()")
    found = only(config)
    assert [one.name for one in found.offers] == ["most"]
    assert found.problems == ("rare: no row of it is in the sample, so nothing is proposed for it",)
    connection.execute("SELECT pg_stat_force_next_flush()")
    query = "SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'langchain_pg_embedding'"
    (read,) = connection.execute(query).fetchone() or (0,)
    assert 0 < read < 50_000


def test_names_stay_short_and_apart(config: Config, connection: Connection) -> None:
    for at in range(3):
        table = f'"{"é" * 24} {"x" * 5}{at}"'
        connection.execute(f"CREATE TABLE {table} (id int PRIMARY KEY, body text, v vector(64))".encode())
        fill(connection, table, ["id", "body", "v"], ["i", "'text'", UNIT])
    names = [one.name for one in runner.discover(config).offers]
    assert names == ["é" * 20, f"{'é' * 19}_2", f"{'é' * 19}_3"]


def test_what_is_vecmigs_own_is_passed_by(lab: Lab, connection: Connection) -> None:
    lab.upgrade("r2")
    connection.execute("CREATE TABLE vecmig.mine (id int PRIMARY KEY, body text, v vector(3))")
    connection.execute("INSERT INTO vecmig.mine VALUES (1, 'x', '[1,2,3]')")
    assert [one.column.object for one in runner.discover(lab.config).columns] == ["vecmig.mine.v"]


@pytest.fixture
def stranger(connection: Connection) -> Iterator[str]:
    """A role that owns nothing."""
    connection.execute("CREATE ROLE stranger LOGIN")
    yield "stranger"
    connection.execute("DROP OWNED BY stranger; DROP ROLE stranger")


def test_what_a_role_may_not_read_is_named(
    configured: Configured, database_url: str, connection: Connection, notes: str, stranger: str
) -> None:
    fill(connection, notes, ["id", "embedding"], ["i", UNIT])
    config = configured(database_url.replace("postgres@", f"{stranger}@"))
    refused = only(config)
    assert refused.column.unread == "permission denied for table notes"
    assert refused.reason == "its rows could not be read: permission denied for table notes"
    connection.execute(f"GRANT SELECT ON notes TO {stranger}; ALTER TABLE notes ENABLE ROW LEVEL SECURITY")
    assert "row-level security" in only(config).column.unread


def test_a_table_that_is_locked_holds_up_no_other(
    config: Config, connection: Connection, connect: Connect, notes: str
) -> None:
    fill(connection, notes, ["id", "embedding"], ["i", UNIT])
    _mem0(connection)
    holder = connect(autocommit=False)
    holder.execute("LOCK TABLE notes IN ACCESS EXCLUSIVE MODE")
    mem0, locked = runner.discover(config).columns
    assert (mem0.reason, locked.column.unread) == ("", "another session has locked it")
    holder.rollback()


def test_a_database_without_pgvector_may_have_arrays(
    configured: Configured, bare_database_url: str, connect: Connect
) -> None:
    connection = connect(bare_database_url)
    connection.execute("CREATE TABLE notes (id int PRIMARY KEY, body text, emb real[])")
    fill(connection, "notes", ["id", "body", "emb"], ["i", "'text'", "{v}"])
    assert offered(configured(bare_database_url)).tag == TAG


def test_an_unknown_name_is_refused(config: Config, connection: Connection) -> None:
    _mem0(connection)
    with pytest.raises(UsageError, match="'mem1' is neither a table with vectors") as refused:
        runner.discover(config, ["mem1"])
    assert refused.value.hint == "Did you mean mem0?"

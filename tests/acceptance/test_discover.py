"""``vecmig discover`` as a stranger runs it: what is there, what is wrong with it, and the commands that adopt it."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import yaml

from support import layouts
from support.cli import Vecmig
from support.cluster import dump
from support.layouts import fill, make
from support.postgres import Postgres
from support.project import Project
from support.terminal import in_terminal, plain
from vecmig.embedders import open_embedder
from vecmig.model.recipe import Recipe
from vecmig.model.tag import Tag
from vecmig.script.project import init_project

HANDBOOK, MAIL = (f"{n}1111111-1111-1111-1111-111111111111" for n in (1, 2))
TAG = "wordllama@1/dim-64/chunk-none/norm-l2"
COMMENT = "# our own words\n"


@pytest.fixture
def langchain(project: Project) -> Iterator[Project]:
    """A project over a table of LangChain's with two collections, the vectors of one of which are of two sizes."""
    with psycopg.connect(project.database_url, autocommit=True) as connection:
        make(connection, layouts.LANGCHAIN)
        query = "INSERT INTO langchain_pg_collection VALUES (%s, 'handbook'), (%s, 'mail')"
        connection.execute(query, [HANDBOOK, MAIL])
        columns = ["id", "collection_id", "embedding", "document"]
        for uuid, count, start, dims in ((HANDBOOK, 30, 1, 64), (MAIL, 9, 100, 64), (MAIL, 2, 200, 32)):
            values = ["'e' || i", f"'{uuid}'::uuid", "({v})::vector", "'text ' || i"]
            fill(connection, "langchain_pg_embedding", columns, values, count, start=start, dims=dims)
        yield project


@pytest.fixture
def dify(project: Project) -> Project:
    """A project over three tables of Dify's."""
    with psycopg.connect(project.database_url, autocommit=True) as connection:
        for n in range(3):
            name = f"embedding_vector_index_{n}f2b6e0e"
            make(connection, layouts.DIFY, name=name)
            values = ["gen_random_uuid()", "'t' || i", "'{}'", "({v})::vector"]
            fill(connection, name, ["id", "text", "meta", "embedding"], values)
    return project


def contents(project: Project) -> dict[str, str]:
    """Return what stands in each file of the scripts."""
    return {str(path): path.read_text() for path in (project.path / "migrations").rglob("*.*") if path.is_file()}


def test_a_stranger_reads_what_to_do(langchain: Project, vecmig: Vecmig) -> None:
    shown = vecmig("discover").stdout.splitlines()
    assert shown[:8] == [
        "public.langchain_pg_embedding.embedding: LangChain PGVector",
        "  type      public.vector, which declares no dims",
        "  rows      41",
        "  vectors   64 dims, unit length; 32 dims, unit length",
        "  index     none: a search reads all vectors",
        "  key       id",
        "  text      document",
        "  model     nothing in the table says it; 64 dims: wordllama, among others",
    ]
    assert shown[8] == (
        "  wrong     mail: vectors of 2 sizes in one column: 9 of 64 dims, public.vector_dims(embedding) = 64; 2 of 32 "
        "dims, public.vector_dims(embedding) = 32"
    )
    assert shown[9:22] == [
        "  proposed for collections.yaml:",
        "    collections:",
        "      handbook:",
        "        source: public.langchain_pg_embedding",
        "        key: [id]",
        "        text: document",
        f"        where: \"collection_id = '{HANDBOOK}'\"",
        "        metric: cosine",
        "        tag: MODEL@1/dim-64/chunk-none/norm-l2",
        "    tags:",
        "      MODEL@1/dim-64/chunk-none/norm-l2: { provider: PROVIDER, dims: 64 }",
        "  adopt     vecmig discover handbook --write --model MODEL",
        "  then      vecmig upgrade head",
    ]
    assert shown[-1] == "1 vector column in 1 table; nothing was changed in the database"


def test_the_lines_that_it_proposes_work(langchain: Project, vecmig: Vecmig) -> None:
    (column,) = vecmig("discover", "--json", "--model", "wordllama").json["columns"]
    mail = next(one for one in column["proposals"] if one["collection"] == "mail")
    assert (mail["tag"], mail["provider"], mail["adopt_where"]) == (
        TAG,
        "wordllama",
        "public.vector_dims(embedding) = 64",
    )
    langchain.collections.write_text(mail["collections_yaml"])
    result = vecmig(*_words(mail["revision_command"]))
    assert result.stdout.startswith("Wrote migrations/versions/")
    (script,) = langchain.versions
    assert 'm.adopt("embedding", where="public.vector_dims(embedding) = 64")' in script.read_text()


def _words(command: str) -> list[str]:
    return shlex.split(command)[1:]


def test_it_writes_both_once(langchain: Project, vecmig: Vecmig) -> None:
    langchain.collections.write_text(COMMENT + langchain.collections.read_text())
    before = contents(langchain)
    refused = vecmig("discover", "--write", code=2)
    assert refused.stderr.splitlines() == [
        "No table says which model made its vectors, and a tag has to.",
        "Nothing was written.",
        "Say it in place of MODEL:",
        "  vecmig discover handbook --write --model MODEL  # 64 dims",
        "  vecmig discover mail --write --model MODEL  # 64 dims",
    ]
    assert contents(langchain) == before

    written = vecmig("discover", "handbook", "--write", "--model", "wordllama")
    (script,) = langchain.versions
    assert written.stdout.splitlines() == [
        "Wrote migrations/collections.yaml",
        f"Wrote migrations/versions/{script.name}",
    ]
    assert written.stderr.splitlines()[-1] == "Next: vecmig plan, then: vecmig upgrade head"
    assert langchain.collections.read_text().startswith(COMMENT)
    described = yaml.safe_load(langchain.collections.read_text())
    assert described["collections"]["handbook"] == {
        "source": "public.langchain_pg_embedding",
        "key": ["id"],
        "text": "document",
        "where": f"collection_id = '{HANDBOOK}'",
        "metric": "cosine",
        "tag": TAG,
    }
    assert described["tags"][TAG] == {"provider": "wordllama", "dims": 64}
    assert list(described["collections"]) == ["documents", "handbook"]

    vecmig("discover", "--write", "--model", "wordllama")
    assert len(langchain.versions) == 2
    after = contents(langchain)
    for again in (("handbook",), ("langchain_pg_embedding",), ()):
        nothing = vecmig("discover", *again, "--write", "--model", "wordllama")
        assert (nothing.stdout, "Nothing to write" in nothing.stderr) == ("", True)
    assert contents(langchain) == after
    shown = vecmig("discover").stdout
    assert f"  there     handbook is in collections.yaml, with revision {script.name.partition('_')[0]}\n" in shown
    assert "--write" not in shown


def test_a_collection_without_a_revision_gets_its_own(langchain: Project, vecmig: Vecmig) -> None:
    vecmig("discover", "handbook", "--write", "--model", "wordllama")
    text = langchain.collections.read_text()
    for script in langchain.versions:
        script.unlink()
    written = vecmig("discover", "handbook", "--write")
    assert written.stdout == f"Wrote migrations/versions/{langchain.versions[0].name}\n"
    assert langchain.collections.read_text() == text

    langchain.versions[0].unlink()
    other = "wordllama@0.4/dim-256/chunk-none/norm-l2"
    langchain.collections.write_text(text.replace(f"    tag: {TAG}", f"    tag: {other}"))
    refused = vecmig("discover", "handbook", "--write", code=2).stderr
    assert "the vectors to adopt have 64 dims, and its tag is wordllama@0.4/dim-256" in refused
    assert langchain.versions == []


def test_the_example_of_init_gives_way(tmp_path: Path, langchain: Project, vecmig: Vecmig) -> None:
    init_project(tmp_path / "new", ini=tmp_path / "new.ini")
    langchain.collections.write_text((tmp_path / "new" / "collections.yaml").read_text())
    vecmig("discover", "--write", "--model", "wordllama")
    described = yaml.safe_load(langchain.collections.read_text())
    assert (list(described["collections"]), list(described["tags"])) == (["handbook", "mail"], [TAG])
    assert len(langchain.versions) == 2


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--model", "bge-m3"], "It is not known who serves bge-m3."),
        (["--model", "bge-m3", "--provider", "python"], "--provider python gives no recipe of bge-m3@1/dim-64"),
        (["--model", "bge-m3", "--provider", "bge"], "--provider bge gives no recipe of bge-m3@1/dim-64"),
        (["--model", "bge m3"], "'bge m3@1/dim-64/chunk-none/norm-l2' is not a tag."),
        (["handbok", "--model", "x"], "'handbok' is neither a table with vectors nor a collection"),
    ],
)
def test_what_is_not_known_is_asked_for(langchain: Project, vecmig: Vecmig, args: list[str], said: str) -> None:
    before = contents(langchain)
    assert said in vecmig("discover", "--write", *args, code=2).stderr
    assert contents(langchain) == before


def test_one_model_is_not_said_of_two_sizes(langchain: Project, vecmig: Vecmig) -> None:
    langchain.sql("UPDATE langchain_pg_embedding SET embedding = '[1,2,3]' WHERE collection_id = %s", MAIL)
    refused = vecmig("discover", "--write", "--model", "wordllama", code=2).stderr
    assert "--model is said of vectors of 3 and of 64 dims." in refused
    vecmig("discover", "mail", "--write", "--model", "bge-m3", "--provider", "openai", "--in-place")
    (script,) = langchain.versions
    assert 'm.adopt("embedding", home="column")' in script.read_text()


def test_tables_alike_are_shown_together_and_share_a_script(dify: Project, vecmig: Vecmig) -> None:
    shown = vecmig("discover").stdout.splitlines()
    assert shown[0] == "3 tables alike, with embedding: Dify"
    assert "  12    dify_1f2b6e0e  public.embedding_vector_index_1f2b6e0e" in shown
    (line,) = (line for line in shown if line.startswith("  for all   "))
    assert line == "  for all   vecmig discover 'embedding_vector_index_*' --write --model MODEL"
    vecmig(*_words(line.removeprefix("  for all   ").replace("MODEL", "wordllama")))
    described = yaml.safe_load(dify.collections.read_text())
    assert list(described["collections"])[1:] == ["dify_0f2b6e0e", "dify_1f2b6e0e", "dify_2f2b6e0e"]
    (script,) = dify.versions
    assert 'collection = "dify_*"\n' in script.read_text()
    assert "  by hand   add the lines above, then: vecmig revision --collection 'dify_*' --adopt embedding" in shown


def test_a_table_that_comes_later_joins_those_that_are_like_it(dify: Project, vecmig: Vecmig) -> None:
    vecmig("discover", "--write", "--model", "wordllama")
    (script,) = dify.versions
    before = yaml.safe_load(dify.collections.read_text())
    with psycopg.connect(dify.database_url, autocommit=True) as connection:
        for name, dims in (("embedding_vector_index_3f2b6e0e", 64), ("embedding_vector_index_4f2b6e0e", 32)):
            make(connection, layouts.DIFY, name=name, n=dims)
            values = ["gen_random_uuid()", "'t' || i", "'{}'", "({v})::vector"]
            fill(connection, name, ["id", "text", "meta", "embedding"], values, dims=dims)
    shown = vecmig("discover").stdout
    revision = script.name.partition("_")[0]
    assert f"  taken in  by revision {revision}, which is for dify_*\n" in shown
    assert "  adopt     vecmig discover dify_3f2b6e0e --write\n" in shown
    proposals = {one["collection"]: one for c in vecmig("discover", "--json").json["columns"] for one in c["proposals"]}
    assert {name: (one["pattern"], one["taken_in_by"]) for name, one in proposals.items()} == {
        **{f"dify_{n}f2b6e0e": ("dify_*", None) for n in range(3)},
        "dify_3f2b6e0e": ("dify_*", revision),
        "dify2_4f2b6e0e": ("dify2_*", None),
    }

    assert "dify2_4f2b6e0e --write --model MODEL" in vecmig("discover", "--write", code=2).stderr
    joined = vecmig("discover", "dify_3*", "--write")
    assert joined.stdout == "Wrote migrations/collections.yaml\n"
    after = yaml.safe_load(dify.collections.read_text())
    assert list(after["collections"])[-1] == "dify_3f2b6e0e"
    assert after["tags"] == before["tags"]
    (head,) = vecmig("show", "dify_3f2b6e0e@head", "--json").json
    assert (head["revision"], head["pattern"]) == (f"{revision}_dify_3f2b6e0e", "dify_*")

    vecmig("discover", "--write", "--model", "wordllama")
    other = next(path for path in dify.versions if path != script)
    assert 'collection = "dify2_*"\n' in other.read_text()
    assert "Nothing to write" in vecmig("discover", "--write").stderr


def test_those_that_have_scripts_of_their_own_stay_apart(dify: Project, vecmig: Vecmig) -> None:
    vecmig("discover", "dify_0*", "--write", "--model", "wordllama")
    (script,) = dify.versions
    script.write_text(script.read_text().replace("dify_*", "dify_0f2b6e0e"))
    vecmig("discover", "--write", "--model", "wordllama")
    described = [path.read_text().partition('collection = "')[2].partition('"')[0] for path in dify.versions]
    assert sorted(described) == ["dify_0f2b6e0e", "dify_1f2b6e0e", "dify_2f2b6e0e"]


def test_commands_stay_in_one_piece_at_any_width(langchain: Project) -> None:
    narrow, wide = (plain(in_terminal(langchain, "discover", columns=columns)).splitlines() for columns in (80, 200))
    commands = [line for line in wide if "vecmig " in line]
    assert len(commands) == 6
    assert [line for line in commands if "add the lines above, then: vecmig revision" in line]
    assert [line for line in narrow if "vecmig " in line] == commands
    assert all(len(line) <= 80 for line in narrow if "vecmig " not in line)
    bare = in_terminal(langchain, "discover", columns=80, env={"NO_COLOR": "1"})
    assert bare.splitlines() == narrow
    assert "\x1b[1m" in in_terminal(langchain, "discover", columns=80)


def test_nothing_is_found_where_there_is_nothing(project: Project, vecmig: Vecmig) -> None:
    project.load_documents(3)
    assert vecmig("discover").stdout == "0 vector columns in 0 tables; nothing was changed in the database\n"
    assert vecmig("discover", "--json").json["columns"] == []


def _insert(project: Project, table: str, columns: str, rows: Sequence[Sequence[object]]) -> None:
    with psycopg.connect(project.database_url, autocommit=True) as connection, connection.cursor() as cursor:
        places = ", ".join(["%s"] * len(rows[0]))
        cursor.executemany(f"INSERT INTO {table} ({columns}) VALUES ({places})".encode(), rows)


def test_what_it_writes_is_adopted(project: Project, vecmig: Vecmig) -> None:
    """Of what is wrong in these tables, each keeps the vectors that fit from those that do not."""
    texts = [f"{word} number {n}" for n in range(4) for word in ("river", "letter", "engine", "garden", "window")]
    recipe = Recipe.from_mapping(Tag.parse(TAG), {"provider": "wordllama", "dims": 64})
    vectors = [[float(x) for x in row] for row in open_embedder(TAG, recipe).embed_documents(texts)]
    other = [1.0, *[0.0] * 31]
    with psycopg.connect(project.database_url, autocommit=True) as connection:
        for ddl in (layouts.LANGCHAIN, layouts.MEM0):
            make(connection, ddl)
        make(connection, layouts.OPEN_WEBUI, n=96)
        connection.execute("INSERT INTO langchain_pg_collection VALUES (%s, 'mail')", [MAIL])
        connection.execute(
            "CREATE TABLE notes (id int PRIMARY KEY, words text, embedding_model text, emb double precision[])"
        )
    pairs = list(enumerate(zip(texts, vectors, strict=True)))
    sizes = [(str(n), MAIL, text, str(other if n < 3 else vector)) for n, (text, vector) in pairs]
    _insert(project, "langchain_pg_embedding", "id, collection_id, document, embedding", sizes)
    memories = [(uuid4(), json.dumps({"data": text}), str(vector)) for text, vector in zip(texts, vectors, strict=True)]
    _insert(project, "mem0", "id, payload, vector", memories)
    padded = [(str(n), "kb", text, str([*vector, *[0.0] * 32])) for n, (text, vector) in pairs]
    _insert(project, "document_chunk", "id, collection_name, text, vector", padded)
    models = [
        (n, text, "wordllama", vector) if n > 4 else (n, text, "ada-002", vector[::-1]) for n, (text, vector) in pairs
    ]
    _insert(project, "notes", "id, words, embedding_model, emb", models)
    project.collections.write_text("")

    vecmig("discover", "--write", "--model", "wordllama")
    assert len(project.versions) == 4
    vecmig("upgrade", "head")
    found = {one["name"]: one for one in vecmig("status", "--json").json["collections"]}
    assert set(found) == {"mail", "mem0", "document_chunk", "notes"}
    for name, one in found.items():
        (tag,) = one["tags"]
        assert (one["live_tag"], tag["fresh"], tag["coverage"]) == (TAG, 20, 1.0), name
    events = vecmig("events", "--json").stdout
    counts = {one["collection"]: one["data"] for one in json.loads(events) if one["kind"] == "adopt"}
    assert {name: (data["adopted"], data["written"]) for name, data in counts.items()} == {
        "mail": (17, 3),
        "mem0": (20, 0),
        "document_chunk": (20, 0),
        "notes": (15, 5),
    }
    (hit,) = vecmig("search", "mem0", texts[7], "-k", "1", "--json").json
    assert hit["text"] == texts[7]


def test_what_stays_in_its_column_is_adopted_there(project: Project, vecmig: Vecmig) -> None:
    texts = [f"{word} number {n}" for n in range(4) for word in ("river", "letter", "engine", "garden", "window")]
    recipe = Recipe.from_mapping(Tag.parse(TAG), {"provider": "wordllama", "dims": 64})
    with psycopg.connect(project.database_url, autocommit=True) as connection:
        make(connection, layouts.MEM0)
    embedded = open_embedder(TAG, recipe).embed_documents(texts)
    memories = [
        (uuid4(), json.dumps({"data": text}), str([float(x) for x in row]))
        for text, row in zip(texts, embedded, strict=True)
    ]
    _insert(project, "mem0", "id, payload, vector", memories)
    project.collections.write_text("")
    vecmig("discover", "mem0", "--write", "--model", "wordllama", "--in-place")
    vecmig("upgrade", "head")
    (one,) = vecmig("status", "--json").json["collections"]
    (tag,) = one["tags"]
    assert (one["live_tag"], tag["fresh"], tag["index"]) == (TAG, 20, "valid")
    assert project.sql("SELECT count(*) FROM pg_indexes WHERE tablename = 'mem0' AND indexdef LIKE '%hnsw%'") == [(1,)]
    shown = vecmig("discover").stdout
    assert "  there     mem0 is in collections.yaml, with revision " in shown


def test_the_database_is_as_it_was(langchain: Project, vecmig: Vecmig, postgres: Postgres, tmp_path: Path) -> None:
    name = langchain.database_url.partition("@/")[2].partition("?")[0]

    def state() -> tuple[list[str], object]:
        dump(postgres, name, tmp_path / "dump.sql")
        lines = (tmp_path / "dump.sql").read_text().splitlines()
        objects = langchain.sql("SELECT count(*), max(oid::bigint) FROM pg_class")
        return [line for line in lines if not line.startswith(("\\restrict", "\\unrestrict"))], objects

    before = state()
    vecmig("discover")
    json.loads(vecmig("discover", "--json").stdout)
    vecmig("discover", "--write", "--model", "wordllama")
    assert state() == before

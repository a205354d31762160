"""Every kind of collection through the whole story: keys, names, storage, metrics, chunks, providers."""

from __future__ import annotations

import re
from typing import Any

import pytest

from support.cli import (
    Vecmig,
    describe,
    documents_collection,
    local,
    make_documents,
    partition,
    script,
    tag,
    write_hashing,
)
from support.project import Project

A, B = tag("hashing", 16), tag("hashing", 32)
RECIPES = {A: local(16), B: local(32)}


def there_and_back(
    project: Project, vecmig: Vecmig, collection: str = "documents", live: str = "documents_live"
) -> None:
    """Go to A, to B, back to A and forward again, and look at the live view each time."""

    def seen() -> list[tuple[Any, ...]]:
        return project.sql(f"SELECT DISTINCT tag, vector_dims(embedding) FROM {live}")

    script(project, "aaaa", A, collection=collection)
    script(project, "bbbb", B, old=A, down="aaaa", collection=collection)
    for target, expected in [("+1", (A, 16)), ("+1", (B, 32))]:
        vecmig("upgrade", target)
        assert seen() == [expected]
    vecmig("downgrade", "-1", "--no-hold")
    assert seen() == [(A, 16)]
    done = vecmig("upgrade")
    assert "backfill  0 records embedded" in done.stderr
    assert seen() == [(B, 32)]
    vecmig("status", "--check")


@pytest.mark.parametrize("storage", ["vector", "halfvec"])
@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_storages_and_metrics(project: Project, vecmig: Vecmig, storage: str, metric: str) -> None:
    make_documents(project, 30)
    write_hashing(project, 16, 32)
    describe(project, {"documents": documents_collection(B, storage=storage, metric=metric)}, RECIPES)
    there_and_back(project, vecmig)
    best = vecmig("search", "documents", "title 7 body of record 7 about subject0", "-k", "2", "--json").json
    assert best[0]["key"] == [7]
    assert best[0]["distance"] == pytest.approx(-1 if metric == "ip" else 0, abs=0.01)
    assert best[0]["distance"] <= best[1]["distance"]


def test_the_longest_names_that_are_allowed_are_cut_nowhere(project: Project, vecmig: Vecmig) -> None:
    name, schema = "ü" * 20, "ä" * 28 + "s"
    assert (len(name.encode()), len(schema.encode())) == (40, 57)
    make_documents(project, 30)
    write_hashing(project, 16, 32)
    project.ini.write_text(project.ini.read_text() + f"schema = {schema}\n")
    describe(project, {name: documents_collection(B)}, RECIPES)

    there_and_back(project, vecmig, name, f'"{name}_live"')

    made = {
        row[0]
        for row in project.sql(
            "SELECT relname::text FROM pg_class WHERE relname ~ '^(vecmig_)?ü' UNION "
            "SELECT tgname::text FROM pg_trigger WHERE NOT tgisinternal AND tgname ~ 'ü' UNION "
            "SELECT proname::text FROM pg_proc WHERE proname ~ 'ü'"
        )
    }
    assert {f"{name}_vectors", f"{name}_live", f"{name}_search", f"{name}_track"} <= made
    for one in (A, B):
        assert {partition(name, one), f"{partition(name, one)}_hnsw"} <= made
    triggers = {one for one in made if one.startswith("vecmig_")}
    assert {f"vecmig_{name}_track", f"vecmig_{name}_track_update", f"vecmig_{name}_track_truncate"} <= triggers


def test_names_that_need_quoting_and_a_key_of_two_columns(project: Project, vecmig: Vecmig) -> None:
    project.sql('CREATE SCHEMA "My Schema"')
    project.sql(
        'CREATE TABLE "My Schema"."Größe" ("Key Part" uuid, "select" text, "Text ""q""" text, tag text, '
        'PRIMARY KEY ("Key Part", "select"))'
    )
    project.sql(
        """INSERT INTO "My Schema"."Größe" SELECT md5((i % 5)::text)::uuid, 'it''s ' || i, 'words of ' || i, 'x' """
        "FROM generate_series(1, 25) AS i"
    )
    write_hashing(project, 16, 32)
    wanted = {
        "source": '"My Schema"."Größe"',
        "key": ["Key Part", "select"],
        "text": '"Text ""q""" || \' %d 100 % sure\'',
        "where": '"Text ""q""" NOT LIKE \'%never%\'',
        "tag": B,
    }
    describe(project, {"My docs": wanted}, RECIPES)
    there_and_back(project, vecmig, "My docs", '"My Schema"."My docs_live"')
    (hit,) = vecmig("search", "My docs", "words of 7 %d 100 % sure", "-k", "1", "--json").json
    assert hit["key"][1] == "it's 7"
    project.sql('UPDATE "My Schema"."Größe" SET "Text ""q""" = \'never\' WHERE "select" = \'it\'\'s 7\'')
    project.sql("""DELETE FROM "My Schema"."Größe" WHERE "select" = 'it''s 8'""")
    vecmig("sync", "My docs")
    (collection,) = vecmig("status", "--json").json["collections"]
    # the row that where leaves out now is not found any more, and keeps its vectors
    assert [(row["records"], row["fresh"], row["vectors"]) for row in collection["tags"]] == [(24, 23, 24)] * 2
    assert project.sql('SELECT count(*) FROM "My Schema"."My docs_live"') == [(23,)]


def test_a_uuid_key_and_a_view_as_the_source(project: Project, vecmig: Vecmig) -> None:
    project.sql("CREATE TABLE papers (id uuid PRIMARY KEY, abstract text, hidden bool)")
    project.sql(
        "INSERT INTO papers SELECT md5(i::text)::uuid, 'abstract number ' || i, i % 10 = 0 "
        "FROM generate_series(1, 30) AS i"
    )
    project.sql("CREATE VIEW visible AS SELECT * FROM papers WHERE NOT hidden")
    write_hashing(project, 16, 32)
    wanted = {"source": "visible", "key": ["id"], "text": "abstract", "tag": B, "change_tracking": "scan"}
    describe(project, {"papers": wanted}, RECIPES)
    there_and_back(project, vecmig, "papers", "papers_live")
    assert project.sql("SELECT count(*) FROM papers_live") == [(27,)]
    project.sql("UPDATE papers SET hidden = true WHERE abstract LIKE '%7'")
    assert project.sql("SELECT count(*) FROM papers_live") == [(24,)]
    vecmig("sync")
    assert project.sql("SELECT count(*) FROM papers_vectors") == [(48,)]


def test_chunks(project: Project, vecmig: Vecmig) -> None:
    make_documents(project, 6)
    project.sql("UPDATE documents SET body = repeat('many words of record ' || id || '. ', id::int * 2)")
    write_hashing(project, 16)
    chunked = tag("hashing", 16, chunk="60")
    recipe = local(16) | {"chunk": {"size": 60, "unit": "characters", "overlap": 10}}
    describe(project, {"documents": documents_collection(chunked)}, {chunked: recipe})
    script(project, "aaaa", chunked)
    vecmig("upgrade")
    rows = project.sql("SELECT id, max(chunk) + 1, count(*), max(length(chunk_text)) FROM documents_vectors GROUP BY 1")
    assert len(rows) == 6
    assert all(last == count and length <= 60 for _, last, count, length in rows)
    assert max(count for _, _, count, _ in rows) > 3
    (hit,) = vecmig("search", "documents", "many words of record 5", "-k", "1", "--json").json
    assert len(hit["text"]) <= 60
    assert hit["record"]["body"].startswith(hit["record"]["body"][:20])
    # a shorter text has fewer chunks, and none of the old ones stays
    project.sql("UPDATE documents SET body = 'short' WHERE id = 6")
    vecmig("sync")
    assert project.sql("SELECT count(*), min(chunk_text) FROM documents_vectors WHERE id = 6") == [(1, "title 6 short")]
    (collection,) = vecmig("status", "--json").json["collections"]
    assert (collection["tags"][0]["records"], collection["tags"][0]["coverage"]) == (6, 1.0)
    assert collection["tags"][0]["vectors"] > 10


def test_two_collections(project: Project, vecmig: Vecmig) -> None:
    make_documents(project, 20)
    project.sql("CREATE TABLE notes (id text PRIMARY KEY, note text)")
    project.sql("INSERT INTO notes SELECT 'n' || i, 'note about subject ' || i FROM generate_series(1, 12) AS i")
    write_hashing(project, 16, 32)
    notes = {"source": "notes", "key": ["id"], "text": "note", "tag": A}
    describe(project, {"notes": notes, "documents": documents_collection(B)}, RECIPES)
    first = vecmig("revision", "--autogenerate").stdout
    assert len(first.splitlines()) == 2
    vecmig("upgrade", "heads")
    rows = vecmig("status", "--json").json["collections"]
    assert [(c["name"], c["live_tag"], c["eligible"]) for c in rows] == [("documents", B, 20), ("notes", A, 12)]
    assert vecmig("check").stdout == "Nothing is pending.\n"
    both = vecmig("sync").stdout.splitlines()
    assert both == [f"notes, {A}: 12 of 12 records fresh, 100 %", f"documents, {B}: 20 of 20 records fresh, 100 %"]
    assert vecmig("sync", "notes").stdout.splitlines() == both[:1]


def test_two_collections_with_the_same_tag(project: Project, vecmig: Vecmig) -> None:
    make_documents(project, 20)
    project.sql("CREATE TABLE notes (id text PRIMARY KEY, note text)")
    project.sql("INSERT INTO notes SELECT 'n' || i, 'note about subject ' || i FROM generate_series(1, 12) AS i")
    write_hashing(project, 16, 32)
    notes = {"source": "notes", "key": ["id"], "text": "note", "tag": A}
    describe(project, {"notes": notes, "documents": documents_collection(A)}, RECIPES)
    script(project, "aaaa", A)
    script(project, "cccc", A, collection="notes", down="aaaa")
    vecmig("upgrade", "--until", "backfill")
    vecmig("upgrade")
    assert sorted(vecmig("sync").stdout.splitlines()) == [
        f"documents, {A}: 20 of 20 records fresh, 100 %",
        f"notes, {A}: 12 of 12 records fresh, 100 %",
    ]


def test_a_callable_that_is_told_the_kind(project: Project, vecmig: Vecmig) -> None:
    make_documents(project, 10)
    (project.path / "hashing_kinds.py").write_text(
        "import zlib\nimport numpy as np\n"
        "def embed(texts, kind):\n"
        "    with open('kinds', 'a') as log:\n"
        "        log.write(kind + '\\n')\n"
        "    return np.array([np.random.default_rng(zlib.crc32(t.encode())).standard_normal(16) * 3 for t in texts])\n"
    )
    recipe = {"provider": "python", "callable": "hashing_kinds:embed", "dims": 16}
    describe(project, {"documents": documents_collection(A)}, {A: recipe})
    script(project, "aaaa", A)
    vecmig("upgrade")
    assert project.sql("SELECT DISTINCT round(vector_norm(embedding)::numeric, 3) FROM documents_live") == [(1,)]
    kinds = project.path / "kinds"
    assert set(kinds.read_text().split()) == {"document", "query"}, "the gate asks questions, too"
    kinds.unlink()
    vecmig("search", "documents", "anything", "-k", "1")
    assert kinds.read_text().split() == ["query"]


def test_prompts_are_applied(project: Project, vecmig: Vecmig) -> None:
    make_documents(project, 5)
    (project.path / "hashing_log.py").write_text(
        "import zlib\nimport numpy as np\n"
        "def embed(texts):\n"
        "    with open('asked', 'a') as log:\n"
        "        log.writelines(text + '\\n' for text in texts)\n"
        "    plain = [text.split(': ', 1)[1].encode() for text in texts]\n"
        "    return np.array([np.random.default_rng(zlib.crc32(text)).standard_normal(16) for text in plain])\n"
    )
    recipe = {
        "provider": "python",
        "callable": "hashing_log:embed",
        "dims": 16,
        "document_prompt": "passage: {text}",
        "query_prompt": "query: {text}",
    }
    describe(project, {"documents": documents_collection(A)}, {A: recipe})
    script(project, "aaaa", A)
    vecmig("upgrade")
    vecmig("search", "documents", "what {text}?", "-k", "1")
    asked = (project.path / "asked").read_text().splitlines()
    assert asked[-1] == "query: what {text}?"
    assert "passage: title 1 body of record 1 about subject1" in asked


def test_execute_runs_once_when_a_script_is_resumed(project: Project, vecmig: Vecmig) -> None:
    make_documents(project, 10)
    write_hashing(project, 16)
    describe(project, {"documents": documents_collection(A)}, RECIPES)
    steps = {
        "upgrade": "m.execute('INSERT INTO public.log VALUES (1)')\nm.execute(\"SELECT '100 %s'\")\n"
        "m.expand()\nm.execute('INSERT INTO public.log VALUES (2)')",
        "cutover": "m.build_index()\nm.execute('INSERT INTO public.log VALUES (3)')\n"
        "m.execute('INSERT INTO public.later VALUES (4)')\nm.cutover(gate)",
        "downgrade": "m.execute('DELETE FROM public.log')\nm.rollback()",
    }
    path = script(project, "aaaa", A, **steps)
    failed = vecmig("upgrade", code=1)
    assert failed.stderr.splitlines()[-3:] == [
        (
            "Statement 1 of upgrade() in revision aaaa failed: The database refuses: "
            'relation "public.log" does not exist (SQLSTATE 42P01).'
        ),
        "It left nothing behind; what stands before it in the script stays.",
        "Correct it (vecmig edit aaaa), then run the same command again: it goes on there.",
    ]
    assert vecmig("status", "--json").json["pending"] == ["aaaa"]
    project.sql("CREATE TABLE public.log (n int)")
    assert "public.later" in vecmig("upgrade", code=1).stderr
    assert project.sql("SELECT n FROM log ORDER BY n") == [(1,), (2,), (3,)]
    text = path.read_text()
    path.write_text(text.replace("log VALUES (3)", "log VALUES (33)"))
    changed = vecmig("upgrade", code=2)
    assert changed.stderr.splitlines()[-3:] == [
        "Statement 1 of cutover() in revision aaaa changed after it ran.",
        "Nothing was changed.",
        "Take the change back, or put the new statement into a revision of its own.",
    ]
    path.write_text(text)
    project.sql("CREATE TABLE public.later (n int)")
    vecmig("upgrade")
    assert project.sql("SELECT n FROM log ORDER BY n") == [(1,), (2,), (3,)]
    assert project.sql("SELECT n FROM later") == [(4,)]
    vecmig("downgrade", "-1", "--no-hold")
    vecmig("upgrade")
    assert project.sql("SELECT n FROM log ORDER BY n") == [(1,), (2,), (3,)]
    assert project.sql("SELECT n FROM later") == [(4,), (4,)]


def test_a_revision_without_a_collection(project: Project, vecmig: Vecmig) -> None:
    nothing = {"backfill": "pass", "cutover": "pass"}
    script(
        project,
        "aaaa",
        None,
        collection=None,
        upgrade="m.execute('CREATE TABLE extra (n int)')",
        downgrade="m.execute('DROP TABLE extra')",
        **nothing,
    )
    make_documents(project, 3)
    write_hashing(project, 16)
    describe(project, {"documents": documents_collection(A)}, RECIPES)
    assert vecmig("upgrade").stdout == "aaaa  live  revision aaaa\n"
    assert vecmig("upgrade").stdout == "Nothing to do: the database is there already.\n"
    assert vecmig("downgrade", "base").stdout == "aaaa  rolled back  revision aaaa\n"
    assert project.sql("SELECT to_regclass('extra') IS NULL") == [(True,)]
    vecmig("upgrade")
    script(project, "bbbb", None, collection=None, upgrade="m.expand()", down="aaaa", **nothing)
    refused = vecmig("upgrade", code=2)
    assert refused.stderr.splitlines()[-1] == "Revision bbbb has no collection, so it can only m.execute()."
    assert re.match(r"aaaa  live", vecmig("current").stdout)


def test_an_empty_source(project: Project, vecmig: Vecmig) -> None:
    make_documents(project, 0)
    write_hashing(project, 16)
    describe(project, {"documents": documents_collection(A)}, RECIPES)
    script(project, "aaaa", A)
    vecmig("upgrade")
    assert vecmig("search", "documents", "anything", "--json").json == []
    assert vecmig("search", "documents", "anything").stdout == ""
    project.sql("INSERT INTO documents VALUES (1, 'first', 'record')")
    vecmig("sync")
    assert len(vecmig("search", "documents", "anything", "--json").json) == 1
    assert vecmig("status", "--check").code == 0


def test_three_tags_and_back_to_the_first_as_a_revision(project: Project, vecmig: Vecmig) -> None:
    make_documents(project, 20)
    third = tag("hashing", 48)
    write_hashing(project, 16, 32, 48)
    describe(project, {"documents": documents_collection(third)}, RECIPES | {third: local(48)})
    script(project, "aaaa", A)
    script(project, "bbbb", B, old=A, down="aaaa")
    script(project, "cccc", third, old=B, down="bbbb")
    vecmig("upgrade")
    assert vecmig("status", "--json").json["collections"][0]["standby_tag"] == B
    vecmig("downgrade", "-1", "--no-hold")
    (collection,) = vecmig("status", "--json").json["collections"]
    assert (collection["live_tag"], collection["standby_tag"]) == (B, A)
    vecmig("downgrade", "-1", "--no-hold")
    (collection,) = vecmig("status", "--json").json["collections"]
    assert (collection["live_tag"], collection["standby_tag"], collection["candidate_tag"]) == (A, None, None)
    vecmig("upgrade", "heads")
    vecmig("downgrade", "aaaa", "--no-hold")
    assert vecmig("current").stdout == "aaaa  live  revision aaaa\n"
    vecmig("upgrade")
    stamps = project.sql("SELECT tag, id, embedded_at FROM documents_vectors ORDER BY 1, 2")
    script(project, "dddd", A, old=third, down="cccc")
    vecmig("upgrade")
    assert project.sql("SELECT tag, id, embedded_at FROM documents_vectors ORDER BY 1, 2") == stamps
    assert project.sql("SELECT DISTINCT tag FROM documents_live") == [(A,)]
    vecmig("downgrade", "-1", "--no-hold")
    assert project.sql("SELECT DISTINCT tag FROM documents_live") == [(third,)]


def test_a_callable_beside_an_ini_that_is_elsewhere(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    make_documents(project, 5)
    (project.path / "hashing_beside.py").write_text(
        "import zlib\nimport numpy as np\n"
        "def embed(texts):\n"
        "    return np.array([np.random.default_rng(zlib.crc32(t.encode())).standard_normal(16) for t in texts])\n"
    )
    recipe = {"provider": "python", "callable": "hashing_beside:embed", "dims": 16}
    describe(project, {"documents": documents_collection(A)}, {A: recipe})
    script(project, "aaaa", A)
    project.vecmig("-c", str(project.ini), "upgrade", cwd=tmp_path_factory.mktemp("elsewhere")).expect(0)

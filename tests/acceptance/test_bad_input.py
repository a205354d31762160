"""All that a person can get wrong: exit code, whole message, nothing half done, and the right run afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.cli import Vecmig, describe, documents_collection, local, make_documents, script, tag, write_hashing
from support.project import INI, Project
from vecmig.ledger.schema import VERSION

A, B = tag("hashing", 16), tag("hashing", 32)
RECIPES = {A: local(16), B: local(32)}
SCHEMAS = "SELECT count(*) FROM pg_namespace WHERE nspname = 'vecmig'"
YAML = "migrations/collections.yaml"


@pytest.fixture
def ready(project: Project) -> Project:
    """A project in which ``vecmig upgrade`` would succeed."""
    make_documents(project, 20)
    write_hashing(project, 16, 32)
    describe(project, {"documents": documents_collection(A)}, RECIPES)
    script(project, "aaaa", A)
    return project


def collection(project: Project, **fields: Any) -> None:
    """Write the collection anew with some fields changed."""
    describe(project, {"documents": documents_collection(A, **fields)}, RECIPES)


def refused(project: Project, vecmig: Vecmig, code: int, said: str, *command: str) -> None:
    """Fail as said, with the whole message; and leave nothing in a database that had nothing."""
    before = project.sql(SCHEMAS)
    result = vecmig(*(command or ("upgrade", "head")), code=code)
    assert result.stdout == ""
    assert result.stderr == said
    assert project.sql(SCHEMAS) == before, "nothing was installed"


# Configuration -----------------------------------------------------------------------------------------------------


def test_no_configuration(ready: Project, vecmig: Vecmig) -> None:
    ready.ini.rename(ready.path / "elsewhere.ini")
    said = (
        f"There is no vecmig.ini in {ready.path}, and no [tool.vecmig] in a pyproject.toml there.\n"
        "Run: vecmig init, or name the file with -c\n"
    )
    for command in (["upgrade"], ["status"], ["gate"], ["search", "documents", "x"], ["downgrade", "-1"]):
        refused(ready, vecmig, 2, said, *command)
    vecmig("-c", "elsewhere.ini", "upgrade")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("database_url = x\n", "vecmig.ini:1: this line stands before any [section].\n"),
        ("[vecmig]\ndatabase_url\n", "vecmig.ini:2: this line is not of the form option = value.\n"),
        ("[other]\na = b\n", "vecmig.ini has no section [vecmig].\nAdd [vecmig], or run: vecmig init\n"),
        ("[vecmig]\ndatabse_url = x\n", "vecmig.ini:2: unknown option 'databse_url'; did you mean database_url?\n"),
        (
            "[vecmig]\nscript_location = migrations\n",
            "vecmig.ini does not say database_url.\nAdd database_url = postgresql://…, or set VECMIG_DATABASE_URL\n",
        ),
        (
            "[vecmig]\ndatabase_url = mysql://me:secret@host/db\n",
            (
                "vecmig.ini:2: database_url 'mysql://me:***@host/db' is not a database that vecmig knows.\n"
                "Write postgresql://user@host/database, or embedded:.vecmig/pgdata\n"
            ),
        ),
        (
            "[vecmig]\ndatabase_url = postgresql://me:${NO_SUCH}@host/db\n",
            (
                "vecmig.ini:2: database_url needs the environment variable NO_SUCH, which is not set.\n"
                "Set it: export NO_SUCH=…\n"
            ),
        ),
        (
            "[vecmig]\ndatabase_url = postgresql://h/d\nlock_wait = soon\n",
            "vecmig.ini:3: lock_wait is 'soon'; a number of seconds from 0 is needed.\n",
        ),
    ],
)
def test_a_bad_ini(ready: Project, vecmig: Vecmig, text: str, said: str) -> None:
    good = ready.ini.read_text()
    ready.ini.write_text(text)
    if said.count("\n") == 1 and "this line" in said:
        said += "A line reads: option = value, below [vecmig]\n"
    refused(ready, vecmig, 2, said)
    ready.ini.write_text(good)
    vecmig("upgrade")


def test_the_script_location_does_not_exist(ready: Project, vecmig: Vecmig) -> None:
    ready.ini.write_text(INI.format(database_url=ready.database_url).replace("= migrations\n", "= nowhere\n"))
    result = vecmig("upgrade", code=2)
    assert result.stderr.startswith("The script location nowhere does not exist")


def test_no_collections_file(ready: Project, vecmig: Vecmig) -> None:
    text = ready.collections.read_text()
    ready.collections.unlink()
    result = vecmig("upgrade", code=2)
    assert result.stderr.splitlines()[0] == f"{YAML} does not exist."
    ready.collections.write_text(text)
    vecmig("upgrade")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"documents": documents_collection(B)} | {"x": 1},
            "collection x: must be a mapping with source, key and text",
        ),
        ({"papers": documents_collection(A)}, None),
    ],
)
def test_an_unknown_or_broken_collection(
    ready: Project, vecmig: Vecmig, changes: dict[str, Any], said: str | None
) -> None:
    text = ready.collections.read_text()
    describe(ready, changes, RECIPES)
    result = vecmig("upgrade", code=2)
    if said is None:
        assert result.stderr == (
            f"{YAML} has no collection 'documents'; it has: papers.\nAdd it under collections: in {YAML}\n"
        )
    else:
        assert said in result.stderr
    assert ready.sql(SCHEMAS) == [(0,)]
    ready.collections.write_text(text)
    vecmig("upgrade")


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        (local(16) | {"dims": 15}, "dims: 15, but the tag says dim-16"),
        (local(16) | {"normalise": "none"}, "normalise: 'none', but the tag says norm-l2"),
        (local(16) | {"chunk": {"size": 5}}, "chunk: size 5, but the tag says chunk-none"),
        (local(16) | {"model": "other"}, "model: 'other', but the tag says hashing"),
        ({"dims": 16}, "provider is missing: one of"),
        (local(16) | {"api_key_env": "sk-live-1234567890"}, "api_key_env: "),
    ],
)
def test_a_tag_and_a_recipe_that_disagree(ready: Project, vecmig: Vecmig, recipe: dict[str, Any], said: str) -> None:
    describe(ready, {"documents": documents_collection(A)}, {A: recipe})
    result = vecmig("upgrade", code=2)
    assert said in result.stderr
    assert result.stderr.startswith(f"{YAML}:")
    assert "sk-live" not in result.stderr
    assert ready.sql(SCHEMAS) == [(0,)]


def test_a_tag_without_a_recipe(ready: Project, vecmig: Vecmig) -> None:
    describe(ready, {"documents": documents_collection(B)}, {B: local(32)})
    result = vecmig("upgrade", code=2)
    assert A in result.stderr.splitlines()[0]
    assert "provider:" in result.stderr
    assert ready.sql(SCHEMAS) == [(0,)]


def test_a_recipe_that_changed_under_its_tag(ready: Project, vecmig: Vecmig) -> None:
    vecmig("upgrade", "--until", "expand")
    describe(ready, {"documents": documents_collection(A)}, {A: local(16) | {"document_prompt": "passage: {text}"}})
    said = (
        f"The recipe of {A} changed since the tag was recorded: "
        "document_prompt: 'passage: {text}', not '{text}'.\n"
        "No vector was made by the recorded one yet. Nothing was changed.\n"
        "Begin the tag again: vecmig downgrade -1 --discard, then: vecmig upgrade. Or take the change back in "
        "collections.yaml\n"
    )
    for command in ("upgrade", "backfill", "sync"):
        assert vecmig(command, code=2).stderr.endswith(said)
    assert ready.sql("SELECT count(*) FROM documents_vectors") == [(0,)]
    # how the provider is reached may change at any time
    describe(ready, {"documents": documents_collection(A)}, {A: local(16) | {"concurrency": 2}})
    vecmig("upgrade")


def test_a_collection_that_changed_under_its_vectors(ready: Project, vecmig: Vecmig) -> None:
    vecmig("upgrade")
    ready.sql("CREATE TABLE other AS SELECT * FROM documents")
    script(ready, "bbbb", B, old=A, down="aaaa")
    describe(ready, {"documents": documents_collection(B, metric="l2")}, RECIPES)
    result = vecmig("upgrade", code=1)
    assert result.stderr.splitlines()[-3:] == [
        "Collection documents is recorded otherwise than collections.yaml has it: metric: cosine → l2.",
        "Nothing was changed.",
        "Its vectors rest on these. Take the change back, or give the collection a new name.",
    ]
    describe(ready, {"documents": documents_collection(B, source="public.other")}, RECIPES)
    result = vecmig("upgrade", code=1)
    assert result.stderr.splitlines()[-4:] == [
        "public.other is another table than the one whose vectors documents has: that is called public.documents now.",
        "Nothing was changed; the vectors are kept.",
        "If public.other has its records now, run: vecmig adopt-source documents",
        "If public.documents still has them, write source: public.documents in collections.yaml.",
    ]
    describe(ready, {"documents": documents_collection(B)}, RECIPES)
    vecmig("upgrade")


@pytest.mark.parametrize(
    ("storage", "dims", "way_out"),
    [("vector", 3072, "halfvec"), ("halfvec", 4096, "at most 4,000"), ("vector", 2001, "halfvec")],
)
def test_dims_that_cannot_be_indexed(ready: Project, vecmig: Vecmig, storage: str, dims: int, way_out: str) -> None:
    big = tag("big", dims)
    describe(ready, {"documents": documents_collection(None, storage=storage)}, {big: local(dims)})
    script(ready, "aaaa", big)
    result = vecmig("upgrade", code=2)
    first, state, *_ = result.stderr.splitlines()
    assert first.startswith(f"{big} cannot be indexed: ")
    assert way_out in result.stderr
    assert state == "Nothing was changed."
    assert ready.sql(SCHEMAS) == [(0,)]
    describe(ready, {"documents": documents_collection(big, storage=storage)}, {big: local(dims)})
    assert vecmig("upgrade", code=2).stderr.startswith(f"{YAML}:")


# Scripts and revisions ---------------------------------------------------------------------------------------------


def test_two_heads(ready: Project, vecmig: Vecmig) -> None:
    vecmig("upgrade")
    script(ready, "bbbb", B, old=A, down="aaaa")
    script(ready, "cccc", None, collection=None, down="aaaa", upgrade="pass", backfill="pass", cutover="pass")
    refused(
        ready,
        vecmig,
        2,
        "'head' is ambiguous: there are 2 heads, bbbb, cccc.\n"
        "Join them with: vecmig merge heads   (or name one of them; `heads` means all)\n",
    )
    assert vecmig("status").stdout.splitlines()[-1] == "next      vecmig upgrade heads"
    assert vecmig("check", code=4).stderr == "Revisions are pending: cccc, bbbb.\nRun: vecmig upgrade heads\n"
    vecmig("merge", "heads", "--rev-id", "dddd")
    vecmig("upgrade")
    assert vecmig("current").stdout.startswith("dddd  live (head)")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("zzzz", "There is no revision or branch 'zzzz'.\nTo see them: vecmig history\n"),
        ("aa", "'aa' could be aaaa, aabb.\nWrite more characters of the one that is meant.\n"),
        ("+9", "'+9' leads nowhere: it leads beyond the first or last revision.\nTo see the order: vecmig history\n"),
    ],
)
def test_an_unknown_or_ambiguous_revision(ready: Project, vecmig: Vecmig, target: str, said: str) -> None:
    script(ready, "aabb", B, old=A, down="aaaa")
    refused(ready, vecmig, 2, said, "upgrade", target)
    if target != "+9":
        vecmig("upgrade")
        refused(ready, vecmig, 2, said, "downgrade", target)


def test_a_downgrade_to_where_the_database_never_was(ready: Project, vecmig: Vecmig) -> None:
    script(ready, "bbbb", B, old=A, down="aaaa")
    assert vecmig("downgrade", "-1", code=2).stderr == (
        "There is nothing to downgrade: no revision was applied here.\nRun: vecmig status\n"
    )
    vecmig("upgrade", "aaaa")
    assert vecmig("downgrade", "bbbb", code=2).stderr.splitlines()[0] == (
        "A downgrade cannot lead to 'bbbb': it is not below the current revision, aaaa."
    )
    assert vecmig("downgrade", "-2", code=2).stderr.splitlines()[0].startswith("'-2' leads nowhere")
    assert vecmig("downgrade", code=2).stderr.splitlines()[1].startswith("Missing argument")
    vecmig("upgrade")


def test_cyclic_revisions(ready: Project, vecmig: Vecmig) -> None:
    script(ready, "aaaa", A, down="bbbb")
    script(ready, "bbbb", B, old=A, down="aaaa")
    result = vecmig("upgrade", code=2)
    first, hint = result.stderr.splitlines()
    assert first.startswith("The revisions ")
    assert first.endswith(" form a circle by their down_revision.")
    assert hint == "Correct down_revision in one of these scripts."
    assert ready.sql(SCHEMAS) == [(0,)]


def break_syntax(path: Path) -> None:
    path.write_text(path.read_text().replace("def upgrade(m: Migration) -> None:", "def upgrade(m: Migration -> None:"))


def break_import(path: Path) -> None:
    path.write_text("import nothing_of_that_name\n" + path.read_text())


def forget_function(path: Path) -> None:
    path.write_text(path.read_text().replace("def cutover", "def cut_over"))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (break_syntax, "migrations/versions/aaaa_test.py:20: the script is not valid Python: invalid syntax."),
        (break_import, "migrations/versions/aaaa_test.py:1: the script cannot be imported: ModuleNotFoundError"),
        (forget_function, "migrations/versions/aaaa_test.py"),
    ],
)
def test_a_script_that_cannot_be_used(
    ready: Project, vecmig: Vecmig, damage: Callable[[Path], None], said: str
) -> None:
    path = ready.versions[0]
    text = path.read_text()
    damage(path)
    for command in ("upgrade", "status", "current", "check"):
        result = vecmig(command, code=2)
        assert said in result.stderr.splitlines()[0]
    assert ready.sql(SCHEMAS) == [(0,)]
    path.write_text(text)
    vecmig("upgrade")


def test_a_script_that_raises(ready: Project, vecmig: Vecmig) -> None:
    path = script(ready, "aaaa", A, upgrade="m.expand()\n1 / 0")
    result = vecmig("upgrade", code=1)
    assert result.stderr.splitlines()[-3:] == [
        "upgrade() of revision aaaa failed in line 22 of aaaa_test.py: ZeroDivisionError: division by zero.",
        "What its steps have committed stays.",
        "Correct it (vecmig edit aaaa), then run the same command again: it goes on from there.",
    ]
    assert path.exists()
    script(ready, "aaaa", A)
    vecmig("upgrade")


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ({"upgrade": "pass"}, "upgrade() of revision aaaa ended without making room for its new tag."),
        ({"cutover": "m.build_index()"}, "cutover() of revision aaaa ended, and its new tag is not live."),
    ],
)
def test_a_script_that_forgets_its_work(ready: Project, vecmig: Vecmig, steps: dict[str, str], said: str) -> None:
    script(ready, "aaaa", A, **steps)
    result = vecmig("upgrade", code=2)
    assert said in result.stderr.splitlines()
    assert result.stderr.splitlines()[-1].endswith("vecmig edit aaaa")
    script(ready, "aaaa", A)
    vecmig("upgrade")
    script(ready, "aaaa", A, downgrade="pass")
    vecmig("stamp", "aaaa")
    forgot = vecmig("downgrade", "-1", code=2)
    assert forgot.stderr.splitlines()[0] == "downgrade() of revision aaaa ended without rolling it back."
    assert vecmig("current").stdout == "aaaa  live (head)  revision aaaa\n"


def test_a_script_changed_after_it_was_applied(ready: Project, vecmig: Vecmig) -> None:
    vecmig("upgrade")
    script(ready, "bbbb", B, old=A, down="aaaa")
    path = ready.versions[0]
    text = path.read_text()
    path.write_text("# a comment, and more white space\n\n\n" + text.replace("m.expand()", "m.expand()  # here"))
    vecmig("upgrade", "bbbb", "--until", "expand")
    path.write_text(text.replace("m.expand()", "m.expand()\n    m.execute('SELECT 1')"))
    said = (
        "Revision aaaa (aaaa_test.py) was changed after it was applied.\n"
        "Nothing was changed.\n"
        "Take the change back (git checkout), or if it is meant, record it: vecmig stamp aaaa\n"
    )
    assert vecmig("upgrade", code=2).stderr == said
    path.write_text(text)
    vecmig("upgrade")


def test_a_change_that_is_meant_is_stamped(ready: Project, vecmig: Vecmig) -> None:
    vecmig("upgrade")
    script(ready, "aaaa", A, upgrade="m.expand()\nm.execute('SELECT 1')")
    assert "was changed after it was applied" in vecmig("upgrade", code=2).stderr
    assert vecmig("stamp", "aaaa").stdout == "Recorded: aaaa\n"
    vecmig("upgrade")


def test_a_started_revision_that_now_says_otherwise(ready: Project, vecmig: Vecmig) -> None:
    vecmig("upgrade", "--until", "expand")
    script(ready, "aaaa", B)
    assert vecmig("upgrade", code=2).stderr == (
        f"Revision aaaa was started as documents: no tag → {A}, and now says documents: no tag → {B}.\n"
        "Nothing was changed.\n"
        "Take the change back, and make a new revision for it: vecmig revision\n"
    )
    script(ready, "aaaa", A)
    vecmig("upgrade")


def test_a_revision_that_starts_from_another_tag(ready: Project, vecmig: Vecmig) -> None:
    script(ready, "aaaa", A, old=B)
    result = vecmig("upgrade", code=2)
    assert result.stderr.splitlines()[-3:] == [
        f"Revision aaaa starts from {B}, but documents reads no tag.",
        "Nothing was changed.",
        "Correct old_tag (vecmig edit aaaa), or run the revisions between first.",
    ]
    script(ready, "aaaa", A)
    script(ready, "bbbb", B, down="aaaa")
    chain = vecmig("upgrade", code=2)
    assert chain.stderr == (
        f"Revision bbbb starts from no tag, but aaaa before it leaves documents at {A}.\n"
        "Nothing was changed.\nCorrect old_tag: vecmig edit bbbb\n"
    )
    script(ready, "bbbb", B, old=A, down="aaaa")
    vecmig("upgrade")


def test_a_gate_that_is_too_strict_is_changed_in_the_revision(ready: Project, vecmig: Vecmig) -> None:
    script(
        ready,
        "aaaa",
        A,
        gate="Gate(coverage=1.0, freshness_budget=0)",
        cutover='m.build_index()\nm.execute("DELETE FROM documents_vectors WHERE id = 1")\nm.cutover(gate)',
    )
    result = vecmig("upgrade", code=3)
    assert result.stderr.splitlines()[-3:] == [
        f"The gate of documents refuses the cutover to {A}: coverage, freshness, unexplained.",
        "Nothing was changed: reads go on as before.",
        "Run: vecmig backfill",
    ]
    assert "95 %" in result.stdout
    script(ready, "aaaa", A, gate="Gate(coverage=0.9, freshness_budget=0.1)")
    vecmig("upgrade")


# The source --------------------------------------------------------------------------------------------------------

EXPRESSION = "It is SQL over the source's columns; correct it in collections.yaml.\n"
ELSEWHERE = (
    "vecmig finds by itself only what is PostgreSQL's own, whatever the search_path says. Name the schema of all else "
    "in collections.yaml, like public.unaccent(title), OPERATOR(public.->) or ::public.citext.\n"
)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            {"source": "public.nowhere"},
            (
                'Collection documents: the source "public"."nowhere" does not exist in this database.\n'
                "Correct source: in collections.yaml, or check that database_url names the right database.\n"
            ),
        ),
        (
            {"key": ["ident"]},
            (
                "Collection documents: public.documents has no column 'ident', named in key:.\n"
                "Its columns are: id, title, body\n"
            ),
        ),
        (
            {"text": "titel || body"},
            (
                "Collection documents: the text expression 'titel || body' does not work: "
                f'column "titel" does not exist.\n{EXPRESSION}'
            ),
        ),
        (
            {"text": "title ||"},
            (
                "Collection documents: the text expression 'title ||' does not work: "
                f'syntax error at or near ")".\n{EXPRESSION}'
            ),
        ),
        (
            {"where": "title"},
            (
                "Collection documents: the where expression 'title' does not work: "
                f"argument of WHERE must be type boolean, not type text.\n{EXPRESSION}"
            ),
        ),
        (
            {"where": "no_such(id)"},
            (
                "Collection documents: the where expression 'no_such(id)' does not work: "
                f"function no_such(bigint) does not exist.\n{ELSEWHERE}"
            ),
        ),
        (
            {"text": "string_agg(body, '')"},
            None,
        ),
        (
            {"text": "(SELECT 1; SELECT 2)"},
            None,
        ),
    ],
)
def test_a_source_that_does_not_fit(ready: Project, vecmig: Vecmig, fields: dict[str, Any], said: str | None) -> None:
    collection(ready, **fields)
    result = vecmig("upgrade", code=2)
    if said is not None:
        assert result.stderr.removeprefix("aaaa  documents\n") == said
    assert "failed unexpectedly" not in result.stderr
    assert ready.sql("SELECT count(*) FROM pg_class WHERE relname ~ '^documents_(vectors|live)'") == [(0,)]
    collection(ready)
    vecmig("upgrade")


def test_duplicate_and_null_keys(ready: Project, vecmig: Vecmig) -> None:
    ready.sql("CREATE TABLE loose (id int, title text, body text)")
    ready.sql("INSERT INTO loose VALUES (1, 'a', 'b'), (1, 'c', 'd'), (2, 'e', 'f')")
    collection(ready, source="loose")
    assert vecmig("upgrade", code=2).stderr.splitlines()[-3:] == [
        "Collection documents: 2 records of public.loose share the key [1].",
        "Nothing was changed.",
        "Name the columns of a primary key or unique index in key:",
    ]
    ready.sql("UPDATE loose SET id = NULL WHERE title = 'a'")
    assert vecmig("upgrade", code=2).stderr.splitlines()[-2:] == [
        "Collection documents: a record of public.loose has NULL in its key.",
        "Name NOT NULL columns in key:, or leave such records out with where:",
    ]
    assert ready.sql("SELECT to_regclass('documents_vectors') IS NULL") == [(True,)]
    collection(ready, source="loose", where="id IS NOT NULL")
    vecmig("upgrade")
    assert ready.sql("SELECT count(*) FROM documents_live") == [(2,)]


def test_names_that_are_taken(ready: Project, vecmig: Vecmig) -> None:
    vecmig("ensure_version")
    ready.sql("CREATE TABLE vecmig.documents_vectors (id int)")
    result = vecmig("upgrade", code=1)
    assert result.stderr.splitlines()[-3] == '"vecmig"."documents_vectors" is there already, and it is not vecmig\'s.'
    ready.sql("DROP TABLE vecmig.documents_vectors")
    ready.sql("CREATE TABLE documents_live (id int)")
    result = vecmig("upgrade", code=1)
    assert "documents_live" in result.stderr
    assert "failed unexpectedly" not in result.stderr
    ready.sql("DROP TABLE documents_live")
    ready.sql("CREATE VIEW documents_live AS SELECT 1 AS x")
    result = vecmig("upgrade", code=1)
    assert "failed unexpectedly" not in result.stderr
    assert ready.sql("SELECT * FROM documents_live") == [(1,)]
    ready.sql("DROP VIEW documents_live")
    vecmig("upgrade")


def test_the_metadata_schema_is_somebody_elses(ready: Project, vecmig: Vecmig) -> None:
    ready.sql("CREATE SCHEMA vecmig")
    ready.sql("CREATE TABLE vecmig.theirs (n int)")
    said = (
        "The schema vecmig exists but is not vecmig's.\n"
        "Nothing was changed.\n"
        "Set schema = another_name in vecmig.ini.\n"
    )
    for command in (["upgrade"], ["status"], ["ensure_version"], ["search", "documents", "x"]):
        refused(ready, vecmig, 1, said, *command)
    ready.ini.write_text(ready.ini.read_text() + "schema = My vecmig\n")
    vecmig("upgrade")
    assert ready.sql('SELECT count(*) FROM "My vecmig".revision') == [(1,)]
    ready.sql('INSERT INTO "My vecmig".schema_version VALUES (99)')
    newer = vecmig("status", code=1)
    assert newer.stderr == (
        f"The schema My vecmig has version 99; this vecmig knows up to {VERSION}.\nNothing was changed.\n"
        "Somebody works here with a newer vecmig. Run: pip install --upgrade vecmig\n"
    )


@pytest.mark.parametrize("bad", ["no_such_module:embed", "hashing16:no_such", "hashing16:np"])
def test_a_callable_that_cannot_be_found(ready: Project, vecmig: Vecmig, bad: str) -> None:
    describe(ready, {"documents": documents_collection(A)}, {A: local(16) | {"callable": bad}})
    result = vecmig("upgrade", code=2)
    assert bad in result.stderr
    assert "failed unexpectedly" not in result.stderr


def test_a_callable_that_fails(ready: Project, vecmig: Vecmig) -> None:
    module = ready.path / "hashing16.py"
    good = module.read_text()
    module.write_text("def embed(texts):\n    raise ValueError('out of order')\n")
    result = vecmig("upgrade", code=7)
    assert result.stderr.splitlines()[-3:] == [
        "The callable hashing16:embed raised ValueError: out of order.",
        "Nothing was embedded by this run.",
        "Correct hashing16:embed",
    ]
    module.write_text(good)
    assert ready.vecmig("upgrade").expect().stdout == "aaaa  live  revision aaaa\n"

"""Uninstalling goes by definitions: whatever became of source and ledger, what is others' stays, or is named first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from support.lab import LARGE, SMALL, Lab
from support.postgres import Connect, Postgres
from vecmig import runner
from vecmig.errors import DatabaseError, LockHeld, NotRecorded, UsageError
from vecmig.events import Event, Waiting
from vecmig.ledger import schema
from vecmig.ledger.install import ensure
from vecmig.postgres.locks import runner_locks

Connection = psycopg.Connection[Any]

#: What is in the database and no extension's, by name.
_OBJECTS = """
SELECT kind, name FROM (
    SELECT 'relation', oid, oid::regclass::text FROM pg_class c
    WHERE relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'pg_toast'::regnamespace)
      AND relkind <> 'i'
    UNION ALL
    SELECT 'function', oid, oid::regprocedure::text FROM pg_proc
    WHERE pronamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
    UNION ALL
    SELECT 'trigger', oid, tgname || ' on ' || tgrelid::regclass FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL
    SELECT 'schema', oid, nspname FROM pg_namespace
    WHERE nspname !~ '^pg_' AND nspname <> 'information_schema') AS o (kind, oid, name)
WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = o.oid AND d.deptype = 'e') AND name !~ '^pg_temp'
ORDER BY 1, 2"""
_BARE = [("relation", "documents"), ("schema", "public")]


def _objects(lab: Lab) -> list[tuple[Any, ...]]:
    return lab.sql(_OBJECTS)


def _uninstall(lab: Lab, collection: str | None = None) -> runner.Uninstallation:
    return runner.uninstall(lab.config, collection, listener=lab.listen)


# What became of it ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("became", "left"),
    [
        ("ALTER TABLE documents RENAME TO posts", [("relation", "posts"), ("schema", "public")]),
        ("ALTER TABLE documents RENAME id TO doc_id", _BARE),
        (
            "ALTER TABLE documents RENAME TO old; CREATE TABLE documents (id int)",
            [("relation", "documents"), ("relation", "old"), ("schema", "public")],
        ),
        ("CREATE SCHEMA app; ALTER TABLE documents SET SCHEMA app",
         [("relation", "app.documents"), ("schema", "app"), ("schema", "public")]),
        ("DROP TABLE documents CASCADE", [("schema", "public")]),
        ("DROP VIEW documents_live", _BARE),
        ("DROP FUNCTION documents_search", _BARE),
        ("DROP TABLE vecmig.documents_vectors CASCADE", _BARE),
        ("DROP FUNCTION vecmig.documents_track CASCADE", _BARE),
        ("ALTER SCHEMA public RENAME TO app; CREATE SCHEMA public",
         [("relation", "app.documents"), ("schema", "app"), ("schema", "public")]),
        ("DELETE FROM vecmig.route", _BARE),
        ("DELETE FROM vecmig.route; DELETE FROM vecmig.tag; DELETE FROM vecmig.collection", _BARE),
        ("DROP SCHEMA vecmig CASCADE", _BARE),
        ("COMMENT ON TABLE vecmig.documents_vectors IS NULL", _BARE),
        ("DROP EXTENSION vector CASCADE", _BARE),
    ],
    ids=["table renamed", "key renamed", "swapped", "moved", "source gone", "view gone", "search gone", "vectors gone",
         "triggers gone", "schema renamed", "route lost", "collection lost", "ledger lost", "comment lost",
         "extension gone"],
)  # fmt: skip
@pytest.mark.upgraded
def test_all_goes_whatever_became_of_it(lab: Lab, became: str, left: list[tuple[str, str]]) -> None:
    lab.sql(became)
    (lab.path / "migrations" / "collections.yaml").write_text("neither: [YAML\n")
    _uninstall(lab)
    assert _objects(lab) == left
    assert runner.uninstallation(lab.config).empty
    assert _uninstall(lab).empty


def test_a_name_that_sql_has_to_quote(lab: Lab) -> None:
    lab.sql('ALTER TABLE documents RENAME TO "My 100% Texts"')
    odd = lab.write(name="My own-Texts_1", source='public."My 100% Texts"')
    odd.upgrade()
    found = _uninstall(odd, "My own-Texts_1").collections[0]
    assert [piece.shown for piece in found.pieces if piece.kind in ("search function", "vectors")] == [
        'public."My own-Texts_1_search"(public.vector,integer,text)',
        'vecmig."My own-Texts_1_vectors"',
    ]
    assert found.source == "public.My 100% Texts"
    odd.upgrade()
    lab.sql("DROP SCHEMA vecmig CASCADE")
    assert [one.name for one in _uninstall(odd).collections] == ["My own-Texts_1"]
    assert _objects(lab) == [("relation", '"My 100% Texts"'), ("schema", "public")]


@pytest.mark.upgraded
def test_what_a_retire_left_halfway_goes_too(lab: Lab) -> None:
    """One partition is detached, of another the detaching was cut short."""
    small = lab.stamps(SMALL).relation.as_string(None)
    lab.sql(f"ALTER TABLE vecmig.documents_vectors DETACH PARTITION {small}")
    found = runner.uninstallation(lab.config)
    assert {(tag.tag, tag.vectors) for tag in found.collections[0].tags} == {(SMALL, 20), (LARGE, 20)}
    _uninstall(lab)
    assert _objects(lab) == _BARE


@pytest.mark.upgraded
def test_a_detaching_that_was_cut_short(lab: Lab, connect: Connect) -> None:
    small = lab.stamps(SMALL).relation.as_string(None)
    reading = connect(autocommit=False)
    reading.execute("SELECT count(*) FROM vecmig.documents_vectors")
    cut = connect(options="-c statement_timeout=300ms")
    with pytest.raises(psycopg.errors.QueryCanceled):
        cut.execute(f"ALTER TABLE vecmig.documents_vectors DETACH PARTITION {small} CONCURRENTLY")
    reading.rollback()
    assert lab.sql("SELECT count(*) FROM pg_inherits WHERE inhdetachpending") == [(1,)]
    _uninstall(lab)
    assert _objects(lab) == _BARE


# What is others' -----------------------------------------------------------------------------------------------------


@pytest.mark.upgraded
def test_a_name_alone_makes_nothing_vecmigs(lab: Lab) -> None:
    lab.sql("DROP VIEW documents_live")
    lab.sql("DROP FUNCTION documents_search")
    lab.sql("CREATE TABLE documents_live (id int)")
    lab.sql("CREATE TABLE documents_vectors (tag text, id int) PARTITION BY LIST (tag)")
    lab.sql("CREATE TABLE documents_vectors_0123abcd PARTITION OF documents_vectors DEFAULT")
    lab.sql("CREATE FUNCTION documents_search(text) RETURNS text LANGUAGE sql AS 'SELECT $1'")
    lab.sql("CREATE FUNCTION documents_track() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    lab.sql("CREATE TRIGGER vecmig_documents_mine BEFORE INSERT ON documents EXECUTE FUNCTION documents_track()")
    _uninstall(lab)
    assert _objects(lab) == [
        ("function", "documents_search(text)"),
        ("function", "documents_track()"),
        ("relation", "documents"),
        ("relation", "documents_live"),
        ("relation", "documents_vectors"),
        ("relation", "documents_vectors_0123abcd"),
        ("schema", "public"),
        ("trigger", "vecmig_documents_mine on documents"),
    ]


@pytest.mark.parametrize(
    ("made", "named"),
    [
        ("CREATE VIEW report AS SELECT id FROM documents_live", "view public.report"),
        ("CREATE MATERIALIZED VIEW report AS TABLE vecmig.documents_vectors", "materialized view public.report"),
        (
            "CREATE FUNCTION report() RETURNS bigint BEGIN ATOMIC SELECT count(*) FROM documents_live; END",
            "function public.report()",
        ),
        ("CREATE FUNCTION report() RETURNS SETOF documents_live LANGUAGE sql AS 'SELECT * FROM documents_live'",
         "function public.report()"),
        ("CREATE TABLE report (one documents_live)", "table column public.report.one"),
        (
            ("CREATE TABLE report (tag text, id bigint, chunk int, CONSTRAINT shown FOREIGN KEY (tag, id, chunk)"
            " REFERENCES vecmig.documents_vectors)"),
            "table constraint shown on public.report",
        ),
        ("CREATE POLICY report ON documents USING (id IN (SELECT id FROM vecmig.documents_vectors))",
         "policy report on public.documents"),
        (
            ("CREATE FUNCTION report() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
            "CREATE TRIGGER report INSTEAD OF UPDATE ON documents_live FOR EACH ROW EXECUTE FUNCTION report()"),
            "trigger report on public.documents_live",
        ),
        (
            ("CREATE TABLE report (LIKE vecmig.documents_vectors INCLUDING ALL);"
            "ALTER TABLE vecmig.documents_vectors ATTACH PARTITION report FOR VALUES IN ('theirs')"),
            "table public.report, a partition that vecmig did not make",
        ),
        ("CREATE VIEW report AS SELECT * FROM vecmig.event", "view public.report"),
        (("CREATE TABLE report (LIKE vecmig.event); CREATE TRIGGER report BEFORE DELETE ON report"
         " EXECUTE FUNCTION vecmig.event_is_append_only()"), "trigger report on public.report"),
    ],
    ids=["view", "matview", "function", "result", "column", "foreign key", "policy", "trigger", "partition", "history",
         "borrowed"],
)  # fmt: skip
@pytest.mark.upgraded
def test_what_others_rest_on_it_is_named_and_nothing_is_changed(lab: Lab, made: str, named: str) -> None:
    lab.sql(made)
    before = _objects(lab)
    with pytest.raises(DatabaseError) as refused:
        _uninstall(lab)
    assert refused.value.exit_code == 1
    assert refused.value.message == f"Others depend on what would go: {named}."
    assert refused.value.state == "Nothing was changed."
    assert _objects(lab) == before
    assert lab.sql("SELECT count(*) FROM vecmig.event WHERE kind = 'uninstall'") == [(0,)]


@pytest.mark.upgraded
def test_what_ends_with_it_is_said(lab: Lab) -> None:
    lab.sql("CREATE POLICY mine ON vecmig.documents_vectors USING (true)")
    lab.sql("CREATE PUBLICATION all_of_it FOR TABLE documents, vecmig.documents_vectors")
    found = _uninstall(lab)
    assert found.along == (
        "policy mine on vecmig.documents_vectors",
        "vecmig.documents_vectors in publication all_of_it",
    )
    assert lab.sql("SELECT prrelid::regclass::text FROM pg_publication_rel") == [("documents",)]


@pytest.mark.upgraded
def test_functions_are_listed_whose_text_has_a_name_that_goes(lab: Lab) -> None:
    lab.sql("CREATE FUNCTION mine() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM documents_live'")
    lab.sql("CREATE FUNCTION other() RETURNS text LANGUAGE sql AS $$SELECT 'my_documents_live2'$$")
    assert _uninstall(lab).mentions == ("public.mine()",)
    assert _objects(lab) == [("function", "mine()"), ("function", "other()"), *_BARE]


@pytest.mark.upgraded
def test_a_schema_in_which_others_have_something_stays(lab: Lab) -> None:
    lab.sql("CREATE TABLE vecmig.notes (body text); CREATE TYPE vecmig.mood AS ENUM ('good')")
    found = _uninstall(lab)
    assert [(one.name, one.why) for one in found.schemas] == [
        ("vecmig", "something else is in it: table vecmig.notes, type vecmig.mood")
    ]
    left = [("relation", "documents"), ("relation", "notes"), ("schema", "public"), ("schema", "vecmig")]
    assert _objects(lab) == left
    assert _uninstall(lab).empty


@pytest.mark.upgraded
def test_the_extension_stays_where_it_is(lab: Lab) -> None:
    lab.sql("ALTER EXTENSION vector SET SCHEMA vecmig")
    (left,) = _uninstall(lab).schemas
    assert left.why == "something else is in it: extension vector"
    assert lab.sql("SELECT '[1,2]'::vecmig.vector::text") == [("[1,2]",)]
    assert _objects(lab) == [("relation", "documents"), ("schema", "public"), ("schema", "vecmig")]


@pytest.mark.upgraded
def test_a_schema_of_vectors_goes_only_if_vecmig_made_it(lab: Lab) -> None:
    lab.sql("CREATE SCHEMA theirs")
    for place in ("theirs", "own"):
        with (lab.path / "vecmig.ini").open("r+") as file:
            text = file.read().split("\nvectors_schema")[0]
            file.seek(0)
            file.write(f"{text}\nvectors_schema = {place}\n\n\n")
        runner.ensure_version(lab.config)
    # a move leaves the schema before behind
    found = _uninstall(lab)
    assert [(one.name, one.why) for one in found.schemas] == [("own", ""), ("vecmig", "")]
    assert _objects(lab) == [("relation", "documents"), ("schema", "public"), ("schema", "theirs")]


def test_the_schema_that_vecmig_made_goes_with_the_last_collection_in_it(lab: Lab) -> None:
    with (lab.path / "vecmig.ini").open("a") as file:
        file.write("\nvectors_schema = own\n")
    _second(lab)
    lab.upgrade()
    assert _uninstall(lab, "documents").schemas == ()
    assert lab.sql("SELECT count(*) FROM articles_live") == [(5,)]
    assert [one.name for one in _uninstall(lab, "articles").schemas] == ["own"]
    assert ("schema", "own") not in _objects(lab)


@pytest.mark.upgraded
def test_an_event_trigger_of_the_teams_sees_it_go(lab: Lab) -> None:
    lab.sql("CREATE TABLE dropped (what text)")
    lab.sql(
        "CREATE FUNCTION noted() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN INSERT INTO public.dropped"
        " SELECT object_type FROM pg_event_trigger_dropped_objects() WHERE original; END$$"
    )
    lab.sql("CREATE EVENT TRIGGER noted ON sql_drop EXECUTE FUNCTION noted()")
    _uninstall(lab)
    seen = {row[0] for row in lab.sql("SELECT what FROM dropped")}
    assert {"trigger", "view", "function", "table", "schema"} <= seen


@pytest.mark.parametrize("version", [3, 6])
def test_the_ledger_of_an_earlier_vecmig(lab: Lab, monkeypatch: pytest.MonkeyPatch, version: int) -> None:
    """Nothing is updated for it, and nothing has to be."""
    with monkeypatch.context() as before:
        before.setattr(schema, "FILES", schema.FILES[:version])
        before.setattr(schema, "VERSION", version)
        ensure(lab.database)
    lab.sql("INSERT INTO vecmig.collection VALUES ('documents', 'public', 'documents', '{id}', '{bigint}', 'body',"
            " NULL, 'vector', 'cosine', 'triggers')")  # fmt: skip
    lab.sql("INSERT INTO vecmig.route VALUES ('documents')")
    lab.sql("CREATE TABLE documents_vectors (tag text, id bigint, chunk int, source_hash uuid, embedded_at timestamptz)"
            " PARTITION BY LIST (tag)")  # fmt: skip
    assert [piece.shown for piece in runner.uninstallation(lab.config, "documents").collections[0].pieces] == [
        "public.documents_vectors"
    ]
    assert lab.sql("SELECT max(version) FROM vecmig.schema_version") == [(version,)]
    _uninstall(lab, "documents")
    _uninstall(lab)
    assert _objects(lab) == _BARE


@pytest.mark.upgraded
def test_of_two_ledgers_each_removes_its_own(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> None:
    lab.sql("CREATE TABLE articles (id bigint PRIMARY KEY, title text, body text)")
    lab.sql("INSERT INTO articles VALUES (1, 'one', 'only')")
    other = Lab(tmp_path_factory.mktemp("other"), lab.url, name="articles", source="public.articles").write()
    with (other.path / "vecmig.ini").open("a") as file:
        file.write("\nschema = second\n")
    other.upgrade()
    both = _objects(lab)
    _uninstall(other)
    assert _objects(lab) == [one for one in both if "second" not in one[1] and "articles_" not in one[1]]
    assert lab.sql("SELECT count(*) FROM documents_live") == [(20,)]
    other.upgrade()
    _uninstall(lab)
    assert lab.sql("SELECT count(*) FROM articles_live") == [(1,)]
    assert not runner.uninstallation(other.config).empty


# Who is in the way ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["runner", "sync"])
@pytest.mark.upgraded
def test_a_run_at_work_is_named(lab: Lab, kind: Any) -> None:
    before = _objects(lab)
    with (
        runner_locks(lab.database, ["documents"], what="upgrade", kind=kind),
        pytest.raises(LockHeld, match=r"collection documents: vecmig upgrade \S+ \d+ \(pid"),
    ):
        _uninstall(lab)
    assert _objects(lab) == before


@pytest.mark.upgraded
def test_a_transaction_in_the_way_is_named_and_waited_for(lab: Lab, connect: Connect) -> None:
    before = _objects(lab)
    writing = connect(autocommit=False, application_name="the application")
    writing.execute("UPDATE documents SET body = 'new' WHERE id = 1")
    short = lab.write(lock_wait=0.5)
    with pytest.raises(DatabaseError, match=r"Blocked by pid \d+ \(postgres, the application") as refused:
        _uninstall(short)
    assert refused.value.state == "Nothing was changed."
    assert _objects(lab) == before

    def let_go(event: Event) -> None:
        if isinstance(event, Waiting):
            writing.commit()

    runner.uninstall(lab.write(lock_wait=60.0).config, listener=let_go)
    assert _objects(lab) == _BARE
    assert lab.sql("SELECT body FROM documents WHERE id = 1") == [("new",)]


@pytest.fixture
def roles(postgres: Postgres, connection: Connection) -> Iterator[None]:
    """One that owns the table, one that runs vecmig, and one that does neither."""
    connection.execute("CREATE ROLE un_owner; CREATE ROLE un_vecmig LOGIN; CREATE ROLE un_other LOGIN")
    yield
    connection.execute("DROP OWNED BY un_owner, un_vecmig, un_other CASCADE")
    connection.execute("DROP ROLE un_owner, un_vecmig, un_other")


def _as(lab: Lab, role: str) -> Lab:
    return lab.write(url=lab.url.replace("postgres@", f"{role}@"))


@pytest.mark.usefixtures("roles")
def test_an_owner_who_is_no_superuser(lab: Lab) -> None:
    lab.sql("GRANT CREATE ON SCHEMA public TO un_vecmig")
    lab.sql(f"GRANT CREATE ON DATABASE {lab.url.split('/')[3].split('?')[0]} TO un_vecmig")
    lab.sql("ALTER TABLE documents OWNER TO un_vecmig")
    lab.sql("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
    owner = _as(lab, "un_vecmig")
    owner.upgrade()
    before = _objects(lab)
    lab.sql("GRANT USAGE ON SCHEMA vecmig TO un_other; GRANT SELECT ON ALL TABLES IN SCHEMA vecmig TO un_other")
    with pytest.raises(DatabaseError, match="un_other may not drop what others own") as refused:
        _uninstall(_as(lab, "un_other"))
    assert "trigger vecmig_documents_track on public.documents (owner: un_vecmig)" in refused.value.message
    assert _objects(lab) == before
    _uninstall(_as(lab, "un_vecmig"))
    assert _objects(lab) == _BARE


@pytest.mark.usefixtures("roles")
def test_a_table_of_somebody_elses(lab: Lab) -> None:
    """With the right to make triggers comes none to take them off: whose the table is, is said before anything goes."""
    lab.sql("ALTER TABLE documents OWNER TO un_owner")
    lab.sql("GRANT SELECT, UPDATE, TRIGGER ON documents TO un_vecmig; GRANT CREATE ON SCHEMA public TO un_vecmig")
    lab.sql("CREATE SCHEMA vecmig AUTHORIZATION un_vecmig")
    _as(lab, "un_vecmig").upgrade()
    before = _objects(lab)
    with pytest.raises(DatabaseError, match=r"owner: un_owner") as refused:
        _uninstall(_as(lab, "un_vecmig"))
    assert "vecmig.event" not in refused.value.message
    assert _objects(lab) == before
    lab.sql("GRANT un_owner TO un_vecmig")
    _uninstall(_as(lab, "un_vecmig"))
    assert _objects(lab) == _BARE


# One collection ------------------------------------------------------------------------------------------------------


def _second(lab: Lab) -> None:
    """Beside documents the chain takes articles along, as vecmig revision would write it."""
    lab.sql("CREATE TABLE articles (id bigint PRIMARY KEY, title text, body text)")
    lab.sql("INSERT INTO articles SELECT n, 'title ' || n, 'an article ' || n FROM generate_series(1, 5) AS n")
    path = lab.path / "migrations" / "collections.yaml"
    first = path.read_text()
    block = first[first.index("  documents:") : first.index("tags:")]
    more = block.replace("documents", "articles").replace(LARGE, SMALL)
    path.write_text(first.replace("tags:", f"{more}tags:"))
    lab.script(2, None, SMALL, collection="articles")
    lab.script(3, SMALL, LARGE)


def test_one_collection_goes_and_begins_anew(lab: Lab) -> None:
    _second(lab)
    lab.upgrade()
    with pytest.raises(NotRecorded, match="no collection unknown"):
        _uninstall(lab, "unknown")
    lab.sql("UPDATE documents SET body = 'new' WHERE id = 1")
    found = _uninstall(lab, "documents")
    assert [one.name for one in found.collections] == ["documents"]
    assert (found.ledger, found.schemas) == ((), ())
    tables = lab.sql(
        "SELECT c.relname, a.attname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid"
        " WHERE c.relnamespace = 'vecmig'::regnamespace AND c.relkind = 'r' AND c.relname <> 'event'"
        " AND a.attname = 'collection'"
    )
    assert len(tables) > 8
    for table, column in tables:
        assert lab.sql(f"SELECT count(*) FROM vecmig.{table} WHERE {column} = 'documents'") == [(0,)]
    ((data,),) = lab.sql("SELECT data FROM vecmig.event WHERE kind = 'uninstall' AND collection = 'documents'")
    assert {tag["tag"]: tag["vectors"] for tag in data["tags"]} == {SMALL: 20, LARGE: 20}
    assert not [name for _, name in _objects(lab) if "documents_" in name]
    # of it nothing is left to roll back, and it is what an upgrade does next
    assert runner.status(lab.config).pending == ("r1", "r3")
    assert runner.current(lab.config).at_head is False
    assert not runner.audit(lab.config).findings
    assert _uninstall(lab, "documents").empty
    assert lab.sql("SELECT count(*) FROM articles_live") == [(5,)]
    assert lab.upgrade(until="expand") == ["expanded"]
    assert runner.status(lab.config).pending == ("r1", "r3")
    assert lab.upgrade("r2") == ["live"]
    assert lab.upgrade("head") == ["live"]
    assert runner.status(lab.config).settled
    assert lab.downgrade("base") == ["r3", "r2", "r1"]


@pytest.mark.upgraded
def test_a_tag_of_a_new_start_was_never_live(lab: Lab) -> None:
    """Its history was, which is kept: the new vectors may be given up like any others."""
    _uninstall(lab, "documents")
    lab.upgrade("r1", until="backfill")
    assert lab.downgrade("base", discard=True) == ["r1"]
    assert not runner.uninstallation(lab.config).empty
    _uninstall(lab)
    assert _objects(lab) == _BARE


def test_counting_back_takes_no_other_collections_reads_away(lab: Lab) -> None:
    """What was begun last lies below what is live: -1 would have meant the other collection."""
    _second(lab)
    lab.upgrade("r2")
    _uninstall(lab, "documents")
    lab.upgrade("r1", until="backfill")
    with pytest.raises(UsageError, match="r1 of documents is in progress below r2 of articles") as refused:
        lab.downgrade("-1")
    assert refused.value.hint == (
        "To give r1 up: vecmig uninstall --collection documents\nTo roll r2 back: vecmig downgrade r1"
    )
    assert lab.sql("SELECT live IS NOT NULL FROM vecmig.route WHERE collection = 'articles'") == [(True,)]
    _uninstall(lab, "documents")
    assert runner.status(lab.config).pending == ("r1", "r3")
    lab.upgrade("r1", until="backfill")
    assert lab.downgrade("r1") == ["r2"]
    assert lab.downgrade("-1") == ["r1"]


def test_a_downgrade_passes_by_what_was_uninstalled(lab: Lab) -> None:
    _second(lab)
    lab.upgrade()
    _uninstall(lab, "documents")
    assert lab.downgrade("base") == ["r2"]


def test_what_is_gone_already_is_said_when_a_later_one_is_refused(lab: Lab, connect: Connect) -> None:
    _second(lab)
    lab.upgrade()
    writing = connect(autocommit=False)
    short = lab.write(lock_wait=0.5)
    _second_files(short)
    writing.execute("LOCK TABLE documents IN ROW EXCLUSIVE MODE")
    with pytest.raises(DatabaseError) as refused:
        _uninstall(short)
    assert refused.value.state == "articles: all is gone already. What came next: Nothing was changed."
    writing.rollback()
    found = _uninstall(short)
    assert [one.name for one in found.collections] == ["documents"]
    assert runner.uninstallation(lab.config).empty


def _second_files(lab: Lab) -> None:
    lab.script(2, None, SMALL, collection="articles")

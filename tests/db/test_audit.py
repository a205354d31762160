"""``vecmig audit``: each planted fault is found, alone and with its fix; a healthy collection has no finding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Thread
from typing import Any

import psycopg
import pytest

from support.embedding import Model, vector
from support.lab import CHUNKED, LARGE, SMALL, TINY, Lab, recipe
from support.postgres import Connect
from support.stamps import text_hash
from vecmig import runner
from vecmig.errors import ConfigError
from vecmig.runner import Audit, Finding

Connection = psycopg.Connection[Any]
Role = Callable[..., Connection]


@pytest.fixture
def role(connection: Connection, connect: Connect) -> Iterator[Role]:
    """``role("name", "GRANT …")`` makes a role that may connect and gives its connection."""
    made: list[str] = []

    def make(name: str, *statements: str) -> Connection:
        connection.execute(f"CREATE ROLE {name} LOGIN")
        made.append(name)
        for statement in statements:
            connection.execute(statement)
        return connect(user=name, application_name="acme worker")

    yield make
    for name in made:
        connection.execute(f"DROP OWNED BY {name} CASCADE")
        connection.execute(f"DROP ROLE {name}")


def _audit(lab: Lab, *collections: str, ask: bool = False) -> Audit:
    return runner.audit(lab.config, collections, ask=ask)


def _only(lab: Lab, *, ask: bool = False) -> Finding:
    """Give the one finding there is."""
    found = _audit(lab, ask=ask).findings
    assert len(found) == 1, found
    return found[0]


def _kinds(lab: Lab, *, ask: bool = False) -> list[str]:
    return sorted(finding.kind for finding in _audit(lab, ask=ask).findings)


def _partition(lab: Lab, tag: str) -> str:
    return lab.stamps(tag).relation.as_string(None)


def _insert(lab: Lab, tag: str, dims: int, *, key: int = 1, chunk: int = 0, where: str = "documents_vectors") -> str:
    """Write the INSERT of somebody who knows how the vectors table looks, and the text's hash."""
    values = vector("anything", dims).tolist()
    return (
        f"INSERT INTO {where} (tag, id, chunk, embedding, source_hash) SELECT '{tag}', id, {chunk}, '{values}', "
        f"{text_hash(lab.text)} FROM documents WHERE id = {key}"
    )


# Healthy -----------------------------------------------------------------------------------------------------------


def test_a_healthy_collection_has_no_finding(lab: Lab) -> None:
    assert _audit(lab).findings == ()
    lab.upgrade()
    found = _audit(lab, ask=True)
    assert found.findings == ()
    assert (found.collections, found.tags, found.asked) == (("documents",), 2, True)
    lab.downgrade()
    assert _kinds(lab, ask=True) == []


@pytest.mark.parametrize("until", ["expand", "backfill", "index", "gate"])
@pytest.mark.upgraded("r1")
def test_a_tag_on_its_way_is_no_finding(lab: Lab, until: str) -> None:
    lab.upgrade(until=until)
    assert _kinds(lab, ask=True) == []


@pytest.mark.upgraded("r1", until="expand")
def test_half_a_backfill_is_no_finding(lab: Lab, connection: Connection) -> None:
    lab.backfill(limit=8)
    connection.execute("UPDATE documents SET body = 'x' WHERE id IN (1, 20)")
    assert _kinds(lab, ask=True) == []


@pytest.mark.upgraded("r2", until="backfill")
def test_an_abandoned_revision_is_no_finding(lab: Lab) -> None:
    lab.downgrade()
    assert _kinds(lab, ask=True) == []


_FILL = "INSERT INTO things SELECT n, 'body ' || n FROM generate_series(1, 20) n"

#: What makes the source, and how the collection is described.
KINDS: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "composite key": (
        (
            'CREATE TABLE things (a uuid, "b b" text, body text, PRIMARY KEY (a, "b b"))',
            "INSERT INTO things SELECT md5(n::text)::uuid, 'x ' || n, 'body ' || n FROM generate_series(1, 20) n",
        ),
        {"key": ("a", "b b")},
    ),
    "halfvec": (
        ("CREATE TABLE things (id int PRIMARY KEY, body text)", _FILL),
        {"options": {"storage": "halfvec", "metric": "l2"}},
    ),
    "chunks": (
        (
            "CREATE TABLE things (id int PRIMARY KEY, body text)",
            "INSERT INTO things SELECT n, repeat('body ', n) FROM generate_series(1, 20) n",
        ),
        {"chain": (TINY, CHUNKED)},
    ),
    "where, blank and NULL": (
        (
            "CREATE TABLE things (id int PRIMARY KEY, body text, ok bool)",
            "INSERT INTO things SELECT n, (ARRAY['b' || n, ' ', NULL])[n % 3 + 1], n < 9 FROM generate_series(1, 20) n",
        ),
        {"options": {"where": "ok"}},
    ),
    "a view": (
        (
            "CREATE TABLE base (id int PRIMARY KEY, body text)",
            "CREATE VIEW things AS SELECT * FROM base",
            _FILL,
        ),
        {},
    ),
    "partitioned": (
        (
            "CREATE TABLE things (id int PRIMARY KEY, body text) PARTITION BY HASH (id)",
            "CREATE TABLE things_0 PARTITION OF things FOR VALUES WITH (MODULUS 1, REMAINDER 0)",
            _FILL,
        ),
        {},
    ),
    "an odd name": (
        ("CREATE TABLE things (id int PRIMARY KEY, body text)", _FILL, 'ALTER TABLE things RENAME TO "My Things"'),
        {"source": '"My Things"', "name": "my things"},
    ),
    "found by scanning": (
        ("CREATE TABLE things (id int PRIMARY KEY, body text)", _FILL),
        {"options": {"change_tracking": "scan"}},
    ),
}


def _made(lab: Lab, connection: Connection, kind: str) -> Lab:
    statements, fields = KINDS[kind]
    for statement in statements:
        connection.execute(statement)
    return lab.write(**{"source": "things", "text": "body"} | fields)


@pytest.mark.parametrize("kind", KINDS)
def test_collections_of_all_kinds_have_none(bare_lab: Lab, connection: Connection, kind: str) -> None:
    lab = _made(bare_lab, connection, kind)
    lab.upgrade()
    assert _kinds(lab, ask=True) == []


def test_a_protected_source_whose_vectors_are_as_well_protected_has_none(
    lab: Lab, role: Role, connection: Connection
) -> None:
    role("tenant_3", "GRANT SELECT ON documents TO tenant_3")
    connection.execute(
        "ALTER TABLE documents ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON documents USING (id = 3)"
    )
    lab.upgrade()
    assert _kinds(lab) == []


# Records -----------------------------------------------------------------------------------------------------------


@pytest.mark.upgraded
def test_a_changed_record_is_stale_until_it_is_synced(lab: Lab, connection: Connection) -> None:
    connection.execute("UPDATE documents SET body = 'x' WHERE id IN (4, 7)")
    found = _audit(lab).findings
    assert [(f.kind, f.severity, f.tag, f.figures["records"]) for f in found] == [
        ("stale vectors", "warning", LARGE, 2),
        ("stale vectors", "warning", SMALL, 2),
    ]
    assert found[0].figures["keys"] == ["[4]", "[7]"]
    assert found[0].fix == "vecmig sync documents"
    lab.sync()
    assert _kinds(lab) == []


@pytest.mark.upgraded
def test_a_change_that_a_sync_at_work_will_embed_in_a_moment_is_no_finding(lab: Lab, connection: Connection) -> None:
    connection.execute("UPDATE documents SET body = 'x' WHERE id = 4")
    connection.execute(
        "INSERT INTO vecmig.run "
        "(id, collection, tag, what, host, pid, state, done, total, rejected, rate, concurrency) "
        "VALUES (gen_random_uuid(), 'documents', %s, 'sync', 'h', 1, 'waiting', 0, 0, 0, 0, 0)",
        [LARGE],
    )
    assert _kinds(lab) == []
    connection.execute("UPDATE vecmig.change SET changed_at = now() - interval '2 minutes'")
    assert _kinds(lab) == ["stale vectors"] * 2


@pytest.mark.upgraded("r1")
def test_a_change_that_nothing_told_of_is_an_error(lab: Lab, connection: Connection) -> None:
    connection.execute("SET session_replication_role = replica; UPDATE documents SET body = 'x' WHERE id = 4")
    connection.execute("DELETE FROM documents WHERE id = 5; INSERT INTO documents VALUES (21, 'a', 'b'), (22, '', ' ')")
    connection.execute("UPDATE documents SET title = ' ', body = '' WHERE id = 6; RESET session_replication_role")
    found = {f.kind: (f.severity, f.figures["keys"]) for f in _audit(lab).findings}
    assert found == {
        "stale vectors": ("error", ["[4]"]),
        "orphaned vectors": ("warning", ["[5]"]),
        "missing vectors": ("error", ["[21]"]),
        "vectors without text": ("warning", ["[6]"]),
    }
    lab.sync()
    assert _kinds(lab) == []


def test_a_lost_chunk_is_found(bare_lab: Lab, connection: Connection) -> None:
    lab = _made(bare_lab, connection, "chunks")
    lab.upgrade()
    connection.execute("DELETE FROM documents_vectors WHERE tag = %s AND id = 9 AND chunk = 1", [CHUNKED])
    found = _only(lab)
    assert (found.kind, found.tag, found.figures["keys"]) == ("incomplete records", CHUNKED, ["[9]"])
    connection.execute("DELETE FROM documents_vectors WHERE tag = %s AND id = 9 AND chunk = 0", [CHUNKED])
    assert _only(lab).kind == "incomplete records"
    lab.sync()
    assert _kinds(lab) == []


def test_a_rejected_record_has_its_reason_already(lab: Lab, model: Model) -> None:
    def refuse(texts: list[str], vectors: Any) -> Any:
        vectors[[at for at, text in enumerate(texts) if text.startswith("title 3\n")]] = 0
        return vectors

    model.after = refuse
    lab = lab.write(coverage=0.5)
    lab.upgrade()
    assert lab.cover(LARGE).rejected == 1
    assert _kinds(lab) == []


# Partitions --------------------------------------------------------------------------------------------------------


@pytest.mark.upgraded("r1")
def test_a_default_partition_is_found(lab: Lab, connection: Connection) -> None:
    connection.execute("CREATE TABLE catch_all PARTITION OF documents_vectors DEFAULT")
    connection.execute("SET application_name = 'vecmig'")
    connection.execute(_insert(lab, "gpt-5@9", 8))
    found = _only(lab)
    assert (found.kind, found.severity, found.object) == ("default partition", "error", "public.catch_all")
    assert found.figures["tags"] == {"gpt-5@9": 1}
    connection.execute(found.fix.removeprefix("If they are not needed: "))
    assert _kinds(lab) == []


@pytest.mark.upgraded("r1")
def test_a_partition_of_no_recorded_tag_is_found(lab: Lab, connection: Connection) -> None:
    connection.execute("CREATE TABLE vecmig.p PARTITION OF documents_vectors FOR VALUES IN ('mine')")
    found = _only(lab)
    assert (found.kind, found.object, found.figures["vectors"]) == ("unknown tag", "vecmig.p", 0)
    connection.execute(
        "ALTER TABLE documents_vectors DETACH PARTITION vecmig.p; "
        "ALTER TABLE vecmig.p RENAME TO documents_vectors_0a1b2c3d"
    )
    assert _only(lab).kind == "leftover partition"
    connection.execute(_only(lab).fix.removeprefix("If they are not needed: "))
    assert _kinds(lab) == []


@pytest.mark.upgraded
def test_the_vectors_of_a_retired_tag_are_found(lab: Lab, connection: Connection) -> None:
    connection.execute(
        "UPDATE vecmig.route SET standby = NULL; UPDATE vecmig.tag SET state = 'retired' WHERE dims = 64"
    )
    found = _only(lab)
    assert (found.kind, found.tag, found.fix) == ("retired partition", SMALL, f"vecmig retire documents {SMALL}")


@pytest.mark.upgraded
def test_a_detached_partition_is_found_and_comes_back(lab: Lab, connection: Connection) -> None:
    connection.execute(f"ALTER TABLE documents_vectors DETACH PARTITION {_partition(lab, SMALL)}")
    found = _only(lab)
    assert (found.kind, found.severity, found.tag) == ("detached partition", "error", SMALL)
    connection.execute(found.fix)
    assert _kinds(lab) == []


@pytest.mark.upgraded
def test_a_dropped_partition_is_found(lab: Lab, connection: Connection) -> None:
    connection.execute(f"DROP TABLE {_partition(lab, LARGE)}")
    found = _only(lab)
    assert (found.kind, found.severity, found.tag) == ("partition gone", "error", LARGE)
    assert "vecmig downgrade -1" in found.fix


@pytest.mark.upgraded("r1")
def test_a_lost_constraint_is_found_and_restored(lab: Lab, connection: Connection) -> None:
    connection.execute(f"ALTER TABLE {_partition(lab, SMALL)} DROP CONSTRAINT vecmig_vector")
    found = _only(lab)
    assert (found.kind, found.tag) == ("unchecked vectors", SMALL)
    connection.execute(found.fix)
    assert _kinds(lab) == []


# Triggers, view, function ------------------------------------------------------------------------------------------


@pytest.mark.upgraded("r1")
def test_a_disabled_trigger_is_found(lab: Lab, connection: Connection) -> None:
    connection.execute("ALTER TABLE documents DISABLE TRIGGER vecmig_documents_track_update")
    connection.execute("DROP TRIGGER vecmig_documents_track_truncate ON documents")
    found = _only(lab)
    assert (found.kind, found.severity) == ("triggers", "error")
    assert found.figures["triggers"] == {
        "vecmig_documents_track_truncate": "gone",
        "vecmig_documents_track_update": "disabled",
    }
    lab.sync()
    assert _kinds(lab) == []


@pytest.mark.upgraded("r1")
def test_a_role_whose_writes_fire_no_triggers_is_found(lab: Lab, role: Role, connection: Connection) -> None:
    role("app_silent", "ALTER ROLE app_silent SET session_replication_role = replica")
    found = _only(lab)
    assert (found.kind, found.object, found.figures["by"]) == ("silent writes", "app_silent", "role")


@pytest.mark.upgraded("r1")
def test_a_source_that_is_filled_by_logical_replication_is_found(lab: Lab, connection: Connection) -> None:
    connection.execute("CREATE SUBSCRIPTION feed CONNECTION 'dbname=x' PUBLICATION p WITH (connect = false)")
    try:
        connection.execute(
            "INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate) "
            "SELECT oid, 'documents'::regclass, 'r' FROM pg_subscription"
        )
        found = _only(lab)
        assert (found.kind, found.object, found.figures["by"]) == ("silent writes", "feed", "subscription")
        connection.execute(found.fix)
        assert _kinds(lab) == []
    finally:
        connection.execute("ALTER SUBSCRIPTION feed SET (slot_name = NONE)")
        connection.execute("DROP SUBSCRIPTION feed")


@pytest.mark.upgraded
def test_a_view_that_reads_another_tag_and_a_lost_function_are_found(lab: Lab, connection: Connection) -> None:
    ((definition,),) = lab.sql("SELECT pg_get_functiondef('vecmig.documents_pick'::regproc)")
    connection.execute(definition.replace(LARGE, SMALL).replace("%", "%%"))
    assert _only(lab).kind == "live view"
    connection.execute("DROP FUNCTION documents_search")
    assert _kinds(lab) == ["live view", "search function"]
    lab.sync()
    assert _kinds(lab) == []


@pytest.mark.upgraded("r1")
def test_a_changed_text_that_nothing_follows_yet_is_one_finding(lab: Lab) -> None:
    changed = lab.write(text="body")
    assert _only(changed).kind == "not followed"
    assert _only(lab.write(options={"metric": "l2"})).kind == "recorded otherwise"


@pytest.mark.upgraded("r1")
def test_a_source_that_is_gone_is_a_finding(lab: Lab, connection: Connection) -> None:
    connection.execute("DROP TABLE documents CASCADE")
    found = _only(lab)
    assert (found.kind, found.object) == ("unreadable source", "public.documents")


@pytest.mark.upgraded("r1")
def test_a_trigger_that_calls_something_else_is_found(lab: Lab, connection: Connection) -> None:
    connection.execute("CREATE FUNCTION nop() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    connection.execute(
        "CREATE OR REPLACE TRIGGER vecmig_documents_track AFTER INSERT OR DELETE ON documents "
        "FOR EACH ROW EXECUTE FUNCTION nop()"
    )
    assert _only(lab).figures["triggers"] == {"vecmig_documents_track": "not vecmig's"}


@pytest.mark.upgraded("r1", text="body || 1 / length(title)")
def test_a_text_that_fails_on_a_record_is_a_finding(lab: Lab, connection: Connection) -> None:
    connection.execute("UPDATE documents SET title = '' WHERE id = 3")
    found = _only(lab)
    assert (found.kind, found.severity) == ("unreadable records", "error")
    assert "division by zero" in found.detail


@pytest.mark.upgraded("r1")
def test_a_vectors_table_that_is_gone_is_a_finding(lab: Lab, connection: Connection) -> None:
    connection.execute("DROP TABLE documents_vectors CASCADE")
    found = _only(lab)
    assert (found.kind, found.severity, found.object) == ("vectors table gone", "error", "documents_vectors")


def test_an_owner_who_is_no_superuser_can_audit(lab: Lab, role: Role, connection: Connection) -> None:
    role(
        "app_owner",
        "ALTER TABLE documents OWNER TO app_owner",
        "GRANT ALL ON SCHEMA public TO app_owner",
        f"GRANT CREATE ON DATABASE {connection.info.dbname} TO app_owner",
    )
    connection.execute("CREATE TABLE theirs (id int, embedding vector(3))")
    owner = lab.write(url=lab.url.replace("//postgres@", "//app_owner@"))
    owner.upgrade()
    found = _only(owner, ask=True)
    assert (found.kind, found.severity, found.object) == ("column not read", "unchecked", "public.theirs.embedding")
    connection.execute("ALTER TABLE documents OWNER TO postgres")


# Indexes -----------------------------------------------------------------------------------------------------------


@pytest.mark.upgraded("r1")
def test_an_invalid_index_is_found(lab: Lab, connection: Connection) -> None:
    name = f"{lab.inspected().partition_name(SMALL)}_hnsw"
    connection.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = %s::regclass", [name])
    found = _only(lab)
    assert (found.kind, found.severity, found.object) == ("invalid index", "error", f"vecmig.{name}")
    connection.execute(f"DROP INDEX {name}")
    assert _only(lab).kind == "no index"
    lab.sync()
    assert _kinds(lab) == []


@pytest.mark.upgraded("r2", until="backfill")
def test_an_index_that_is_being_built_is_no_finding(lab: Lab, connect: Connect) -> None:
    part, name = _partition(lab, LARGE), f"{lab.inspected().partition_name(LARGE)}_hnsw"
    holder, builder = connect(autocommit=False), connect()
    holder.execute(f"UPDATE {part} SET chunk_text = 'x' WHERE id = 1")
    create = f"CREATE INDEX CONCURRENTLY {name} ON {part} USING hnsw ((embedding::vector(256)) vector_cosine_ops)"
    building = Thread(target=builder.execute, args=(create,))
    building.start()
    try:
        while not lab.sql("SELECT 1 FROM pg_index WHERE NOT indisvalid"):
            assert building.is_alive()
        # the holder's own write is one
        assert _kinds(lab) == ["foreign session"]
    finally:
        holder.rollback()
        building.join()
    assert lab.sql("SELECT 1 FROM pg_index WHERE NOT indisvalid") == []


@pytest.mark.upgraded("r1")
def test_an_index_for_another_metric_and_a_second_one_are_found(lab: Lab, connection: Connection) -> None:
    part = _partition(lab, SMALL)
    name = f"{lab.inspected().partition_name(SMALL)}_hnsw"
    connection.execute(f"CREATE INDEX more ON {part} USING hnsw ((embedding::vector(64)) vector_cosine_ops)")
    found = _only(lab)
    assert (found.kind, found.object) == ("extra index", "vecmig.more")
    connection.execute(f"DROP INDEX vecmig.more; DROP INDEX vecmig.{name}")
    connection.execute(f"CREATE INDEX {name} ON {part} USING hnsw ((embedding::vector(64)) vector_l2_ops)")
    found = _only(lab)
    assert (found.kind, found.severity, found.figures["opclass"]) == ("other index", "error", "vector_l2_ops")


@pytest.mark.upgraded("r1")
def test_an_index_that_no_search_used_for_a_week_is_found(lab: Lab, connection: Connection) -> None:
    name = connection.info.dbname
    # so that the planner takes the index on 20 rows
    connection.execute(f"ALTER DATABASE {name} SET seq_page_cost = 1e9")
    assert _kinds(lab) == []
    connection.execute("UPDATE vecmig.route SET changed_at = now() - interval '8 days'")
    connection.execute("UPDATE vecmig.revision SET live_at = now() - interval '8 days'")
    found = _only(lab)
    assert (found.kind, found.severity, found.figures["scans"]) == ("unused index", "warning", 0)
    with lab.reader() as reader:
        assert reader.search("documents", "body 3", 1)
    assert _kinds(lab) == []


# Recipes and models ------------------------------------------------------------------------------------------------


@pytest.mark.upgraded
def test_a_recipe_that_is_gone_from_the_file_is_found(lab: Lab) -> None:
    path = lab.path / "migrations" / "collections.yaml"
    whole = path.read_text()
    lab.write(chain=(LARGE,))
    for script in ("r1", "r2"):
        lab.script(int(script[1]), None if script == "r1" else SMALL, SMALL if script == "r1" else LARGE)
    found = _only(lab)
    assert (found.kind, found.severity, found.tag) == ("no recipe", "warning", SMALL)
    line = found.fix.removeprefix("If it is yours, add under tags: ")
    path.write_text(path.read_text() + f"  {line}\n")
    assert _kinds(lab, ask=True) == []
    assert whole


@pytest.mark.upgraded("r1")
def test_a_recipe_that_drifted_is_found(lab: Lab, connection: Connection) -> None:
    lab.write(recipes={SMALL: recipe(SMALL, document_prompt="passage: {text}")})
    found = _only(lab, ask=True)
    assert (found.kind, found.severity, found.tag) == ("recipe drifted", "error", SMALL)
    assert found.figures["changed"] == ["document_prompt: 'passage: {text}', not '{text}'"]
    lab.write()
    connection.execute('UPDATE vecmig.tag SET recipe = recipe || \'{"query_prompt": "q: {text}"}\'')
    assert _only(lab).kind == "recorded recipe"


@pytest.mark.upgraded
def test_other_weights_under_the_same_name_are_found(lab: Lab, model: Model) -> None:
    model.weights = "new"
    found = _audit(lab, ask=True).findings
    assert [(f.kind, f.severity, f.tag) for f in found] == [
        ("canary differs", "error", LARGE),
        ("canary differs", "error", SMALL),
    ]
    assert found[0].figures["similarity"] < 0.999
    assert _kinds(lab, ask=False) == []


@pytest.mark.upgraded("r1")
def test_a_model_that_does_not_answer_is_not_checked(lab: Lab, model: Model) -> None:

    def away(vectors: Any) -> Any:
        raise ConnectionError("no route to host")

    model.drift = away
    found = _only(lab, ask=True)
    assert (found.kind, found.severity) == ("canary not checked", "unchecked")
    assert "no route to host" in found.detail


@pytest.mark.upgraded
def test_a_revision_without_a_script_is_found(lab: Lab) -> None:
    (lab.path / "migrations" / "versions" / "r2.py").unlink()
    found = _only(lab)
    assert (found.kind, found.object, found.collection) == ("no script", "r2", "documents")


# Rights ------------------------------------------------------------------------------------------------------------


def test_a_role_that_lost_the_source_keeps_no_vectors_unseen(lab: Lab, role: Role, connection: Connection) -> None:
    role("app_reader", "GRANT SELECT ON documents TO app_reader")
    lab.upgrade("r1")
    assert _kinds(lab) == []
    connection.execute("REVOKE SELECT ON documents FROM app_reader")
    found = _only(lab)
    assert (found.kind, found.severity, found.object) == ("open vectors", "error", "app_reader")
    connection.execute(found.fix)
    assert _kinds(lab) == []


@pytest.mark.upgraded("r1")
def test_a_role_that_came_later_is_found_and_synced(lab: Lab, role: Role) -> None:
    role("app_late", "GRANT SELECT ON documents TO app_late")
    found = _only(lab)
    assert (found.kind, found.severity, found.object) == ("no access", "warning", "app_late")
    lab.sync()
    assert _kinds(lab) == []


@pytest.mark.upgraded("r1")
def test_vectors_without_the_row_security_of_their_source_are_found(
    lab: Lab, role: Role, connection: Connection
) -> None:
    connection.execute(
        "ALTER TABLE documents ENABLE ROW LEVEL SECURITY; CREATE POLICY mine ON documents USING (id = 3)"
    )
    assert _only(lab).kind == "no row security"
    lab.sync()
    assert _kinds(lab) == []
    connection.execute("DROP POLICY vecmig_as_source ON documents_vectors")
    assert _only(lab).kind == "no row security"
    lab.sync()
    connection.execute("CREATE POLICY all_of_it ON documents_vectors FOR SELECT USING (true)")
    found = _only(lab)
    assert (found.kind, found.figures["policy"]) == ("wider policy", "all_of_it")
    connection.execute(found.fix)
    part = _partition(lab, SMALL)
    role("app_reader", "GRANT SELECT ON documents, documents_vectors, documents_live TO app_reader")
    connection.execute("GRANT USAGE ON SCHEMA vecmig TO app_reader")
    assert _kinds(lab) == []
    connection.execute(f"GRANT SELECT ON {part} TO app_reader")
    found = _only(lab)
    assert (found.kind, found.figures["reads_source"]) == ("open vectors", True)
    connection.execute(found.fix)
    assert _kinds(lab) == []


@pytest.mark.upgraded("r1")
def test_a_view_and_a_function_with_their_owners_rights_are_found(lab: Lab, connection: Connection) -> None:
    connection.execute("ALTER VIEW documents_live RESET (security_invoker)")
    connection.execute("ALTER FUNCTION documents_search SECURITY DEFINER")
    found = _audit(lab).findings
    assert [f.kind for f in found] == ["owner's rights"] * 2
    for finding in found:
        connection.execute(finding.fix)
    assert _kinds(lab) == []


# Writers -----------------------------------------------------------------------------------------------------------


@pytest.mark.upgraded("r1")
def test_vectors_that_somebody_inserted_name_their_role_and_application(
    lab: Lab, role: Role, connection: Connection
) -> None:
    app = role(
        "app_writer", "GRANT SELECT ON documents TO app_writer", "GRANT INSERT ON documents_vectors TO app_writer"
    )
    lab.sync()
    found = _only(lab)
    assert (found.kind, found.object, found.figures["privileges"]) == ("write grants", "app_writer", ["INSERT"])
    app.execute(_insert(lab, SMALL, 64, chunk=1))
    connection.execute(found.fix)
    found = _only(lab)
    assert (found.kind, found.severity, found.tag) == ("foreign vectors", "error", SMALL)
    assert (found.figures["role"], found.figures["application"]) == ("app_writer", "acme worker")
    assert found.figures["vectors"] == 1
    connection.execute(found.fix.split("only. ")[1].split(" then")[0])
    assert _kinds(lab) == []


@pytest.mark.upgraded("r1")
def test_also_those_that_went_straight_to_a_partition(lab: Lab, connection: Connection) -> None:
    connection.execute(_insert(lab, SMALL, 64, chunk=1, where=_partition(lab, SMALL)))
    found = _only(lab)
    assert (found.kind, found.figures["role"], found.figures["application"]) == ("foreign vectors", "postgres", "")


@pytest.mark.upgraded("r1")
def test_an_update_in_place_is_found(lab: Lab, connection: Connection, connect: Connect) -> None:
    writer = connect()
    writer.execute("UPDATE documents_vectors SET embedding = (SELECT embedding FROM documents_vectors WHERE id = 2)")
    writer.execute("SELECT pg_stat_force_next_flush()")
    writer.execute("SELECT 1")
    found = _only(lab)
    assert (found.kind, found.severity, found.tag, found.figures["rows"]) == ("updated vectors", "error", SMALL, 20)
    connection.execute(found.fix.split("then: ")[1])
    assert _kinds(lab) == []


@pytest.mark.upgraded("r1")
def test_who_writes_at_this_moment_is_named_and_an_application_that_deletes_a_record_is_not(
    lab: Lab, connect: Connect
) -> None:
    deleting = connect(autocommit=False, application_name="shop")
    deleting.execute("DELETE FROM documents WHERE id = 1")
    assert _kinds(lab) == []
    deleting.rollback()
    writing = connect(autocommit=False, application_name="acme worker")
    writing.execute("DELETE FROM documents_vectors WHERE id = 1")
    found = _only(lab)
    assert (found.kind, found.object, found.figures["application"]) == ("foreign session", "postgres", "acme worker")
    writing.rollback()
    assert _kinds(lab) == []


@pytest.mark.upgraded("r1")
def test_a_function_that_writes_vectors_is_named_with_its_triggers(lab: Lab, connection: Connection) -> None:
    connection.execute(
        "CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN INSERT INTO vecmig.documents_vectors SELECT 1; RETURN NULL; END'"
    )
    connection.execute("CREATE TRIGGER fill AFTER INSERT ON documents FOR EACH ROW EXECUTE FUNCTION fill()")
    found = _only(lab)
    assert (found.kind, found.object, found.figures["tables"]) == (
        "writing function",
        "public.fill()",
        ["public.documents"],
    )


@pytest.mark.upgraded("r1")
def test_what_pg_stat_statements_has_of_other_roles_is_told(lab: Lab, role: Role, connection: Connection) -> None:
    """The wheel's server lacks the extension: a table stands in for its view."""
    connection.execute(
        "CREATE TABLE pg_stat_statements AS "
        "SELECT d.oid AS dbid, r.oid AS userid, 7::bigint AS calls, 9::bigint AS rows, q AS query "
        "FROM pg_database d, pg_roles r, unnest(ARRAY["
        "'INSERT INTO documents_vectors SELECT $1', 'SELECT * FROM documents_vectors', "
        "'INSERT INTO my_documents_vectors_log SELECT $1']) q "
        "WHERE d.datname = current_database() AND r.rolname IN ('postgres', 'pg_monitor')"
    )
    connection.execute(
        "INSERT INTO pg_extension (oid, extname, extowner, extnamespace, extrelocatable, extversion) "
        "VALUES (99999, 'pg_stat_statements', 10, 'public'::regnamespace, true, '1')"
    )
    found = _only(lab)
    assert (found.kind, found.object, found.figures["calls"]) == ("foreign statements", "pg_monitor", 7)
    connection.execute("ALTER TABLE pg_stat_statements DROP COLUMN query")
    assert _kinds(lab) == []


# Vectors outside of vecmig's tables ----------------------------------------------------------------------------------


def test_vectors_in_a_table_of_the_applications_own_are_counted(lab: Lab, connection: Connection) -> None:
    connection.execute("ALTER TABLE documents ADD COLUMN embedding vector(4)")
    connection.execute("CREATE TABLE data_docs (id int, embedding vector(4), embedding_tag text)")
    assert _kinds(lab) == []
    connection.execute("UPDATE documents SET embedding = '[1,2,3,4]' WHERE id <= 7")
    found = _only(lab)
    assert (found.kind, found.severity, found.collection) == ("untagged vectors", "warning", "documents")
    assert (found.object, found.figures["untagged"]) == ("public.documents.embedding", 7)
    assert "vecmig upgrade head" in found.fix
    lab.upgrade()
    found = _only(lab)
    assert found.kind == "untagged vectors"
    assert found.fix.startswith("Let searches read documents_live instead")
    connection.execute("ALTER TABLE documents DROP COLUMN embedding")
    connection.execute(
        "INSERT INTO data_docs SELECT n, '[1,2,3,4]', (ARRAY[%s, 'who@1', '', NULL])[n] FROM generate_series(1, 4) n",
        [SMALL],
    )
    found, unknown = _audit(lab).findings
    assert (found.kind, found.collection, found.figures["untagged"]) == ("untagged vectors", None, 2)
    assert (unknown.kind, unknown.figures["unknown_tags"]) == ("unknown tag", ["who@1"])
    assert _audit(lab, "documents").findings == ()


def test_an_unknown_collection_is_refused(lab: Lab) -> None:
    with pytest.raises(ConfigError, match="nothing"):
        _audit(lab, "nothing")


@pytest.mark.upgraded
def test_a_collection_that_the_file_no_longer_names_is_found(lab: Lab) -> None:
    lab.write(name="others")
    kinds = _kinds(lab)
    assert "unconfigured collection" in kinds


@pytest.mark.upgraded("r1")
def test_a_table_of_an_earlier_version_is_audited_and_brought_up_to_date(lab: Lab, connection: Connection) -> None:
    connection.execute("ALTER TABLE documents_vectors DROP COLUMN written_by")
    connection.execute(_insert(lab, SMALL, 64, chunk=1))
    assert _kinds(lab) == []
    lab.upgrade()
    assert lab.sql("SELECT count(*) FROM documents_vectors WHERE written_by IS NOT NULL") == [(0,)]
    connection.execute(_insert(lab, LARGE, 256, chunk=1))
    assert _only(lab).tag == LARGE


@pytest.mark.upgraded
def test_what_it_costs_is_one_pass_over_the_source_for_each_tag_that_serves(
    lab: Lab, connection: Connection, connect: Connect
) -> None:

    def scans() -> int:
        watch = connect()
        watch.execute("SELECT pg_stat_force_next_flush()")
        row = watch.execute("SELECT seq_scan FROM pg_stat_user_tables WHERE relname = 'documents'").fetchone()
        assert row is not None
        return int(row[0])

    before = scans()
    _audit(lab)
    assert scans() - before <= 2

"""The vectors that a team has already are taken over, not bought again; and what does not fit is never mixed in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from support.adopting import adopts, give_vectors, kept_as_found, literal, write_one
from support.embedding import Model, vector
from support.lab import LARGE, SMALL, Lab
from support.postgres import Postgres
from vecmig import runner
from vecmig.errors import ConfigError, DatabaseError, GateRefused, Interrupted, ScriptError, TerminalEmbedderError
from vecmig.events import Event, Progress, Warned
from vecmig.freshness.changes import count_due
from vecmig.homes.adopting import adopt_changed

ALL = 20


def _nothing_made(lab: Lab) -> bool:
    triggers = lab.sql("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'documents'::regclass AND NOT tgisinternal")
    return triggers == [(0,)] and lab.sql("SELECT count(*) FROM vecmig.revision") == [(0,)]


def _stored(lab: Lab) -> dict[int, str]:
    return dict(lab.sql("SELECT id, embedding::text FROM documents_live ORDER BY id"))


def test_all_vectors_are_taken_over_and_none_is_bought(lab: Lab, model: Model) -> None:
    give_vectors(lab)
    adopts(lab, 'm.adopt("embedding")')
    assert lab.upgrade("r1") == ["live"]
    assert model.total() == 0
    coverage = lab.cover(SMALL)
    assert (coverage.fresh, coverage.eligible) == (ALL, ALL)
    assert _stored(lab) == dict(lab.sql("SELECT id, embedding::text FROM documents"))
    (tag,) = lab.status().tags
    assert tag.verified is not None
    assert (tag.verified["good"], tag.verified["of"]) == (ALL, ALL)


@pytest.mark.parametrize(
    ("type_", "expression"),
    [
        ("vector", "embedding"),
        ("halfvec(64)", "embedding::vector"),
        ("real[]", "embedding"),
        ("text", "embedding::vector"),
        ("vector(64)", "l2_normalize(embedding)"),
    ],
)
def test_whatever_gives_a_vector_is_adopted(lab: Lab, model: Model, type_: str, expression: str) -> None:
    give_vectors(lab, type_)
    adopts(lab, f"m.adopt({expression!r})")
    lab.upgrade("r1")
    assert model.total() == 0
    assert lab.cover(SMALL).fresh == ALL


def test_an_expression_finds_pgvector_in_another_schema(lab: Lab, model: Model) -> None:
    lab.sql("CREATE SCHEMA extensions")
    lab.sql("ALTER EXTENSION vector SET SCHEMA extensions")
    lab.sql("ALTER TABLE documents ADD COLUMN embedding text")
    for key, title, body in lab.sql("SELECT id, title, body FROM documents"):
        lab.sql("UPDATE documents SET embedding = %s WHERE id = %s", literal(f"{title}\n\n{body}", more=64), key)
    adopts(lab, "m.adopt('subvector(embedding::vector, 1, 64)')")
    lab.upgrade("r1")
    assert (model.total(), lab.cover(SMALL).fresh) == (0, ALL)


def test_what_the_column_lacks_is_embedded_by_the_recipe(lab: Lab, model: Model) -> None:
    give_vectors(lab, where="id > 3")
    lab.sql("UPDATE documents SET embedding = array_fill(0::real, ARRAY[64])::vector WHERE id = 20")
    adopts(lab, 'm.adopt("embedding")')
    lab.upgrade("r1")
    assert model.total() == 4
    assert lab.cover(SMALL).fresh == ALL
    assert any(
        "1 value of documents is not such as" in event.message for event in lab.events if isinstance(event, Warned)
    )


def test_without_fill_nothing_is_bought_and_the_gate_tells_what_is_missing(lab: Lab, model: Model) -> None:
    give_vectors(lab, where="id > 3")
    adopts(lab, 'm.adopt("embedding", fill=False)')
    with pytest.raises(GateRefused, match="coverage"):
        lab.upgrade("r1")
    coverage = lab.cover(SMALL)
    assert (model.total(), coverage.fresh, coverage.missing) == (0, 17, 3)
    give_vectors(lab, where="id <= 3")
    assert lab.upgrade("r1") == ["live"]
    assert model.total() == 0


def test_only_the_rows_that_where_names_are_adopted(lab: Lab, model: Model) -> None:
    give_vectors(lab)
    lab.sql("ALTER TABLE documents ADD COLUMN embedding_model text DEFAULT 'toy'")
    lab.sql("UPDATE documents SET embedding_model = 'other', embedding = %s WHERE id <= 5", literal("else"))
    adopts(lab, "m.adopt('embedding', where=\"embedding_model = 'toy'\")")
    lab.upgrade("r1")
    assert model.total() == 5
    assert lab.cover(SMALL).fresh == ALL


# What does not fit -------------------------------------------------------------------------------------------------


def test_two_sizes_in_one_column_are_named_and_nothing_is_mixed(lab: Lab, model: Model) -> None:
    give_vectors(lab, "vector")
    give_vectors(lab, "vector", dims=32, where="id <= 5")
    script = adopts(lab, 'm.adopt("embedding")')
    with pytest.raises(ConfigError, match=r"64 dims \(15\) and 32 dims \(5\)") as refused:
        lab.upgrade("r1")
    assert "where='vector_dims(embedding) = 64'" in refused.value.hint
    assert _nothing_made(lab)
    script.write_text(
        script.read_text().replace('m.adopt("embedding")', "m.adopt('embedding', where='vector_dims(embedding) = 64')")
    )
    lab.upgrade("r1")
    assert model.total() == 5


def test_padded_vectors_are_named_with_the_expression_that_cuts_them(lab: Lab, model: Model) -> None:
    give_vectors(lab, "vector", more=192)
    script = adopts(lab, 'm.adopt("embedding")')
    with pytest.raises(ConfigError, match="behind the first 64 all of them are zero") as refused:
        lab.upgrade("r1")
    assert refused.value.hint == 'Write m.adopt("subvector(embedding, 1, 64)").'
    assert _nothing_made(lab)
    script.write_text(script.read_text().replace('"embedding"', '"subvector(embedding, 1, 64)"'))
    lab.upgrade("r1")
    assert (model.total(), lab.cover(SMALL).fresh) == (0, ALL)


def test_vectors_of_another_length_are_not_those_of_a_normalised_tag(lab: Lab) -> None:
    give_vectors(lab)
    lab.sql("UPDATE documents SET embedding = embedding * array_fill(2::real, ARRAY[64])::vector")
    adopts(lab, 'm.adopt("embedding")')
    with pytest.raises(ConfigError, match="of length 2 to 2") as refused:
        lab.upgrade("r1")
    assert 'm.adopt("l2_normalize(embedding)")' in refused.value.hint


#: What fails as a vector, each in its own way.
NO_VECTORS = ("none", "[]", "[1,2", "[NaN]", "[1e99]", "{}", "")


@pytest.mark.parametrize("where", [None, "title <> '100 %'"])
def test_a_value_that_is_no_vector_is_passed_by_and_counted(lab: Lab, model: Model, where: str | None) -> None:
    give_vectors(lab, "text")
    call = "m.adopt('embedding::vector', where=" + repr(where) + ")"
    adopts(lab, call)
    for key, value in enumerate(NO_VECTORS, start=3):
        lab.sql("UPDATE documents SET embedding = %s WHERE id = %s", value, key)
    (plan,) = runner.estimate(lab.config, "r1")
    assert (plan.adopted, plan.pending) == (ALL - len(NO_VECTORS), len(NO_VECTORS))
    warned: list[str] = []

    def listen(event: Event) -> None:
        if isinstance(event, Warned):
            warned.append(event.message)

    assert lab.upgrade("r1", listener=listen) == ["live"]
    assert any(message.startswith(f"{len(NO_VECTORS)} values of documents are not such as") for message in warned)
    assert (model.total(), lab.cover(SMALL).fresh) == (len(NO_VECTORS), ALL)


def test_a_value_that_is_no_vector_any_more_holds_up_nobody(lab: Lab, model: Model) -> None:
    give_vectors(lab, "text")
    adopts(lab, "m.adopt('embedding::vector')")
    lab.upgrade("r1")
    lab.sql("UPDATE documents SET body = 'changed', embedding = 'none' WHERE id = 7")
    lab.sql("UPDATE documents SET embedding = 'none' WHERE id = 8")
    lab.sql("UPDATE documents SET body = 'another', embedding = %s WHERE id = 9", literal("title 9\n\nanother"))
    lab.sync()
    assert (model.total(), lab.cover(SMALL).fresh) == (1, ALL)
    assert lab.sql("SELECT count(*) FROM vecmig.change") == [(0,)]


def test_hints_are_such_as_an_array_can_follow(lab: Lab, model: Model) -> None:
    give_vectors(lab, "real[]", more=192)
    script = adopts(lab, 'm.adopt("embedding")')
    with pytest.raises(ConfigError) as refused:
        lab.upgrade("r1")
    assert refused.value.hint == 'Write m.adopt("subvector(embedding::vector, 1, 64)").'
    script.write_text(script.read_text().replace('"embedding"', '"subvector(embedding::vector, 1, 64)"'))
    lab.upgrade("r1")
    assert (model.total(), lab.cover(SMALL).fresh) == (0, ALL)


def test_a_role_without_temporary_tables_is_told_what_it_lacks(lab: Lab) -> None:
    give_vectors(lab)
    adopts(lab, 'm.adopt("embedding")')
    database = lab.sql("SELECT current_database()")[0][0]
    lab.sql("CREATE ROLE without_temp LOGIN")
    try:
        lab.sql(f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")
        lab.sql("ALTER TABLE documents OWNER TO without_temp")
        lab.sql(f"GRANT CREATE ON DATABASE {database} TO without_temp")
        lab.sql("GRANT CREATE ON SCHEMA public TO without_temp")
        config = replace(lab.config, database_url=lab.url.replace("//postgres@", "//without_temp@"))
        with pytest.raises(DatabaseError, match="may create no temporary tables") as refused:
            runner.upgrade(config, "r1")
        assert refused.value.hint.endswith(f"GRANT TEMPORARY ON DATABASE {database} TO without_temp")
    finally:
        lab.sql("DROP OWNED BY without_temp CASCADE")
        lab.sql("DROP ROLE without_temp")


def test_where_nothing_is_a_vector_the_expression_is_refused(lab: Lab) -> None:
    give_vectors(lab, "text")
    lab.sql("UPDATE documents SET embedding = 'none'")
    adopts(lab, 'm.adopt("embedding::vector")')
    with pytest.raises(ConfigError, match="Nothing that embedding::vector gives is a vector"):
        lab.upgrade("r1")
    assert _nothing_made(lab)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ('m.adopt("nowhere")', 'column "nowhere" does not exist'),
        ('m.adopt("title")', "Nothing that title gives is a vector"),
        ('m.adopt("embedding", home="cellar")', "home='cellar'"),
        ('m.adopt("embedding", retire="drop")', "retire='drop'"),
        ("m.adopt('embedding', where='random() < 0.5')", "not immutable"),
    ],
)
def test_arguments_that_cannot_work_are_refused_before_anything_is_taken_over(lab: Lab, call: str, why: str) -> None:
    give_vectors(lab)
    adopts(lab, call)
    with pytest.raises((ConfigError, DatabaseError, ScriptError), match=why):
        lab.upgrade("r1")
    assert _nothing_made(lab)


def test_vectors_of_another_model_are_refused_by_the_spot_check(lab: Lab, model: Model) -> None:
    give_vectors(lab)
    model.weights = "other"
    adopts(lab, 'm.adopt("embedding")')
    with pytest.raises(GateRefused, match="spot check"):
        lab.upgrade("r1")
    (tag,) = lab.status().tags
    assert (tag.verified, lab.live) == (None, None)


def test_what_separates_the_rows_of_two_models_is_named(lab: Lab) -> None:
    give_vectors(lab)
    lab.sql("ALTER TABLE documents ADD COLUMN embedding_model text DEFAULT 'toy'")
    for key in range(1, 6):
        lab.sql(
            "UPDATE documents SET embedding_model = 'ada-002', embedding = %s WHERE id = %s", literal(f"x{key}"), key
        )
    adopts(lab, 'm.adopt("embedding")')
    with pytest.raises(GateRefused, match="spot check") as refused:
        lab.upgrade("r1")
    (check,) = [check for check in refused.value.checks if check.name == "spot check"]
    assert "those that are not, and no others, have embedding_model = 'ada-002'" in check.detail
    assert "where=\"NOT (embedding_model = 'ada-002')\"" in refused.value.hint


def test_a_plan_counts_what_is_adopted_and_pays_for_the_rest_only(lab: Lab) -> None:
    give_vectors(lab, where="id > 3")
    script = adopts(lab, 'm.adopt("embedding")')
    plan, _ = runner.estimate(lab.config)
    assert (plan.adopted, plan.pending, plan.in_place) == (17, 3, False)
    script.write_text(script.read_text().replace('"embedding")', '"embedding", home="column")'))
    plan, _ = runner.estimate(lab.config)
    assert (plan.adopted, plan.pending, plan.in_place) == (17, 0, True)
    assert lab.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'vecmig'") == [(0,)]


def test_no_vector_of_another_model_is_put_beside_the_adopted_ones(lab: Lab, model: Model) -> None:
    give_vectors(lab, where="id > 3")
    model.weights = "other"
    adopts(lab, 'm.adopt("embedding")')
    with pytest.raises(TerminalEmbedderError, match="is not the one that made the adopted vectors"):
        lab.upgrade("r1")
    assert lab.cover(SMALL).fresh == 17


def test_where_the_model_is_gone_the_vectors_stay_asserted(lab: Lab, model: Model) -> None:
    give_vectors(lab)

    def gone(texts: list[str]) -> None:
        raise TerminalEmbedderError("the model was retired")

    model.before = gone
    adopts(lab, 'm.adopt("embedding")')
    assert lab.upgrade("r1") == ["live"]
    (tag,) = lab.status().tags
    assert (tag.adopted is not None, tag.verified) == (True, None)
    model.before = lambda texts: None
    lab.sync()
    assert lab.status().tags[0].verified is not None


# The application goes on -------------------------------------------------------------------------------------------


@pytest.fixture
def adopted(lab: Lab, model: Model) -> Lab:
    give_vectors(lab)
    adopts(lab, 'm.adopt("embedding")')
    lab.upgrade("r1")
    assert model.total() == 0
    return lab


def test_what_the_application_embeds_is_taken_over(adopted: Lab, model: Model) -> None:
    write_one(adopted, 1, "edited", vector_of="title 1\n\nedited")
    write_one(adopted, 21, "new", vector_of="title 21\n\nnew")
    adopted.sql("UPDATE documents SET embedding = %s WHERE id = 2", literal("corrected"))
    adopted.sync()
    assert model.total() == 0
    assert adopted.cover(SMALL).fresh == 21
    stored = _stored(adopted)
    assert stored == dict(adopted.sql("SELECT id, embedding::text FROM documents"))
    assert adopted.waiting == []


def test_many_changes_of_one_transaction_are_taken_over(adopted: Lab, model: Model) -> None:
    with psycopg.connect(adopted.url) as connection:
        for key in range(1, ALL + 1):
            text = f"title {key}\n\nlater {key}"
            connection.execute(
                "UPDATE documents SET body = %s, embedding = %s::text::vector WHERE id = %s",
                [f"later {key}", literal(text), key],
            )
    adopted.sync()
    assert (model.total(), adopted.cover(SMALL).fresh, adopted.waiting) == (0, ALL, [])


def test_a_text_that_changed_alone_is_stale_and_then_embedded(adopted: Lab, model: Model) -> None:
    adopted.sql("SET application_name = 'cms'; UPDATE documents SET body = 'alone' WHERE id = 3")
    (tag,) = adopted.status().tags
    assert (tag.coverage.stale, tag.text_writers) == (1, (("postgres", "cms", 1),))
    adopted.sync()
    assert model.embedded == {(64, "title 3\n\nalone"): 1}
    assert adopted.cover(SMALL).fresh == ALL
    # the old vector that is still in the column is not taken for the new text's
    adopted.sync()
    assert vector("title 3\n\nalone", 64).tolist() == pytest.approx(
        [float(x) for x in _stored(adopted)[3].strip("[]").split(",")], abs=1e-6
    )


def test_a_next_tag_is_embedded_while_the_adopted_one_is_followed(adopted: Lab, model: Model) -> None:
    adopted.upgrade()
    assert adopted.live == LARGE
    write_one(adopted, 5, "both", vector_of="title 5\n\nboth")
    adopted.sync()
    assert model.embedded[64, "title 5\n\nboth"] == 0
    assert model.embedded[256, "title 5\n\nboth"] == 1
    assert [adopted.cover(tag).fresh for tag in (SMALL, LARGE)] == [ALL, ALL]
    adopted.downgrade()
    assert (adopted.live, model.total(64)) == (SMALL, 0)


def test_a_column_that_is_called_otherwise_is_followed(adopted: Lab, model: Model) -> None:
    adopted.sql('ALTER TABLE documents RENAME COLUMN embedding TO "Embedding v1"')
    text = "title 1\n\nedited"
    adopted.sql("UPDATE documents SET body = 'edited', \"Embedding v1\" = %s WHERE id = 1", literal(text))
    adopted.sync()
    assert (model.total(), adopted.cover(SMALL).fresh) == (0, ALL)


def test_a_column_that_is_dropped_leaves_the_copy(adopted: Lab, model: Model) -> None:
    adopted.upgrade()
    before = _stored(adopted)
    runner.detach_view(adopted.config, "documents")
    adopted.sql("ALTER TABLE documents DROP COLUMN embedding")
    adopted.sql("UPDATE documents SET body = 'edited' WHERE id = 1")
    runner.attach_view(adopted.config, "documents")
    (note,) = adopted.status().notes
    assert note.startswith(f"{SMALL} of documents does not follow embedding any more, and keeps the vectors")
    adopted.sync()
    assert [adopted.cover(tag).fresh for tag in (SMALL, LARGE)] == [ALL, ALL]
    adopted.downgrade()
    assert (adopted.live, model.total(64)) == (SMALL, 1)
    assert len(before) == ALL


def test_status_names_no_command_for_what_the_application_alone_writes(lab: Lab, model: Model) -> None:
    give_vectors(lab)
    lab = lab.write(coverage=0.5, budget=0.5, chain=(SMALL,))
    adopts(lab, 'm.adopt("embedding", fill=False)')
    lab.upgrade("r1")
    write_one(lab, 21, "without a vector")
    lab.sync()
    found = runner.status(lab.config)
    assert (found.next_command, found.collections[0].tags[0].coverage.missing) == (None, 1)
    write_one(lab, 21, "without a vector", vector_of="title 21\n\nwithout a vector")
    assert runner.status(lab.config).next_command == "vecmig sync"
    lab.sync()
    assert (lab.cover(SMALL).fresh, model.total()) == (ALL + 1, 0)


@pytest.mark.parametrize("home", ["partition", "column"])
def test_a_sync_with_nothing_to_take_over_locks_no_record(lab: Lab, home: str) -> None:
    give_vectors(lab)
    adopts(lab, f'm.adopt("embedding", home="{home}")')
    lab.upgrade("r1")
    before = lab.sql("SELECT id, ctid, xmax FROM documents ORDER BY id")
    lab.sync()
    assert lab.sql("SELECT id, ctid, xmax FROM documents ORDER BY id") == before


def test_it_goes_on_where_it_was_interrupted(lab: Lab, model: Model) -> None:
    give_vectors(lab)
    adopts(lab, 'm.adopt("embedding")')

    def interrupt(event: Event) -> None:
        if isinstance(event, Progress) and event.done:
            raise KeyboardInterrupt

    with pytest.raises((Interrupted, KeyboardInterrupt)):
        lab.upgrade("r1", listener=interrupt)
    assert lab.cover(SMALL).fresh == ALL
    assert lab.upgrade("r1") == ["live"]
    assert model.total() == 0


def test_a_change_that_somebody_holds_is_left_and_counted(adopted: Lab) -> None:
    adopted.sql("UPDATE documents SET embedding = %s WHERE id IN (2, 3)", literal("corrected"))
    with adopted.opened(SMALL) as (connection, stamps):
        with psycopg.connect(adopted.url) as application:
            application.execute("SELECT FROM documents WHERE id = 2 FOR UPDATE")
            assert (adopt_changed(connection, stamps, kept=True), count_due(connection, stamps)) == (1, 1)
            # who clears the outbox locks its rows
            application.rollback()
            application.execute("SELECT FROM vecmig.change FOR UPDATE")
            assert (adopt_changed(connection, stamps, kept=True), count_due(connection, stamps)) == (0, 1)
        assert (adopt_changed(connection, stamps, kept=True), count_due(connection, stamps)) == (1, 0)


# And back ----------------------------------------------------------------------------------------------------------


def test_the_way_to_base_leaves_the_table_as_it_was_found(lab: Lab, postgres: Postgres, tmp_path: Path) -> None:
    give_vectors(lab)
    adopts(lab, 'm.adopt("embedding")')
    before = kept_as_found(lab, postgres, tmp_path / "before.sql")
    lab.upgrade()
    lab.downgrade("base")
    assert kept_as_found(lab, postgres, tmp_path / "after.sql") == before
    # and forward again, also past what changed meanwhile
    lab.sql("DELETE FROM documents WHERE id = 4")
    write_one(lab, 6, "meanwhile", vector_of="title 6\n\nmeanwhile")
    lab.upgrade()
    assert lab.cover(LARGE).fresh == ALL - 1
    assert lab.sql("SELECT count(*) FROM vecmig.documents_vectors WHERE id = 4") == [(0,)]


# What an application may do ----------------------------------------------------------------------------------------


_TEXT = "UPDATE documents SET body = 'b' WHERE id = 1"
_VECTOR = "UPDATE documents SET embedding = {} WHERE id = 1"
_INSERTED = "INSERT INTO documents VALUES (99, 'title 1', 'x', {})"
_RELOAD = "DELETE FROM documents WHERE id IN (1, 2); INSERT INTO documents VALUES (1, 'title 1', 'b', {})"
_CHANGES = {
    "both in a statement": (["UPDATE documents SET body = 'b', embedding = {} WHERE id = 1"], 0),
    "both in a transaction": ([f"{_TEXT}; {_VECTOR}"], 0),
    "the vector first": ([f"{_VECTOR}; {_TEXT}"], 0),
    "the vector later": ([_TEXT, _VECTOR], 0),
    "the text later": ([_VECTOR, _TEXT], 1),
    "the text of a new record later": ([_INSERTED, _TEXT.replace("= 1", "= 99")], 1),
    "deleted and inserted": ([_RELOAD], 0),
    "among many": ([f"DELETE FROM documents WHERE id = 3; DELETE FROM documents WHERE id = 4; {_RELOAD}"], 0),
    "another key": (["UPDATE documents SET id = 99 WHERE id = 1"], 0),
}


@pytest.mark.parametrize("home", ["partition", "column"])
@pytest.mark.parametrize("change", _CHANGES)
def test_a_vector_counts_for_the_text_that_it_was_written_with(lab: Lab, model: Model, home: str, change: str) -> None:
    give_vectors(lab)
    adopts(lab, f'm.adopt("embedding", home="{home}", fill=False)')
    lab.upgrade("r1")
    transactions, lacking = _CHANGES[change]
    written = literal("title 1\n\nb")
    for statements in transactions:
        with psycopg.connect(lab.url) as connection:
            connection.execute(statements.format(f"'{written}'"))
    lab.sync()
    coverage = lab.cover(SMALL)
    assert (coverage.stale + coverage.missing, model.total()) == (lacking, 0)


@pytest.mark.parametrize("home", ["partition", "column"])
def test_an_audit_takes_what_was_followed_for_no_tampering(lab: Lab, home: str) -> None:
    give_vectors(lab)
    adopts(lab, f'm.adopt("embedding", home="{home}")')
    lab.upgrade("r1")
    write_one(lab, 1, "edited", vector_of="title 1\n\nedited")
    lab.sync()
    lab.sql("SELECT pg_stat_force_next_flush()")
    assert [finding.kind for finding in runner.audit(lab.config).findings] == []


def test_vectors_of_another_model_that_come_later_are_told_of(adopted: Lab, model: Model) -> None:
    adopted.sync()
    assert adopted.status().tags[0].verified is not None
    for key in range(1, 15):
        adopted.sql("UPDATE documents SET embedding = %s WHERE id = %s", literal(f"other {key}"), key)
    adopted.sync()
    verified = adopted.status().tags[0].verified
    assert verified is not None
    assert verified["taken_over"] == 14
    # an hour later, whether or not more was taken over
    adopted.sql("""UPDATE vecmig.tag SET verified = verified || '{"at": "2026-01-01T00:00:00+00:00"}' """)
    adopted.events.clear()
    adopted.sync()
    (tag,) = adopted.status().tags
    assert (tag.verified, dict(tag.refuted or {}).get("good")) == (None, 6)
    assert any("are what its recipe gives" in event.message for event in adopted.events if isinstance(event, Warned))
    # it is not looked at again at once, whatever the next draw would show
    bought = model.total()
    adopted.sync()
    assert adopted.status().tags[0].refuted == tag.refuted
    assert model.total() == bought

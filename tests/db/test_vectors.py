"""Vectors are carried from one database to another in a file: whole, checked, and nothing but the vectors."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.adopting import adopts, give_vectors
from support.embedding import Model
from support.lab import CHUNKED, SMALL, Lab, create_documents, recipe
from support.postgres import Postgres
from vecmig import runner
from vecmig.backfill import Taken
from vecmig.errors import DatabaseError, RecipeError, UsageError, VecmigError
from vecmig.events import Event, TransferProgress, Waiting
from vecmig.homes import checked
from vecmig.runner import Exported, Imported

#: What tells a vector, its text and its chunk.
_VECTORS = (
    "SELECT title || body, chunk, chunks, chunk_text, e.embedding::text "
    "FROM documents_vectors e JOIN documents USING (id)"
)
#: Ends the session that has gathered what is wanted; counts how many it ended.
_END_THE_IMPORT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%vecmig_wanted%'"""
#: Environments of the same project: its files are written anew for each.
Elsewhere = Callable[..., Lab]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where vectors are carried."""
    return tmp_path / "vectors"


@pytest.fixture
def elsewhere(lab: Lab, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    """Another database with another project, whose records are those of ``lab`` in another order of keys."""
    names: list[str] = []

    def make(count: int = 20, **changes: Any) -> Lab:
        names.append(postgres.create_database())
        url = postgres.url(names[-1])
        with psycopg.connect(url, autocommit=True) as connection:
            create_documents(connection, count)
            connection.execute("UPDATE documents SET id = id + 100000")
        return replace(lab, path=tmp_path_factory.mktemp("elsewhere"), url=url, events=[]).write(**changes)

    yield make
    for name in names:
        postgres.drop_database(name)


def _export(lab: Lab, tag: str, file: Path) -> Exported:
    return runner.export_vectors(lab.config, lab.name, tag, file, listener=lab.listen)


def _import(lab: Lab, file: Path) -> Imported:
    return runner.import_vectors(lab.config, file, listener=lab.listen)


def _vectors(lab: Lab) -> set[tuple[Any, ...]]:
    return set(lab.sql(_VECTORS))


# There and back -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"chain": (SMALL,)},
        {"chain": (CHUNKED,), "text": "repeat(body || ' ', 5)"},
        {"chain": (SMALL,), "options": {"storage": "halfvec"}},
    ],
    ids=["whole texts", "chunks", "halfvec"],
)
def test_what_one_database_bought_serves_another(
    lab: Lab, elsewhere: Elsewhere, file: Path, model: Model, changes: Mapping[str, Any]
) -> None:
    lab, tag = lab.write(**changes), changes["chain"][0]
    lab.upgrade()
    made = _export(lab, tag, file)
    bought = model.total()
    assert (made.texts, made.vectors) == (20, len(_vectors(lab)))

    there = elsewhere(**changes)
    there.upgrade(until="expand")
    done = _import(there, file)
    assert done.taken == Taken(texts=20, records=20)
    assert done.coverage.fresh == done.coverage.eligible == 20
    assert _vectors(there) == _vectors(lab)
    assert there.upgrade() == ["live"]
    assert model.total() == bought, "the gate looks at a few, and nothing is bought"


def test_only_its_owner_reads_the_file_and_no_text_is_in_it(lab: Lab, file: Path) -> None:
    lab.upgrade("r1")
    made = _export(lab, SMALL, file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    written = file.read_bytes()
    assert made.bytes == len(written)
    assert b"body" not in written
    assert b"title" not in written
    assert [path.name for path in file.parent.iterdir() if "vectors" in path.name] == ["vectors"]


def test_the_file_says_nothing_of_how_the_provider_is_reached(lab: Lab, file: Path) -> None:
    lab.upgrade("r1")
    _export(lab, SMALL, file)
    header = checked(file).header
    assert (header.collection, header.tag, header.dims, header.text_hash) == ("documents", SMALL, 64, "sha256")
    assert not {"concurrency", "max_batch", "timeout", "base_url"} & set(header.recipe)
    assert header.made_by.fingerprint == header.fingerprint


def test_a_text_of_many_records_is_carried_once(lab: Lab, elsewhere: Elsewhere, file: Path) -> None:
    lab.sql("UPDATE documents SET title = '', body = 'answer ' || mod(id, 3)")
    lab.upgrade("r1")
    assert _export(lab, SMALL, file).vectors == 3
    there = elsewhere(count=1_500)
    there.sql("UPDATE documents SET title = '', body = 'answer ' || mod(id, 4)")
    there.upgrade("r1", until="expand")
    assert _import(there, file).taken == Taken(texts=3, records=1_125)
    assert there.sql("SELECT count(DISTINCT embedding::text) FROM documents_vectors") == [(3,)]


def test_what_is_not_taken_is_counted(lab: Lab, elsewhere: Elsewhere, file: Path, model: Model) -> None:
    lab.upgrade("r1")
    _export(lab, SMALL, file)
    there = elsewhere()
    there.upgrade("r1", until="expand")
    there.backfill(limit=8)
    there.sql("DELETE FROM documents WHERE id > 100015")
    there.sql("UPDATE documents SET body = 'other' WHERE id = 100015")
    there.sql("INSERT INTO documents VALUES (1, 'of nowhere', 'else'), (2, '', ' ')")
    bought = model.total()
    done = _import(there, file)
    assert done.taken == Taken(texts=6, records=6, present=8, unknown=6)
    assert (done.coverage.fresh, done.coverage.missing) == (14, 2)
    assert _import(there, file).taken == Taken(present=14, unknown=6)
    there.upgrade("r1")
    assert model.total() == bought + 2, "what the file had no vector for"


def test_a_text_that_is_cut_in_another_way_is_counted(lab: Lab, elsewhere: Elsewhere, file: Path) -> None:
    """The recipe is the same, and another vecmig cut it."""
    changes: dict[str, Any] = {"chain": (CHUNKED,), "text": "repeat(body || ' ', 5)"}
    lab = lab.write(**changes)
    lab.upgrade()
    lab.sql("DELETE FROM documents_vectors WHERE id = 3 AND chunk = chunks - 1")
    lab.sql("UPDATE documents_vectors SET chunks = chunks - 1 WHERE id = 3")
    _export(lab, CHUNKED, file)
    there = elsewhere(**changes)
    there.upgrade(until="expand")
    assert _import(there, file).taken == Taken(texts=19, records=19, mismatched=1)


def test_a_record_that_is_not_complete_is_not_exported(lab: Lab, file: Path) -> None:
    lab = lab.write(chain=(CHUNKED,), text="repeat(body || ' ', 5)")
    lab.upgrade()
    lab.sql("DELETE FROM documents_vectors WHERE id = 3 AND chunk = 1")
    assert _export(lab, CHUNKED, file).texts == 19


def test_a_vector_that_no_search_finds_is_counted(lab: Lab, elsewhere: Elsewhere, file: Path) -> None:
    """The other database allows vectors of any length."""
    tag = "toy@1/dim-64/chunk-none/norm-none"
    changes: dict[str, Any] = {"chain": (tag,), "options": {"metric": "l2"}}
    lab = lab.write(**changes)
    lab.upgrade(until="backfill")
    lab.sql("UPDATE documents_vectors SET embedding = array_fill(0, ARRAY[64])::vector WHERE id = 7")
    _export(lab, tag, file)
    there = elsewhere(chain=(tag,))
    there.upgrade(until="expand")
    assert _import(there, file).taken == Taken(texts=19, records=19, unsound=1)


@pytest.mark.parametrize("old", ["exporting", "importing"])
def test_a_tag_whose_hashes_are_md5(lab: Lab, elsewhere: Elsewhere, file: Path, old: str) -> None:
    """An earlier vecmig began it."""
    lab.upgrade("r1", until="expand")
    there = elsewhere()
    there.upgrade("r1", until="expand")
    for one in (lab,) if old == "exporting" else (there,):
        one.sql("UPDATE vecmig.tag SET text_hash = 'md5'")
    lab.upgrade("r1")
    _export(lab, SMALL, file)
    assert checked(file).header.text_hash == ("md5" if old == "exporting" else "sha256")
    assert _import(there, file).taken == Taken(texts=20, records=20)
    assert there.cover(SMALL).fresh == 20


# Homes and states -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("home", ["partition", "column"])
def test_what_was_adopted_is_carried_where_it_is_fresh(
    lab: Lab, elsewhere: Elsewhere, file: Path, model: Model, home: str
) -> None:
    give_vectors(lab, where="id <= 15")
    adopts(lab, f'm.adopt("embedding", home="{home}", fill=True)')
    lab.upgrade("r1")
    lab.sql("UPDATE documents SET body = 'edited' WHERE id = 1")
    assert _export(lab, SMALL, file).vectors == 19
    there = elsewhere()
    there.upgrade("r1", until="expand")
    bought = model.total()
    assert _import(there, file).taken == Taken(texts=19, records=19, unknown=0)
    assert there.cover(SMALL).missing == 1
    there.upgrade("r1")
    assert model.total() == bought + 1


@pytest.mark.parametrize("home", ["partition", "column"])
def test_a_tag_that_adopted_takes_vectors_for_what_its_column_lacks(
    lab: Lab, elsewhere: Elsewhere, file: Path, model: Model, home: str
) -> None:
    lab.upgrade("r1")
    _export(lab, SMALL, file)
    there = elsewhere()
    give_vectors(there, where="id <= 100015")
    adopts(there, f'm.adopt("embedding", home="{home}", fill=True)')
    there.upgrade("r1", until="expand")
    with pytest.raises(UsageError, match="has not adopted"):
        _import(there, file)
    there.backfill(limit=1)
    had = there.cover(SMALL).fresh
    assert 15 < had < 20
    assert _import(there, file).taken == Taken(texts=20 - had, records=20 - had, present=had)
    assert there.cover(SMALL).fresh == 20
    bought = model.total()
    there.upgrade("r1")
    assert model.total() == bought


def test_the_column_of_an_application_is_left_alone(lab: Lab, elsewhere: Elsewhere, file: Path) -> None:
    lab.upgrade("r1")
    _export(lab, SMALL, file)
    there = elsewhere(coverage=0.5, budget=0.5)
    give_vectors(there, where="id <= 100015")
    adopts(there, 'm.adopt("embedding", home="column")')
    there.upgrade("r1")
    with pytest.raises(UsageError, match="takes its vectors from the application's column only"):
        _import(there, file)
    assert there.sql("SELECT count(embedding) FROM documents") == [(15,)]


@pytest.mark.parametrize("tag", [SMALL, "toy@1/dim-256/chunk-none/norm-l2"])
def test_a_tag_is_exported_whatever_reads_do(lab: Lab, file: Path, tag: str) -> None:
    lab.upgrade("r1")
    lab.upgrade("r2", until="backfill")
    assert _export(lab, tag, file).vectors == 20
    lab.upgrade("r2")
    assert _export(lab, tag, file.with_suffix(".live")).vectors == 20
    lab.downgrade()
    assert _export(lab, tag, file.with_suffix(".back")).vectors == 20


def test_a_retired_tag_comes_back(lab: Lab, file: Path, model: Model) -> None:
    lab.upgrade("r1")
    lab.upgrade("r2")
    _export(lab, SMALL, file)
    lab.sql("UPDATE vecmig.revision SET live_at = now() - interval '90 days'")
    script = lab.path / "migrations" / "versions" / "r2.py"
    script.write_text(
        script.read_text().replace("import Gate", "import Gate, Trust") + "\ntrust = Trust(0, eval_days=0)\n"
    )
    runner.retire(lab.config, lab.name, SMALL)
    with pytest.raises(UsageError) as refused:
        _import(lab, file)
    assert refused.value.message == f"{SMALL} of documents was retired here, so its vectors have no place."
    assert refused.value.hint == f"Run: vecmig revision --to-tag {SMALL}, then: vecmig upgrade --until expand"
    lab.script(3, lab.chain[1], SMALL)
    lab.upgrade("r3", until="expand")
    bought = model.total()
    assert _import(lab, file).taken == Taken(texts=20, records=20)
    assert lab.upgrade("r3") == ["live"]
    assert model.total() == bought


# What is refused ------------------------------------------------------------------------------------------------------


def test_a_file_that_is_there_is_kept(lab: Lab, file: Path) -> None:
    lab.upgrade("r1")
    file.write_text("mine")
    with pytest.raises(UsageError, match="is there already"):
        _export(lab, SMALL, file)
    assert file.read_text() == "mine"


def test_a_tag_without_vectors_makes_no_file(lab: Lab, file: Path) -> None:
    lab.upgrade("r1", until="expand")
    with pytest.raises(UsageError, match=f"documents has no vector of {SMALL}"):
        _export(lab, SMALL, file)
    with pytest.raises(UsageError):
        _export(lab, "toy@1/dim-4/chunk-none/norm-l2", file)
    assert not file.exists()


def test_a_tag_that_was_not_begun_names_what_begins_it(lab: Lab, elsewhere: Elsewhere, file: Path) -> None:
    lab.upgrade("r1")
    _export(lab, SMALL, file)
    there = elsewhere()
    with pytest.raises(UsageError) as refused:
        _import(there, file)
    assert refused.value.hint == "Run: vecmig upgrade r1 --until expand"
    assert there.sql("SELECT to_regclass('vecmig.event')") == [(None,)]


def test_another_recipe_is_refused(lab: Lab, elsewhere: Elsewhere, file: Path) -> None:
    lab.upgrade("r1")
    _export(lab, SMALL, file)
    there = elsewhere(recipes={SMALL: recipe(SMALL, document_prompt="passage: {text}")})
    there.upgrade("r1", until="expand")
    with pytest.raises(RecipeError) as refused:
        _import(there, file)
    assert "document_prompt: 'passage: {text}', not '{text}'" in refused.value.message
    assert there.cover(SMALL).fresh == 0


def test_vectors_of_other_weights_meet_the_canary(lab: Lab, elsewhere: Elsewhere, file: Path, model: Model) -> None:
    """The recipe is the same and the model behind the name is not: the backfill compares it with what came along."""
    lab.upgrade("r1")
    _export(lab, SMALL, file)
    model.weights = "others"
    there, third = elsewhere(), elsewhere()
    there.upgrade("r1", until="expand")
    _import(there, file)
    with pytest.raises(VecmigError, match=r"canary|not the one that made its vectors"):
        there.upgrade("r1")
    assert there.live is None

    third.upgrade("r1", until="expand")
    third.backfill(limit=3)
    with pytest.raises(VecmigError, match="were made by another model than those of the file"):
        _import(third, file)
    assert third.cover(SMALL).fresh == 3


def test_without_a_canary_in_the_file_the_gate_compares_the_vectors(
    lab: Lab, elsewhere: Elsewhere, file: Path, model: Model
) -> None:
    lab.upgrade("r1")
    lab.sql("UPDATE vecmig.tag SET canary = NULL")
    _export(lab, SMALL, file)
    model.weights = "others"
    there = elsewhere()
    there.upgrade("r1", until="expand")
    _import(there, file)
    with pytest.raises(VecmigError):
        there.upgrade("r1")
    assert there.live is None


def test_a_text_of_very_many_records_is_taken_some_at_a_time(
    lab: Lab, elsewhere: Elsewhere, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vecmig.homes.carrying._FOUND", 40)
    lab.upgrade("r1")
    _export(lab, SMALL, file)
    there = elsewhere()
    there.sql("INSERT INTO documents SELECT 200000 + n, 'title 7', 'body 7' FROM generate_series(1, 333) n")
    there.upgrade("r1", until="expand")
    assert _import(there, file).taken == Taken(texts=20, records=353)


def test_a_file_that_serves_no_record_leaves_no_canary(lab: Lab, elsewhere: Elsewhere, file: Path) -> None:
    lab.upgrade("r1")
    _export(lab, SMALL, file)
    there = elsewhere()
    there.sql("UPDATE documents SET body = 'other ' || id")
    there.upgrade("r1", until="expand")
    assert _import(there, file).taken == Taken(unknown=20)
    assert there.sql("SELECT canary FROM vecmig.tag") == [(None,)]


def test_half_precision_is_not_taken_for_full(lab: Lab, elsewhere: Elsewhere, file: Path) -> None:
    lab = lab.write(options={"storage": "halfvec"})
    lab.upgrade("r1")
    _export(lab, SMALL, file)
    there = elsewhere(options={})
    there.upgrade("r1", until="expand")
    with pytest.raises(UsageError, match="half precision"):
        _import(there, file)


def test_a_file_of_another_collection_or_of_none(lab: Lab, elsewhere: Elsewhere, file: Path, tmp_path: Path) -> None:
    lab.upgrade("r1")
    _export(lab, SMALL, file)
    with pytest.raises(UsageError, match="of the collection documents, and this project has none"):
        _import(elsewhere(name="articles"), file)
    for name, content in (("text", b"any text\n"), ("empty", b""), ("newer", b"vecmig vectors 2\n{}\n")):
        other = tmp_path / name
        other.write_bytes(content)
        with pytest.raises(VecmigError):
            _import(lab, other)
    with pytest.raises(UsageError, match="cannot be read"):
        _import(lab, tmp_path / "nowhere")


@pytest.mark.upgraded("r1", until="expand", records=3, chain=(SMALL,))
def test_a_file_that_was_cut_or_altered_anywhere_is_refused(lab: Lab, tmp_path: Path) -> None:
    """Whatever byte it is, nothing is written."""
    lab.backfill()
    file, broken = tmp_path / "good", tmp_path / "broken"
    _export(lab, SMALL, file)
    lab.sql("DELETE FROM documents_vectors")
    good = file.read_bytes()

    @settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(st.integers(0, len(good) - 1), st.integers(0, 255), st.booleans())
    def try_one(place: int, change: int, cut: bool) -> None:
        broken.write_bytes(
            good[:place] if cut or not change else good[:place] + bytes([good[place] ^ change]) + good[place + 1 :]
        )
        with pytest.raises(VecmigError):
            _import(lab, broken)

    try_one()
    for longer in (good + b"\0", good + good, good[:-32], good[:1] + good):
        broken.write_bytes(longer)
        with pytest.raises(VecmigError):
            _import(lab, broken)
    assert lab.sql("SELECT count(*) FROM documents_vectors") == [(0,)]
    assert _import(lab, file).taken.records == 3


# While others are at work ---------------------------------------------------------------------------------------------


def _import_beside_an_edit(there: Lab, file: Path) -> None:
    """Import while a record is edited, between the look at what is wanted and the write: that one gets no vector."""
    there.sql(
        "CREATE FUNCTION edit() RETURNS event_trigger LANGUAGE plpgsql AS "
        "$$ BEGIN UPDATE public.documents SET body = 'edited' WHERE id = 100004; END $$"
    )
    there.sql("CREATE EVENT TRIGGER edit ON ddl_command_end WHEN TAG IN ('CREATE INDEX') EXECUTE FUNCTION edit()")
    assert _import(there, file).taken == Taken(texts=20, records=19, changed=1)
    there.sql("DROP EVENT TRIGGER edit")
    assert there.sql("SELECT count(*) FROM documents_vectors WHERE id = 100004") == [(0,)]


def test_a_record_that_is_edited_meanwhile_stays_pending(lab: Lab, elsewhere: Elsewhere, file: Path) -> None:
    lab.upgrade("r1")
    _export(lab, SMALL, file)
    there = elsewhere()
    there.upgrade("r1", until="expand")
    _import_beside_an_edit(there, file)


def test_a_chunked_record_that_is_edited_meanwhile_stays_pending(lab: Lab, elsewhere: Elsewhere, file: Path) -> None:
    """Its chunks are cut from the text that the hash is of, or not at all."""
    changes: dict[str, Any] = {"chain": (CHUNKED,), "text": "repeat(body || ' ', 5)"}
    lab = lab.write(**changes)
    lab.upgrade()
    _export(lab, CHUNKED, file)
    there = elsewhere(**changes)
    there.upgrade(until="expand")
    _import_beside_an_edit(there, file)


def test_it_shows_operators_how_far_it_is(
    lab: Lab, elsewhere: Elsewhere, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.upgrade("r1")
    _export(lab, SMALL, file)
    there = elsewhere()
    there.upgrade("r1", until="expand")
    monkeypatch.setattr("vecmig.runner.at_work._EVERY", 0.001)
    runner.pause(there.config, reason="look")
    shown: list[tuple[str, str]] = []

    def listen(event: Event) -> None:
        if isinstance(event, Waiting) and not shown:
            shown.extend((run.what, run.state) for run in runner.controlled(there.config)[there.name].runs)
            if shown:
                runner.resume(there.config)

    assert runner.import_vectors(there.config, file, listener=listen).taken.records == 20
    assert shown[0][0] == "import"


def test_it_waits_while_an_operator_says_so(lab: Lab, elsewhere: Elsewhere, file: Path) -> None:
    lab.upgrade("r1")
    _export(lab, SMALL, file)
    there = elsewhere()
    there.upgrade("r1", until="expand")
    runner.pause(there.config, reason="backup")
    waits: list[int] = []

    def listen(event: Event) -> None:
        if isinstance(event, Waiting) and "backup" in event.reason:
            waits.extend(there.sql("SELECT count(*) FROM documents_vectors")[0])
            runner.resume(there.config)

    assert runner.import_vectors(there.config, file, listener=listen).taken.records == 20
    assert waits[0] == 0


def test_it_goes_on_in_another_session_when_its_own_is_lost(
    lab: Lab, elsewhere: Elsewhere, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.upgrade("r1")
    _export(lab, SMALL, file)
    there = elsewhere()
    there.upgrade("r1", until="expand")
    ini = there.path / "vecmig.ini"
    ini.write_text(ini.read_text() + "\nreconnect_wait = 30\n")
    monkeypatch.setattr("vecmig.backfill.importing._PAGE", 1)
    ended: list[int] = []

    def listen(event: Event) -> None:
        if isinstance(event, TransferProgress) and not ended:
            ended.extend(there.sql(_END_THE_IMPORT)[0])

    assert runner.import_vectors(there.config, file, listener=listen).taken.records == 20
    assert ended == [1]


def test_a_role_that_may_have_no_temporary_table_is_told_so(lab: Lab, elsewhere: Elsewhere, file: Path) -> None:
    lab.upgrade("r1")
    _export(lab, SMALL, file)
    there = elsewhere()
    database = there.sql("SELECT current_database()")[0][0]
    there.sql("CREATE ROLE carrier LOGIN")
    try:
        there.sql("ALTER TABLE documents OWNER TO carrier")
        there.sql(f"GRANT CREATE ON DATABASE {database} TO carrier; GRANT CREATE ON SCHEMA public TO carrier")
        theirs = replace(there, url=there.url.replace("//postgres@", "//carrier@")).write()
        theirs.upgrade("r1", until="expand")
        there.sql(f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")
        with pytest.raises(DatabaseError, match="The role carrier may create no temporary tables") as refused:
            _import(theirs, file)
        assert refused.value.hint.endswith(f"GRANT TEMPORARY ON DATABASE {database} TO carrier")
        there.sql(f"GRANT TEMPORARY ON DATABASE {database} TO carrier")
        assert _import(theirs, file).taken.records == 20
    finally:
        there.sql("DROP OWNED BY carrier CASCADE; DROP ROLE carrier")


def test_the_history_says_what_was_imported(lab: Lab, elsewhere: Elsewhere, file: Path) -> None:
    lab.upgrade("r1")
    made = _export(lab, SMALL, file)
    there = elsewhere()
    there.upgrade("r1", until="expand")
    _import(there, file)
    ((tag, data),) = there.sql("SELECT tag, data FROM vecmig.event WHERE kind = 'import'")
    assert (tag, data["records"], data["digest"], data["coverage"]) == (SMALL, 20, made.digest, 1.0)
    assert lab.sql("SELECT count(*) FROM vecmig.event WHERE kind = 'export'") == [(0,)], "reading writes nothing"

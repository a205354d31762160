"""Faults planted into a real corpus: the gate refuses each and names the cause, and passes what is healthy.

The table in docs/gate.md tells the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from support import planted
from support.beginning import OWN
from support.checks import said
from support.lab import Lab
from support.postgres import Postgres
from support.stamps import text_hash
from vecmig import runner
from vecmig.check import Check, Required
from vecmig.demo.corpus import Record, read_corpus
from vecmig.embedders import Embedder, open_embedder
from vecmig.errors import GateRefused, PoisonInputError, TerminalEmbedderError
from vecmig.gate import Report
from vecmig.gate.spot import SAMPLE
from vecmig.homes.sampling import sample_vectors

OLD = "planted@1/dim-64/chunk-none/norm-l2"
NEW = "planted@1/dim-256/chunk-none/norm-l2"
SUITE = "known-item"
EVAL = f"eval {SUITE} nDCG@10"
NO_WORSE = f', evals=[NoWorse("{SUITE}", "nDCG@10", tolerance=0.02)]'

#: Right vectors in a sample that a fault may leave: some texts are alike, and a batch of one has nothing to mix up.
CHANCE = 3

NewLab = Callable[..., Lab]


@cache
def _corpus() -> list[Record]:
    return list(read_corpus())


def _recipe(tag: str, **fields: Any) -> dict[str, Any]:
    dims = int(tag.split("/dim-")[1].split("/", maxsplit=1)[0])
    return {"provider": "python", "callable": f"support.planted:embed{dims}", "dims": dims, "max_batch": 32} | fields


@pytest.fixture(autouse=True)
def _healthy_model() -> Iterator[None]:
    yield
    planted.model.embed = planted.healthy


def _made(
    path: Path,
    url: str,
    records: int = 200,
    seed: int = 0,
    *,
    evals: bool = False,
    there: bool = False,
    **fields: Any,
) -> Lab:
    """Make a project on some docstrings of Python's library, in random order, which may be there already."""
    if not there:
        drawn = random.Random(seed).sample(_corpus(), records)
        with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE documents (id bigint PRIMARY KEY, title text, body text)")
            cursor.executemany(
                "INSERT INTO documents VALUES (%s, %s, %s)",
                [(number, one.title, one.body) for number, one in enumerate(drawn, start=1)],
            )
    lab = Lab(path, url, chain=(OLD, NEW), recipes={tag: _recipe(tag) for tag in (OLD, NEW)}).write(**fields)
    if evals:
        lab.script(2, OLD, NEW, more=NO_WORSE)
        # every record: the intervals of 80 queries are wider than the tolerance, and refused one healthy seed of 20
        runner.make_suite(lab.config, SUITE, title="title", size=records)
    return lab


@pytest.fixture
def new_lab(tmp_path: Path, database_url: str) -> NewLab:
    """``new_lab(records=…, seed=…)`` makes a project on some docstrings of Python's library, in random order."""
    return partial(_made, tmp_path, database_url)


@pytest.fixture
def template(
    request: pytest.FixtureRequest, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory
) -> str | None:
    """The database of ``live_lab``."""
    if "live_lab" not in request.fixturenames:
        return None
    path = tmp_path_factory.mktemp("planted")
    name, _ = postgres.prepared("planted", lambda url: _made(path, url).upgrade("r1"))
    return name


@pytest.fixture
def live_lab(tmp_path: Path, database_url: str) -> NewLab:
    """``live_lab(…)`` makes what ``new_lab(…)`` does; its first tag is live, which it has become once for all."""

    def make(**fields: Any) -> Lab:
        lab = _made(tmp_path, database_url, there=True, **fields)
        lab.sql(OWN)
        return lab

    return make


def _report(lab: Lab) -> Report:
    return runner.gate_reports(lab.config)["documents"][1]


def _failed(lab: Lab) -> dict[str, Check]:
    return {check.name: check for check in _report(lab).failed}


def _right(check: Check) -> float:
    """Count the vectors of the sample that are the right ones."""
    assert isinstance(check.value, float | int)
    return check.value


def _planted(lab: Lab, embed: planted.Embed) -> Lab:
    """Go as far as the gate with a fault in the new model, once the old one's tag is live."""
    if lab.sql("SELECT to_regclass('vecmig.route')") == [(None,)]:
        lab.upgrade("r1")
    planted.model.embed = embed
    lab.upgrade(until="index")
    return lab


def _refused(lab: Lab) -> list[str]:
    """Try the cutover; give the checks that refuse it."""
    with pytest.raises(GateRefused, match="refuses the cutover") as refused:
        lab.upgrade()
    assert lab.sql("SELECT live FROM vecmig.route") == [(OLD,)]
    return [check.name for check in refused.value.failed]


# What is healthy passes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_a_healthy_migration_passes_every_time(new_lab: NewLab, seed: int) -> None:
    lab = new_lab(random.Random(seed).randint(120, 250), seed, evals=True)
    lab.upgrade("r1")
    lab.upgrade(until="index")
    runner.evaluate(lab.config)
    assert lab.upgrade() == ["live"]


CHUNKED = "planted@1/dim-256/chunk-200/norm-l2"
BARE = "planted@1/dim-256/chunk-none/norm-none"
KINDS: dict[str, dict[str, Any]] = {
    "halfvec": {"options": {"storage": "halfvec"}},
    "l2": {"options": {"metric": "l2"}},
    "ip": {"options": {"metric": "ip"}},
    "chunks": {"chain": (CHUNKED,), "recipes": {CHUNKED: _recipe(CHUNKED, chunk={"size": 200, "unit": "characters"})}},
    "prompts": {
        "recipes": {NEW: _recipe(NEW, document_prompt="passage: {text}", query_prompt="Answer this question: {text}")}
    },
    "one word": {"text": "substring(body from '[[:alpha:]]+')"},
    "few words": {"text": "left(title, 3)"},
    "one text": {"text": "'the same'"},
    "one beginning": {"text": "repeat('Copyright, all rights reserved. ', 40) || title"},
    "one end": {"text": "title || repeat(' Copyright, all rights reserved.', 100)"},
    "1 record": {"records": 1},
    "2 records": {"records": 2},
    "3 records": {"records": 3},
    "10 records": {"records": 10},
}


@pytest.mark.parametrize("kind", KINDS)
def test_healthy_migrations_of_every_kind_pass(new_lab: NewLab, kind: str) -> None:
    fields = KINDS[kind] | {}
    lab = new_lab(fields.pop("records", 150), chain=fields.pop("chain", (NEW,)), **fields)
    lab.upgrade(until="index")
    for _ in range(3):  # another sample each time
        assert _failed(lab) == {}


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_vectors_of_any_length_pass(new_lab: NewLab, metric: str) -> None:
    planted.model.embed = planted.of_some_length
    lab = new_lab(chain=(BARE,), recipes={BARE: _recipe(BARE)}, options={"metric": metric})
    lab.upgrade(until="index")
    assert _failed(lab) == {}


def test_a_provider_whose_vectors_differ_a_little_each_time_passes(new_lab: NewLab) -> None:
    planted.model.embed = planted.noisy
    lab = new_lab(chain=(NEW,))
    lab.upgrade(until="index")
    for _ in range(8):  # another sample each time
        assert _failed(lab) == {}


def test_texts_that_are_cut_to_the_provider_s_limit_pass(new_lab: NewLab, monkeypatch: pytest.MonkeyPatch) -> None:
    def strict(texts: list[str], kind: str) -> planted.Vectors:
        if any(len(text) > 480 for text in texts):
            raise PoisonInputError("The text is too long.")
        return planted.healthy(texts)

    def opened(*args: Any, **options: Any) -> Embedder:
        embedder: Any = open_embedder(*args, **options)
        embedder.max_input_tokens = 160
        return embedder  # type: ignore[no-any-return]

    monkeypatch.setattr("vecmig.backfill.backfill_embedder.open_embedder", opened)
    planted.model.embed = strict
    recipe = _recipe(NEW, too_long="cut", query_prompt="Answer this question: {text}")
    lab = new_lab(chain=(NEW,), recipes={NEW: recipe})
    lab.upgrade(until="index")
    assert lab.cover(NEW).rejected == 0
    for _ in range(5):
        assert _failed(lab) == {}


def test_the_sample_of_a_large_tag_is_drawn_from_some_of_its_pages(
    new_lab: NewLab, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab = _planted(new_lab(400), planted.healthy)
    monkeypatch.setattr("vecmig.homes.sampling._MANY", 10)
    monkeypatch.setattr("vecmig.homes.sampling._PAGES", 25)
    assert _failed(lab) == {}
    _, report = runner.gate_reports(lab.config)["documents"]
    (sample,) = [check for check in report.checks if check.name == "spot check"]
    assert sample.required == Required(SAMPLE)
    with lab.opened(NEW) as (connection, stamps):
        keys = {one.key for _ in range(10) for one in sample_vectors(connection, stamps, SAMPLE)}
    assert len(keys) > 2 * SAMPLE, "others each time"


# What is not is refused ----------------------------------------------------------------------------------------------


def test_a_the_wrong_model_is_caught_by_an_eval_and_by_nothing_else(live_lab: NewLab) -> None:
    lab = _planted(live_lab(evals=True), planted.letters)
    runner.evaluate(lab.config)
    failed = _failed(lab)
    assert set(failed) == {EVAL}
    assert failed[EVAL].value == "not shown"
    assert failed[EVAL].detail.startswith(f"nDCG@10 on {SUITE} -0.")
    assert _refused(lab) == [EVAL]
    lab.script(2, OLD, NEW)
    assert _failed(lab) == {}, "without evals the gate cannot know which model was meant"


def test_b_a_hole_of_40_percent(live_lab: NewLab) -> None:
    lab = _planted(live_lab(), planted.healthy)
    lab.sql("DELETE FROM documents_vectors WHERE tag = %s AND id %% 5 < 2", NEW)
    failed = _failed(lab)
    assert set(failed) == {"coverage", "freshness", "unexplained"}
    assert failed["coverage"].value == 0.6
    assert failed["coverage"].detail == "80 of 200 records have no fresh vector"


def test_b_a_hole_of_40_percent_that_the_provider_leaves(live_lab: NewLab) -> None:
    def with_holes(texts: list[str], kind: str) -> planted.Vectors:
        vectors = planted.healthy(texts)
        if kind == "document" and len(texts) > 3:
            vectors[: len(texts) * 2 // 5] = 0
        return vectors

    lab = _planted(live_lab(), with_holes)
    failed = _failed(lab)
    assert "coverage" in failed
    assert failed["coverage"].detail.endswith(" of them rejected")


def test_c_a_hole_in_one_slice_alone(new_lab: NewLab) -> None:
    lab = _planted(new_lab(400), planted.healthy)
    lab.sql("DELETE FROM documents_vectors WHERE tag = %s AND id = 7", NEW)
    failed = _failed(lab)
    assert set(failed) == {"unexplained"}, "a quarter of a percent is within coverage and freshness"
    assert failed["unexplained"].detail == (
        "1 record without a fresh vector is neither noted as changed nor rejected; vecmig backfill embeds it"
    )


def test_d_a_rotated_space_for_the_queries_alone(live_lab: NewLab) -> None:
    lab = _planted(live_lab(), planted.rotated_queries)
    for _ in range(5):
        failed = _failed(lab)
        assert set(failed) == {"query space"}
        assert "embedded into two spaces" in said(failed["query space"])
    assert _refused(lab) == ["query space"]


def test_e_unnormalised_vectors_under_norm_l2(new_lab: NewLab) -> None:
    lab = new_lab(recipes={OLD: _recipe(OLD), NEW: _recipe(NEW, normalise="verify")})
    with pytest.raises(TerminalEmbedderError, match="gave a vector of length 3 for planted"):
        _planted(lab, planted.unnormalised)
    planted.model.embed = planted.healthy
    lab.upgrade(until="index")
    longer = (
        "UPDATE documents_vectors SET embedding = (SELECT array_agg(3 * x)::vector FROM unnest(embedding::real[]) x)"
    )
    with pytest.raises(psycopg.errors.CheckViolation, match="vecmig_vector"):
        lab.sql(longer + " WHERE tag = %s", NEW)
    partition = lab.stamps(NEW).source.partition_name(NEW)
    lab.sql(f"ALTER TABLE {partition} DROP CONSTRAINT vecmig_vector")
    lab.sql(longer + " WHERE tag = %s", NEW)
    failed = _failed(lab)
    assert set(failed) == {"vectors", "spot check"}
    assert "wrong dims and zero vectors are possible" in failed["vectors"].detail
    assert _right(failed["spot check"]) <= CHANCE


def test_f_truncated_texts(live_lab: NewLab) -> None:
    lab = _planted(live_lab(), planted.truncated)
    failed = _failed(lab)
    assert set(failed) == {"truncation"}
    assert failed["truncation"].detail.endswith("the provider reads only its beginning")
    assert _refused(lab) == ["truncation"]


def test_g_shuffled_answers(live_lab: NewLab) -> None:
    lab = _planted(live_lab(), planted.shuffled)
    failed = _failed(lab)
    assert "spot check" in failed
    right = _right(failed["spot check"])
    assert right <= CHANCE
    assert failed["spot check"].detail.startswith(
        f"{right} of {SAMPLE} vectors drawn at random are what the embedder makes"
    )


def test_g_vectors_that_get_worse_in_large_requests(new_lab: NewLab) -> None:
    """Canary, sample and queries agree with one another: all of them are sent in requests like the backfill's."""
    lab = _planted(new_lab(192), planted.worse_in_large_batches)
    failed = _failed(lab)
    assert set(failed) == {"spot check"}
    assert _right(failed["spot check"]) == SAMPLE
    assert "a text that is sent alone, or in another order, gets another vector (similarity 0.80" in (
        failed["spot check"].detail
    )
    assert "Lower max_batch" in said(failed["spot check"])
    assert _refused(lab) == ["spot check"]


def test_g_vectors_that_depend_on_the_place_in_a_request(live_lab: NewLab) -> None:
    lab = _planted(live_lab(), planted.worse_at_odd_places)
    assert "spot check" in _failed(lab)


def test_g_two_vectors_changed_places(new_lab: NewLab) -> None:
    lab = _planted(new_lab(64), planted.healthy)
    lab.sql(
        "UPDATE documents_vectors v SET embedding = o.embedding FROM documents_vectors o "
        "WHERE v.tag = %s AND o.tag = v.tag AND v.id IN (1, 2) AND o.id = 3 - v.id",
        NEW,
    )
    failed = _failed(lab)
    assert set(failed) == {"spot check"}
    assert failed["spot check"].value == 62


@pytest.mark.parametrize(("back", "failed"), [(False, ["canary", "spot check"]), (True, ["spot check"])])
def test_h_weights_that_change_halfway(live_lab: NewLab, back: bool, failed: list[str]) -> None:
    lab = _planted(live_lab(), planted.ChangesWeights(100, 203 if back else float("inf")))
    found = _failed(lab)
    assert list(found) == failed
    if back:
        assert "of other weights, or of other records" in said(found["spot check"])
    else:
        assert "other vectors than when the tag was new" in found["canary"].detail


def test_h_weights_that_changed_for_a_short_while(new_lab: NewLab) -> None:
    """A twentieth of the records, embedded one after another: that is more than one part in 64."""
    lab = _planted(
        new_lab(640, recipes={OLD: _recipe(OLD), NEW: _recipe(NEW, max_batch=8, concurrency=1)}),
        planted.ChangesWeights(611, 643),
    )
    lab.sql("UPDATE documents_vectors SET embedded_at = embedded_at + id * interval '1 ms'")
    for _ in range(5):
        failed = _failed(lab)
        assert set(failed) == {"spot check"}


def test_i_stale_vectors_after_edits(live_lab: NewLab) -> None:
    lab = _planted(live_lab(), planted.healthy)
    lab.sql("UPDATE documents SET body = 'Edited: ' || body WHERE id <= 10")
    failed = _failed(lab)
    assert set(failed) == {"coverage", "freshness", "rollback"}, "the old tag lacks them, too"
    assert failed["freshness"].detail.startswith("10 records are stale and 0 missing; the oldest change")


def test_i_stale_vectors_that_claim_to_be_fresh(live_lab: NewLab) -> None:
    lab = _planted(live_lab(), planted.healthy)
    lab.sql("UPDATE documents SET body = title || ' was about something else' WHERE id % 4 = 0")
    lab.sql(f"UPDATE documents_vectors v SET source_hash = {text_hash(lab.text)} FROM documents d WHERE d.id = v.id")
    assert set(_failed(lab)) == {"spot check"}


def test_j_an_eval_on_a_tenth_of_the_corpus(live_lab: NewLab) -> None:
    lab = live_lab(evals=True)
    lab.upgrade(until="expand")
    lab.backfill(limit=20)
    runner.evaluate(lab.config)
    lab.upgrade(until="index")
    failed = _failed(lab)
    assert set(failed) == {EVAL}
    assert failed[EVAL].detail == f"it was run against {NEW} at 10 % coverage; an eval counts from 99.5 % on"
    assert _refused(lab) == [EVAL]
    runner.evaluate(lab.config)
    assert _failed(lab) == {}

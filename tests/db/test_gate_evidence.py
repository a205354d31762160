"""Evals and shadow reads in the gate: a loss refuses, and so does evidence that is missing, old or of another state."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
import yaml

from support.checks import said
from support.embedding import Model
from support.lab import LARGE, SMALL, Lab
from vecmig import runner
from vecmig.check import Check, Required
from vecmig.errors import GateRefused, ScriptError
from vecmig.gate import judge_again

Connection = psycopg.Connection[Any]
EVAL = "eval faq nDCG@10"
NO_WORSE = 'evals=[NoWorse("faq", "nDCG@10", tolerance=0.02)]'


@pytest.fixture
def judged(lab: Lab) -> Lab:
    """SMALL is live, LARGE is done but for the cutover, and its gate asks for an eval of the suite faq."""
    return _judged(lab, NO_WORSE)


def _judged(lab: Lab, asks: str) -> Lab:
    lab.script(2, SMALL, LARGE, more=f", {asks}")
    _suite(lab, range(1, 21))
    lab.upgrade("r1")
    lab.upgrade(until="index")
    return lab


def _suite(lab: Lab, numbers: Sequence[int], **fields: Any) -> Path:
    path = lab.path / "evals" / "faq.yaml"
    path.parent.mkdir(exist_ok=True)
    queries = [{"query": f"title {n}\n\nbody {n}", "relevant": [n]} for n in numbers]
    path.write_text(yaml.safe_dump({"collection": "documents", "queries": queries} | fields))
    return path


def _failed(lab: Lab) -> dict[str, Check]:
    _, report = runner.gate_reports(lab.config)["documents"]
    return {check.name: check for check in report.failed}


def _only(lab: Lab, name: str = EVAL) -> Check:
    """Give the one check that refuses."""
    failed = _failed(lab)
    assert list(failed) == [name]
    return failed[name]


def test_an_eval_that_shows_no_loss_opens_the_gate(judged: Lab) -> None:
    runner.evaluate(judged.config)
    _, report = runner.gate_reports(judged.config)["documents"]
    (check,) = [one for one in report.checks if one.name == EVAL]
    assert (check.passed, check.value, check.required) == (True, "no worse", Required("worse ≤ 0.02"))
    assert check.detail.endswith("at least -0.020; taken at 100 % coverage")
    assert "20 queries, which are few" in check.detail
    assert judged.upgrade() == ["live"]


def test_without_an_eval_the_gate_stays_shut(judged: Lab) -> None:
    check = _only(judged)
    assert (check.detail, said(check)) == (f"it was never run against {SMALL}", "Run: vecmig eval faq")
    runner.evaluate(judged.config, tags=[SMALL])
    assert _only(judged).detail == f"it was never run against {LARGE}"
    with pytest.raises(GateRefused) as refused:
        judged.upgrade()
    assert refused.value.hint == "Run: vecmig eval faq"
    assert judged.live == SMALL
    runner.evaluate(judged.config)
    assert judged.upgrade() == ["live"]


def test_without_the_suite_the_gate_stays_shut(judged: Lab) -> None:
    runner.evaluate(judged.config)
    path = judged.path / "evals" / "faq.yaml"
    text = path.read_text()
    path.unlink()
    assert "faq" in _only(judged).detail
    path.write_text("nonsense")
    assert "faq.yaml" in _only(judged).detail
    path.write_text(text)
    assert _failed(judged) == {}


def test_a_suite_that_was_changed_since(judged: Lab) -> None:
    runner.evaluate(judged.config)
    _suite(judged, range(1, 20))
    assert _only(judged).detail == f"the suite was changed since it was run against {SMALL}"
    runner.evaluate(judged.config)
    assert _failed(judged) == {}


def test_a_suite_of_another_collection(judged: Lab) -> None:
    _suite(judged, [1], collection="papers")
    assert _only(judged).detail == "faq asks papers"


def test_a_metric_that_the_suite_does_not_have(lab: Lab) -> None:
    lab = _judged(lab, 'evals=[NoWorse("faq", "nDCG@5")]')
    runner.evaluate(lab.config)
    detail = _only(lab, "eval faq nDCG@5").detail
    assert detail.startswith("faq has no nDCG@5; it has nDCG@10, recall@10, MRR@10, success@10")


def test_an_eval_at_too_little_coverage(judged: Lab) -> None:
    judged.sql("DELETE FROM documents_vectors WHERE tag = %s AND id = 20", LARGE)
    runner.evaluate(judged.config)
    judged.backfill()
    assert _only(judged).detail == f"it was run against {LARGE} at 95 % coverage; an eval counts from 99.5 % on"


@pytest.mark.parametrize(
    ("change", "then", "counts"),
    [
        ("UPDATE documents SET body = 'x' WHERE id = 20", "(20 then, 20 now)", True),
        ("UPDATE documents SET body = 'x' WHERE id > 18", "(20 then, 20 now)", False),
        ("DELETE FROM documents WHERE id > 18", "(20 then, 18 now)", False),
        ("INSERT INTO documents SELECT n, 'n', n FROM generate_series(21, 22) n", "(20 then, 22 now)", False),
    ],
)
def test_an_eval_counts_until_a_twentieth_of_the_records_has_changed(
    judged: Lab, change: str, then: str, counts: bool
) -> None:
    runner.evaluate(judged.config)
    judged.sql(change)
    judged.sync()
    judged.backfill()
    if counts:
        assert _failed(judged) == {}
        return
    assert _only(judged).detail == f"more than 5 % of the records have changed since it was run against {SMALL} {then}"


def test_vectors_that_were_made_anew_were_never_evaluated(judged: Lab) -> None:
    runner.evaluate(judged.config)
    judged.downgrade(discard=True)
    judged.upgrade(until="index")
    detail = _only(judged).detail
    assert detail.startswith(f"more than 5 % of the records have changed since it was run against {LARGE}")


def test_a_loss_refuses(judged: Lab, model: Model) -> None:
    runner.evaluate(judged.config, tags=[SMALL])
    model.after = lambda texts, vectors: np.roll(vectors, 1, axis=1)
    runner.evaluate(judged.config, tags=[LARGE])
    model.after = lambda texts, vectors: vectors
    check = _only(judged)
    assert check.detail.startswith("nDCG@10 on faq -")
    assert check.value == "not shown"
    assert "vecmig eval faq --json" in said(check)
    runner.evaluate(judged.config)
    assert judged.upgrade() == ["live"], "the last run counts"


def test_the_gate_inside_the_flip_keeps_what_evals_have_shown(judged: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    runner.evaluate(judged.config)
    again: list[list[str]] = []

    def kept(*values: Any) -> Any:
        report = judge_again(*values)
        again.append([check.name for check in report.checks])
        return report

    monkeypatch.setattr("vecmig.operations.cutover.judge_again", kept)
    assert judged.upgrade() == ["live"]
    assert again[0][-5:] == ["spot check", "truncation", "query space", "index recall", EVAL]


def test_status_shows_what_evals_have_shown(judged: Lab) -> None:
    gate = judged.status().gate
    assert gate is not None
    checks = {check.name: check.passed for check in gate[1].checks}
    assert (checks["spot check"], checks[EVAL]) == (None, False)


SHADOWED = """
INSERT INTO vecmig.shadow (at, collection, live_tag, other_tag, k, overlap, live_ms, error, query_hash)
SELECT now() + %s * interval '1 day', 'documents', %s, %s, 10, 1, 1, %s, n FROM generate_series(1, %s) n
"""


def test_shadowed_searches_are_counted(lab: Lab) -> None:
    lab = _judged(lab, "shadow=MinSamples(40)")
    assert _only(lab, "shadow").detail == "0 searches of the application were answered by both tags"
    lab.sql(SHADOWED, 0, SMALL, LARGE, None, 39)
    assert (_only(lab, "shadow").value, _only(lab, "shadow").required) == (39, Required(40, "≥"))
    for days, live, other in ((-1, SMALL, LARGE), (0, LARGE, SMALL)):
        lab.sql(SHADOWED, days, live, other, None, 100)
        assert _only(lab, "shadow").value == 39, "before the tag was begun, or the other way round"
    lab.sql(SHADOWED, 0, SMALL, LARGE, None, 1)
    assert _failed(lab) == {}
    lab.sql(SHADOWED, 0, SMALL, LARGE, "TransientEmbedderError", 3)
    assert _only(lab, "shadow").detail.endswith("3 more failed under the new one, which is more than 1 %")
    lab.sql(SHADOWED, 0, SMALL, LARGE, None, 260)
    assert lab.upgrade() == ["live"]


@pytest.mark.parametrize("asks", [NO_WORSE, "shadow=MinSamples(500)"])
def test_a_first_tag_has_nothing_to_compare_with(lab: Lab, asks: str) -> None:
    lab.script(1, None, SMALL, more=f", {asks}")
    with pytest.raises(ScriptError, match="evals and shadow compare with the old tag, and this revision has none"):
        lab.upgrade()

"""What status names as the next step can be done, and helps."""

from __future__ import annotations

import os
import platform
from contextlib import AbstractContextManager

import pytest
import yaml

from support.checks import said
from support.lab import LARGE, SMALL, Lab
from vecmig import runner
from vecmig.errors import GateRefused
from vecmig.postgres.locks import runner_locks

#: Gives the queries of a tag's runs other values, as another corpus would have led to.
PLANT = """
UPDATE vecmig.eval
SET per_query = (SELECT jsonb_agg(jsonb_set(q, '{search,nDCG@10}', to_jsonb(v)) ORDER BY n)
                 FROM unnest(%s::float8[]) WITH ORDINALITY AS u (v, n)
                 JOIN jsonb_array_elements(per_query) WITH ORDINALITY AS e (q, m) ON n = m)
WHERE tag = %s
"""


def _next(lab: Lab) -> tuple[str | None, str]:
    found = runner.status(lab.config)
    return found.next_command, found.next_step


#: Where a sync is at work that a test pretends to be.
HERE = f"{platform.node()} (pid {os.getpid()})"


def _sync_at_work(lab: Lab) -> AbstractContextManager[object]:
    """Hold the lock of a sync."""
    return runner_locks(lab.database, [lab.name], what="sync", kind="sync")


def _edited(lab: Lab) -> None:
    """All revisions are applied, and a record changed since."""
    lab.upgrade()
    lab.sql("UPDATE documents SET body = 'edited' WHERE id = 1")


@pytest.mark.upgraded("r1")
def test_a_gate_names_its_own_next_step(lab: Lab) -> None:
    lab.script(2, SMALL, LARGE, more=', evals=[NoWorse("faq", "nDCG@10", tolerance=0.02)], shadow=MinSamples(40)')
    path = lab.path / "evals" / "faq.yaml"
    path.parent.mkdir(exist_ok=True)
    queries = [{"query": f"title {n}\n\nbody {n}", "relevant": [n]} for n in range(1, 21)]
    lab.upgrade(until="expand")
    assert _next(lab) == ("vecmig upgrade head", "vecmig upgrade head"), "it embeds and builds the index first"
    lab.upgrade(until="index")
    command, words = _next(lab)
    assert command is None
    assert words.startswith("Write the suite faq as ")
    assert "evals/faq.yaml. Or name known-item in its place" in words
    path.write_text(yaml.safe_dump({"collection": "documents", "queries": queries}))
    assert _next(lab)[0] == "vecmig eval faq"
    runner.evaluate(lab.config)
    assert _next(lab)[0] == f"vecmig route documents --shadow {LARGE} --share 0.05"
    runner.route(lab.config, "documents", runner.RouteChange(shadow=LARGE))
    assert _next(lab) == (None, f"Wait for more searches of the application: 5 % of them ask {LARGE} too.")


@pytest.mark.upgraded("r1")
@pytest.mark.parametrize("name", ["faq", "known-item"])
def test_every_remedy_of_a_refused_cutover_is_named(lab: Lab, name: str) -> None:
    lab.script(2, SMALL, LARGE, more=f', evals=[NoWorse("{name}", "nDCG@10")], shadow=MinSamples(40)')
    lab.upgrade(until="index")
    with pytest.raises(GateRefused) as refused:
        lab.upgrade()
    suite, shadow = refused.value.hint.splitlines()
    assert suite == "Run: vecmig eval --make known-item" if name == "known-item" else "evals/faq.yaml" in suite
    assert shadow == f"Let the new tag be asked too: vecmig route documents --shadow {LARGE} --share 0.05"


@pytest.mark.upgraded("r2", until="expand")
def test_what_is_paused_has_to_be_resumed(lab: Lab) -> None:
    assert _next(lab)[0] == "vecmig upgrade head"
    runner.pause(lab.config)
    assert _next(lab)[0] == "vecmig resume documents"
    runner.resume(lab.config)
    _edited(lab)
    assert _next(lab)[0] == "vecmig sync"
    runner.pause(lab.config)
    assert _next(lab)[0] == "vecmig resume documents"


def test_beside_a_sync_no_other_one_is_proposed(lab: Lab) -> None:
    _edited(lab)
    with _sync_at_work(lab):
        assert _next(lab) == (None, f"nothing to run: the sync at {HERE} is at work on it")
        runner.pause(lab.config)
        assert _next(lab)[0] == "vecmig resume documents"


def test_a_sync_that_is_at_work_does_not_follow_collections_yaml(lab: Lab) -> None:
    _edited(lab)
    changed = lab.write(text="title")
    with _sync_at_work(lab):
        assert _next(changed) == (None, f"end the sync at {HERE}, then run: vecmig sync")


@pytest.mark.upgraded("r1")
def test_a_thin_suite_is_told_from_a_loss(lab: Lab) -> None:
    """A mean that is no worse, with an interval that is too wide, needs more queries and not a look at the worst."""
    lab.script(2, SMALL, LARGE, more=', evals=[NoWorse("faq", "nDCG@10", tolerance=0.02), NoWorse("faq", "MRR@3")]')
    path = lab.path / "evals" / "faq.yaml"
    path.parent.mkdir(exist_ok=True)
    queries = [{"query": f"title {n}\n\nbody {n}", "relevant": [n]} for n in range(1, 8)]
    path.write_text(yaml.safe_dump({"collection": "documents", "queries": queries}))
    lab.upgrade(until="index")
    runner.evaluate(lab.config)

    def remedy(old: list[float], new: list[float], name: str = "eval faq nDCG@10") -> str:
        for tag, values in ((SMALL, old), (LARGE, new)):
            lab.sql(PLANT, values, tag)
        _, found = runner.gate_reports(lab.config)["documents"]
        (check,) = [one for one in found.failed if one.name == name]
        return said(check)

    assert remedy([0.5] * 7, [1, 1, 1, 1, 1, 0, 0]).startswith("faq is too small to tell")
    assert remedy([1.0] * 7, [0.5] * 7) == "Look at the queries that became worse: vecmig eval faq --json"
    assert remedy([1.0] * 7, [1.0] * 7, "eval faq MRR@3").startswith(
        "Name a metric that faq has in the revision's gate"
    )

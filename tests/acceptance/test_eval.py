"""Evidence on real text: suites against two tags of a real model, from the command line."""

from __future__ import annotations

import re

import pytest
import yaml

from support.cli import Vecmig, script
from support.project import NEW_TAG, OLD_TAG, Project
from support.terminal import in_terminal, plain


@pytest.fixture
def halfway(project: Project, vecmig: Vecmig, documents: int) -> Project:
    """A project of which the old tag is live, and the new one complete and indexed, but not live yet."""
    project.want_tag(NEW_TAG)
    script(project, "aaaa", OLD_TAG)
    script(project, "bbbb", NEW_TAG, old=OLD_TAG, down="aaaa")
    vecmig("upgrade", "aaaa")
    vecmig("upgrade", "--until", "index")
    return project


def _titles(project: Project, count: int, **fields: str) -> list[dict[str, object]]:
    rows = project.sql("SELECT id, body FROM documents WHERE length(body) > 60 ORDER BY id LIMIT %s", count)
    return [{"query": body.split("\n")[0], "relevant": [id_], **fields} for id_, body in rows]


def _write(project: Project, name: str, **content: object) -> None:
    folder = project.path / "evals"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump({"collection": "documents", **content}, allow_unicode=True))


def test_a_suite_is_made_run_against_both_tags_and_shown_by_status(halfway: Project, vecmig: Vecmig) -> None:
    made = vecmig("eval", "--make", "known-item", "--size", "60", "--title", r"split_part(body, E'\n', 1)")
    assert made.stdout == "evals/known-item.yaml: 60 queries to documents\n"
    assert "It shows whether a tag finds a record by its own title" in made.stderr
    assert "It cannot show how well the queries of your users are answered" in made.stderr
    halfway.sql("DELETE FROM documents_vectors WHERE tag = %s AND id > 290", NEW_TAG)

    shown = vecmig("eval")
    lines = shown.stdout.splitlines()
    assert re.fullmatch(r"known-item: 60 queries to documents, k 10, suite [0-9a-f]{8}", lines[0])
    assert lines[1:5] == [
        f"  A  {OLD_TAG}",
        "     live, coverage 100 % of 300 records",
        f"  B  {NEW_TAG}",
        "     candidate, coverage 96.66 % of 300 records",
    ]
    assert "A at 100 %            B at 96.66 %" in lines[6], "no score without its coverage"
    score = r"[01]\.\d{3} \[[01]\.\d{3}, [01]\.\d{3}\]"
    for metric in ("nDCG@10", "recall@10", "MRR@10", "success@10"):
        assert re.search(rf"^  {metric} +{score}  {score}$\n^    exact +{score}  {score}$", shown.stdout, re.MULTILINE)
    assert "  index recall  no index used         no index used" in lines
    assert "  A → B, at 100 % and 96.66 %" in lines
    assert re.search(
        r"^  nDCG@10 .* p (<0\.001|[01]\.\d{3})  (no difference shown|(higher|lower) here)$", shown.stdout, re.MULTILINE
    )
    assert "  B: record 10, or the last  " in shown.stdout
    assert "A threshold on similarity or distance does not carry over" in shown.stdout
    assert f"  eval      known-item against {NEW_TAG}: 60 queries" in shown.stderr
    assert halfway.sql("SELECT tag, coverage, records FROM vecmig.eval ORDER BY at") == [
        (OLD_TAG, 1.0, 300),
        (NEW_TAG, 0.9666666666666667, 300),
    ]

    status = vecmig("status").stdout
    assert re.search(r"^  eval of →: known-item nDCG@10 0\.\d\d at 100 %$", status, re.MULTILINE)
    assert re.search(r"^  eval of \+: known-item nDCG@10 0\.\d\d at 96\.66 %$", status, re.MULTILINE)
    (collection,) = vecmig("status", "--json").json["collections"]
    ((last,),) = [tag["evals"] for tag in collection["tags"] if tag["tag"] == NEW_TAG]
    assert {"suite", "at", "coverage", "eligible", "scores", "suite_fingerprint"} == last.keys()
    assert (last["suite"], last["coverage"], last["eligible"]) == ("known-item", 0.9666666666666667, 300)
    assert list(last["scores"]) == ["nDCG@10", "recall@10", "MRR@10", "success@10"]
    assert all(0 <= value <= 1 for value in last["scores"].values())


def test_json(halfway: Project, vecmig: Vecmig) -> None:
    _write(halfway, "faq", k=5, queries=[*_titles(halfway, 3, slice="few"), {"query": "gone", "relevant": [9999, 1]}])
    told = vecmig("eval", "faq", "--json")
    assert told.stderr == ""
    (suite,) = told.json["suites"]
    assert (suite["suite"], suite["collection"], suite["k"], suite["queries"]) == ("faq", "documents", 5, 4)
    assert suite["unknown_keys"] == [["9999"]]
    old, new = suite["tags"]
    assert (old["tag"], old["place"], new["tag"], new["place"]) == (OLD_TAG, "live", NEW_TAG, "candidate")
    assert (old["coverage"], old["eligible"], old["records"], old["index_used"]) == (1.0, 300, 300, False)
    assert list(old["scores"]) == ["nDCG@5", "recall@5", "MRR@5", "success@5"]
    assert set(old["scores"]["nDCG@5"]["exact"]) == {"mean", "low", "high"}
    assert (old["slices"]["few"]["queries"], old["slices"]["few"]["few"]) == (3, True)
    assert list(old["distances"]) == ["nearest", "last"]
    (difference,) = suite["differences"]
    assert (difference["old_tag"], difference["new_tag"]) == (OLD_TAG, NEW_TAG)
    assert [(one["metric"], one["slice"]) for one in difference["metrics"]][3:5] == [
        ("success@5", None),
        ("nDCG@5", "few"),
    ]
    assert list(difference["queries"]) == ["nDCG@5", "recall@5", "MRR@5", "success@5"]
    asked = {query["query"] for query in difference["queries"]["nDCG@5"]}
    assert asked == {"gone", *(title["query"] for title in _titles(halfway, 3))}
    (only,) = vecmig("eval", "faq", "--tag", NEW_TAG, "--json").json["suites"]
    assert ([tag["tag"] for tag in only["tags"]], only["differences"]) == ([NEW_TAG], [])


def test_the_queries_that_became_worse_are_shown_worst_first(halfway: Project, vecmig: Vecmig) -> None:
    titles = _titles(halfway, 3, slice="few")
    _write(halfway, "faq", queries=titles)
    lost = titles[1]["relevant"]
    halfway.sql("DELETE FROM documents_vectors WHERE tag = %s AND id = ANY(%s)", NEW_TAG, lost)
    (suite,) = vecmig("eval", "--json").json["suites"]
    (difference,) = suite["differences"]
    for metric, (mean, *_) in ((one["metric"], (one["mean"],)) for one in difference["metrics"] if not one["slice"]):
        queries = difference["queries"][metric]
        assert [query["difference"] for query in queries] == sorted(query["difference"] for query in queries)
        assert sum(query["difference"] for query in queries) / 3 == pytest.approx(mean, abs=1e-4)
    worst = difference["queries"]["success@10"][0]
    assert worst == {"query": titles[1]["query"], "slice": "few", "old": 1.0, "new": 0.0, "difference": -1.0}

    lines = vecmig("eval").stdout.splitlines()
    head = lines.index("  worst by nDCG@10, old → new")
    assert re.fullmatch(
        rf"    -\d\.\d{{3}}  \d\.\d{{3}} → 0\.000  {re.escape(' '.join(str(titles[1]['query']).split()))}",
        lines[head + 1],
    )


def test_status_names_a_tag_that_reads_do_not_use(halfway: Project, vecmig: Vecmig) -> None:
    _write(halfway, "faq", queries=_titles(halfway, 3))
    vecmig("eval")
    vecmig("downgrade", "-1")
    lines = [line for line in vecmig("status").stdout.splitlines() if line.startswith("  eval of ")]
    assert [line.split(": ")[0] for line in lines] == ["  eval of →", f"  eval of {NEW_TAG}"]


def test_small_slices_and_unknown_keys_are_said(halfway: Project, vecmig: Vecmig) -> None:
    queries = [*_titles(halfway, 31, slice="many")[:31], {"query": "lost", "relevant": [7777], "slice": "tiny"}]
    _write(halfway, "faq", queries=queries)
    shown = vecmig("eval").stdout
    assert "  1 relevant record does not exist and counts as not found:\n     7777\n" in shown
    rows = {line.split()[0]: line for line in shown.splitlines() if line.startswith(("  many ", "  tiny "))}
    assert rows["tiny"].endswith("too small: below 30")
    assert not rows["many"].endswith("below 30")
    _write(halfway, "faq", queries=queries[:3])
    assert "fewer than 30 queries: too few to rely on the intervals" in vecmig("eval").stdout


def test_eval_in_a_narrow_terminal(halfway: Project) -> None:
    _write(
        halfway, "faq", queries=[*_titles(halfway, 5, slice="io"), {"query": "lost", "relevant": list(range(900, 940))}]
    )
    lines = plain(in_terminal(halfway, "eval", columns=80)).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("faq: "))
    assert max(map(len, lines[start:])) <= 80


def test_what_does_not_go_together_is_refused(project: Project, vecmig: Vecmig) -> None:
    assert "There are no suites in evals." in vecmig("eval", code=2).stderr
    assert "--size, --title belongs to --make." in vecmig("eval", "--size", "3", "--title", "x", code=2).stderr
    assert "--make writes a suite; it runs none." in vecmig("eval", "faq", "--make", "known-item", code=2).stderr
    _write(project, "faq", queries=[{"query": "x"}])
    assert vecmig("eval", code=2).stderr.startswith("evals/faq.yaml:3: relevant: a list of keys")

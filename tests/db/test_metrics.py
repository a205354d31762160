"""What Prometheus is told is what status says, and each alert is fired by the fault that it is for."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from support import embedding
from support.lab import LARGE, SMALL, Lab, recipe
from support.source import ROOT
from vecmig import runner
from vecmig.freshness import standing
from vecmig.ledger.control import Run, report
from vecmig.serve.looks import Looks
from vecmig.serve.metrics import HELP, as_text

RULES = ROOT / "examples" / "prometheus" / "vecmig.rules.yml"
BOARD = ROOT / "examples" / "grafana" / "vecmig.json"
Samples = dict[str, list[tuple[dict[str, str], float]]]


def _text(lab: Lab) -> str:
    return as_text(Looks(lambda: runner.status(lab.config)).latest)


def _samples(lab: Lab) -> Samples:
    """Return by name, without ``vecmig_``, the labels and the value of each sample."""
    found: Samples = {}
    for family in text_string_to_metric_families(_text(lab)):
        assert family.documentation
        for sample in family.samples:
            found.setdefault(sample.name.removeprefix("vecmig_"), []).append((sample.labels, sample.value))
    return found


def _of(samples: Samples, name: str, **labels: str) -> list[float]:
    return [value for own, value in samples[name] if labels.items() <= own.items()]


@pytest.mark.upgraded
def test_a_live_tag_and_its_standby(lab: Lab) -> None:
    lab.sql("UPDATE documents SET body = 'edited' WHERE id <= 2")
    found, (status,) = _samples(lab), runner.status(lab.config).collections
    assert _of(found, "records") == [status.eligible] == [20]
    for tag, role in ((SMALL, "standby"), (LARGE, "live")):
        assert _of(found, "coverage_ratio", tag=tag, role=role) == [0.9]
        assert _of(found, "tag_records", tag=tag, state="stale") == [2]
        assert _of(found, "vectors", tag=tag) == [20]
    assert _of(found, "lag_records") == [2]
    assert _of(found, "lag_seconds")[0] > 0
    assert _of(found, "rollback_ready", tag=SMALL) == [0], "it lacks two of twenty"
    assert _of(found, "trust_required_days", tag=LARGE) == [21]
    assert _of(found, "settled") == [0]
    assert "gate_open" not in found, "no revision is in progress"
    lab.sync()
    found = _samples(lab)
    assert (_of(found, "settled"), _of(found, "rollback_ready"), _of(found, "lag_seconds")) == ([1], [1], [0])


@pytest.mark.upgraded("r1")
def test_a_candidate_on_its_way(lab: Lab) -> None:
    lab.upgrade(until="expand")
    lab.backfill(limit=8)
    with lab.database.session() as connection:
        for _ in range(2):
            run = Run(lab.name, LARGE, "backfill", rate=50, done=8, total=20, host="elsewhere", pid=7)
            report(connection, "vecmig", run)
    found = _samples(lab)
    assert _of(found, "coverage_ratio", role="candidate") == [0.4]
    assert _of(found, "gate_open", revision="r2") == [0]
    assert _of(found, "gate_check", check="coverage") == [0]
    assert not _of(found, "gate_check", check="canary"), "what was not measured is left out"
    assert _of(found, "runs", what="backfill", state="running") == [2]
    assert _of(found, "run_records_per_second", tag=LARGE) == [100]
    assert _of(found, "run_remaining_records", tag=LARGE) == [12]
    assert _of(found, "verdict", verdict="at work") == [1]
    assert sum(_of(found, "verdict")) == 1


def test_an_empty_project_has_metrics(lab: Lab) -> None:
    found = _samples(lab)
    assert (_of(found, "up"), _of(found, "settled"), _of(found, "pending_revisions")) == ([1], [0], [2])


def test_a_name_is_only_a_label(lab: Lab) -> None:
    odd = 'a"b\\c{d="e"} 1'
    lab.write(name="odd_one")
    text = _text(lab)
    assert 'collection="odd_one"' in text
    status = runner.status(lab.config)
    from dataclasses import replace

    renamed = replace(status, collections=tuple(replace(one, name=odd) for one in status.collections))
    families = text_string_to_metric_families(as_text(Looks(lambda: renamed).latest))
    assert {sample.labels.get("collection", odd) for family in families for sample in family.samples} == {odd}


def test_the_page_names_every_metric() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    missing = [name for name in HELP if not re.search(rf"`vecmig_{name}(_total)?`", page)]
    assert not missing


# The alerts --------------------------------------------------------------------------------------------------------


def _unreachable(lab: Lab) -> None:
    lab.sql("ALTER SCHEMA vecmig RENAME TO elsewhere")
    lab.sql("CREATE SCHEMA vecmig")
    lab.sql("CREATE TABLE vecmig.schema_version AS SELECT 10000 AS version, now() AS installed_at")


def _edited(lab: Lab) -> None:
    lab.sql("UPDATE documents SET body = 'edited' WHERE id <= 2")
    lab.sql("UPDATE vecmig.change SET changed_at = now() - interval '1 hour'")


def _rejected(lab: Lab) -> None:
    lab.sql("UPDATE documents SET body = 'edited' WHERE id <= 2")
    # a vector without a direction, which no search by cosine finds
    embedding.model.after = lambda _texts, vectors: vectors * 0
    lab.sync()


def _not_compared(lab: Lab) -> None:
    lab.sync()
    lab.sql("UPDATE vecmig.last_full_pass SET at = at - interval '3 hours'")


def _without_index(lab: Lab) -> None:
    ((name,),) = lab.sql("SELECT indexname FROM pg_indexes WHERE indexdef ~ 'hnsw' AND indexdef ~ '256'")
    lab.sql(f'DROP INDEX vecmig."{name}"')


def _failed(lab: Lab) -> None:
    lab.sql(
        "INSERT INTO vecmig.event (kind, collection, version, host, data) VALUES ('failed', 'documents', '1', 'h', "
        """'{"what": "sync", "error": "no", "exit_code": 1}')"""
    )


def _begun(lab: Lab) -> None:
    lab.write(chain=(SMALL, LARGE, "toy@1/dim-4/chunk-none/norm-l2"))
    lab.upgrade(until="expand")


def _late(lab: Lab) -> None:
    lab.write(chain=(SMALL, LARGE, "toy@1/dim-4/chunk-none/norm-l2"))
    day = date(2020, 1, 1)
    more = f")\nlaunch = __import__('datetime').date({day.year}, {day.month}, {day.day}"
    lab.script(3, LARGE, "toy@1/dim-4/chunk-none/norm-l2", more=more)
    lab.upgrade(until="expand")
    lab.backfill(limit=8)


def _spent(lab: Lab) -> None:
    lab.write(recipes={LARGE: recipe(LARGE, budget_usd=1.0, price_per_million_tokens=1)})
    lab.sql("INSERT INTO vecmig.spend (revision, what, tokens, usd) VALUES ('r2', 'backfill', 10, 0.95)")


def _held(lab: Lab) -> None:
    lab.downgrade(hold=True)


FAULTS: dict[str, Callable[[Lab], object]] = {
    "VecmigUnreachable": _unreachable,
    "VecmigLag": _edited,
    "VecmigNoSync": lambda lab: lab.sql("DELETE FROM vecmig.run"),
    "VecmigCoverage": _edited,
    "VecmigRejected": _rejected,
    "VecmigIndex": _without_index,
    "VecmigRollback": lambda lab: lab.sql("DELETE FROM documents_vectors WHERE tag = %s", SMALL),
    "VecmigRunFailed": _failed,
    "VecmigAttention": lambda lab: runner.pause(lab.config, reason="a fault"),
    "VecmigGate": _begun,
    "VecmigLate": _late,
    "VecmigBudget": _spent,
    "VecmigPaused": lambda lab: runner.pause(lab.config, reason="a fault"),
    "VecmigHeld": _held,
    "VecmigNotCompared": _not_compared,
}


def _rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
    return list(group["rules"])


@pytest.fixture(scope="module")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is not installed (Debian: prometheus)")
    return found


def _fired(promtool: str, text: str, path: Path, *, weeks: int = 3) -> set[str]:
    """Return the alerts that fire where a scrape gives this again and again."""
    series = [
        {"series": _series(sample.name, sample.labels), "values": f"{sample.value!r}+0x{weeks * 7 * 24}"}
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    ]
    names = [rule["alert"] for rule in _rules()]
    none = [{"eval_time": f"{weeks * 7}d", "alertname": name, "exp_alerts": []} for name in names]
    wanted = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1h",
        "tests": [{"interval": "1h", "input_series": series, "alert_rule_test": none}],
    }
    file = path / "fired.yml"
    file.write_text(yaml.safe_dump(wanted, allow_unicode=True))
    done = subprocess.run([promtool, "test", "rules", file], capture_output=True, text=True, check=False)
    fired = {name for name in names if re.search(rf"alertname: {name}\b", done.stdout + done.stderr)}
    assert bool(done.returncode) == bool(fired), done.stdout + done.stderr
    return fired


def _series(name: str, labels: dict[str, str]) -> str:
    return name + "{" + ", ".join(f"{label}={json.dumps(value)}" for label, value in labels.items()) + "}"


@pytest.fixture
def watched(lab: Lab) -> Lab:
    """A project of which all is well, with a sync at work on it."""
    with lab.database.session() as connection:
        report(connection, "vecmig", Run(lab.name, LARGE, "sync", "waiting", host="elsewhere", pid=7))
    return lab


@pytest.mark.upgraded
def test_nothing_fires_where_all_is_well(watched: Lab, promtool: str, tmp_path: Path) -> None:
    assert _fired(promtool, _text(watched), tmp_path) == set()


@pytest.mark.upgraded
@pytest.mark.parametrize("name", sorted(rule["alert"] for rule in _rules()))
def test_each_alert_is_fired_by_its_fault(
    name: str, watched: Lab, promtool: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # so that a full pass is remembered of a small source, too
    monkeypatch.setattr(standing, "_LEAST_RECORDS", 20)
    FAULTS[name](watched)
    assert name in _fired(promtool, _text(watched), tmp_path)


def test_promtool_takes_the_rules_and_the_queries_of_the_board(promtool: str, tmp_path: Path) -> None:
    subprocess.run([promtool, "check", "rules", RULES], check=True, capture_output=True)
    queries = list(_queries(json.loads(BOARD.read_text(encoding="utf-8"))))
    assert len(queries) > 10
    rules = [{"record": f"board:q{n}", "expr": query} for n, query in enumerate(queries)]
    file = tmp_path / "board.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": rules}]}))
    subprocess.run([promtool, "check", "rules", "--lint=none", file], check=True, capture_output=True)


def test_rules_and_board_ask_for_metrics_that_there_are() -> None:
    texts = [rule["expr"] for rule in _rules()] + list(_queries(json.loads(BOARD.read_text(encoding="utf-8"))))
    asked = {name for text in texts for name in re.findall(r"vecmig_(\w+)", text)}
    assert {name.removesuffix("_total") for name in asked} <= set(HELP)


def _queries(board: Any) -> Iterator[str]:
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            yield target["expr"].replace("$collection", ".*")


def test_each_alert_leads_to_a_page_that_is_there() -> None:
    for rule in _rules():
        page, _, heading = rule["annotations"]["runbook"].partition("#")
        titles = re.findall(r"^#+ (.*)$", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE)
        assert heading in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}, heading

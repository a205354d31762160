"""How a project stands, as Prometheus and OpenMetrics know it.

Every value is one of ``vecmig status``; what has none is left out. Names follow
https://prometheus.io/docs/practices/naming/: base units, and ``_total`` for what only grows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

from prometheus_client import CollectorRegistry, generate_latest, start_http_server, write_to_textfile
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from vecmig.runner import CollectionStatus, Status, TagStatus, Verdict, verdict_of
from vecmig.serve.looks import Look

#: Gives what was seen last.
Latest: TypeAlias = Callable[[], Look[Status]]

#: What each tells, by its name without ``vecmig_``.
HELP: Final = {
    "up": "Whether the last look at the database came to its end.",
    "measured_age_seconds": "How long ago the other values were measured.",
    "settled": "Whether nothing is pending.",
    "pending_revisions": "Revisions that an upgrade would run.",
    "held_revisions": "Revisions that wait for a release.",
    "verdict": "How the collection stands, in a word: the one that is 1.",
    "last_run_failed": "Whether the last run of the collection failed.",
    "records": "Records of the source that have a text.",
    "changed_records": "Records that are noted as changed.",
    "lag_records": "Changes that the live or the standby tag lacks.",
    "lag_seconds": "Age of the oldest of these changes.",
    "coverage_ratio": "Share of the records whose vector is fresh.",
    "tag_records": "Records by what became of their vector: fresh, stale, missing or rejected.",
    "compared_age_seconds": "How long ago every record was compared with its vector.",
    "vectors": "Vectors of the tag.",
    "index_bytes": "Size of the tag's index.",
    "index_usable": "Whether the tag's index is there and valid.",
    "gate_open": "Whether all checks of the gate hold, but for those that ask the embedder.",
    "gate_check": "Whether a check of the gate holds.",
    "rollback_ready": "Whether a downgrade would go to the old tag now.",
    "rollback_coverage_ratio": "Share of the records that a rollback would not lose.",
    "trust_days": "Days for which the live tag has served.",
    "trust_required_days": "Days for which it has to serve before the old vectors may go.",
    "trust_holds": "Whether the old vectors may go.",
    "ramp_ratio": "Share of the searches that the candidate serves.",
    "shadow_ratio": "Share of the searches that ask another tag, too.",
    "eval_score": "Mean of a metric in the last run of a suite.",
    "eval_coverage_ratio": "Coverage of the tag at that run.",
    "launch_seconds": "Seconds until the day of the launch begins; negative once it has.",
    "start_by_seconds": "Seconds until the backfill has to begin, or go on, to end before the launch; negative: late.",
    "runs": "Processes at work, by what they do and how they stand.",
    "run_records_per_second": "Rate of the runs at work on a tag.",
    "run_remaining_records": "Records that the runs at work on a tag still have before them.",
    "paused": "Whether operators have paused the collection's runs.",
    "spend_usd": "What embedding has cost.",
    "spend_tokens": "What was embedded.",
    "budget_usd": "What the backfill of the tag may cost.",
}
_COUNTERS: Final = frozenset({"spend_usd", "spend_tokens"})


class _Families:
    """Metrics by their names, each with its samples."""

    def __init__(self) -> None:
        self._made: dict[str, GaugeMetricFamily | CounterMetricFamily] = {}

    def put(self, name: str, value: float | None, **labels: str) -> None:
        """Add a sample, unless there is no value."""
        if value is None:
            return
        if name not in self._made:
            kind = CounterMetricFamily if name in _COUNTERS else GaugeMetricFamily
            self._made[name] = kind(f"vecmig_{name}", HELP[name], labels=list(labels))
        self._made[name].add_metric(list(labels.values()), float(value))

    def __iter__(self) -> Iterator[Metric]:
        return iter(self._made.values())


def families(look: Look[Status]) -> Iterable[Metric]:
    """Return the metrics of what was seen."""
    made = _Families()
    made.put("up", look.error is None)
    if look.seen is not None:
        made.put("measured_age_seconds", look.age)
        _put_project(made, look.seen)
        for collection in look.seen.collections:
            _put_collection(made, look.seen, collection, look.age)
    return made


def _put_project(made: _Families, status: Status) -> None:
    made.put("settled", status.settled)
    made.put("pending_revisions", len(status.pending))
    made.put("held_revisions", sum(passed.hold is not None for passed in status.passed))
    for spend in status.spend:
        row = status.revisions.get(spend.revision)
        collection, tag = (row.collection or "", row.new_tag or "") if row else ("", "")
        labels = {"collection": collection, "tag": tag, "revision": spend.revision, "what": spend.what}
        made.put("spend_usd", spend.usd, **labels)
        made.put("spend_tokens", spend.tokens, **labels)


def _put_collection(made: _Families, status: Status, collection: CollectionStatus, age: float) -> None:
    of = {"collection": collection.name}
    verdict = verdict_of(status, collection).word
    for word in Verdict.WORDS:
        made.put("verdict", word == verdict, **of, verdict=word.lower())
    made.put("last_run_failed", collection.failure is not None, **of)
    made.put("records", collection.eligible, **of)
    made.put("changed_records", collection.outbox.records, **of)
    made.put("lag_records", collection.lag.records, **of)
    made.put("lag_seconds", collection.lag.seconds + age if collection.lag.records else 0.0, **of)
    made.put("ramp_ratio", collection.route.ramp_share, **of)
    made.put("shadow_ratio", collection.route.shadow_share if collection.route.shadow else 0.0, **of)
    made.put("paused", collection.control is not None and collection.control.paused, **of)
    for tag in collection.tags:
        _put_tag(made, status, collection, tag, age)
    _put_gate(made, collection)
    _put_after(made, collection)
    _put_runs(made, collection)
    if (launch := collection.launch) is not None:
        passed = launch.at.timestamp() + age
        made.put("launch_seconds", launch.begins.timestamp() - passed, **of, revision=launch.revision)
        if launch.start_by is not None:
            made.put("start_by_seconds", launch.start_by.timestamp() - passed, **of, revision=launch.revision)


def _put_tag(made: _Families, status: Status, collection: CollectionStatus, tag: TagStatus, age: float) -> None:
    seen = tag.coverage
    of = {"collection": collection.name, "tag": tag.tag, "role": collection.route.role(tag.tag)}
    made.put("coverage_ratio", seen.share, **of)
    for state in ("fresh", "stale", "missing", "rejected"):
        made.put("tag_records", getattr(seen, state), **of, state=state)
    if seen.compared_at is not None:
        made.put("compared_age_seconds", (status.measured_at - seen.compared_at).total_seconds() + age, **of)
    made.put("vectors", tag.vectors, **of)
    made.put("index_bytes", tag.index.bytes, **of)
    made.put("index_usable", tag.index.usable, **of)
    made.put("budget_usd", tag.budget_usd, **of)
    for run in tag.evals:
        for metric, kinds in run.scores.items():
            made.put("eval_score", kinds["search"].mean, **of, suite=run.suite, metric=metric)
        made.put("eval_coverage_ratio", run.coverage, **of, suite=run.suite)


def _put_gate(made: _Families, collection: CollectionStatus) -> None:
    """Add the checks that were measured; those that ask the embedder are not asked here."""
    if collection.gate is None:
        return
    row, report = collection.gate
    of = {"collection": collection.name, "revision": row.id}
    made.put("gate_open", not report.refusing, **of)
    for check in report.checks:
        made.put("gate_check", check.passed, **of, check=check.name)


def _put_after(made: _Families, collection: CollectionStatus) -> None:
    """Add what counts after a cutover: the way back, and trust."""
    if (way := collection.rollback) is not None and not way.retired:
        made.put("rollback_ready", way.ready, collection=collection.name, tag=way.tag)
        made.put("rollback_coverage_ratio", way.share, collection=collection.name, tag=way.tag)
    if (trust := collection.trust) is not None:
        made.put("trust_days", trust.days, collection=collection.name, tag=trust.tag)
        made.put("trust_required_days", trust.rule.days, collection=collection.name, tag=trust.tag)
        made.put("trust_holds", trust.holds, collection=collection.name, tag=trust.tag)


def _put_runs(made: _Families, collection: CollectionStatus) -> None:
    counts = Counter((run.what, run.state) for run in collection.runs)
    for (what, state), count in counts.items():
        made.put("runs", count, collection=collection.name, what=what, state=state)
    for tag, what in sorted({(run.tag, run.what) for run in collection.runs}):
        runs = [run for run in collection.runs if (run.tag, run.what) == (tag, what)]
        of = {"collection": collection.name, "tag": tag, "what": what}
        made.put("run_records_per_second", sum(run.rate for run in runs), **of)
        # each process of a fleet counts what is left of all
        made.put("run_remaining_records", max(run.total - run.done for run in runs), **of)


class _Standing(Collector):
    """Gives a registry what was seen last, each time that it is asked."""

    def __init__(self, latest: Latest) -> None:
        self._latest = latest

    def collect(self) -> Iterable[Metric]:
        return families(self._latest())


def registry(latest: Latest) -> CollectorRegistry:
    """Return a registry that shows how a project stands; ``latest`` gives what was seen last."""
    made = CollectorRegistry(auto_describe=False)
    made.register(_Standing(latest))
    return made


def as_text(latest: Latest) -> str:
    """Return the metrics in the text format of Prometheus."""
    return generate_latest(registry(latest)).decode()


def write(latest: Latest, path: Path) -> None:
    """Write the metrics into a file for node_exporter's textfile collector, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    write_to_textfile(str(path), registry(latest))


def answer(latest: Latest, host: str, port: int) -> None:
    """Answer scrapes from a thread, until the process ends.

    Raises:
        OSError: nothing can listen there.
    """
    start_http_server(port, addr=host, registry=registry(latest))

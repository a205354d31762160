"""Whether a live tag has earned so much trust that the vectors of the one before may go: the evidence, and the rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final
from uuid import UUID

from vecmig.check import Check, Remedy, Required
from vecmig.evaluation import no_worse
from vecmig.gate import MOST_SHADOW_ERRORS
from vecmig.ledger import evals
from vecmig.ledger.evals import EvalRun
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.phases import RevisionRow
from vecmig.ledger.trust_clock import clock, eval_pairs, shadow_errors
from vecmig.model.gate import Gate, NoWorse, Trust
from vecmig.postgres.sessions import Connection
from vecmig.runner.project import Project
from vecmig.runner.verbs.downgrade import DowngradeCommand, downgrade_of
from vecmig.source.source import Source
from vecmig.text import counted, percent

_DAY: Final = timedelta(days=1)

#: The last runs of one suite on one day: against the old tag, and against the new one.
Pair = tuple[EvalRun, EvalRun]
_Ids = Mapping[date, Mapping[str, tuple[UUID, UUID]]]


@dataclass(frozen=True, slots=True)
class TrustReport:
    """How far a live tag is with what its revision's rule asks for."""

    collection: str
    revision: str
    tag: str
    #: None for a collection's first tag.
    old_tag: str | None
    rule: Trust
    #: Since when the tag serves the reads without a break, and for how many days that is.
    since: datetime
    days: float
    #: The share of the searches that a candidate serves in its place now.
    ramp: float
    #: The days with evals that count, of those that the rule asks for.
    eval_days: int
    #: Whether one of them shows the tag to be worse than the old one.
    worse: bool
    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        """Whether the rule holds."""
        return all(check.passed for check in self.checks)

    @property
    def failed(self) -> tuple[Check, ...]:
        """The conditions that do not hold."""
        return tuple(check for check in self.checks if not check.passed)

    @property
    def due(self) -> datetime:
        """When the days are over."""
        return self.since + self.rule.days * _DAY


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the rule is judged by."""

    since: datetime
    now: datetime
    #: The share of the reads that a candidate serves, and which one.
    ramp: float
    candidate: str | None
    #: Why there is no tag to compare it with; empty where there is one.
    alone: str
    #: By day and suite, of the last days that are asked for.
    pairs: Mapping[date, Mapping[str, Pair]]
    #: Shadow reads of the tag, of as many days before it went live as the rule asks for: those that failed, and all.
    shadow: tuple[int, int]
    #: The command that goes back to the old tag now.
    downgrade: str = DowngradeCommand().command

    @property
    def days(self) -> float:
        """For how many days the tag serves the reads."""
        return max(self.now - self.since, timedelta()) / _DAY


def old_retired(ledger: Ledger, row: RevisionRow) -> bool:
    """Whether the vectors that a revision led away from were retired, also where there are others of that tag again."""
    old = ledger.tags.of(row.collection).get(row.old_tag) if row.collection and row.old_tag else None
    return row.phase == "retired" or (old is not None and old.state == "retired")


def trust_report(project: Project, connection: Connection, ledger: Ledger, source: Source) -> TrustReport | None:
    """Look at the evidence for a collection's live tag and judge it; None where no tag is live. Reads only."""
    row = ledger.live_revision(source.collection.name)
    if row is None or row.new_tag is None:
        return None
    script = project.scripts[row.id] if row.id in project.scripts.map else None
    rule, gate = (script.trust, script.gate or Gate()) if script else (Trust(), Gate())
    back = downgrade_of(project, ledger.revisions.all(), row.id).command
    evidence = _gather(connection, ledger, row, rule=rule, gate=gate, source=source, back=back)
    series = eval_series(gate, evidence.pairs)
    return TrustReport(
        collection=source.collection.name,
        revision=row.id,
        tag=row.new_tag,
        old_tag=row.old_tag,
        rule=rule,
        since=evidence.since,
        days=evidence.days,
        ramp=evidence.ramp,
        eval_days=series.days,
        worse=bool(series.regressions),
        checks=judge(rule, evidence, series),
    )


def _gather(
    connection: Connection, ledger: Ledger, row: RevisionRow, *, rule: Trust, gate: Gate, source: Source, back: str
) -> Evidence:
    assert row.new_tag is not None, "the caller chose it so"
    name = source.collection.name
    times = clock(connection, ledger.schema, name, row.id)
    route = ledger.routes.of(name)
    alone, pairs = _alone(ledger, row), {}
    if row.old_tag is not None and not alone:
        tags = (row.old_tag, row.new_tag)
        ids = eval_pairs(connection, ledger.schema, name, tags, since=times.since, coverage=gate.coverage)
        pairs = _whole(connection, ledger.schema, _latest(rule, gate, ids))
    shadow = shadow_errors(connection, ledger.schema, name, row.new_tag, moved=times.moved, days=rule.days)
    return Evidence(times.since, times.now, route.ramp_share, route.candidate, alone, pairs, shadow, back)


def _alone(ledger: Ledger, row: RevisionRow) -> str:
    """Say why the tag of a revision has no other to be compared with; empty where it has one."""
    if row.old_tag is None:
        return "the first tag has none to be compared with"
    return "the old tag was retired: nothing to be compared with" if old_retired(ledger, row) else ""


def _latest(rule: Trust, gate: Gate, ids: _Ids) -> _Ids:
    """Return the last days, as many as the rule asks for, with the evals that the gate names, or with any."""
    asked = {term.suite for term in gate.evals}
    days = [day for day, suites in ids.items() if asked <= set(suites)]
    return {day: ids[day] for day in days[-rule.eval_days :]} if rule.eval_days else {}


def _whole(connection: Connection, schema: str, chosen: _Ids) -> dict[date, dict[str, Pair]]:
    ids = [id_ for suites in chosen.values() for pair in suites.values() for id_ in pair]
    runs = evals.of_ids(connection, schema, ids)
    return {
        day: {suite: (runs[old], runs[new]) for suite, (old, new) in suites.items()} for day, suites in chosen.items()
    }


# The rule ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EvalSeries:
    """What the evals of the last days that the rule asks for have shown."""

    days: int
    regressions: tuple[str, ...]


def eval_series(gate: Gate, pairs: Mapping[date, Mapping[str, Pair]]) -> EvalSeries:
    """Judge the evals of each day."""
    return EvalSeries(len(pairs), tuple(worse for day in pairs for worse in _regressions(gate.evals, day, pairs[day])))


def judge(rule: Trust, evidence: Evidence, series: EvalSeries) -> tuple[Check, ...]:
    """Judge the evidence. Pure."""
    return _days(rule, evidence), _evals(rule, evidence, series), _shadow(rule, evidence)


def _days(rule: Trust, evidence: Evidence) -> Check:
    # rounded down: it is not there before it is there
    value, required = int(evidence.days * 10) / 10, Required(f"≥ {rule.days:g}")
    detail = f"live since {evidence.since:%Y-%m-%d %H:%M} UTC"
    if evidence.ramp > 0:
        detail += f"; now {evidence.candidate} serves {percent(evidence.ramp)} of the searches"
        return Check("days live", False, value, required, detail, Remedy("end the ramp, or finish the upgrade"))
    due = evidence.since + rule.days * _DAY
    remedy = Remedy(f"wait until {due:%Y-%m-%d %H:%M} UTC")
    return Check("days live", evidence.days >= rule.days, value, required, detail, remedy)


def _evals(rule: Trust, evidence: Evidence, series: EvalSeries) -> Check:
    required = Required(f"≥ {rule.eval_days}")
    if rule.eval_days == 0 or evidence.alone:
        why = "the revision asks for none" if rule.eval_days == 0 else evidence.alone
        return Check("eval days", True, 0, required, why)
    if series.regressions:
        remedy = f"run vecmig eval again; if the new tag is worse, go back: {evidence.downgrade}"
        return Check("eval days", False, series.days, required, "; ".join(series.regressions), Remedy(remedy))
    detail = f"{counted(series.days, 'day')} with evals of both tags that count, and the new one is no worse"
    if not series.days:
        detail = "no day since has evals of both tags that count"
    remedy = (
        f"run vecmig eval on {counted(rule.eval_days, 'day')}; or, where there are no suites, say so in the revision: "
        f"from vecmig import Trust; trust = Trust(days={rule.days:g}, eval_days=0)"
    )
    return Check("eval days", series.days >= rule.eval_days, series.days, required, detail, Remedy(remedy))


def _regressions(asked: Sequence[NoWorse], day: date, pairs: Mapping[str, Pair]) -> list[str]:
    """Name what shows the new tag to be worse on a day: by the gate's terms, or else by each suite's first metric."""
    terms = asked or [NoWorse(suite, next(iter(new.scores))) for suite, (_, new) in pairs.items()]
    judged = [no_worse(*pairs[term.suite], term.metric, term.tolerance) for term in terms]
    return [f"on {day}: {detail}" for fine, detail in judged if not fine]


def _shadow(rule: Trust, evidence: Evidence) -> Check:
    errors, samples = evidence.shadow
    share = errors / samples if samples else 0.0
    detail = f"{errors:,} of {samples:,} shadow reads of the tag failed in the {rule.days:g} days before it went live"
    remedy = Remedy(
        "let shadow reads that succeed make up for those that failed (vecmig compare COLLECTION): move reads to the "
        f"other tag ({evidence.downgrade}), ask this one beside it (vecmig route COLLECTION --shadow TAG), and move "
        "them back"
    )
    required = Required(MOST_SHADOW_ERRORS, "≤", share=True)
    return Check("shadow", share <= MOST_SHADOW_ERRORS, share, required, detail, remedy)

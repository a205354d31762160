"""Bring together what evals and shadow reads have shown of a new tag, as far as it counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from vecmig.config.suites import Suite, SuiteMissing
from vecmig.errors import VecmigError
from vecmig.evaluation import mean_loss, no_worse
from vecmig.freshness.coverage import count_embedded_since, count_records
from vecmig.freshness.stamps import Stamps
from vecmig.gate import Shadowing, Trial
from vecmig.ledger.evals import EvalRun, latest
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.shadows import count_pair
from vecmig.model.gate import Gate, NoWorse
from vecmig.postgres.sessions import Connection
from vecmig.text import count, counted, percent

#: Largest share of the records that may have come, gone or changed since an eval that still counts.
_MOST_CHANGED: Final = 0.05


@dataclass(frozen=True, slots=True)
class Witness:
    """Looks at the evidence of one gate between two tags."""

    connection: Connection
    gate: Gate
    new: Stamps
    old: Stamps
    load_suite: Callable[[str], Suite]

    def trials(self) -> tuple[Trial, ...]:
        """Say what evals have shown, for each condition of the gate."""
        return tuple(self._trial(condition) for condition in self.gate.evals)

    def shadow(self) -> Shadowing:
        """Count the searches that both tags answered since the new one was begun."""
        name = self.new.source.collection.name
        schema, tag = self.new.schema, self.new.tag
        answered, failed = count_pair(self.connection, schema, name, self.old.tag, tag)
        route = Ledger(self.connection, schema).routes.of(name)
        share = route.shadow_share if route.shadow == tag else 0.0
        return Shadowing(answered, failed, collection=name, tag=tag, share=share)

    def _trial(self, condition: NoWorse) -> Trial:
        command = f"vecmig eval {condition.suite}"
        again = f"Run: {command}"
        try:
            suite = self.load_suite(condition.suite)
        except SuiteMissing as error:
            return Trial(condition, False, error.message, error.hint, error.command)
        except VecmigError as error:
            return Trial(condition, False, error.message, error.hint or again)
        collection = self.new.source.collection.name
        if suite.collection != collection:
            return Trial(
                condition, False, f"{condition.suite} asks {suite.collection}", "Name a suite of this collection."
            )
        runs: list[EvalRun] = []
        for stamps in (self.old, self.new):
            run = latest(self.connection, self.new.schema, collection, stamps.tag, condition.suite)
            problem = f"it was never run against {stamps.tag}" if run is None else self._problem(suite, run, stamps)
            if run is None or problem:
                return Trial(condition, False, problem, again, command)
            runs.append(run)
        passed, detail = no_worse(runs[0], runs[1], condition.metric, condition.tolerance)
        detail = f"{detail}; taken at {percent(runs[1].coverage)} coverage"
        return Trial(condition, passed, detail, "" if passed else _remedy(condition, runs[0], runs[1]))

    def _problem(self, suite: Suite, run: EvalRun, stamps: Stamps) -> str:
        """Say why a run does not count; empty where it does."""
        if run.suite_fingerprint != suite.fingerprint:
            return f"the suite was changed since it was run against {stamps.tag}"
        if run.coverage < self.gate.coverage:
            return (
                f"it was run against {stamps.tag} at {percent(run.coverage)} coverage; an eval counts from "
                f"{percent(self.gate.coverage)} on"
            )
        _, eligible = count_records(self.connection, stamps.source)
        most = int(_MOST_CHANGED * max(eligible, run.eligible))
        grown = abs(eligible - run.eligible)
        changed = max(grown, count_embedded_since(self.connection, stamps, run.at, most + 1))
        if changed > most:
            return (
                f"more than {percent(_MOST_CHANGED)} of the records have changed since it was run against {stamps.tag} "
                f"({count(run.eligible)} then, {count(eligible)} now)"
            )
        return ""


def _remedy(condition: NoWorse, old: EvalRun, new: EvalRun) -> str:
    """Say what to do about an eval that does not show the new tag to be no worse."""
    if condition.metric not in new.scores:
        return (
            f"Name a metric that {condition.suite} has in the revision's gate ({', '.join(new.scores)}), or set k: in "
            f"the suite to that of {condition.metric}."
        )
    if mean_loss(old, new, condition.metric) <= condition.tolerance:
        return (
            f"{condition.suite} is too small to tell: the mean is no worse than the tolerance allows, but over "
            f"{counted(new.queries, 'query', 'queries')} the interval is too wide. Add queries to it, then run: "
            f"vecmig eval {condition.suite}"
        )
    return f"Look at the queries that became worse: vecmig eval {condition.suite} --json"

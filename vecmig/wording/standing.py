"""How a collection stands, in words: its runs, who serves its searches, a rollback, and the trust in its live tag."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vecmig.text import counted, duration, noun, percent, percent_up
from vecmig.wording.names import Naming

if TYPE_CHECKING:
    from datetime import datetime

    from vecmig.ledger.control import Control, Run
    from vecmig.ledger.evals import EvalRun
    from vecmig.ledger.rows import Route
    from vecmig.runner import LaunchStatus, RollbackStatus, TrustReport

# What is at work, and what operators want of it ---------------------------------------------------------------------


def paused_text(control: Control) -> str:
    """Say by whom and since when a collection is paused, and why."""
    why = f": {control.reason}" if control.reason else ""
    return f"by {control.paused_by} since {_time(control.paused_at)}{why}"


def tuned_words(control: Control, *, only_set: bool = False) -> list[str]:
    """Name the settings, or only those that are set."""
    words = []
    if control.concurrency is not None or not only_set:
        words.append(f"concurrency {control.concurrency or 'as the recipe says'}")
    if control.max_rate is not None or not only_set:
        words.append("max-rate " + (f"{control.max_rate:g} records/s" if control.max_rate is not None else "none"))
    return words


def run_text(run: Run, name: Naming = str) -> str:
    """Describe a run at work in one line: what, where, how far, how fast, and why it waits if it does."""
    return f"{run.what} of {name(run.tag)} by {run.host} pid {run.pid}: {', '.join(_figures(run))}"


def _figures(run: Run) -> Iterator[str]:
    # by whom and why it is paused stands with the collection
    yield f"{run.state} ({run.reason})" if run.reason and run.state != "paused" else run.state
    counts = run.what in ("backfill", "sync")
    if counts or run.total:
        yield f"{run.done:,} of {run.total:,}"
    if run.rejected:
        yield f"{run.rejected:,} rejected"
    if counts:
        yield f"{run.rate:,.0f}/s"
    if run.ends_at is not None:
        yield f"may be done at {run.ends_at:%H:%M:%S} UTC"
    if run.concurrency:
        yield f"up to {run.concurrency} {noun(run.concurrency, 'request')} in flight"


def _time(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else "now"


# Searches -----------------------------------------------------------------------------------------------------------


def route_lines(route: Route, name: Naming) -> Iterator[tuple[str, str]]:
    """Say which searches another tag serves, or is asked too; ``name`` is what a tag is called."""
    if route.candidate and route.ramp_share:
        yield "ramp", f"{percent(route.ramp_share)} of searches to {name(route.candidate)}"
    if route.shadow:
        yield "shadow", f"{percent(route.shadow_share)} of searches ask {name(route.shadow)} too"


def eval_text(run: EvalRun) -> str:
    """Return the first metric of a run with its coverage in a few words."""
    metric = next(iter(run.scores))
    return f"{run.suite} {metric} {run.scores[metric]['search'].mean:.2f} at {percent(run.coverage)}"


# The day of the launch ----------------------------------------------------------------------------------------------


def launch_text(launch: LaunchStatus) -> str:
    """Say when a revision is to go live, how far off that is, and whether the backfill comes to its end before."""
    away = (launch.begins - launch.at).total_seconds()
    day = f"{launch.day:%Y-%m-%d}, {f'in {duration(away)}' if away > 0 else f'{duration(-away)} ago'}"
    if launch.seconds is None:
        return f"{day}; how long the backfill takes is not known yet"
    if launch.seconds == 0:
        return f"{day}; all is embedded"
    takes = f"the backfill takes about {duration(launch.seconds)}"
    assert launch.start_by is not None, "the seconds are known"
    if launch.late:
        return f"{day}; too late by {duration(launch.seconds - away)}: {takes} from now"
    return f"{day}; {takes}, start by {launch.start_by:%Y-%m-%d %H:%M} UTC"


# The way back, and what lies behind it ------------------------------------------------------------------------------


def rollback_text(way: RollbackStatus, name: Naming) -> str:
    """Say what a rollback would find."""
    if way.retired:
        return f"none: {name(way.tag)} was retired; to have it again: vecmig revision --to-tag {way.tag}"
    if way.coverage is None:
        return f"none: the vectors of {name(way.tag)} are gone"
    covered = f"{percent(way.share)} covered"
    if not way.ready:
        records = f"{way.lacking:,} of {counted(way.coverage.eligible, 'record')}"
        then = f"{way.theirs:,} are the application's to write" if way.kept_by_theirs else "run: vecmig sync"
        return f"refused: {name(way.tag)} lacks {records}, {covered}; {then}"
    missing = f" ({counted(way.lacking, 'record')} lacking)" if way.lacking else ""
    besides = f" (rolls back {' and '.join(way.besides)} too)" if way.besides else ""
    return f"to {name(way.tag)}, {covered}{missing}, < 1 s: {way.command}{besides}"


def days_live(trust: TrustReport) -> str:
    """Write for how many days a tag has been live, rounded down."""
    days = int(trust.days * 10) / 10
    return f"{days:g} {noun(days, 'day')}"


def trust_text(trust: TrustReport) -> str:
    """Say how much trust a live tag has earned, with all that is asked for."""
    parts = [f"live for {days_live(trust)}, {trust.rule.days:g} asked for"]
    checks = {check.name: check for check in trust.checks}
    if trust.rule.eval_days and trust.old_tag is not None:
        asked = f"{counted(trust.eval_days, 'day')} with evals, {trust.rule.eval_days} asked for"
        parts.append(f"{checks['eval days'].detail} ({asked})" if trust.worse else asked)
    if checks["shadow"].value:
        parts.append(f"{percent_up(float(checks['shadow'].value))} of its shadow reads failed")
    return "; ".join(parts)


def short_trust_text(trust: TrustReport) -> str:
    """Say how much trust a live tag has earned, in a few words."""
    parts = [f"live {int(trust.days * 10) / 10:g} of {trust.rule.days:g} days"]
    if trust.rule.eval_days and trust.old_tag is not None:
        parts.append(f"evals on {trust.eval_days:,} of {trust.rule.eval_days:,}")
    others = [check.name for check in trust.failed if check.name not in ("days live", "eval days")]
    if others:
        parts.append(f"not met: {', '.join(others)}")
    if any(check.name == "days live" for check in trust.failed):
        when = "from" if len(trust.failed) == 1 else "not before"
        parts.append(f"retire {when} {trust.due:%Y-%m-%d}")
    return ", ".join(parts)


def retire_text(trust: TrustReport) -> str:
    """Say when the vectors of the tag before may go, and what has to come first."""
    if trust.holds:
        return f"now: vecmig retire {trust.collection} {trust.old_tag}"
    days = next(check for check in trust.checks if check.name == "days live")
    others = [check for check in trust.failed if check.name != "days live"]
    if trust.ramp:
        return f"not while a candidate serves {percent(trust.ramp)} of the searches"
    first = "; then ".join(check.remedy.text for check in others if check.remedy)
    if days.passed:
        return f"not yet; first {first}"
    when = f"{trust.old_tag} possible from {trust.due:%Y-%m-%d}"
    return f"{when}, but first: {first}" if first else when

"""What an upgrade will take, before it is begun: records, tokens, money, time, disk, memory and locks. Reads only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from vecmig.chunking import chunker
from vecmig.config import Config
from vecmig.embedders import estimated_tokens
from vecmig.freshness.coverage import count_records
from vecmig.freshness.pending import count_texts, sample_texts
from vecmig.freshness.stamps import Stamps
from vecmig.homes import count_offered, coverage_of, home_over, open_home
from vecmig.ledger.batch_orders import on_order
from vecmig.ledger.control import Control, read_control, runs
from vecmig.ledger.identity import find_source
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.spend import spent
from vecmig.model.recipe import Recipe, cost_usd
from vecmig.operations.judging import compared
from vecmig.postgres.sessions import Connection
from vecmig.runner.apart import Apart
from vecmig.runner.launching import measured_rate
from vecmig.runner.plan import check_applied, check_upgrade
from vecmig.runner.project import Project
from vecmig.runner.project_status import LaunchStatus
from vecmig.runner.steps import adoption_of
from vecmig.runner.verbs.index_estimate import IndexEstimate, estimate_indexes
from vecmig.script import Script
from vecmig.source.source import Source

#: Records whose texts are cut and counted; the rest is taken to be like them.
_SAMPLE: Final = 1_000
#: Records up to which it is counted how many texts differ.
_COUNTED: Final = 100_000
#: Texts that a request is taken to carry where the recipe does not say: fewer at servers other than OpenAI's.
_USUAL_BATCH: Final = 256
_USUAL_BATCH_ELSEWHERE: Final = 128


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one revision will take. What is to be embedded is estimated from a sample of the records."""

    revision: str
    message: str
    collection: str
    old_tag: str | None
    new_tag: str
    #: None before the revision is started.
    phase: str | None
    records: int
    eligible: int
    #: Records that lack a fresh vector now and are to be embedded.
    pending: int
    #: Records whose vectors the source has already, to be taken over; None where the revision adopts none.
    adopted: int | None
    #: Whether these stay in the source's own column.
    in_place: bool
    #: Records whose vectors are cut from those of another tag; None where the tag does not derive from one.
    derived: int | None
    #: Different texts among those that are to be embedded, each of which is bought once; None where it would take long
    #: to count them, or they are cut into chunks.
    texts: int | None
    chunks: int
    #: Rather above than below: three bytes are taken for one token.
    tokens: int
    #: Requests that it will take, more or less; where they are ordered through a Batch API, the texts of a line each.
    requests: int
    #: Whether it is ordered through the provider's Batch API, at half the price.
    batch: bool
    #: Texts that are on order there, and paid for; they are not among the chunks and the tokens.
    ordered: int
    cost_usd: float
    #: Whether the recipe says what a token costs.
    priced: bool
    #: What embedding for this revision has cost so far, and may cost in all; None for no limit.
    spent_usd: float
    budget_usd: float | None
    #: Records per second: given, or measured by this tag's backfill at work or its last one; None where there is none.
    rate: float | None
    #: The seconds that it takes at least because of the limits that are set, and the name of the one that matters.
    limited_seconds: float
    limited_by: str | None
    vector_bytes: int
    index_bytes: int
    #: maintenance_work_mem that holds the full index while it is built, and the most that may be used.
    index_memory_mb: int
    index_memory_cap_mb: int
    #: The same, and the time, for each type that the index may be of.
    indexes: tuple[IndexEstimate, ...]
    #: What embedding everything under the old tag again would cost; a rollback does not need it.
    way_back_cost_usd: float
    #: Which locks are taken, one sentence each.
    locks: tuple[str, ...]
    #: The day on which it is to go live, beside the time that this takes; None where the script says none.
    launch: LaunchStatus | None = None

    @property
    def seconds(self) -> float | None:
        """How long the backfill takes at this rate and within its limits; None where the rate is not known."""
        return max(self.pending / self.rate, self.limited_seconds) if self.rate else None

    @property
    def over_budget(self) -> bool:
        """Whether the budget would stop it, by this estimate."""
        return self.priced and self.budget_usd is not None and self.spent_usd + self.cost_usd > self.budget_usd


@dataclass(frozen=True, slots=True)
class _Sample:
    """Means over a sample of texts, per record."""

    chunks: float
    tokens: float


def estimate(
    config: Config, target: str = "head", *, rate: float | None = None, max_cost: float | None = None
) -> tuple[Estimate, ...]:
    """Estimate every revision that ``upgrade target`` would take forward. Nothing is written or sent.

    Args:
        config: the project.
        target: a revision, in Alembic's grammar.
        rate: records per second to expect of the embedder; without it, what the tag's backfill measured.
        max_cost: US dollars that a revision may cost, in place of the recipe's ``budget_usd``.

    Raises:
        VecmigError: the worst of why one could not be estimated, once the others were; ``done`` has these.
    """
    project = Project(replace(config, max_cost=max_cost))
    rows = project.revisions()
    check_applied(project.scripts.scripts, rows)
    steps = project.upgrade_path(target, rows).steps
    check_upgrade(steps, rows, project.collections)
    apart, estimates = Apart(several=len({script.collection for script in steps}) > 1), []
    with project.database.keeping_sessions():
        for script in (script for script in steps if script.collection not in apart.collections | {None}):
            phase = rows[script.id].phase if script.id in rows else None
            named = f"Revision {script.id} of {script.collection}"
            with apart.each(named, script.collection), project.database.session() as connection:
                estimates.append(_estimate(project, connection, script, phase, rate))
    apart.raise_worst(tuple(estimates))
    return tuple(estimates)


def _estimate(
    project: Project, connection: Connection, script: Script, phase: str | None, rate: float | None
) -> Estimate:
    assert script.collection is not None and script.new_tag is not None, "the caller chose it so"  # noqa: PT018
    ledger = project.context.ledger(connection)
    source = find_source(ledger, project.collections.collection(script.collection))
    adopting = adoption_of(project, script)
    if adopting is not None:
        source = adopting.offering(connection, source)
    source, _ = compared(project.context, source, script.new_tag, script.old_tag)
    home = home_over(connection, project.context.stamps(source, script.new_tag))
    recipe = project.collections.recipe(script.new_tag)
    coverage = coverage_of(home)
    pending = coverage.stale + coverage.missing
    adopted = None
    if adopting is not None:
        adopted = max(0, min(pending, count_offered(connection, source) - coverage.fresh))
        pending = pending - adopted if adopting.adoption.fill else 0
    derived = None if recipe.derive is None else min(pending, _fresh(ledger, source, recipe.derive))
    pending -= derived or 0
    texts = sample_texts(connection, source, _SAMPLE)
    sample = _measure(texts, recipe)
    counted = recipe.chunk is None and coverage.eligible <= _COUNTED
    different = min(pending, count_texts(connection, source)) if counted else None
    bought = pending if different is None else different
    total, chunks = round(sample.chunks * coverage.eligible), round(sample.chunks * bought)
    waiting = on_order(connection, project.database.schema, script.collection).get(script.new_tag)
    ordered = min(chunks, waiting.texts) if waiting is not None else 0
    tokens = round(sample.tokens * bought * (1 - ordered / chunks)) if chunks else 0
    chunks -= ordered
    requests = _requests(recipe, chunks, tokens)
    control = read_control(connection, project.database.schema, script.collection)
    footprint = home.footprint(total)
    old = _old_recipe(project, connection, script)
    made = Estimate(
        revision=script.id,
        message=script.message,
        collection=script.collection,
        old_tag=script.old_tag,
        new_tag=script.new_tag,
        phase=phase,
        records=coverage.records,
        eligible=coverage.eligible,
        pending=pending,
        adopted=adopted,
        in_place=adopting is not None and adopting.adoption.in_place,
        derived=derived,
        texts=different,
        chunks=chunks,
        tokens=tokens,
        requests=requests,
        batch=recipe.service.batch,
        ordered=ordered,
        **_money(project, connection, script, recipe, tokens),
        **_speed(ledger, script, rate, _limits(recipe, control, pending, requests, tokens)),
        vector_bytes=footprint.vector_bytes,
        index_bytes=footprint.index_bytes,
        index_memory_mb=footprint.index_memory_mb,
        index_memory_cap_mb=project.config.maintenance_work_mem_mb,
        indexes=tuple(estimate_indexes(ledger, home, total)),
        way_back_cost_usd=_cost(old, round(_measure(texts, old).tokens * coverage.eligible)) if old else 0.0,
        locks=_locks(source, project.config.lock_timeout),
    )
    if script.launch is None:
        return made
    row = connection.execute("SELECT now()").fetchone()
    assert row is not None
    return replace(made, launch=LaunchStatus(script.id, script.launch, made.seconds if pending else 0.0, row[0]))


def _fresh(ledger: Ledger, source: Source, tag: str) -> int:
    """Return of how many records a tag has fresh vectors, if it is one of the collection."""
    row = ledger.tags.of(source.collection.name).get(tag)
    if row is None or row.state == "retired":
        return 0
    return coverage_of(open_home(ledger, source, tag, kind=row.home)).fresh


@dataclass(frozen=True, slots=True)
class Redone:
    """What embedding all records under a tag once more would take."""

    tokens: int
    usd: float
    #: Whether the recipe says what a token costs.
    priced: bool
    #: By the rate of the tag's last backfill; None where there was none.
    seconds: float | None


def redone(ledger: Ledger, stamps: Stamps) -> Redone:
    """Estimate what embedding all records under a recorded tag once more would take; nothing is written or sent."""
    connection, source = ledger.connection, stamps.source
    recipe = ledger.tags.get(source.collection.name, stamps.tag).recipe
    _, eligible = count_records(connection, source)
    tokens = round(_measure(sample_texts(connection, source, _SAMPLE), recipe).tokens * eligible)
    rate = ledger.last_rate(source.collection.name, stamps.tag)
    priced = recipe.service.price_per_million_tokens > 0
    return Redone(tokens, _cost(recipe, tokens), priced, eligible / rate if rate else None)


def _money(project: Project, connection: Connection, script: Script, recipe: Recipe, tokens: int) -> dict[str, Any]:
    spend = spent(connection, project.database.schema)
    return {
        "cost_usd": _cost(recipe, tokens),
        "priced": recipe.service.price_per_million_tokens > 0,
        "spent_usd": sum(entry.usd for entry in spend if (entry.revision, entry.what) == (script.id, "backfill")),
        "budget_usd": project.config.max_cost if project.config.max_cost is not None else recipe.service.budget_usd,
    }


def _speed(ledger: Ledger, script: Script, rate: float | None, limits: Mapping[str, float]) -> dict[str, Any]:
    assert script.collection is not None and script.new_tag is not None, "the caller chose it so"  # noqa: PT018
    seconds, name = slowest(limits)
    at_work = runs(ledger.connection, ledger.schema)
    measured = rate or measured_rate(ledger, at_work, script.collection, script.new_tag)
    return {"rate": measured, "limited_seconds": seconds, "limited_by": name}


def _measure(texts: list[str], recipe: Recipe) -> _Sample:
    if not texts:
        return _Sample(0.0, 0.0)
    cut = chunker(recipe.chunk, provider=recipe.provider, model=recipe.model)
    chunks = [recipe.document_prompt.replace("{text}", chunk) for text in texts for chunk in cut(text)]
    return _Sample(len(chunks) / len(texts), sum(map(estimated_tokens, chunks)) / len(texts))


def _old_recipe(project: Project, connection: Connection, script: Script) -> Recipe | None:
    """Return the recipe of the old tag: as configured, or as recorded where it is not configured any more."""
    if script.old_tag is None or script.collection is None:
        return None
    recorded = project.context.ledger(connection).tags.of(script.collection).get(script.old_tag)
    return project.collections.recipes.get(script.old_tag) or (recorded.recipe if recorded else None)


def _requests(recipe: Recipe, chunks: int, tokens: int) -> int:
    service = recipe.service
    texts = service.max_batch or (_USUAL_BATCH_ELSEWHERE if service.base_url else _USUAL_BATCH)
    by_tokens = math.ceil(tokens / service.max_batch_tokens) if service.max_batch_tokens else 0
    return max(math.ceil(chunks / texts), by_tokens)


def _limits(recipe: Recipe, control: Control, records: int, requests: int, tokens: int) -> dict[str, float]:
    """Return the seconds that each limit makes the backfill take at least, by its name."""
    service = recipe.service
    limits = {}
    if service.requests_per_minute is not None:
        limits["requests_per_minute"] = minutes(requests, service.requests_per_minute)
    if service.tokens_per_minute is not None:
        limits["tokens_per_minute"] = minutes(tokens, service.tokens_per_minute)
    if control.max_rate is not None:
        limits["max-rate"] = records / control.max_rate
    return limits


def minutes(amount: int, limit: int) -> float:
    """Return the seconds that ``amount`` takes at ``limit`` a minute; the first minute's share goes at once."""
    return max(amount / limit - 1, 0.0) * 60


def slowest(limits: Mapping[str, float]) -> tuple[float, str | None]:
    """Return the limit that matters: its seconds and its name; 0 and None where none does."""
    name = max(limits, key=limits.__getitem__, default=None)
    return (limits[name], name) if name is not None and limits[name] > 0 else (0.0, None)


def _cost(recipe: Recipe, tokens: int) -> float:
    return cost_usd(recipe.service.backfill_price, tokens)


def _locks(source: Source, lock_timeout: float) -> tuple[str, ...]:
    table, short = f"{source.schema}.{source.table}", f"at most {lock_timeout * 1_000:g} ms at a time, then tried again"
    live = f"{source.home}.{source.collection.name}_live"
    triggers = (f"expand: SHARE ROW EXCLUSIVE on {table} for its triggers, {short}",) if source.tracked else ()
    rows = ("backfill: FOR KEY SHARE on the records of one batch while it is written",) if source.tracked else ()
    index = ("index: built CONCURRENTLY, so neither reads nor writes wait",)
    views = (
        "cutover and rollback: none that reads or writes wait for",
        f"cutover and rollback where the view itself changes: ACCESS EXCLUSIVE on {live}, {short}",
    )
    return (*triggers, *rows, *index, *views)

"""What an upgrade will take, before it is begun: records, tokens, money, time, disk, memory and locks. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vecmig.chunking import chunker
from vecmig.config import Config
from vecmig.embedders import estimated_tokens
from vecmig.runner.plan import check_applied, check_upgrade
from vecmig.runner.project import Project
from vecmig.script import Script
from vecmig.store.catalog import Source, inspect_source
from vecmig.store.connect import Connection
from vecmig.store.index import estimated_bytes, wanted_memory_mb
from vecmig.store.layout import coverage_of
from vecmig.store.locks import LOCK_TIMEOUT_MS
from vecmig.store.vectors import estimated_vector_bytes, sample_texts
from vecmig.tags import Recipe

#: Records whose texts are cut and counted; the rest is taken to be like them.
_SAMPLE: Final = 1_000
_MILLION: Final = 1_000_000


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
    #: Records that lack a fresh vector now.
    pending: int
    chunks: int
    #: Rather above than below: three bytes are taken for one token.
    tokens: int
    cost_usd: float
    #: Whether the recipe says what a token costs.
    priced: bool
    #: Records per second: given, or measured by the last backfill of this tag; None where there is neither.
    rate: float | None
    vector_bytes: int
    index_bytes: int
    #: maintenance_work_mem that holds the whole index while it is built, and the most that may be used.
    index_memory_mb: int
    index_memory_cap_mb: int
    #: What embedding everything under the old tag again would cost; a rollback does not need it.
    way_back_cost_usd: float
    #: Which locks are taken, one sentence each.
    locks: tuple[str, ...]

    @property
    def seconds(self) -> float | None:
        """How long the backfill takes at this rate; None where it is not known."""
        return self.pending / self.rate if self.rate else None


@dataclass(frozen=True, slots=True)
class _Sample:
    """Means over a sample of texts, per record."""

    chunks: float
    tokens: float


def estimate(config: Config, target: str = "head", *, rate: float | None = None) -> tuple[Estimate, ...]:
    """Estimate every revision that ``upgrade target`` would take forward. Nothing is written or sent.

    Args:
        config: the project.
        target: a revision, in Alembic's grammar.
        rate: records per second to expect of the embedder; without it, what the last backfill of the tag measured.
    """
    project = Project(config)
    rows = project.revisions()
    check_applied(project.scripts.scripts, rows)
    steps = project.scripts.upgrade_path(target, project.current(rows))
    check_upgrade(steps, rows, project.collections)
    with project.database.session() as connection:
        return tuple(
            _estimate(project, connection, script, rows[script.id].phase if script.id in rows else None, rate)
            for script in steps
            if script.collection is not None
        )


def _estimate(
    project: Project, connection: Connection, script: Script, phase: str | None, rate: float | None
) -> Estimate:
    assert script.collection is not None and script.new_tag is not None, "the caller chose it so"  # noqa: PT018
    source = inspect_source(connection, project.collections.collection(script.collection))
    space = project.workspace.space(source, script.new_tag)
    recipe = project.collections.recipe(script.new_tag)
    coverage = coverage_of(connection, space)
    pending = coverage.stale + coverage.missing
    texts = sample_texts(connection, source, _SAMPLE)
    sample = _measure(texts, recipe)
    total, left = round(sample.chunks * coverage.eligible), round(sample.chunks * pending)
    tokens = round(sample.tokens * pending)
    old = project.collections.recipes.get(script.old_tag) if script.old_tag else None
    return Estimate(
        revision=script.id,
        message=script.message,
        collection=script.collection,
        old_tag=script.old_tag,
        new_tag=script.new_tag,
        phase=phase,
        records=coverage.records,
        eligible=coverage.eligible,
        pending=pending,
        chunks=left,
        tokens=tokens,
        cost_usd=_cost(recipe, tokens),
        priced=recipe.service.price_per_million_tokens > 0,
        rate=rate or project.workspace.ledger(connection).last_rate(script.collection, script.new_tag),
        vector_bytes=estimated_vector_bytes(space, total),
        index_bytes=estimated_bytes(space, total),
        index_memory_mb=wanted_memory_mb(space, total),
        index_memory_cap_mb=project.config.maintenance_work_mem_mb,
        way_back_cost_usd=_cost(old, round(_measure(texts, old).tokens * coverage.eligible)) if old else 0.0,
        locks=_locks(source),
    )


def _measure(texts: list[str], recipe: Recipe) -> _Sample:
    if not texts:
        return _Sample(0.0, 0.0)
    cut = chunker(recipe.chunk, provider=recipe.provider, model=recipe.model)
    chunks = [recipe.document_prompt.replace("{text}", chunk) for text in texts for chunk in cut(text)]
    return _Sample(len(chunks) / len(texts), sum(map(estimated_tokens, chunks)) / len(texts))


def _cost(recipe: Recipe, tokens: int) -> float:
    return recipe.service.price_per_million_tokens * tokens / _MILLION


def _locks(source: Source) -> tuple[str, ...]:
    table, short = f"{source.schema}.{source.table}", f"at most {LOCK_TIMEOUT_MS} ms at a time, then tried again"
    live = f"{source.schema}.{source.collection.name}_live"
    triggers = (f"expand: SHARE ROW EXCLUSIVE on {table} for its triggers, {short}",) if source.tracked else ()
    rows = ("backfill: FOR KEY SHARE on the records of one batch while it is written",) if source.tracked else ()
    index = ("index: built CONCURRENTLY, so neither reads nor writes wait",)
    return (*triggers, *rows, *index, f"cutover and rollback: ACCESS EXCLUSIVE on {live}, {short}")

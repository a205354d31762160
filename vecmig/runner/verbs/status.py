"""How everything stands: tags with their coverage, the gate beside them, and what to run next. Reads only."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from vecmig.config import Config
from vecmig.errors import Blocked, ConfigError, DatabaseError, RecipeError, ScriptError, VecmigError
from vecmig.freshness.change_tracking import silent_writers
from vecmig.freshness.changes import Lag, Outbox, count_theirs, lag, outbox, text_writers
from vecmig.freshness.coverage import count_records, count_rows, count_vectors
from vecmig.freshness.full_pass import needed_full_pass
from vecmig.freshness.standing import find_coverage
from vecmig.gate import Report
from vecmig.homes import IndexState, coverage_of, open_home
from vecmig.inventory.exposure import exposures
from vecmig.ledger.batch_orders import on_order
from vecmig.ledger.control import read_control, runs
from vecmig.ledger.evals import latest_of_each
from vecmig.ledger.failures import last_failures
from vecmig.ledger.identity import find_source
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.phases import RevisionRow
from vecmig.ledger.rows import Route, TagRow
from vecmig.ledger.spend import spent
from vecmig.ledger.trusted_recipes import unvouched
from vecmig.model.gate import Gate
from vecmig.model.tag import Tag
from vecmig.operations.judging import compared, measure
from vecmig.operations.missing import disagreements
from vecmig.postgres.locks import runner_at_work
from vecmig.postgres.sessions import Connection, translated
from vecmig.published.detaching import all_detached, is_detached
from vecmig.runner.launching import next_launch
from vecmig.runner.next_step import next_step
from vecmig.runner.passing import UpgradePath, lost
from vecmig.runner.project import Project
from vecmig.runner.project_status import CollectionStatus, RollbackStatus, Status, TagStatus
from vecmig.runner.steps import by_collection
from vecmig.runner.trust import old_retired, trust_report
from vecmig.runner.verbs.downgrade import downgrade_of
from vecmig.runner.verbs.verify import check_unedited
from vecmig.source.checks import without_key
from vecmig.source.relations import existing
from vecmig.source.source import Source


def status(config: Config, collections: Sequence[str] = ()) -> Status:
    """Measure everything now. Nothing is cached, and nothing is written.

    Args:
        config: the project.
        collections: which ones, with the revisions that are pending for them; empty for all.
    """
    project = Project(config)
    named = {project.collections.collection(name).name for name in collections}
    with project.database.session() as connection, connection.transaction():
        # one snapshot, so that the figures of one page agree with each other
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        row = connection.execute("SELECT now()").fetchone()
        assert row is not None
        ledger = Ledger(connection, project.database.schema)
        rows = ledger.revisions.all()
        heads = project.current(rows)
        # by name, so that revisions that conflict are listed beside each other
        path = project.upgrade_path(project.scripts.map.real_heads, rows)
        # what is on hold is so without its script, too
        path = replace(path, passed=path.passed + lost(rows, project.scripts.map.graph))
        schema = project.database.schema
        found = [
            _collection(project, connection, ledger, name) for name in sorted(named or project.collections.collections)
        ]
        beside = [
            replace(one, launch=next_launch(ledger, one, path.steps, row[0]))
            for one in _beside(project, ledger, rows, path, found)
        ]
        conflicts = project.scripts.branches.conflicts_beyond(project.scripts.map.applied(heads))
        standing = Status(
            database=project.database.safe_url,
            current=heads,
            heads=project.scripts.map.heads,
            pending=tuple(script.id for script in path.steps if not named or script.collection in named),
            passed=tuple(passed for passed in path.passed if not named or passed.collection in named),
            obstacle=_obstacle(project, ledger, rows),
            revisions=rows,
            collections=tuple(beside),
            spend=tuple(spent(connection, schema)),
            measured_at=row[0],
            conflicts=tuple(conflict for conflict in conflicts if not named or conflict.collection in named),
            upgrade_command=project.scripts.upgrade_command,
            patterns=project.scripts.patterns,
        )
    return replace(standing, next=next_step(standing))


def _unfinished(project: Project, rows: Mapping[str, RevisionRow], collection: CollectionStatus) -> str:
    """Return the downgrade that was cut short between the move of the reads and its own end; empty where none was."""
    route = collection.route
    for row in rows.values():
        left = row.index_only or row.new_tag not in (route.live, route.candidate)
        if row.collection == collection.name and row.in_progress and row.hold is not None and left:
            return downgrade_of(project, rows, row.id).command
    return ""


def _beside(
    project: Project,
    ledger: Ledger,
    rows: Mapping[str, RevisionRow],
    path: UpgradePath,
    collections: Iterable[CollectionStatus],
) -> Iterator[CollectionStatus]:
    """Add to collections who is at work on them, what operators want, and what an upgrade would do with them."""
    connection, schema = ledger.connection, ledger.schema
    at_work, aside = runs(connection, schema), all_detached(connection, schema)
    failures = last_failures(connection, schema)
    for collection in collections:
        name = collection.name
        yield replace(
            collection,
            runs=tuple(run for run in at_work if run.collection == name),
            control=read_control(connection, schema, name),
            detached=aside.get(name),
            pending=tuple(script.id for script in path.steps if script.collection == name),
            held=tuple(passed for passed in path.passed if passed.collection == name and passed.stays),
            runner=runner_at_work(connection, schema, name),
            syncer=runner_at_work(connection, schema, name, "sync"),
            failure=next(iter(failures.get(name, ())), None),
            unfinished=_unfinished(project, rows, collection),
        )


def _obstacle(project: Project, ledger: Ledger, rows: Mapping[str, RevisionRow]) -> VecmigError | None:
    """Find the script or the recipe that was edited after the database got to know it."""
    try:
        check_unedited(project, ledger, rows)
    except (ScriptError, RecipeError) as error:
        return error
    return None


def _missing_recipe(project: Project, route: Route, known: Mapping[str, TagRow]) -> str:
    """Say what to add for a tag that must stay complete and that nothing fills by the database's recipe alone."""
    for tag in route.maintained:
        lost = tag not in project.collections.recipes
        if lost and (tag == route.live or unvouched(known[tag].recipe, os.environ, records=True)):
            collections = replace(project.collections, recorded={tag: known[tag].recipe})
            return collections.missing_recipe(Tag.parse(tag))
    return ""


def _collection(project: Project, connection: Connection, ledger: Ledger, name: str) -> CollectionStatus:
    collection = project.collections.collection(name)
    try:
        with translated(project.database.safe_url, connection), connection.transaction():
            return _measured(project, connection, ledger, find_source(ledger, collection))
    except Blocked:
        # somebody holds what a page rests on: another look in a moment says more than a page without it
        raise
    except (ConfigError, DatabaseError) as error:
        return CollectionStatus(
            name, ledger.routes.of(name), collection.tag, 0, 0, (), Outbox(0, None), Lag(), None, error
        )


def _measured(project: Project, connection: Connection, ledger: Ledger, source: Source) -> CollectionStatus:
    collection, name = source.collection, source.collection.name
    evals = latest_of_each(connection, project.database.schema, name)
    ordered = on_order(connection, project.database.schema, name)
    known = ledger.tags.of(name)
    kept = [row for row in known.values() if row.state != "retired"]
    # of a source that is looked at for several tags, once
    rows = count_rows(connection, source) if source.tracked and len(kept) > 1 else None
    tags = tuple(
        replace(
            _tag(ledger, source, row, rows),
            evals=tuple(evals.get(row.tag, ())),
            on_order=ordered.get(row.tag),
            budget_usd=project.collections.recipes.get(row.tag, row.recipe).service.budget_usd,
        )
        for row in kept
    )
    if tags:
        records, eligible = tags[0].coverage.records, tags[0].coverage.eligible
    else:
        records, eligible = count_records(connection, source)
    rollback = _rollback(project, ledger, {tag.tag: tag for tag in tags}, name)
    waiting = outbox(connection, source, project.database.schema) if ledger.installed else Outbox(0, None)
    problem, mendable = _disagreement(connection, ledger, source, rights=True)
    return CollectionStatus(
        name=name,
        route=ledger.routes.of(name),
        wanted=collection.tag,
        records=records,
        eligible=eligible,
        tags=tags,
        outbox=waiting,
        lag=_lag(project, connection, source, ledger.routes.of(name), tags),
        gate=_gate(project, connection, ledger, source),
        problem=problem,
        mendable=mendable,
        scanned=source.scanned,
        silent=tuple(silent_writers(connection, source)) if source.tracked else (),
        rollback=rollback,
        trust=trust_report(project, connection, ledger, source) if rollback and rollback.coverage else None,
        half_retired=_half_retired(project, connection, source, known),
        without_key=without_key(connection, source),
        full_pass=needed_full_pass(connection, project.database.schema, name),
        notes=(*source.notes, *_other_index(project, source, ledger.routes.of(name).live)),
        missing_recipe=_missing_recipe(project, ledger.routes.of(name), known),
    )


def _other_index(project: Project, source: Source, live: str | None) -> Iterator[str]:
    """Say where searches of the live tag go by another index than collections.yaml asks for."""
    if live is None or live not in project.collections.recipes:
        return
    served = project.context.stamps(source, live)
    wanted = served.indexed_as(source.collection.index_of(live))
    if served.index != wanted.index:
        asked = f"collections.yaml asks for {wanted.described}"
        yield f"Searches of {live} go by {served.described}, and {asked}: vecmig revision --index"


def _rollback(project: Project, ledger: Ledger, tags: Mapping[str, TagStatus], name: str) -> RollbackStatus | None:
    row = ledger.live_revision(name)
    if row is None or row.old_tag is None:
        return None
    gate = (project.scripts[row.id].gate if row.id in project.scripts.map else None) or Gate()
    tag = tags.get(row.old_tag)
    coverage = tag.coverage if tag is not None and tag.state != "gone" else None
    retired = old_retired(ledger, row)
    down = downgrade_of(project, ledger.revisions.all(), row.id)
    return RollbackStatus(
        row.id,
        row.old_tag,
        None if retired else coverage,
        gate.freshness_budget,
        retired,
        tag.theirs if tag is not None else 0,
        down.command,
        down.besides,
    )


def _half_retired(
    project: Project, connection: Connection, source: Source, known: Mapping[str, TagRow]
) -> tuple[str, ...]:
    retired = [tag for tag, row in known.items() if row.state == "retired"]
    return tuple(existing(connection, {tag: project.context.stamps(source, tag).relation for tag in retired}))


def _disagreement(
    connection: Connection, ledger: Ledger, source: Source, *, rights: bool = False
) -> tuple[VecmigError | None, bool]:
    """Say where collections.yaml, the ledger and the live view tell different things, and rights if they are asked.

    Returns:
        The error, and whether a sync makes good what it is about.
    """
    name = source.collection.name
    route = ledger.routes.of(name)
    live = route.live
    try:
        changed = ledger.collections.edited(source)
    except DatabaseError as error:
        return error, False
    differences = exposures(connection, source, ledger.schema) if rights else []
    if changed and not differences:
        edited = ConfigError(
            f"text, where, change_tracking or live_columns of {name} was changed in collections.yaml; triggers and "
            "live view do not follow it yet.",
            hint="Run: vecmig sync",
        )
        return edited, True
    aside = is_detached(connection, ledger.schema, name)
    differences += disagreements(connection, ledger, source, route, aside=aside)
    recorded = ledger.collections.recorded(name)
    if recorded is not None and recorded.widened(source):
        differences.append("the key is wider now than that of the vectors")
    for what, tag in (("live", live), ("standby", route.standby)):
        if tag is not None and (home := open_home(ledger, source, tag)).exists() and not home.index().usable:
            differences.append(f"the index of the {what} tag {tag} is gone or invalid")
    if (live is None and route.candidate is None) or not differences:
        return None, False
    return DatabaseError(f"Of {name}, {'; '.join(differences)}.", hint="Run: vecmig sync"), True


def _tag(ledger: Ledger, source: Source, row: TagRow, rows: int | None) -> TagStatus:
    home = open_home(ledger, source, row.tag, kind=row.home)
    connection, stamps = home.session, home.stamps
    if not home.exists():
        return TagStatus(row.tag, "gone", row.dims, 0, 0, coverage_of(home), IndexState(), Lag())
    vectors, with_vectors = count_vectors(connection, stamps)
    coverage = find_coverage(connection, stamps, rows=rows, stamped=with_vectors)
    return TagStatus(
        tag=row.tag,
        state=row.state,
        dims=row.dims,
        records=with_vectors,
        vectors=vectors,
        coverage=coverage,
        index=home.index(),
        lag=lag(connection, [stamps]),
        adopted=stamps.adopted,
        verified=row.verified,
        refuted=row.refuted,
        text_writers=tuple(text_writers(connection, stamps)),
        theirs=count_theirs(connection, stamps, coverage),
    )


def _lag(project: Project, connection: Connection, source: Source, route: Route, tags: tuple[TagStatus, ...]) -> Lag:
    """Measure what reads are behind, or would be after a rollback; a candidate is only on its way."""
    present = {tag.tag for tag in tags if tag.state != "gone"}
    read = [tag for tag in (route.live, route.standby) if tag in present] or [
        tag for tag in (route.candidate,) if tag in present
    ]
    return lag(connection, [project.context.stamps(source, tag) for tag in read])


def _gate(
    project: Project, connection: Connection, ledger: Ledger, source: Source
) -> tuple[RevisionRow, Report] | None:
    row = by_collection(ledger.revisions.all()).get(source.collection.name)
    if row is None or row.new_tag is None or row.id not in project.scripts.map:
        return None
    source, old_tag = compared(project.context, source, row.new_tag, row.old_tag)
    home = open_home(ledger, source, row.new_tag)
    if not home.exists():
        return None
    old = open_home(ledger, source, old_tag) if old_tag else None
    gate = project.scripts[row.id].gate or Gate()
    followed = _disagreement(connection, ledger, source)[0] is None
    return row, measure(project.context, gate, home, old, followed=followed)

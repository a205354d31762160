"""Take revisions forward: lock, validate everything, run their functions, record."""

from __future__ import annotations

from collections.abc import Sequence

from vecmig.config import Config
from vecmig.errors import ScriptError, UsageError
from vecmig.events import Listener, Warned, ignore
from vecmig.ledger.install import ensure
from vecmig.ledger.phases import RevisionRow
from vecmig.operations.script import UNTIL
from vecmig.postgres.pgvector import require_pgvector
from vecmig.runner.apart import Apart
from vecmig.runner.at_work import at_work
from vecmig.runner.failures import failures_kept, succeeded
from vecmig.runner.mend import mend
from vecmig.runner.passing import Passed, UpgradePath
from vecmig.runner.plan import check_applied, check_priced, check_upgrade, collections_of
from vecmig.runner.project import Project, with_options
from vecmig.runner.steps import RevisionResult, adoption_of, call, check_known_recipes, same_collections
from vecmig.runner.verbs.release import release_held
from vecmig.script import Script


def upgrade(
    config: Config,
    target: str = "head",
    *,
    until: str | None = None,
    max_cost: float | None = None,
    engine: str | None = None,
    workers: int | None = None,
    wait: bool = True,
    release: bool = False,
    listener: Listener = ignore,
) -> tuple[RevisionResult, ...]:
    """Take every revision up to ``target`` through upgrade, backfill and cutover; go on where an earlier run stopped.

    A revision on hold is passed by, and so is what waits for it; the results say why. Where one fails, its collection
    stops there, and so does what rests on it; the others go on.

    Args:
        config: the project.
        target: a revision, in Alembic's grammar.
        until: stop the first revision that is not live yet after expand, backfill, index or gate.
        max_cost: US dollars that embedding for a revision may cost in all, in place of the recipe's ``budget_usd``.
        engine: who embeds in a backfill, ``local`` or ``ray``, in place of what the project says.
        workers: how many workers the engine ``ray`` has, in place of what the project says.
        wait: whether to wait for what is ordered through a provider's Batch API.
        release: whether to release what is on hold on the way, and take it forward.
        listener: told of what happens.

    Raises:
        VecmigError: of any kind, the worst one in the end; ``done`` has the results of the other collections. What was
            done stays done, and running again goes on from there.
    """
    if until is not None and until not in UNTIL:
        raise UsageError(f"--until {until!r} is not a phase.", hint=f"It is one of: {', '.join(UNTIL)}")
    project = Project(with_options(config, engine=engine, workers=workers, max_cost=max_cost, wait=wait), listener)
    with project.database.keeping_sessions():
        ensure_supported(project)
        for text in project.scripts.without_collection:
            project.listener(Warned(text))
        path = _path_up(project, target, release=release)
        results: tuple[RevisionResult, ...] = ()
        apart = Apart(project.listener, several=len(project.collections.collections) > 1)
        if path.steps:
            ensure(project.database)
            with at_work(project, collections_of(path.steps), "upgrade") as holding:
                planned, path = path, _path_up(holding, target, release=release)
                same_collections(planned.steps, path.steps)
                if release:
                    _release(holding, path.steps)
                results = _forward(holding, path.steps, until, apart)
                for name in collections_of(path.steps):
                    holding.context.tidy(name)
                succeeded(holding, "upgrade", set(collections_of(path.steps)) - apart.collections)
        else:
            succeeded(project, "upgrade", project.collections.collections)
        mend(project, apart, but=collections_of(path.steps))
        results += _passed(project, path.passed)
        done = [f"{_named(project.scripts[step.revision])} is {step.phase}." for step in results if not step.passed]
        apart.raise_worst(results, besides=done)
        return results


def _path_up(project: Project, target: str, *, release: bool) -> UpgradePath:
    rows = project.revisions()
    check_applied(project.scripts.scripts, rows)
    path = project.upgrade_path(target, rows, release=release)
    check_upgrade(path.steps, rows, project.collections)
    if project.config.max_cost is not None:
        check_priced(path.steps, project.collections)
    check_known_recipes(project)
    return path


def _release(project: Project, steps: Sequence[Script]) -> None:
    held = [id_ for id_, row in project.revisions().items() if row.hold is not None]
    if going := {script.id for script in steps}.intersection(held):
        release_held(project, going)


def _passed(project: Project, passed: Sequence[Passed]) -> tuple[RevisionResult, ...]:
    """Return what was passed by as results, with the phases that it is in."""
    rows = project.revisions() if passed else {}
    return tuple(
        RevisionResult(
            one.revision,
            one.message,
            rows[one.revision].phase if one.revision in rows else "",
            one.outcome,
            one.words,
            passed=True,
            on_hold=one.hold is not None,
        )
        for one in passed
    )


def ensure_supported(project: Project) -> None:
    """Refuse a database without a usable pgvector before anything is created in it."""
    with project.database.session() as connection:
        require_pgvector(connection)


def _forward(
    project: Project, steps: tuple[Script, ...], until: str | None, apart: Apart
) -> tuple[RevisionResult, ...]:
    """Take one revision after the other; one that stops holds up its collection and what rests on it, and no other."""
    graph = project.scripts.map.graph
    results: list[RevisionResult] = []
    stopped: list[Script] = []
    for script in steps:
        below = [one for one in stopped if script.id in graph.descendants([one.id])]
        if below or script.collection in {one.collection for one in stopped} - {None}:
            if below and script.collection not in apart.collections and below[0].collection in apart.collections:
                apart.left.append(f"{_named(script)} was not begun: it rests on {below[0].id}.")
            continue
        stopped.append(script)
        with (
            apart.each(_named(script), script.collection),
            failures_kept(project, "upgrade", [script.collection] if script.collection else []),
            apart.asking(project, script.new_tag) as asking,
        ):
            phase = _forward_one(asking, script, until)
            results.append(RevisionResult(script.id, script.message, phase, phase))
            if phase == "live":
                stopped.pop()
    return tuple(results)


def _named(script: Script) -> str:
    return f"Revision {script.id}" + (f" of {script.collection}" if script.collection else "")


def _forward_one(project: Project, script: Script, until: str | None) -> str:
    if script.collection is not None and script.id not in project.revisions():
        adopting = adoption_of(project, script)
        if adopting is not None:
            adopting.check()
    # from the top also when it is resumed: what is done is not done again, and nothing behind it is left out
    call(project, script, "upgrade", until)
    row = _started(project, script)
    if script.collection is not None and until == "expand":
        return row.phase
    call(project, script, "backfill", until)
    if script.collection is not None and until == "backfill":
        return project.revisions()[script.id].phase
    if not call(project, script, "cutover", until):
        return project.revisions()[script.id].phase
    _apply(project, script)
    return project.revisions()[script.id].phase


def _started(project: Project, script: Script) -> RevisionRow:
    if script.collection is None:
        with project.context.transaction() as ledger:
            ledger.revisions.start(script.id, None, None, None, script.checksum)
    row = project.revisions().get(script.id)
    if row is None or row.withdrawn_at is not None:
        raise ScriptError(
            f"upgrade() of revision {script.id} ended without making room for its new tag.",
            state="Nothing was changed for its collection.",
            hint=f"Its upgrade() must call m.expand(): vecmig edit {script.id}",
        )
    return row


def _apply(project: Project, script: Script) -> None:
    """Enter a revision as live, once all of its functions have come to their end."""
    with project.context.transaction() as ledger:
        moved = script.collection is None or ledger.routes.of(script.collection).live == script.new_tag
        if not moved or (script.index_only and not ledger.revisions.all()[script.id].applied):
            raise ScriptError(
                f"cutover() of revision {script.id} ended, and its new tag is not live.",
                state=f"The revision is {ledger.revisions.all()[script.id].phase}.",
                hint=f"Its cutover() must call m.cutover(gate): vecmig edit {script.id}",
            )
        ledger.revisions.go_live(script.id, script.checksum)
        if script.collection is None:
            ledger.record_event("apply", revision=script.id)

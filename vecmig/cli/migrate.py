"""The commands that move a database: upgrade, downgrade, backfill, sync, stamp, ensure_version, and where it is."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecmig.cli import render
from vecmig.cli.context import options_of, revision_argument, shown_if_others_failed
from vecmig.cli.progress import Narrator
from vecmig.errors import Pending, UsageError
from vecmig.text import counted, noun, percent_of

if TYPE_CHECKING:
    from vecmig.config import Config
    from vecmig.freshness.coverage import Coverage
    from vecmig.runner import RevisionResult

_SQL = typer.Option("--sql", help="Print the SQL instead of running it; the database is only read.")
_JSON = typer.Option("--json", help="Print one JSON document.")
_MAX_COST = typer.Option(
    "--max-cost", metavar="USD", help="Stop before the request that would cost more, in place of budget_usd."
)
_ENGINE = typer.Option(
    "--engine", metavar="NAME", help="Who embeds: local, this process; or ray, workers on a Ray cluster."
)
_WORKERS = typer.Option("--workers", min=1, metavar="N", help="How many workers; as many as there is room for.")
_NO_WAIT = typer.Option("--no-wait", help="Order what goes through a Batch API, and end with 4; run again to collect.")
_PROVIDER_WAIT = typer.Option(
    "--provider-wait",
    metavar="SECONDS",
    help="How long a provider that answers no request is waited for, or unlimited; in place of provider_wait.",
)
_COLLECTIONS = typer.Argument(metavar="COLLECTION", help="Which collections; all by default.", show_default=False)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    named: tuple[Callable[..., None], ...] = (upgrade, downgrade, release, stamp)
    for command in named:
        # -1 is a revision, not an option
        app.command(context_settings={"ignore_unknown_options": True})(command)
    for command in (current, backfill, sync):
        app.command()(command)
    app.command("ensure_version")(ensure_version)
    app.command("ensure-version", hidden=True)(ensure_version)


def upgrade(
    ctx: typer.Context,
    revision: Annotated[str, typer.Argument(help="head, a revision id, +1, …", callback=revision_argument)] = "head",
    *,
    until: Annotated[
        str | None, typer.Option(metavar="PHASE", help="Stop after: expand, backfill, index or gate.")
    ] = None,
    max_cost: Annotated[float | None, _MAX_COST] = None,
    engine: Annotated[str | None, _ENGINE] = None,
    workers: Annotated[int | None, _WORKERS] = None,
    no_wait: Annotated[bool, _NO_WAIT] = False,
    provider_wait: Annotated[str | None, _PROVIDER_WAIT] = None,
    release: Annotated[
        bool, typer.Option("--release", help="Release what was rolled back and is on hold, and take it forward.")
    ] = False,
    sql: Annotated[bool, _SQL] = False,
) -> None:
    """Embed, index, pass the gate, move reads to the new tag.

    Each revision is taken through upgrade, backfill and cutover; a run that was cut short goes on where it stopped.
    """
    from vecmig import runner

    options = options_of(ctx)
    if sql:
        runner.upgrade_sql(options.config(), revision, render.line, release=release)
        return
    with Narrator(quiet=options.quiet) as tell:
        results = runner.upgrade(
            options.config(provider_wait=provider_wait),
            revision,
            until=until,
            max_cost=max_cost,
            engine=engine,
            workers=workers,
            wait=not no_wait,
            release=release,
            listener=tell,
        )
    show_results(results)
    if any(step.outcome == "live" for step in results) and not options.quiet:
        render.note("New and edited records reach the tags when vecmig sync runs: let it run regularly.")


def downgrade(
    ctx: typer.Context,
    revision: Annotated[
        str, typer.Argument(help="-1, base, or a revision id", show_default=False, callback=revision_argument)
    ],
    *,
    discard: Annotated[
        bool, typer.Option("--discard", help="Delete the new tag's vectors of a revision that never was live.")
    ] = False,
    reason: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Why: vecmig status and vecmig events show it.")
    ] = None,
    no_hold: Annotated[
        bool, typer.Option("--no-hold", help="Let the next upgrade take forward again what is rolled back here.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    sql: Annotated[bool, _SQL] = False,
) -> None:
    """Move reads back to the old tag; every vector is kept.

    What is rolled back is on hold: vecmig upgrade passes it by until vecmig release.
    """
    from vecmig import runner

    options = options_of(ctx)
    if sql:
        runner.downgrade_sql(options.config(), revision, render.line)
        return
    if not yes and sys.stdin.isatty():
        reason = _ask_back(options.config(), revision, reason, hold=not no_hold)
    with Narrator(quiet=options.quiet) as tell:
        results = runner.downgrade(
            options.config(), revision, discard=discard, hold=not no_hold, reason=reason, listener=tell
        )
    show_results(results)
    held = [step.revision for step in results if step.on_hold]
    if held and not options.quiet:
        it = noun(len(held), "it", "them")
        render.note(f"On hold: vecmig upgrade passes {it} by until you run: vecmig release {' '.join(held)}")


def _ask_back(config: Config, revision: str, reason: str | None, *, hold: bool) -> str | None:
    """Ask for the reason of a rollback, and before one that leaves reads without a tag."""
    from vecmig import runner

    steps = runner.downgrade_steps(config, revision)
    for step in steps:
        reads = f"reads go back to {step.old_tag or 'no tag'}" if step.live else "it is not live, so reads do not move"
        if step.live and step.old_tag == step.new_tag:
            reads = f"searches of {step.new_tag} go by the index that served before"
        of = f" of {step.collection}: {reads}" if step.collection else ""
        render.note(f"To be rolled back: {step.revision}{of}.")
    bare = [step.collection for step in steps if step.live and step.collection and step.old_tag is None]
    if bare and not typer.confirm(f"Reads of {', '.join(bare)} will use no tag. Go on?", err=True):
        raise UsageError("Nothing was rolled back.", state="Nothing was changed.")
    if reason is None and hold and not bare:
        reason = typer.prompt("Why, for the history (Enter for none)", default="", show_default=False, err=True)
    return reason or None


def release(
    ctx: typer.Context,
    revision: Annotated[
        list[str] | None, typer.Argument(metavar="REV...", help="The revisions, which are on hold.", show_default=False)
    ] = None,
) -> None:
    """Let vecmig upgrade take forward again what was rolled back.

    The next upgrade embeds only what changed since.
    """
    from vecmig import runner

    options = options_of(ctx)
    for released in runner.release(options.config(), revision or []):
        render.line(f"{released}  released")
    if not options.quiet:
        render.note("To go forward: vecmig upgrade head")


def current(
    ctx: typer.Context,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show more of each revision.")] = False,
    check_heads: Annotated[bool, typer.Option("--check-heads", help="Exit with 4 unless at all heads.")] = False,
    as_json: Annotated[bool, _JSON] = False,
) -> None:
    """Show the revisions that the database is at."""
    from vecmig import runner

    standing = runner.current(options_of(ctx).config())
    rows = [(script, "live" + (" (head)" if script.id in standing.script_heads else "")) for script in standing.heads]
    rows += [(script, phase) for script, phase in standing.in_progress]
    if as_json:
        render.as_json(
            [
                {
                    "revision": script.id,
                    "phase": phase.split(" ", 1)[0],
                    "message": script.message,
                    "collection": script.collection,
                    "old_tag": script.old_tag,
                    "new_tag": script.new_tag,
                }
                for script, phase in rows
            ]
        )
    else:
        for script, phase in rows:
            render.line(f"{script.id}  {phase}  {script.message}")
            if verbose and script.collection:
                moved = "another index of" if script.index_only else f"{script.old_tag or 'no tag'} →"
                render.line(f"    {script.collection}: {moved} {script.new_tag}")
                render.line(f"    {script.path}")
    if check_heads and not standing.at_head:
        scripts = options_of(ctx).scripts()
        scripts.branches.refuse_conflicts(scripts.map.applied(script.id for script in standing.heads))
        raise Pending("The database is not at all heads.", hint=f"Run: {scripts.upgrade_command}")


def stamp(
    ctx: typer.Context,
    revision: Annotated[
        str, typer.Argument(help="A revision id, head, or base", show_default=False, callback=revision_argument)
    ],
) -> None:
    """Record a revision as applied without running it.

    It is refused unless the database is there already.
    """
    from vecmig import runner

    changed = runner.stamp(options_of(ctx).config(), revision)
    render.line(f"Recorded: {', '.join(changed)}" if changed else "Nothing to do: the ledger says so already.")


def backfill(
    ctx: typer.Context,
    collection: Annotated[list[str] | None, _COLLECTIONS] = None,
    *,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="Stop after about N records.")] = None,
    max_cost: Annotated[float | None, _MAX_COST] = None,
    engine: Annotated[str | None, _ENGINE] = None,
    workers: Annotated[int | None, _WORKERS] = None,
    no_wait: Annotated[bool, _NO_WAIT] = False,
    provider_wait: Annotated[str | None, _PROVIDER_WAIT] = None,
) -> None:
    """Embed what is pending, without going on to the cutover.

    It is what the revision in progress lacks.
    """
    from vecmig import runner

    options = options_of(ctx)
    with shown_if_others_failed(show_coverage), Narrator(quiet=options.quiet, named=True) as tell:
        done = runner.backfill(
            options.config(provider_wait=provider_wait),
            collection or [],
            limit=limit,
            max_cost=max_cost,
            engine=engine,
            workers=workers,
            wait=not no_wait,
            listener=tell,
        )
    show_coverage(done)


def sync(  # noqa: PLR0917  # typer's parameters
    ctx: typer.Context,
    collection: Annotated[list[str] | None, _COLLECTIONS] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on until SIGTERM or Ctrl-C, as a service.")] = False,
    every: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="With --watch: seconds between two reads of what changed.")
    ] = 1.0,
    full_every: Annotated[
        float,
        typer.Option(min=0, metavar="SECONDS", help="With --watch: seconds between two full passes; 0 for one."),
    ] = 3600.0,
    max_cost: Annotated[
        float | None,
        typer.Option("--max-cost", metavar="USD", help="Stop before the request by which this run would cost more."),
    ] = None,
    provider_wait: Annotated[str | None, _PROVIDER_WAIT] = None,
    metrics: Annotated[
        str | None,
        typer.Option("--metrics", metavar="HOST:PORT", help="With --watch: answer Prometheus there."),
    ] = None,
    full: Annotated[
        bool,
        typer.Option("--full", help="Compare every record with its vectors, not only those that are noted as changed."),
    ] = False,
) -> None:
    """Bring live, standby and candidate tags up to date.

    These are the tags that must stay complete.
    """
    if metrics is not None:
        if not watch:
            raise UsageError("--metrics is for a service.", hint="Add --watch, or run: vecmig metrics")
        from vecmig.cli.metrics import answer_scrapes

        answer_scrapes(options_of(ctx), metrics)
    if watch:
        # its end is always asked for: a service manager must not take it for a failure
        with suppress(KeyboardInterrupt):
            _watch_sync(ctx, collection or [], provider_wait, every=every, full_every=full_every, max_cost=max_cost)
        return
    from vecmig import runner

    options = options_of(ctx)
    with shown_if_others_failed(_show_synced), Narrator(quiet=options.quiet, named=True) as tell:
        done = runner.sync(
            options.config(provider_wait=provider_wait), collection or [], max_cost=max_cost, full=full, listener=tell
        )
    if not done:
        render.line("Nothing to do: no collection has a tag that reads use, or that is on its way.")
    _show_synced(done)


def _show_synced(done: Mapping[tuple[str, str], Coverage]) -> None:
    show_coverage({f"{name}, {tag}": coverage for (name, tag), coverage in done.items()})


def _watch_sync(ctx: typer.Context, collections: Sequence[str], provider_wait: str | None, **how: Any) -> None:
    from vecmig import runner
    from vecmig.config import UNLIMITED

    options = options_of(ctx)
    # a service waits as long as it takes, whatever is configured for the runs that have an end
    config = options.config(provider_wait=provider_wait or UNLIMITED)
    with Narrator(quiet=options.quiet, named=True) as tell:
        kept = runner.watch_sync(config, collections, provider_wait=config.provider_wait, listener=tell, **how)
    for (name, tag), count in kept.items():
        render.line(f"{name}, {tag}: {count} {noun(count, 'record')} embedded")


def ensure_version(ctx: typer.Context) -> None:
    """Create or update vecmig's own tables.

    Whatever vecmig made before is brought up to date too: where vectors lie, who may read them.
    """
    from vecmig import runner

    options = options_of(ctx)
    with Narrator(quiet=options.quiet) as tell:
        before, now = runner.ensure_version(options.config(), listener=tell)
    done = "is there already" if before == now else "installed" if before == 0 else f"updated from version {before}"
    render.line(f"vecmig's schema, version {now}: {done}")


def show_results(results: Sequence[RevisionResult]) -> None:
    """Print what became of the revisions that a run took forward or back, or passed by, one a line."""
    if not results:
        render.line("Nothing to do: the database is there already.")
    for step in results:
        render.line(f"{step.revision}  {step.outcome}  {step.note if step.passed else step.message}")
        if step.note and not step.passed:
            render.line(f"  {step.note}" + (f"; to move them back: {step.command}" if step.command else ""))


def show_coverage(covered: Mapping[str, Coverage]) -> None:
    """Print how much of each collection, or tag, is fresh."""
    for name, coverage in covered.items():
        records = counted(coverage.eligible, "record")
        render.line(f"{name}: {coverage.fresh:,} of {records} fresh, {percent_of(coverage.fresh, coverage.eligible)}")

"""The command that shows what is on order at a Batch API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from vecmig.cli import render
from vecmig.cli.context import options_of
from vecmig.cli.progress import Narrator
from vecmig.text import count, counted

if TYPE_CHECKING:
    from vecmig.runner import BatchOrder


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(batches)


def batches(
    ctx: typer.Context,
    collection: Annotated[
        list[str] | None,
        typer.Argument(metavar="COLLECTION", help="Which collections; all by default.", show_default=False),
    ] = None,
    *,
    forget: Annotated[
        bool, typer.Option("--forget", help="Give them up: their texts are pending again, and what was paid is lost.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """List what is on order at a provider's Batch API.

    Upgrade and backfill collect it.
    """
    from vecmig import runner

    options = options_of(ctx)
    if forget:
        with Narrator(quiet=options.quiet) as tell:
            orders = runner.forget_batches(options.config(), collection or [], listener=tell)
    else:
        orders = runner.batches(options.config(), collection or [])
    if as_json:
        render.as_json([_as_json(order) for order in orders])
        return
    render.columns([_row(order) for order in orders], heads=("batch", "texts", "ordered", "tag"), right=frozenset({1}))
    texts = counted(sum(order.texts for order in orders), "text")
    if not orders:
        render.line("Nothing is on order.")
    elif forget:
        render.line(f"{texts} are pending again. What the provider answers is lost, and charged: cancel it there.")
    else:
        render.line(f"{texts} on order. To collect them: vecmig upgrade")


def _row(order: BatchOrder) -> tuple[str, ...]:
    when = "" if order.ordered_at is None else f"{order.ordered_at:%Y-%m-%d %H:%M} UTC by {order.ordered_by}"
    return order.batch or "not placed yet", count(order.texts), when, f"{order.tag} of {order.collection}"


def _as_json(order: BatchOrder) -> dict[str, Any]:
    names = ("id", "collection", "tag", "revision", "server", "file", "batch", "texts", "tokens", "usd", "ordered_by")
    return {name: getattr(order, name) for name in names} | {"ordered_at": order.ordered_at}

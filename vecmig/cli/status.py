"""The command that says how everything stands: vecmig status, once or again and again."""

from __future__ import annotations

import time
from contextlib import nullcontext, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from vecmig.cli import render
from vecmig.cli.context import options_of
from vecmig.cli.screen import Screen
from vecmig.errors import DatabaseUnreachable, Pending

if TYPE_CHECKING:
    from collections.abc import Callable

    from vecmig.runner import Status


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(status)


def status(  # noqa: PLR0917  # typer's parameters
    ctx: typer.Context,
    collection: Annotated[
        list[str] | None,
        typer.Argument(metavar="COLLECTION", help="Which collections; all by default.", show_default=False),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document; with --watch a line each.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 4 if something is pending; with --watch end once nothing is.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again every --interval seconds.")] = False,
    interval: Annotated[float, typer.Option(min=0.2, metavar="SECONDS")] = 2.0,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Show all checks, and all of trust.")] = False,
) -> None:
    """Show tags, coverage, the gate, and what to run next."""
    from vecmig import runner

    config = options_of(ctx).config()

    def look() -> Status:
        return runner.status(config, collection or [])

    def show(seen: Status) -> None:
        from vecmig.cli.status_json import status_json
        from vecmig.cli.status_page import show_status

        if not as_json:
            show_status(seen, verbose=verbose)
        elif watch:
            render.as_json_line(status_json(seen))
        else:
            render.as_json(status_json(seen))

    if watch:
        seen = _watch(look, show, interval=interval, as_json=as_json, until_settled=check)
    else:
        seen = look()
        show(seen)
    if check:
        if seen.obstacle is not None:
            raise seen.obstacle
        if not seen.settled:
            command = seen.next_command
            raise Pending("Something is pending.", hint=f"Run: {command}" if command else "Run: vecmig status")


def _watch(
    look: Callable[[], Status], show: Callable[[Status], None], *, interval: float, as_json: bool, until_settled: bool
) -> Status:
    """Show it again and again until Ctrl-C, which is how it is asked to end; return what was seen last."""
    seen: Status | None = None
    with suppress(KeyboardInterrupt), Screen() if render.redraws() and not as_json else nullcontext() as screen:
        while True:
            try:
                seen = look()
            except DatabaseUnreachable as error:
                if seen is None:
                    raise
                text = f"{error.message} Tried again in {interval:g} s; what stands here is older."
                screen.note(text) if screen else render.note(text)
            else:
                with screen.drawing() if screen else nullcontext():
                    show(seen)
                if until_settled and seen.settled:
                    break
            time.sleep(interval)
            if screen is None and not as_json:
                render.line()
    if seen is None:
        raise KeyboardInterrupt
    return seen

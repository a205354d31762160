"""The command that tells what happened: vecmig events."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from vecmig.cli import render
from vecmig.cli.context import options_of
from vecmig.errors import UsageError
from vecmig.model.tag import short_name
from vecmig.wording.events import sources, what, who

if TYPE_CHECKING:
    from vecmig.config import Config
    from vecmig.ledger.rows import EventRow

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
#: Longer ago is before everything.
_LONGEST: Final = timedelta(days=36_500)
#: Characters that what happened has at least beside the other columns; with fewer it stands below them.
_LEAST: Final = 40
#: The colours of what nobody wants to happen, and of what a person did against the course of things.
_STYLES: Final = {"failed": "red", "rollback": "yellow", "abandon": "yellow", "hold": "yellow", "cutover": "green"}


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(events)


def events(  # noqa: PLR0917  # typer's parameters
    ctx: typer.Context,
    collection: Annotated[str | None, typer.Argument(show_default=False, help="Which one; all by default.")] = None,
    since: Annotated[
        str, typer.Option(metavar="AGO|DATE", help="From when on: 30s, 15m, 12h, 7d, 2w, or an ISO date (UTC).")
    ] = "7d",
    of: Annotated[str | None, typer.Option("--collection", metavar="NAME", help="The same as COLLECTION.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array; with --follow a line each.")] = False,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until Ctrl-C with what happens.")] = False,
) -> None:
    """Show who did what, when, and with which figures.

    It is told oldest first, from the history in the database.
    """
    if collection is not None and of not in (None, collection):
        raise UsageError(f"Two collections are named: {collection} and {of}.", hint="Name one, or none for all.")
    start, name, config = since_of(since), collection or of, options_of(ctx).config()
    if follow:
        # its end is always asked for
        with suppress(KeyboardInterrupt):
            _follow(ctx, config, start, name, as_json=as_json)
        return
    from vecmig import runner

    found = list(runner.events(config, since=start, collection=name))
    if not found:
        newest = runner.newest_event(config, name)
        render.as_json([]) if as_json else _show_none(config, newest, since, name)
    elif as_json:
        render.as_json([event_json(event) for event in found])
    else:
        Page(runner.known_tags(config)).show(found)


def _follow(
    ctx: typer.Context, config: Config, start: datetime | timedelta, collection: str | None, *, as_json: bool
) -> None:
    from vecmig import runner
    from vecmig.cli.progress import Narrator

    # a name that is mistyped would be waited for without an end
    if runner.newest_event(config, collection) is None:
        render.note(_nothing(collection))
    page = Page({} if as_json else runner.known_tags(config))
    told = Narrator(quiet=options_of(ctx).quiet)
    for event in runner.follow_events(config, since=start, collection=collection, listener=told):
        if as_json:
            render.as_json_line(event_json(event))
            continue
        if event.tag and event.tag not in page.tags.get(event.collection or "", ()):
            page.tags = runner.known_tags(config)
        page.show([event])


def since_of(text: str) -> datetime | timedelta:
    """Read how long ago, as in 12h, or a moment, as in 2026-11-20 or 2026-11-20T03:12; without a zone it is of UTC.

    Raises:
        UsageError: it is neither.
    """
    ago = re.fullmatch(r"([0-9]{1,8})([smhdw])", text)
    try:
        if ago is not None:
            return min(timedelta(**{_UNITS[ago[2]]: int(ago[1])}), _LONGEST)
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise UsageError(
            f"--since {text}: this is no time.",
            hint="Write how long ago, as in 30s, 15m, 12h, 7d or 2w, or a date, as in 2026-11-20 or 2026-11-20T03:12",
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def event_json(event: EventRow) -> dict[str, Any]:
    """Return an event as the documented JSON."""
    names = ("id", "at", "kind", "collection", "revision", "tag", "role", "host", "git_commit", "version", "data")
    return {name: getattr(event, name) for name in names}


class Page:
    """Events in columns that keep their width from one event to the next."""

    def __init__(self, tags: Any) -> None:
        """Begin a page; ``tags`` are those of each collection, from which a tag is told apart."""
        self.tags = tags
        self._widths = [0, 0, 0]
        self._begun = False

    def show(self, events: Iterable[EventRow]) -> None:
        """Print events, one a line."""
        rows = [(event, self._cells(event)) for event in events]
        for _, cells in rows:
            self._widths = [max(width, render.cells(cell)) for width, cell in zip(self._widths, cells, strict=False)]
        for event, cells in rows:
            for text in self._lines(cells):
                render.line(text, style=_STYLES.get(event.kind))

    def _cells(self, event: EventRow) -> tuple[str, ...]:
        tags = self.tags.get(event.collection or "", ())
        name: Callable[[str], str] = lambda tag: short_name(tag, tags)  # noqa: E731
        by = sources(event)
        text = what(event, name) + (f" ({by})" if by else "")
        return f"{event.at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC", who(event), event.collection or "-", text

    def _lines(self, cells: tuple[str, ...]) -> list[str]:
        first = [cell + " " * (width - render.cells(cell)) for cell, width in zip(cells, self._widths, strict=False)]
        if render.width() - sum(self._widths) - 2 * len(first) >= _LEAST:
            return render.column_lines([(*first, cells[-1])], width=render.width())
        return ["  ".join(first).rstrip(), *render.broken(f"  {cells[-1]}", render.width())]


def _nothing(collection: str | None) -> str:
    return f"Nothing happened to {collection} yet." if collection else "Nothing happened here yet."


def _show_none(config: Config, newest: EventRow | None, since: str, collection: str | None) -> None:
    if newest is None:
        render.line(_nothing(collection))
        return
    from vecmig import runner

    when = f"in the last {since}" if since[-1:] in _UNITS else f"since {since}"
    render.line(f"No event {when}. The newest one before:")
    Page(runner.known_tags(config)).show([newest])

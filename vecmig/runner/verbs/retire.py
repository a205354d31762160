"""Remove the vectors of a tag once the live one has earned the trust that its revision asks for."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vecmig.config import Config
from vecmig.errors import DatabaseError, GateRefused, UsageError
from vecmig.events import Listener, StepDone, StepStarted, ignore
from vecmig.freshness.change_tracking import install_tracking
from vecmig.freshness.coverage import count_vectors
from vecmig.freshness.stamps import Stamps
from vecmig.homes import Home, home_over, open_home
from vecmig.ledger.identity import find_source
from vecmig.ledger.install import ensure
from vecmig.ledger.ledger import Ledger
from vecmig.model.tag import Tag
from vecmig.runner.at_work import at_work
from vecmig.runner.project import Project
from vecmig.runner.trust import TrustReport, trust_report
from vecmig.runner.verbs.estimate import Redone, redone
from vecmig.source.source import Source
from vecmig.text import counted, data_size

_FINISH = "To finish it, run the same command again."


@dataclass(frozen=True, slots=True)
class Retirement:
    """What goes with a tag, and what getting it back would take."""

    collection: str
    tag: str
    #: An earlier run has begun it and was cut short: nothing is left to be judged.
    begun: bool
    vectors: int
    records: int
    #: On disk, the index included; and the index alone.
    bytes: int
    index_bytes: int
    redone: Redone
    #: What the live tag has earned; None where an earlier run has seen to that.
    trust: TrustReport | None


@dataclass(frozen=True, slots=True)
class Retired:
    """What a run has removed."""

    collection: str
    tag: str
    #: Measured when the partition was dropped.
    bytes_freed: int


def retirement(config: Config, collection: str, tag: str) -> Retirement:
    """Say what retiring a tag would remove, and refuse what may not be removed. Nothing is written.

    Raises:
        GateRefused: the live tag has not earned the trust that its revision asks for.
        UsageError: the tag is live, on its way to be, or was retired already.
    """
    return _look(Project(config), collection, _canonical(tag))


def retire(
    config: Config, collection: str, tag: str, *, reason: str | None = None, listener: Listener = ignore
) -> Retired:
    """Remove the vectors and the index of a tag while reads go on; finish what an earlier run has begun.

    A sync may be at work: it follows the route, and lets go of the tag. Getting the tag back means embedding again.

    Args:
        config: the project.
        collection: the collection.
        tag: one that is neither live nor a candidate.
        reason: why, for the history.
        listener: told of what happens.

    Raises:
        GateRefused, UsageError: as in ``retirement``; it is judged again under the lock.
        DatabaseError: a transaction that has touched the vectors stays open; running it again finishes it.
    """
    project = Project(config, listener)
    tag = _canonical(tag)
    _look(project, collection, tag)
    ensure(project.database)
    with at_work(project, [collection], "retire") as project:
        planned = _look(project, collection, tag)
        project.listener(StepStarted("retire", "", collection, tag, tag))
        began = time.monotonic()
        freed = _retire(project, planned, reason)
        summary = f"{counted(planned.vectors, 'vector is', 'vectors are')} gone; {data_size(freed)} freed"
        project.listener(StepDone("retire", "", collection, summary, time.monotonic() - began))
    return Retired(collection, tag, freed)


def _retire(project: Project, retirement: Retirement, reason: str | None) -> int:
    context = project.context
    with context.database.session() as connection:
        ledger = context.ledger(connection)
        home = open_home(ledger, _source(ledger, retirement.collection), retirement.tag)
    if not retirement.begun:
        figures = _figures(retirement, reason)
        context.locked(lambda connection: _begin(context.ledger(connection), retirement, figures))
    try:
        context.locks.ensure()
        home.leave(
            context.database,
            wait=context.config.lock_wait,
            on_wait=lambda blocker, cause: context.wait(f"the vectors were read by {blocker}", cause=cause),
        )
        freed: int = context.locked(lambda connection: _drop(context.ledger(connection), home.stamps))
    except DatabaseError as error:
        state = f"Reads go on. {retirement.tag} is out of use, and its vectors are still there."
        raise DatabaseError(error.message, state=state, hint=f"{error.hint} {_FINISH}".strip()) from error
    _verify(project, home.stamps)
    return freed


def _begin(ledger: Ledger, retirement: Retirement, figures: Mapping[str, Any]) -> None:
    """Enter that the tag is retired; where it followed a column of the source, no trigger tells of that any more."""
    followed = _source(ledger, retirement.collection).followed
    ledger.retire(retirement.collection, retirement.tag, figures)
    source = _source(ledger, retirement.collection)
    if source.tracked and followed is not None and source.followed is None:
        install_tracking(ledger.connection, source, ledger.schema)


def _drop(ledger: Ledger, stamps: Stamps) -> int:
    freed = home_over(ledger.connection, stamps).remove()
    if freed:
        ledger.record_event(
            "retired", collection=stamps.source.collection.name, tag=stamps.tag, data={"bytes_freed": freed}
        )
    return freed


def _verify(project: Project, stamps: Stamps) -> None:
    name = stamps.source.collection.name
    with project.database.session() as connection:
        place = home_over(connection, stamps).state().place
        if place != "gone" or project.context.ledger(connection).tags.get(name, stamps.tag).state != "retired":
            raise DatabaseError(
                f"The vectors of {stamps.tag} were dropped, and they are {place}.",
                hint="They were created again just now. Run: vecmig status",
            )


def _figures(retirement: Retirement, reason: str | None) -> dict[str, Any]:
    names = ("vectors", "records", "bytes", "index_bytes")
    figures = {name: getattr(retirement, name) for name in names} | {"reason": reason, "usd": retirement.redone.usd}
    if retirement.trust is not None:
        values = {check.name: check.value for check in retirement.trust.checks}
        figures |= {"revision": retirement.trust.revision, "trust": values}
    return figures


# What may go -------------------------------------------------------------------------------------------------------


def _look(project: Project, collection: str, tag: str) -> Retirement:
    with project.database.session() as connection:
        ledger = Ledger(connection, project.database.schema)
        source = _source(ledger, collection)
        state = ledger.tags.get(collection, tag).state
        home = open_home(ledger, source, tag)
        kept = home.state()
        _refuse_needed(ledger, collection, tag)
        begun = state == "retired"
        if begun and kept.place == "gone":
            at = ledger.retired_at(collection, tag)
            when = f" on {at:%Y-%m-%d %H:%M} UTC" if at else ""
            raise UsageError(
                f"{tag} of {collection} was retired already{when}; nothing of it is left.",
                hint=f"To have it back, embed it again: vecmig revision --to-tag {tag}",
            )
        trusted = None if begun else trust_report(project, connection, ledger, source)
        if not begun:
            _require_trust(ledger, trusted, collection, tag)
            _refuse_bound(home, collection)
        vectors, records = count_vectors(home.session, home.stamps) if kept.place != "gone" else (0, 0)
        return Retirement(
            collection=collection,
            tag=tag,
            begun=begun,
            vectors=vectors,
            records=records,
            bytes=kept.bytes,
            index_bytes=home.index().bytes,
            redone=redone(ledger, home.stamps),
            trust=trusted,
        )


def _source(ledger: Ledger, collection: str) -> Source:
    """Look at the source as it was recorded: what goes does not depend on collections.yaml."""
    return find_source(ledger, ledger.collections.get(collection), expressions=False, even_replaced=True)


def _canonical(tag: str) -> str:
    return str(Tag.parse(tag))


def _refuse_needed(ledger: Ledger, collection: str, tag: str) -> None:
    route = ledger.routes.of(collection)
    if tag == route.live:
        raise UsageError(
            f"{tag} is the live tag of {collection}: reads use it.",
            state="Nothing was changed.",
            hint="Retire its standby, or another tag that reads used before. Run: vecmig status",
        )
    if tag == route.candidate:
        raise UsageError(
            f"{tag} is on its way to become the live tag of {collection}.",
            state="Nothing was changed.",
            hint=f"To give it up, with its vectors: {_give_up(ledger, collection, tag)}",
        )


def _give_up(ledger: Ledger, collection: str, tag: str) -> str:
    # by its id: with several collections a bare -1 could mean the revision of another one
    return f"vecmig downgrade {ledger.revisions.leading_to(collection, tag)}@-1 --discard"


def _refuse_bound(home: Home, collection: str) -> None:
    if bound := home.bound_by():
        raise DatabaseError(
            f"{home.stamps.tag} goes with its column of {collection}, as its revision says, and that is in use by "
            f"{', '.join(bound)}.",
            state="Nothing was changed.",
            hint="Let these do without the column (the live view: live_columns: in collections.yaml, then vecmig "
            "sync), and run the same command again.",
        )


def _require_trust(ledger: Ledger, trusted: TrustReport | None, collection: str, tag: str) -> None:
    if trusted is None:
        raise UsageError(
            f"No tag of {collection} is live, so none has earned the trust that lets {tag} go.",
            state="Nothing was changed.",
            hint="Run: vecmig upgrade head",
        )
    if trusted.holds:
        return
    remedies = [check.remedy.text for check in trusted.failed if check.remedy]
    hint = "\n".join(text[:1].upper() + text[1:] for text in remedies)
    if not ledger.tags.was_live(collection, tag):
        revision = ledger.revisions.leading_to(collection, tag)
        hint = (
            "It never was live: take its revision up again and give it up with its vectors, by vecmig upgrade "
            f"{revision} --release --until expand, then {_give_up(ledger, collection, tag)}"
        )
    raise GateRefused(
        f"{trusted.tag} has not earned the trust yet that lets {tag} go: "
        f"{', '.join(check.name for check in trusted.failed)}.",
        checks=trusted.checks,
        state="Nothing was changed.",
        hint=hint,
    )

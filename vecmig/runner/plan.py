"""Decide what a run has to do, and refuse what cannot work, before anything is touched. Pure: no database, no files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vecmig.config.collections import Collections
from vecmig.errors import ConfigError, DatabaseError, ScriptError, UsageError
from vecmig.ledger.phases import RevisionRow
from vecmig.script import Script


def check_upgrade(steps: Sequence[Script], rows: Mapping[str, RevisionRow], collections: Collections) -> None:
    """Refuse an upgrade whose scripts, collections and recipes do not fit together.

    Raises:
        ScriptError, ConfigError: the first thing that does not fit; nothing was changed.
    """
    for script in steps:
        row = rows.get(script.id)
        if row is not None:
            check_unchanged(script, row)
        if script.collection is None or script.new_tag is None:
            continue
        collection = collections.collection(script.collection)
        recipe = collections.recipe(script.new_tag)
        problem = collection.index_problem(script.new_tag, recipe.dims)
        if problem is not None:
            raise ConfigError(f"{script.new_tag} cannot be indexed: {problem}", state="Nothing was changed.")
    check_chain(steps)


def check_downgrade(steps: Sequence[Script], rows: Mapping[str, RevisionRow]) -> None:
    """Refuse a downgrade of which a step, be it the last, leads to vectors that were retired.

    Raises:
        DatabaseError: the first such step; nothing was changed.
    """
    for script in steps:
        if rows[script.id].phase == "retired":
            hint = f"Make a new revision that goes to that tag: vecmig revision --to-tag {script.old_tag}"
            if script != steps[0]:
                hint += f"\nTo roll back only what came after it: vecmig downgrade {script.id}"
            raise DatabaseError(
                f"Revision {script.id} cannot be rolled back: the vectors of {script.old_tag} were retired.",
                state="Nothing was changed.",
                hint=hint,
            )


def check_priced(steps: Sequence[Script], collections: Collections) -> None:
    """Refuse a limit on what an upgrade may cost where no price says what it costs.

    Raises:
        UsageError: a recipe has no price; nothing was changed.
    """
    for script in steps:
        if script.new_tag is not None and not collections.recipe(script.new_tag).service.price_per_million_tokens:
            raise UsageError(
                f"--max-cost needs a price, and the recipe of {script.new_tag} has none.",
                state="Nothing was changed.",
                hint="Add price_per_million_tokens to it in collections.yaml, or leave --max-cost out.",
            )


def check_chain(steps: Iterable[Script]) -> None:
    """Refuse steps of one collection that do not start where the one before ended."""
    reached: dict[str, Script] = {}
    for script in steps:
        if script.collection is None:
            continue
        before = reached.get(script.collection)
        if before is not None and before.new_tag != script.old_tag:
            raise ScriptError(
                f"Revision {script.id} starts from {script.old_tag or 'no tag'}, but {before.id} before it leaves "
                f"{script.collection} at {before.new_tag}.",
                state="Nothing was changed.",
                hint=f"Correct old_tag: vecmig edit {script.id}",
            )
        reached[script.collection] = script


def check_unchanged(script: Script, row: RevisionRow) -> None:
    """Refuse a script that declares something else than when it was started.

    The gate of a revision that is not live yet may change: that is how a gate is corrected, in review.
    """
    declared = (script.collection, script.old_tag, script.new_tag)
    recorded = (row.collection, row.old_tag, row.new_tag)
    if declared != recorded and row.withdrawn_at is None:
        raise ScriptError(
            f"Revision {script.id} was started as {_words(recorded)}, and now says {_words(declared)}.",
            state="Nothing was changed.",
            hint="Take the change back, and make a new revision for it: vecmig revision",
        )


def check_applied(scripts: Mapping[str, Script], rows: Mapping[str, RevisionRow]) -> None:
    """Refuse to go on when an applied script was changed: other databases would get something else.

    Comments, layout and docstrings may change; the checksum is over what the script does.
    """
    known = {row.id: scripts[row.id] for row in rows.values() if row.applied and row.id in scripts}
    changed = [script for id_, script in known.items() if script.checksum != rows[id_].checksum]
    for script in changed:
        of_file = [one.id for one in scripts.values() if one.stated.id == script.stated.id]
        name = script.stated.id if {one.id for one in changed}.issuperset(of_file) else script.id
        raise ScriptError(
            f"Revision {script.stated.id} ({script.path.name}) was changed after it was applied.",
            state="Nothing was changed.",
            hint=f"Take the change back (git checkout), or if it is meant, record it: vecmig stamp {name}",
        )


def collections_of(steps: Iterable[Script]) -> tuple[str, ...]:
    """Name the collections that the steps touch, sorted, for locking; a step without one has a lock of its own."""
    return tuple(sorted({script.collection or "(none)" for script in steps}))


def _words(declared: tuple[str | None, ...]) -> str:
    collection, old, new = declared
    return f"{collection}: {old or 'no tag'} → {new}" if collection else "a revision without a collection"

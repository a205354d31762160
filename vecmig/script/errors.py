"""What can be wrong with revisions and with the words that name them; each error carries its data."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from vecmig.errors import ScriptError
from vecmig.text import listed

_GRAMMAR = "A revision is named by its id or the start of it, head, base, label@head, or relative: +1, -1, id+2."


class GraphError(ScriptError):
    """The scripts do not form a graph: nothing can be resolved until a script is corrected."""


class InvalidName(GraphError):
    """A revision id or a branch label cannot be told from the rest of the grammar."""

    def __init__(self, name: str, what: str, why: str, where: str = "") -> None:
        self.name = name
        super().__init__(
            f"{_in(where)}{name!r} cannot be a {what}: {why}.",
            hint="Use letters, digits and underscores, and none of the words head, heads, base, current.",
        )


class DuplicateRevision(GraphError):
    """Two scripts have the same revision id."""

    def __init__(self, revision: str, places: Sequence[str] = ()) -> None:
        self.revision = revision
        self.places = tuple(places)
        where = f": {' and '.join(place for place in places if place)}" if any(places) else ""
        super().__init__(f"Revision {revision} is defined twice{where}.", hint="Give one of them an id of its own.")


class DuplicateLabel(GraphError):
    """A branch label is the name of another revision or branch already."""

    def __init__(self, label: str, revision: str, used_by: str) -> None:
        self.label = label
        self.revision = revision
        self.used_by = used_by
        super().__init__(
            f"The branch label {label!r} of revision {revision} is already used by revision {used_by}.",
            hint="Labels must be unique; give this branch another branch_labels.",
        )


class MissingRevision(GraphError):
    """A script refers to a revision that no script defines."""

    def __init__(self, revision: str, referrer: str, attribute: str, where: str = "") -> None:
        self.revision = revision
        self.referrer = referrer
        self.attribute = attribute
        super().__init__(
            f"{_in(where)}revision {referrer} names {revision!r} as {attribute}, but no script defines it.",
            hint=f"Restore the script of {revision}, or correct {attribute} (full ids only).",
        )


class NotCovered(GraphError):
    """A script over a pattern follows one that is not for one of its collections."""

    def __init__(
        self, revision: str, collection: str, *, other: str, pattern: str, attribute: str, where: str = ""
    ) -> None:
        self.revision = revision
        self.collection = collection
        self.other = other
        super().__init__(
            f"{_in(where)}revision {revision} is for the collection {collection} too, and {other}, which it names as "
            f"{attribute}, is not: that is for {pattern}.",
            hint=f"Narrow the pattern of {revision} to collections that {other} is for: vecmig edit {revision}",
        )


class NoSuchMember(GraphError):
    """A script refers to a revision that a script over a pattern would be for a collection, which is not there."""

    def __init__(self, revision: str, name: str, *, other: str, pattern: str, attribute: str, where: str = "") -> None:
        self.revision = revision
        self.name = name
        super().__init__(
            f"{_in(where)}revision {revision} names {name!r} as {attribute}, which script {other} is only where "
            f"collections.yaml has such a collection, one of {pattern}.",
            hint=f"Add the lines of the collection again, or correct {attribute}.",
        )


class CycleDetected(GraphError):
    """Revisions follow, or depend on, each other in a circle."""

    def __init__(self, revisions: Sequence[str], *, dependencies: bool) -> None:
        self.revisions = tuple(revisions)
        self.dependencies = dependencies
        names = "down_revision or depends_on" if dependencies else "down_revision"
        super().__init__(
            f"The revisions {' -> '.join(revisions)} form a circle by their {names}.",
            hint=f"Correct {names} in one of these scripts.",
        )


class ResolutionError(ScriptError):
    """A name does not lead to the revision it should lead to."""

    def __init__(self, argument: str, message: str, *, hint: str = _GRAMMAR) -> None:
        self.argument = argument
        super().__init__(message, hint=hint)


class UnknownRevision(ResolutionError):
    """No revision or branch has this name."""

    def __init__(self, argument: str) -> None:
        super().__init__(argument, f"There is no revision or branch {argument!r}.", hint="To see them: vecmig history")


class NoCollection(ResolutionError):
    """The id of a script over a pattern that no collection matches."""

    def __init__(self, argument: str, pattern: str) -> None:
        self.pattern = pattern
        super().__init__(
            argument,
            f"Revision {argument} is for {pattern}, and collections.yaml has no such collection.",
            hint="Add the collection to it, or correct the pattern: collection = …",
        )


class CollectionGone(ScriptError):
    """The database has a revision of a collection that a script over a pattern is not for any more."""

    def __init__(self, revision: str, collection: str, script: str, pattern: str, *, there: bool) -> None:
        self.revision = revision
        self.collection = collection
        what = f"script {script} is for {pattern} now" if there else "collections.yaml has it no more"
        back = f"undo what changed in {script}" if there else "add its lines to collections.yaml again"
        super().__init__(
            f"The database has revision {revision} of the collection {collection}, and {what}.",
            hint=f"To keep it: {back}. To remove what vecmig made for it: "
            f"vecmig uninstall --collection {shlex.quote(collection)}",
        )


class UnknownBranch(ResolutionError):
    """The word before ``@`` names no branch."""

    def __init__(self, argument: str) -> None:
        super().__init__(argument, f"There is no branch {argument!r}.", hint="To see the labels: vecmig heads -v")


class UnknownCurrent(ResolutionError):
    """The database is at a revision that no script here defines."""

    def __init__(self, argument: str) -> None:
        super().__init__(
            argument,
            f"The database is at revision {argument!r}, which no script here defines.",
            hint="Check out the commit that has this script, or restore it.",
        )


class AmbiguousRevision(ResolutionError):
    """Several names start with the given characters."""

    def __init__(self, argument: str, matches: Sequence[str]) -> None:
        self.matches = tuple(matches)
        message = f"{argument!r} could be {listed(matches)}."
        super().__init__(argument, message, hint="Write more characters of the one that is meant.")


class NotOnBranch(ResolutionError):
    """``label@revision`` where the revision is not on that branch."""

    def __init__(self, argument: str, branch: str) -> None:
        self.branch = branch
        message = f"Revision {argument} is not on the branch {branch!r}."
        super().__init__(argument, message, hint=f"To see what is: vecmig history -r {branch}@base:{branch}@head")


class MultipleHeads(ResolutionError):
    """``head`` where there is more than one."""

    def __init__(
        self,
        argument: str,
        heads: Sequence[str],
        *,
        hint: str = "Join them with: vecmig merge heads   (or name one of them; `heads` means all)",
    ) -> None:
        self.heads = tuple(heads)
        message = f"{argument!r} is ambiguous: there are {len(heads)} heads, {listed(heads)}."
        super().__init__(argument, message, hint=hint)


class ConflictingHeads(ScriptError):
    """Several revisions move one collection, and none of them follows another."""

    def __init__(
        self, collection: str, revisions: Sequence[str], begin: Sequence[str], patterns: Sequence[str] = ()
    ) -> None:
        self.collection = collection
        self.revisions = tuple(revisions)
        neither = "neither follows the other" if len(revisions) == 2 else "none follows another"
        edits = ", or ".join(f"vecmig edit {revision}" for revision in dict.fromkeys(begin))
        narrow = f"\nOr narrow the pattern of {' or of '.join(patterns)}, so that it is not for {collection}."
        super().__init__(
            f"{collection} has {len(revisions)} heads, {listed(revisions)}: each moves it, and {neither}.",
            hint="Let one that is not applied follow the other, by its down_revision and old_tag: "
            + edits
            + (narrow if patterns else ""),
        )


class OutOfRange(ResolutionError):
    """A relative target leads beyond the first or the last revision."""

    def __init__(self, argument: str, detail: str = "it leads beyond the first or last revision") -> None:
        super().__init__(argument, f"{argument!r} leads nowhere: {detail}.", hint="To see the order: vecmig history")


class AmbiguousStep(ResolutionError):
    """A relative target comes to a place where the history forks, or starts from several revisions."""

    def __init__(
        self, argument: str, choices: Sequence[str], *, hint: str = "Name the revision, or the branch as in label@+1."
    ) -> None:
        self.choices = tuple(choices)
        super().__init__(argument, f"{argument!r} is ambiguous: it could mean {listed(choices)}.", hint=hint)


class OverlappingTargets(ResolutionError):
    """Of several revisions, one is an ancestor of another."""

    def __init__(self, revision: str, others: Sequence[str]) -> None:
        self.others = tuple(others)
        message = f"Revision {revision} already includes {listed(others)}."
        super().__init__(revision, message, hint=f"Name {revision} alone.")


class NotInRange(ResolutionError):
    """``a:b`` where a is not an ancestor of b."""

    def __init__(self, lower: str, upper: str) -> None:
        self.lower = lower
        self.upper = upper
        super().__init__(
            f"{lower}:{upper}",
            f"Revision {lower} is not an ancestor of {upper}.",
            hint="Write the older revision first: vecmig history -r older:newer",
        )


class NotApplied(ResolutionError):
    """A downgrade to a revision that the database has not reached, or not on this branch."""

    def __init__(self, argument: str, current: Sequence[str]) -> None:
        self.current = tuple(current)
        at = listed(current) or "base"
        super().__init__(
            argument,
            f"A downgrade cannot lead to {argument!r}: it is not below the current revision, {at}.",
            hint="To see where the database is: vecmig current",
        )


def _in(where: str) -> str:
    return f"{where}: " if where else ""

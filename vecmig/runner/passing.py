"""Which revisions of its path an upgrade runs, and which it passes by: those on hold, and what waits for them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vecmig.ledger.phases import Hold, RevisionRow
from vecmig.script import Graph, Script


@dataclass(frozen=True, slots=True)
class Passed:
    """A revision that an upgrade passes by, and why."""

    revision: str
    message: str
    collection: str | None
    new_tag: str | None
    #: Where it is on hold itself.
    hold: Hold | None = None
    #: The revision on hold that it waits for.
    waits_for: str = ""
    #: The later revision that starts from the tag that it would have led away from.
    replaced_by: str = ""
    #: Whether its script is gone.
    without_script: bool = False

    @property
    def stays(self) -> bool:
        """Whether it stays where it is until somebody releases something."""
        return self.hold is not None or bool(self.waits_for)

    @property
    def keeps_back(self) -> str:
        """The revision on hold that keeps back what comes after this one: itself, or the one that it waits for."""
        return self.waits_for or self.revision

    @property
    def outcome(self) -> str:
        """What stands in place of a phase."""
        return "on hold" if self.hold else "waits" if self.waits_for else "passed by"

    @property
    def words(self) -> str:
        """Why, and what takes it forward."""
        if self.hold is not None and self.without_script:
            return f"{self.hold.words}; its script is gone"
        if self.hold is not None:
            return f"{self.hold.words}; to go forward: vecmig release {self.revision}"
        if self.waits_for:
            return f"for {self.waits_for}, which is on hold"
        return f"{self.replaced_by} starts from the same tag"


@dataclass(frozen=True, slots=True)
class UpgradePath:
    """What an upgrade runs, in that order, and what it passes by."""

    steps: tuple[Script, ...]
    passed: tuple[Passed, ...] = ()


def pass_by(path: Sequence[Script], rows: Mapping[str, RevisionRow], graph: Graph, *, release: bool) -> UpgradePath:
    """Take out of a path what does not run.

    That is what is on hold; what starts from the tag of one that is, depends on one, or rests on statements that are;
    and what a later revision of the collection has replaced, which starts from the tag that it would have started from.

    Args:
        path: what an upgrade would apply, in that order.
        rows: the revisions that the database knows.
        graph: of all scripts.
        release: whether what is on hold runs too.
    """
    blocked = {
        script.id: _passed(script, hold=rows[script.id].hold)
        for script in path
        if not release and script.id in rows and rows[script.id].hold is not None
    }
    statements = {id_ for id_, one in blocked.items() if one.collection is None}
    for script in path:
        below = sorted(graph.ancestors([script.id]) & statements)
        if below and script.id not in blocked:
            blocked[script.id] = _passed(script, waits_for=below[0])
    passed = _broken_off(path, blocked, graph)
    while depending := _depending(path, passed, graph):
        blocked |= depending
        passed = _broken_off(path, blocked, graph)
    passed |= _without_collection(path, passed, graph)
    steps = tuple(script for script in path if script.id not in passed)
    return UpgradePath(steps, tuple(passed[script.id] for script in path if script.id in passed))


def lost(rows: Mapping[str, RevisionRow], graph: Graph) -> tuple[Passed, ...]:
    """Return the revisions on hold whose scripts are gone."""
    return tuple(
        Passed(row.id, "", row.collection, row.new_tag, row.hold, without_script=True)
        for row in rows.values()
        if row.hold is not None and row.id not in graph.revisions
    )


def _depending(path: Iterable[Script], passed: Mapping[str, Passed], graph: Graph) -> dict[str, Passed]:
    """Find the scripts that depend on one that stays where it is."""
    found = {}
    for script in path:
        needs = [graph.names[name] for name in script.revision.depends_on]
        blocking = [passed[id_] for id_ in needs if id_ in passed and passed[id_].stays]
        if blocking and script.id not in passed:
            found[script.id] = _passed(script, waits_for=blocking[0].keeps_back)
    return found


def _broken_off(path: Sequence[Script], blocked: Mapping[str, Passed], graph: Graph) -> dict[str, Passed]:
    """Return ``blocked``, and with it what does not run of each collection because it does not follow what does."""
    passed = dict(blocked)
    # what comes after one of the index alone does not wait for it: it leads to no other tag
    leading = [s for s in path if s.collection is not None and not (s.index_only and s.id in blocked)]
    for collection in {script.collection for script in leading}:
        of_collection = [script for script in leading if script.collection == collection]
        passed |= _broken_off_of(of_collection, blocked, graph)
    return passed


def _broken_off_of(scripts: Sequence[Script], blocked: Mapping[str, Passed], graph: Graph) -> dict[str, Passed]:
    """Find what does not run of one collection, besides what is blocked: the others follow each other from tag to tag.

    What a later revision has replaced does not run either while that one is on hold.
    """
    stuck = any(script.id in blocked for script in scripts)
    # where nothing is on hold, all that was asked for runs, or nothing does
    for end in range(len(scripts), 0 if stuck else len(scripts) - 1, -1):
        # only what it rests on can be replaced by a revision
        chain = _chain(scripts[:end], scripts[0].old_tag)
        if chain and graph.ancestors([chain[-1].id]).issuperset(script.id for script in scripts[:end]):
            ids = {script.id for script in chain}
            found = {
                script.id: _passed(script, replaced_by=next(after.id for after in scripts[at:end] if after.id in ids))
                for at, script in enumerate(scripts[:end])
                if script.id not in ids and script.id not in blocked
            }
            return found | _waiting([*chain, *scripts[end:]], blocked)
    return _waiting(scripts, blocked)


def _chain(scripts: Sequence[Script], start: str | None) -> list[Script]:
    """Return those scripts that lead to the last one from a tag, each from where the one before ends; none if none."""
    chain = [scripts[-1]]
    for script in reversed(scripts[:-1]):
        if script.new_tag == chain[-1].old_tag:
            chain.append(script)
    # nothing is replaced by a first tag
    begins = start is not None or chain[-1] is scripts[0]
    return chain[::-1] if chain[-1].old_tag == start and begins else []


def _waiting(line: Iterable[Script], blocked: Mapping[str, Passed]) -> dict[str, Passed]:
    """Find what comes after the first of a line that is blocked: it waits for that one."""
    found = {}
    waits_for = ""
    for script in line:
        if script.id in blocked:
            waits_for = waits_for or blocked[script.id].keeps_back
        elif waits_for:
            found[script.id] = _passed(script, waits_for=waits_for)
    return found


def _without_collection(path: Sequence[Script], passed: Mapping[str, Passed], graph: Graph) -> dict[str, Passed]:
    """Find the scripts without a collection that rest on what waits, unless something that runs rests on them."""
    blocking = {one.revision for one in passed.values() if one.stays}
    needed = graph.ancestors(s.id for s in path if s.collection is not None and s.id not in passed)
    found = {}
    for script in path:
        rests_on = sorted(graph.ancestors([script.id]) & blocking - {script.id})
        if script.collection is None and script.id not in passed and script.id not in needed and rests_on:
            found[script.id] = _passed(script, waits_for=passed[rests_on[0]].keeps_back)
    return found


def _passed(script: Script, *, hold: Hold | None = None, waits_for: str = "", replaced_by: str = "") -> Passed:
    return Passed(script.id, script.message, script.collection, script.new_tag, hold, waits_for, replaced_by)

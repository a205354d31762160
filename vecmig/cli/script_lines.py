"""How a script is shown: on one line, in full, and as JSON; the first two as Alembic writes them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from vecmig.script import Revision, Script, ScriptDirectory
from vecmig.text import counted, listed, shown

#: How many collections of a pattern stand on one line.
_LISTED = 4


class ScriptLines:
    """Writes the scripts of one directory; ``current`` are the ids that the database is at, if it was asked."""

    def __init__(self, directory: ScriptDirectory, current: Collection[str] = ()) -> None:
        self._directory = directory
        self._graph = directory.map.graph
        self._current = current

    def entries(self, scripts: Sequence[Script], *, verbose: bool, step: bool = False) -> Iterator[str]:
        """Yield the lines of several scripts; what one over a pattern is for several collections stands there once.

        Args:
            scripts: newest first.
            verbose: whether everything is to be told about each.
            step: whether what it follows is to be told.
        """
        groups: dict[object, list[Script]] = {}
        for script in scripts:
            alike = (script.shared.id, self._marks(script), self._forks(script)) if script.shared else script.id
            # where the last of them stands, all that rests on them has been listed
            groups[alike] = [*groups.pop(alike, []), script]
        for members in groups.values():
            if verbose:
                yield from self.entry(members[0], members)
            else:
                yield self.step(members[0], members) if step else self.head(members[0], members=members)

    def head(self, script: Script, *, doc: bool = False, members: Sequence[Script] = ()) -> str:
        """Return ``id (labels) (head)``, and with ``doc`` the message."""
        name = self._name(script, members)
        return f"{name}{self._marks(script)}" + (f", {script.message}" if doc and script.message else "")

    def step(self, script: Script, members: Sequence[Script] = ()) -> str:
        """Return ``parents -> id (labels) (head) (branchpoint), message``; of several what their file states."""
        revision = (script.stated if len(members) > 1 else script).revision
        depends = f" ({', '.join(revision.depends_on)})" if revision.depends_on else ""
        marks = self._marks(script) + self._forks(script)
        line = f"{_parents(revision)}{depends} -> {self._name(script, members)}{marks}"
        return f"{line}, {script.message}" if script.message else line

    def fork(self, script: Script, *, verbose: bool) -> list[str]:
        """Return a branch point, and below it what follows it."""
        followers = (self._directory[id_] for id_ in self._graph.next[script.id])
        indent = " " * len(script.id)
        top = self.entry(script) if verbose else [f"{self._name(script)}{self._marks(script)}{self._forks(script)}"]
        return [*top, *(f"{indent} -> {self.head(each, doc=verbose)}" for each in followers)]

    def entry(self, script: Script, members: Sequence[Script] = ()) -> list[str]:
        """Return everything about a script, a line for each part; of several members what their file states."""
        several = len(members) > 1
        revision = (script.stated if several else script).revision
        parents = "Merges" if len(revision.down_revisions) > 1 else "Parent"
        parts = [
            ("Rev", f"{revision.id}{self._marks(script)}{self._forks(script)}"),
            (parents, _parents(revision)),
            ("Also depends on", ", ".join(revision.depends_on)),
            ("Branches into", "" if several else ", ".join(self._children(script))),
            ("Branch names", "" if several else ", ".join(self._labels(script))),
            ("Collection", "" if several else script.collection or ""),
            ("Collections", ", ".join(member.collection or "" for member in members) if several else ""),
            ("Pattern", script.shared.collection or "" if script.shared else ""),
            ("Old tag", "" if script.collection is None else script.old_tag or "<none>"),
            ("New tag", script.new_tag or ""),
            ("Gate", _gate(script)),
            ("Path", shown(script.path)),
        ]
        lines = [f"{name}: {text}" for name, text in parts if text]
        return [*lines, "", *(f"    {line}".rstrip() for line in script.doc.splitlines()), ""]

    def json(self, script: Script) -> dict[str, Any]:
        """Return everything about a script as plain data."""
        return {
            "revision": script.id,
            "down_revision": list(script.revision.down_revisions),
            "branch_labels": self._labels(script),
            "depends_on": list(script.revision.depends_on),
            "message": script.message,
            "create_date": script.create_date,
            "collection": script.collection,
            "pattern": script.shared.collection if script.shared else None,
            "old_tag": script.old_tag,
            "new_tag": script.new_tag,
            "gate": asdict(script.gate) if script.gate else None,
            "path": str(script.path),
            "checksum": script.checksum,
            "next": list(self._graph.next[script.id]),
            "head": script.id in self._graph.heads,
            "current": script.id in self._current,
        }

    def jsons(self, scripts: Iterable[Script]) -> list[dict[str, Any]]:
        """Return several scripts as plain data."""
        return [self.json(script) for script in scripts]

    def _labels(self, script: Script) -> list[str]:
        return sorted(self._graph.labels[script.id])

    def _children(self, script: Script) -> tuple[str, ...]:
        children = self._graph.next[script.id]
        return children if len(children) > 1 else ()

    def _name(self, script: Script, members: Sequence[Script] = ()) -> str:
        if len(members) > 1:
            names = listed((member.collection or "" for member in members), _LISTED)
            return f"{script.stated.id} ({script.stated.collection}: {names})"
        labels = self._labels(script)
        return f"{script.id} ({', '.join(labels)})" if labels else script.id

    def _marks(self, script: Script) -> str:
        head = " (effective head)" if script.id in self._graph.heads else ""
        head = " (head)" if script.id in self._graph.real_heads else head
        return head + (" (current)" if script.id in self._current else "")

    def _forks(self, script: Script) -> str:
        merge = " (mergepoint)" if len(script.revision.down_revisions) > 1 else ""
        return (" (branchpoint)" if self._children(script) else "") + merge


def _parents(revision: Revision) -> str:
    return ", ".join(revision.down_revisions) or "<base>"


def _gate(script: Script) -> str:
    gate = script.gate
    if gate is None:
        return ""
    evals = [f"{rule.suite} {rule.metric} no worse by {rule.tolerance:g}" for rule in gate.evals]
    shadow = [] if gate.shadow is None else [counted(gate.shadow.count, "shadowed search", "shadowed searches")]
    return ", ".join([f"coverage {gate.coverage}", f"freshness budget {gate.freshness_budget}", *evals, *shadow])

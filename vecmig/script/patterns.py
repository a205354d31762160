"""A script over a pattern of collections, such as ``dataset_*``: a revision for each one that collections.yaml has."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from vecmig.script.errors import InvalidName, NoSuchMember, NotCovered
from vecmig.script.graph import Revision, check_name
from vecmig.script.script import Script

#: What no name of a collection has.
_WILD = re.compile(r"[*?\[]")
_DIGITS = 6


def is_pattern(name: str | None) -> bool:
    """Return whether a script that names this as its collection is over a pattern of collections."""
    return name is not None and _WILD.search(name) is not None


def matching(pattern: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return the names of collections that a pattern is for; large and small letters differ."""
    return tuple(name for name in names if fnmatchcase(name, pattern))


def member_id(id_: str, collection: str) -> str:
    """Return the id of the revision that a script over a pattern is for one collection.

    Names that differ only by what an id cannot have get different ids.
    """
    plain = re.sub(r"\W", "_", collection)
    if plain != collection:
        plain += "_" + hashlib.md5(collection.encode(), usedforsecurity=False).hexdigest()[:_DIGITS]
    return f"{id_}_{plain}"


def expanded(files: Mapping[str, Script], names: Callable[[], Iterable[str]]) -> Iterator[Script]:
    """Yield the scripts, each that is over a pattern once for every collection that it is for.

    Args:
        files: the scripts as their files state them, by their id.
        names: gives the collections of the project; asked only where there is a pattern.

    Raises:
        GraphError: a script over a pattern follows one that is not for the same collections, or one is named that its
            pattern does not make.
    """
    shared = {id_: script for id_, script in files.items() if is_pattern(script.collection)}
    if not shared:
        yield from files.values()
        return
    known = tuple(names())
    members = {
        id_: {name: member_id(id_, name) for name in matching(script.collection or "", known)}
        for id_, script in shared.items()
    }
    expansion = _Expansion(files, members)
    for id_, script in files.items():
        if id_ not in members:
            yield expansion.placed(script)
        for name, own_id in members.get(id_, {}).items():
            labels = () if script.revision.down_revisions else expansion.label(name)
            revision = replace(script.revision, id=own_id, branch_labels=labels)
            yield expansion.placed(replace(script, revision=revision, collection=name, shared=script))


@dataclass(frozen=True, slots=True)
class _Expansion:
    """Puts scripts into the graph of what scripts over patterns are written out to."""

    files: Mapping[str, Script]
    #: Of each script over a pattern the ids of its revisions, by collection.
    members: Mapping[str, Mapping[str, str]]

    def placed(self, script: Script) -> Script:
        """Return a script that follows, and depends on, revisions in place of scripts over patterns."""
        revision = script.revision
        down = self._each(script, revision.down_revisions, "down_revision")
        depends = self._each(script, revision.depends_on, "depends_on")
        if (down, depends) == (revision.down_revisions, revision.depends_on):
            return script
        return replace(script, revision=replace(revision, down_revisions=down, depends_on=depends))

    def label(self, collection: str) -> tuple[str, ...]:
        """Return the label of a collection's branch; none where its name cannot be one, or is another's."""
        try:
            check_name(collection, "branch label", forbidden="@+:")
        except InvalidName:
            return ()
        others = (script for script in self.files.values() if script.collection != collection)
        return () if any(collection in (one.id, *one.revision.branch_labels) for one in others) else (collection,)

    def _each(self, script: Script, names: Iterable[str], attribute: str) -> tuple[str, ...]:
        return tuple(one for name in names for one in self._meant(script, name, attribute))

    def _meant(self, script: Script, name: str, attribute: str) -> Iterable[str]:
        """Return what a name means in a script: of a script over a pattern the collection's own, or else all."""
        own: Revision = script.revision
        if name not in self.members:
            self._refuse_unmade(own, name, attribute)
            return (name,)
        members, pattern = self.members[name], self.files[name].collection or ""
        if script.collection in members:
            return (members[script.collection or ""],)
        if script.shared is not None:
            collection = script.collection or ""
            raise NotCovered(
                script.shared.id, collection, other=name, pattern=pattern, attribute=attribute, where=own.where
            )
        if not members:
            raise NoSuchMember(own.id, name, other=name, pattern=pattern, attribute=attribute, where=own.where)
        return members.values()

    def _refuse_unmade(self, own: Revision, name: str, attribute: str) -> None:
        """Refuse the id of a revision that a script over a pattern would be for a collection that is not there."""
        if name in self.files or any(name in members.values() for members in self.members.values()):
            return
        for id_ in self.members:
            if name.startswith(f"{id_}_"):
                pattern = self.files[id_].collection or ""
                raise NoSuchMember(own.id, name, other=id_, pattern=pattern, attribute=attribute, where=own.where)

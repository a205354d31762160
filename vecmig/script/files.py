"""The script files of a project, loaded once, and what each of them is for the collections of its pattern."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from vecmig.config import Config
from vecmig.errors import ScriptError
from vecmig.script.errors import CollectionGone, DuplicateRevision, NoCollection
from vecmig.script.loading import load_script
from vecmig.script.patterns import expanded, is_pattern, member_id
from vecmig.script.script import Script
from vecmig.text import shown


class ScriptFiles:
    """What a project's version locations hold.

    Every method raises ScriptError when a script does not load.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        if not config.script_location.is_dir():
            raise ScriptError(
                f"The script location {shown(config.script_location)} does not exist.",
                hint="To make one: vecmig init   (or correct script_location in the configuration)",
            )

    @cached_property
    def files(self) -> Mapping[str, Script]:
        """Every script as its file states it, by its id, in the order of version locations and file names."""
        return _by_id(load_script(path) for path in self.paths())

    @cached_property
    def scripts(self) -> Mapping[str, Script]:
        """Every script by its id, in that order; one over a pattern is one for each of its collections."""
        return _by_id(expanded(self.files, self.collection_names))

    @cached_property
    def patterns(self) -> Mapping[str, tuple[str, ...]]:
        """The scripts over patterns by their id, each with the ids of the revisions that it is."""
        found: dict[str, list[str]] = {id_: [] for id_, one in self.files.items() if is_pattern(one.collection)}
        for script in self.scripts.values() if found else ():
            if script.shared is not None:
                found[script.shared.id].append(script.id)
        return {id_: tuple(ids) for id_, ids in found.items()}

    def paths(self) -> tuple[Path, ...]:
        """Return the script files, without loading them."""
        found = [path for place in self.config.version_locations for path in sorted(place.glob("*.py"))]
        return tuple(path for path in dict.fromkeys(found) if not path.name.startswith((".", "__init__")))

    def reload(self) -> None:
        """Forget what was loaded, because files have been added or edited."""
        config = self.config
        self.__dict__.clear()
        self.config = config

    def collection_names(self) -> tuple[str, ...]:
        """Return which collections collections.yaml has, if it is there; a script over a pattern asks, and no other.

        Raises:
            ConfigError: it cannot be read.
        """
        from vecmig.config.collections import collection_names

        path = self.config.collections_path
        return collection_names(path) if path.exists() else ()

    @property
    def without_collection(self) -> tuple[str, ...]:
        """What is to be said of scripts over patterns that no collection matches."""
        return tuple(
            NoCollection(id_, self.files[id_].collection or "").message for id_, ids in self.patterns.items() if not ids
        )

    def gone(self, revision: str, collection: str | None) -> CollectionGone | None:
        """Return what is to be said of a revision that a database has, where a script was it for a collection once."""
        for script in self.files.values() if collection is not None else ():
            if collection is not None and revision == member_id(script.id, collection):
                there = collection in self.collection_names()
                return CollectionGone(revision, collection, script.id, script.collection or "nothing", there=there)
        return None


def _by_id(scripts: Iterable[Script]) -> dict[str, Script]:
    found: dict[str, Script] = {}
    for script in scripts:
        if script.id in found:
            raise DuplicateRevision(script.id, (shown(found[script.id].path), shown(script.path)))
        found[script.id] = script
    return found

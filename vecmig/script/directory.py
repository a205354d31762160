"""The project's scripts on disk: loaded once, found by Alembic's grammar, walked in Alembic's order."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from vecmig.config import Config
from vecmig.errors import ScriptError
from vecmig.script.errors import DuplicateRevision
from vecmig.script.graph import Revision
from vecmig.script.loading import load_script
from vecmig.script.names import Target
from vecmig.script.revision import RevisionMap
from vecmig.script.script import Script
from vecmig.text import shown

CURRENT = "current"


class ScriptDirectory:
    """All scripts of a project's version locations.

    Every method raises ScriptError when a script does not load, when the scripts do not form a graph, or when a
    name does not lead where it should.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        if not config.script_location.is_dir():
            raise ScriptError(
                f"The script location {shown(config.script_location)} does not exist.",
                hint="To make one: vecmig init   (or correct script_location in the configuration)",
            )

    @cached_property
    def scripts(self) -> Mapping[str, Script]:
        """Every script by its id, in the order of version locations and file names."""
        found: dict[str, Script] = {}
        for path in self.paths():
            script = load_script(path)
            if script.id in found:
                raise DuplicateRevision(script.id, (shown(found[script.id].path), shown(path)))
            found[script.id] = script
        return found

    @cached_property
    def map(self) -> RevisionMap:
        """The graph of the scripts."""
        return RevisionMap(lambda: (script.revision for script in self.scripts.values()))

    def paths(self) -> tuple[Path, ...]:
        """Return the script files, without loading them."""
        found = [path for place in self.config.version_locations for path in sorted(place.glob("*.py"))]
        return tuple(path for path in dict.fromkeys(found) if not path.name.startswith((".", "__init__")))

    def reload(self) -> None:
        """Forget what was loaded, because files have been added or edited."""
        self.__dict__.pop("scripts", None)
        self.__dict__.pop("map", None)

    def __getitem__(self, id_: str) -> Script:
        """Return the script with exactly this id (KeyError)."""
        return self.scripts[id_]

    def get(self, target: str) -> Script | None:
        """Return the one script that a name means; None for base."""
        revision = self.map.get(target)
        return None if revision is None else self.scripts[revision.id]

    def find(self, target: Target, current: Iterable[str] = ()) -> tuple[Script, ...]:
        """Return the scripts that a name, or several, mean; ``current`` stands for a database with these heads."""
        return self._scripts(self.map.find(tuple(current) if target == CURRENT else target))

    def heads(self, *, resolve_dependencies: bool = False) -> tuple[Script, ...]:
        """Return the scripts that none follows; with ``resolve_dependencies`` those that none depends on either."""
        ids = self.map.real_heads if resolve_dependencies else self.map.heads
        return tuple(self.scripts[id_] for id_ in ids)

    def branch_points(self) -> tuple[Script, ...]:
        """Return the scripts that several follow, newest first."""
        return tuple(self.scripts[id_] for id_ in self.map.branch_points)

    def history(self, span: str = ":", current: Iterable[str] = ()) -> tuple[Script, ...]:
        """Return the scripts of a range ``a:b``, newest first; an end left out is base, or all heads.

        ``current`` in the range stands for a database with these heads.
        """
        base, colon, head = span.strip().partition(":")
        if not colon or ":" in head:
            raise ScriptError(f"{span!r} is not a range.", hint="Write start:end, start: or :end")
        heads = tuple(current)
        lower: Target = heads if base == CURRENT else base or "base"
        upper: Target = heads if head == CURRENT else head or "heads"
        return self._scripts(self.map.history(lower, upper))

    def upgrade_path(
        self, target: Target, current: Iterable[str] = (), *, again: Iterable[str] = ()
    ) -> tuple[Script, ...]:
        """Return what an upgrade applies, in that order, to a database with these heads that lacks some below them."""
        return self._scripts(self.map.upgrade_path(target, current, again=again))

    def downgrade_path(self, target: str, current: Iterable[str]) -> tuple[Script, ...]:
        """Return what a downgrade rolls back, in that order, from a database with these heads."""
        return self._scripts(self.map.downgrade_path(target, current))

    def newest(self, collection: str, heads: Iterable[str]) -> Script | None:
        """Return the newest script of a collection among ``heads`` and all they rest on."""
        below = self.map.graph.ancestors(heads)
        ordered = (self.scripts[r.id] for r in self.map.history() if r.id in below)
        return next((script for script in ordered if script.collection == collection), None)

    def _scripts(self, revisions: Iterable[Revision]) -> tuple[Script, ...]:
        return tuple(self.scripts[revision.id] for revision in revisions)

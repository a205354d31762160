"""Reading one script from its file, with an error that names the file, the line and the attribute."""

from __future__ import annotations

import ast
import inspect
import sys
import traceback
from collections.abc import Callable, Mapping
from datetime import date
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

from vecmig.errors import ScriptError, TagError, VecmigError
from vecmig.model.gate import Gate, Trust
from vecmig.model.tag import Tag
from vecmig.script.checksum import checksum
from vecmig.script.graph import Revision, check_name
from vecmig.script.patterns import is_pattern
from vecmig.script.script import STEPS, Script, Step
from vecmig.text import shown

_HEADER_HINT = "A script begins as `vecmig revision` writes it: revision, down_revision, branch_labels, depends_on."


def load_script(path: Path) -> Script:
    """Run one script file and read its attributes.

    Nothing stays in ``sys.modules``, and no bytecode is written.

    Raises:
        ScriptError: the file cannot be read, does not import, or lacks an attribute; the message says which.
    """
    source, code = _compiled(path)
    return _Attributes(path, _executed(path, code)).script(_checksum(source))


@lru_cache(maxsize=256)
def _checksum(source: bytes) -> str:
    """Return the checksum of a script that compiles; a service loads the same ones at each look."""
    return checksum(ast.parse(source))


def _compiled(path: Path) -> tuple[bytes, Any]:
    try:
        source = path.read_bytes()
        return source, compile(source, str(path), "exec", dont_inherit=True)
    except OSError as error:
        raise ScriptError(f"{shown(path)} cannot be read: {error.strerror}.") from error
    except SyntaxError as error:
        raise ScriptError(f"{shown(path)}:{error.lineno or 1}: the script is not valid Python: {error.msg}.") from error
    except ValueError as error:  # a NUL byte, or a declared encoding that does not fit
        raise ScriptError(f"{shown(path)}: the script is not valid Python: {error}.") from error


def _executed(path: Path, code: Any) -> Mapping[str, Any]:
    """Run the code as a module that is known by name only while it runs, which dataclasses and pickles need."""
    module = ModuleType(f"vecmig_script_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module
    try:
        exec(code, module.__dict__)  # noqa: S102  # running the team's own scripts is what this program is for
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)]
        place = f"{shown(path)}:{lines[-1]}" if lines else shown(path)
        what = error.message if isinstance(error, VecmigError) else f"{type(error).__name__}: {error}"
        raise ScriptError(
            f"{place}: the script cannot be imported: {what.rstrip('.')}.",
            hint="Correct the script; to see the full traceback run again with --raiseerr.",
        ) from error
    finally:
        sys.modules.pop(module.__name__, None)
    return module.__dict__


class _Attributes:
    """The names of one script, each checked when it is taken."""

    def __init__(self, path: Path, names: Mapping[str, Any]) -> None:
        self._path = path
        self._place = shown(path)
        self._names = names

    def script(self, digest: str) -> Script:
        collection = self._text("collection")
        gate = self._names.get("gate")
        if gate is None and collection is not None:
            raise self._error("gate is missing: add gate = Gate(coverage=0.995, freshness_budget=0.005)")
        if gate is not None and not isinstance(gate, Gate):
            raise self._error(f"gate must be a Gate(…), not {gate!r}")
        old_tag, new_tag = self._tag("old_tag"), self._tag("new_tag")
        if gate is not None and (gate.evals or gate.shadow) and old_tag in (None, new_tag):
            raise self._error("gate: evals and shadow compare with the old tag, and this revision has none")
        if is_pattern(collection) and self._names.get("branch_labels"):
            raise self._error(f"over a pattern, {collection}, branch_labels is None: each collection names its branch")
        if collection is None and (old_tag or new_tag):
            raise self._error("it names tags but no collection: add collection = …")
        if collection is not None:
            if "old_tag" not in self._names:
                raise self._error("old_tag is missing; the first revision of a collection has old_tag = None")
            if new_tag is None:
                raise self._error("new_tag is missing")
        return Script(
            revision=self._revision(),
            path=self._path,
            doc=inspect.cleandoc(str(self._names.get("__doc__") or "")).strip(),
            collection=collection,
            old_tag=old_tag,
            new_tag=new_tag,
            gate=gate,
            checksum=digest,
            functions=self._functions(required=collection is not None),
            trust=self._trust(),
            launch=self._launch(),
        )

    def _revision(self) -> Revision:
        id_ = self._names.get("revision")
        if not isinstance(id_, str):
            raise self._error(f"revision must be a text, not {id_!r}" if id_ is not None else "revision is missing")
        check_name(id_, "revision id", self._place)
        if "down_revision" not in self._names:
            raise self._error("down_revision is missing; the first revision has down_revision = None")
        return Revision(
            id=id_,
            down_revisions=self._texts("down_revision"),
            branch_labels=self._texts("branch_labels"),
            depends_on=self._texts("depends_on"),
            where=self._place,
        )

    def _texts(self, name: str) -> tuple[str, ...]:
        value = self._names.get(name)
        values = (value,) if isinstance(value, str) else value or ()
        if not isinstance(values, tuple | list | set | frozenset) or not all(isinstance(v, str) for v in values):
            raise self._error(f"{name} must be None, a text or a tuple of texts, not {value!r}")
        return tuple(sorted(values) if isinstance(values, set | frozenset) else values)

    def _text(self, name: str) -> str | None:
        value = self._names.get(name)
        if value is not None and (not isinstance(value, str) or not value):
            raise self._error(f"{name} must be a text or None, not {value!r}")
        return value

    def _tag(self, name: str) -> str | None:
        text = self._text(name)
        try:
            return None if text is None else str(Tag.parse(text))
        except TagError as error:
            raise self._error(f"{name}: {error.message.rstrip('.')}", hint=error.hint) from error

    def _trust(self) -> Trust:
        trust = self._names.get("trust", Trust())
        if not isinstance(trust, Trust):
            raise self._error(f"trust must be a Trust(…), not {trust!r}")
        return trust

    def _launch(self) -> date | None:
        launch = self._names.get("launch")
        # a datetime is a date, too; whose midnight it would be counted from is not for it to say
        if launch is not None and type(launch) is not date:
            raise self._error(f"launch must be a date, such as date(2026, 12, 1), not {launch!r}")
        return launch

    def _functions(self, *, required: bool) -> Mapping[Step, Callable[[Any], object]]:
        found: dict[Step, Callable[[Any], object]] = {}
        for step in STEPS:
            function = self._names.get(step)
            if function is None and required:
                raise self._error(f"the function {step}(m) is missing")
            if function is not None:
                if not inspect.isfunction(function):
                    raise self._error(f"{step} must be a function, not {function!r}")
                try:
                    inspect.signature(function).bind(None)
                except TypeError:
                    line = function.__code__.co_firstlineno
                    message = f"{self._place}:{line}: {step} must take one argument: def {step}(m: Migration) -> None."
                    raise ScriptError(message) from None
                found[step] = function
        return MappingProxyType(found)

    def _error(self, what: str, *, hint: str = _HEADER_HINT) -> ScriptError:
        return ScriptError(f"{self._place}: {what}.", hint=hint)

"""The identity of a script: what it does, whatever its comments, layout and docstrings."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Collection, Iterator
from typing import Final

#: What may change in a script that was applied, where a review sees it: when old vectors may go, and the day of a plan.
#: Each with the module and the name that it needs.
_MAY_CHANGE: Final = {"trust": ("vecmig", "Trust"), "launch": ("datetime", "date")}
#: Fields that say how something was written, or that only some versions of Python have.
_IGNORED = frozenset({"ctx", "kind", "type_comment", "type_ignores"})


def checksum(tree: ast.Module) -> str:
    """Return the SHA-256, in hexadecimal, of a script's syntax tree without docstrings, ``trust`` and ``launch``.

    The tree is written out by rules of our own, because `ast.dump` differs between versions of Python, and a
    team may use more than one.
    """
    named = [name for node in tree.body for name in _assigned(node)]
    kept = [node for node in tree.body if _assigned(node) not in [[name] for name in _MAY_CHANGE]]
    used = {node.id for own in kept for node in ast.walk(own) if isinstance(node, ast.Name)}
    spare = {_MAY_CHANGE["trust"]}
    if "launch" in named and "date" not in used:
        spare.add(_MAY_CHANGE["launch"])
    kept = [node for node in (_without(node, spare) for node in kept) if node is not None]
    return hashlib.sha256("".join(_written(ast.Module(kept, []))).encode("utf-8", "surrogatepass")).hexdigest()


def _written(value: object) -> Iterator[str]:
    if isinstance(value, ast.Constant):
        yield f"{type(value.value).__name__}:{value.value!r};"
    elif isinstance(value, ast.JoinedStr):
        yield "JoinedStr("
        yield from _written(_merged(value.values))
        yield ")"
    elif isinstance(value, ast.AST):
        yield f"{type(value).__name__}("
        for name, child in ast.iter_fields(_without_docstring(value)):
            # Leaving out what is empty keeps fields that a later Python adds from changing old checksums.
            if name not in _IGNORED and child is not None and child != []:
                yield f"{name}="
                yield from _written(child)
        yield ")"
    elif isinstance(value, list):
        yield "["
        for child in value:
            yield from _written(child)
        yield "]"
    else:
        yield f"{value!r};"


def _merged(parts: list[ast.expr]) -> list[ast.expr]:
    """Join neighbouring texts of an f-string and drop empty ones, which Python 3.12 leaves in."""
    merged: list[ast.expr] = []
    for part in parts:
        last = merged[-1] if merged else None
        if isinstance(part, ast.Constant) and isinstance(last, ast.Constant):
            merged[-1] = ast.Constant(str(last.value) + str(part.value))
        elif not isinstance(part, ast.Constant) or part.value:
            merged.append(part)
    return merged


def _without_docstring(node: ast.AST) -> ast.AST:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        first = node.body[0] if node.body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            fields = dict(ast.iter_fields(node)) | {"body": node.body[1:]}
            return type(node)(**fields)
    return node


def _assigned(node: ast.stmt) -> list[str]:
    """Return the names that a statement assigns to."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _without(node: ast.stmt, spare: Collection[tuple[str, str]]) -> ast.stmt | None:
    """Leave out of an import what is not counted, given as (module, name); None where nothing else is left."""
    if not isinstance(node, ast.ImportFrom):
        return node
    names = [alias for alias in node.names if (node.module, alias.name) not in spare]
    return ast.ImportFrom(node.module, names, node.level) if names else None

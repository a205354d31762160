"""The identity of a script: what it does, whatever its comments, layout and docstrings."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterator

#: What may change in a script that was applied, where a review sees it: it decides only when old vectors may go.
_TRUST = "trust"
_TRUST_CLASS = "Trust"
#: Fields that say how something was written, or that only some versions of Python have.
_IGNORED = frozenset({"ctx", "kind", "type_comment", "type_ignores"})


def checksum(tree: ast.Module) -> str:
    """Return the SHA-256, in hexadecimal, of a script's syntax tree without its docstrings and its ``trust``.

    The tree is written out by rules of our own, because `ast.dump` differs between versions of Python, and a
    team may use more than one.
    """
    kept = [node for node in map(_without_trust_import, tree.body) if node is not None and not _sets_trust(node)]
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


def _sets_trust(node: ast.stmt) -> bool:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)] == [_TRUST]


def _without_trust_import(node: ast.stmt) -> ast.stmt | None:
    if not isinstance(node, ast.ImportFrom) or node.module != "vecmig":
        return node
    names = [alias for alias in node.names if alias.name != _TRUST_CLASS]
    return ast.ImportFrom(node.module, names, node.level) if names else None

"""A private function with one caller costs its reader a hop; how many of all functions are such, and that it falls.

Run it alone to see where they are: PYTHONPATH=tests:. python tests/structure/test_called_once.py
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

from support.source import ROOT, Module, modules

#: Percent of all functions, methods included, that are private and called once. It may only be lowered; the goal is 15.
CEILING = 24.0

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(module: Module) -> list[Function]:
    """Return every function of a module, methods and those inside others included."""
    return [node for node in ast.walk(module.tree) if isinstance(node, Function)]


def called_once(module: Module) -> Iterator[Function]:
    """Yield the private functions of a module that are named in it once, where they are defined aside.

    A name that several functions of the module have, such as a method of two classes, may be used as often.
    """
    uses = Counter(
        node.id if isinstance(node, ast.Name) else node.attr
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load)
    )
    defined = functions(module)
    definitions = Counter(function.name for function in defined)
    for function in defined:
        name = function.name
        if name.startswith("_") and not name.endswith("__") and uses[name] <= definitions[name]:
            yield function


def share() -> float:
    """Return how many percent of all functions are private and called once."""
    once = sum(1 for module in modules().values() for _ in called_once(module))
    return 100 * once / sum(len(functions(module)) for module in modules().values())


def test_few_functions_are_private_and_called_once() -> None:
    assert share() <= CEILING, f"{share():.2f} % are, by: python tests/structure/test_called_once.py"


if __name__ == "__main__":
    found = {module: list(called_once(module)) for module in modules().values()}
    for module, once in sorted(found.items(), key=lambda item: len(item[1])):
        for function in once:
            lines = (function.end_lineno or 0) - function.lineno + 1
            print(f"{module.path.relative_to(ROOT)}:{function.lineno} {function.name} ({lines} lines)")
    print(f"{share():.2f} % of all functions are private and called once; at most {CEILING} % may be")

"""What discovered collections are called: a script over a pattern takes in what it is right for, and no other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecmig.inventory.layouts import Layout
from vecmig.inventory.proposing import Proposal
from vecmig.model.adoption import Adoption
from vecmig.model.gate import Gate
from vecmig.runner.verbs.discover.naming import Name, Naming, TakenIn, slug
from vecmig.script import Revision, Script
from vecmig.script.adopt_call import AdoptCall
from vecmig.script.patterns import matching

TAG = "bge@1/dim-{}/chunk-none/norm-l2"
DIFY, OWN = Layout("Dify", "text", many=True), Layout("own table", "body", guessed=True)
ONE = Proposal(
    "", "public.t", ("id",), "text", False, None, "vector", "cosine", 64, "l2", None, AdoptCall("embedding"), 9
)


def script(id_: str, pattern: str, new: str, old: str | None = None, down: str = "") -> Script:
    """Make a script over a pattern."""
    return Script(
        Revision(id_, (down,) if down else ()), Path(f"{id_}.py"), id_, pattern, old, new, Gate(), "", shared=None
    )


FIRST = script("1f0c", "dify_*", TAG.format(64))
SECOND = script("7c1e", "dify_*", TAG.format(256), TAG.format(64), "1f0c")


def naming(*scripts: Script, taken: Mapping[str, bool] | None = None, adopts: str | None = "embedding") -> Naming:
    """Name collections in a project with these scripts, all of which adopt one column, or embed."""
    return Naming(taken or {}, scripts, lambda _: Adoption(adopts) if adopts else None)


def test_what_is_like_those_that_are_there_joins_them() -> None:
    joined = naming(FIRST, SECOND).name(ONE, DIFY, "dify_9c", None)
    assert joined == Name("dify_9c", TakenIn("1f0c", "dify_*", TAG.format(64), TAG.format(256)))
    own = naming(script("1f0c", "tenant_*", TAG.format(64))).name(ONE, OWN, "tenant_x", "bge@1")
    assert own.taken_in is not None
    assert (own.name, own.taken_in.leads_to) == ("tenant_x", TAG.format(64))


@pytest.mark.parametrize(
    ("proposal", "model", "adopts"),
    [
        (replace(ONE, dims=32), None, "embedding"),
        (replace(ONE, norm="none"), None, "embedding"),
        (replace(ONE, call=AdoptCall("subvector(embedding, 1, 64)")), None, "embedding"),
        (replace(ONE, call=AdoptCall("embedding", "model = 'bge'")), None, "embedding"),
        (ONE, "e5", "embedding"),
        (ONE, "bge@2", "embedding"),
        (ONE, None, "vector"),
        (ONE, None, None),
    ],
)
def test_what_differs_is_called_so_that_they_are_not_for_it(
    proposal: Proposal, model: str | None, adopts: str | None
) -> None:
    known = naming(FIRST, SECOND, adopts=adopts)
    assert known.name(proposal, DIFY, "dify_9c", model) == Name("dify2_9c", pattern="dify2_*")
    assert known.name(proposal, DIFY, "dify_8a", model) == Name("dify2_8a", pattern="dify2_*")
    assert naming(FIRST, adopts=adopts).name(proposal, OWN, "dify_9c", model) == Name("dify2_9c")
    assert naming(FIRST, adopts=adopts).name(proposal, OWN, "other", model) == Name("other")


def test_where_every_name_is_the_patterns_it_stays() -> None:
    everything = script("1f0c", "*", TAG.format(64))
    assert naming(everything).name(replace(ONE, dims=32), DIFY, "dify_9c", None) == Name("dify_9c")


def test_those_with_scripts_of_their_own_are_left_alone() -> None:
    alone = naming(taken={"dify_1": True, "mail": False})
    assert alone.name(ONE, DIFY, "dify_2", None) == Name("dify_2")
    begun = naming(taken={"dify_1": False, "mail": True})
    assert begun.name(ONE, DIFY, "dify_1", None) == Name("dify_1_2", pattern="dify_*")


@given(
    st.lists(
        st.tuples(st.sampled_from(["dify_a", "dify_b", "dify_c", "dify2_a", "dify"]), st.sampled_from([32, 64, 128])),
        max_size=8,
    ),
    st.lists(st.sampled_from([32, 64]), max_size=2, unique=True),
)
def test_a_pattern_is_only_for_what_is_alike(tables: list[tuple[str, int]], known: list[int]) -> None:
    """Whatever comes in whichever order: what a pattern is for has the same dims."""
    stems = {dims: "dify" if number == 0 else f"dify{number + 1}" for number, dims in enumerate(known)}
    scripts = [script(f"{dims}aaaa", f"{stem}_*", TAG.format(dims)) for dims, stem in stems.items()]
    names = naming(*scripts)
    named = [(names.name(replace(ONE, dims=dims), DIFY, wished, None), dims) for wished, dims in tables]
    assert len({name.name for name, _ in named}) == len(named)
    patterns = {f"{stem}_*": dims for dims, stem in stems.items()}
    patterns |= {name.pattern: dims for name, dims in named if name.pattern}
    for name, dims in named:
        assert slug(name.name) == name.name
        over = [pattern for pattern in patterns if matching(pattern, [name.name])]
        assert [patterns[pattern] for pattern in over] in ([], [dims])
        assert (name.taken_in is not None) == (over != [] and name.pattern is None)

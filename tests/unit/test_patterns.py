"""One script for a pattern of collections: what it is for each of them, and what is written, named and refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecmig.config import Config, load_config
from vecmig.config.collections import load_collections
from vecmig.errors import ConfigError, ScriptError
from vecmig.model.gate import Gate
from vecmig.script import AmbiguousRevision, ConflictingHeads, Revision, Script, ScriptDirectory
from vecmig.script.adopt_call import AdoptCall
from vecmig.script.errors import CollectionGone, DuplicateRevision, NoCollection, NoSuchMember, NotCovered
from vecmig.script.generate import Wish, autogenerate, first_revisions, merge_revision, new_revision
from vecmig.script.graph import check_name
from vecmig.script.patterns import is_pattern, matching, member_id
from vecmig.script.project import init_project

TAG = "wordllama@0.4/dim-{}/chunk-none/norm-l2"
#: As collections.yaml takes them.
NAMES = st.from_regex(re.compile(r"[^\W\d](?:[\w\- ]{0,20}[\w\-])?"), fullmatch=True)
SETS = ("set_a", "set_b", "set_c")


def script(
    id_: str, down: Sequence[str] = (), collection: str | None = None, *, after: Sequence[str] = (), label: str = ""
) -> Script:
    """Make a script as its file states it."""
    labels = (label,) if label else ()
    gate = Gate() if collection else None
    return Script(
        Revision(id_, tuple(down), labels, tuple(after), f"{id_}.py"),
        Path(f"{id_}.py"),
        id_,
        collection,
        None,
        None,
        gate,
        "",
    )


def directory(names: Iterable[str], *scripts: Script) -> ScriptDirectory:
    """Open a directory as if it held these scripts, in a project with these collections."""
    made = ScriptDirectory(Config(None, "", Path(), (), Path("collections.yaml")))
    made.__dict__["files"] = {one.id: one for one in scripts}
    made.__dict__["collection_names"] = lambda: tuple(names)
    return made


def ids(scripts: Sequence[Script]) -> list[str]:
    """Give the ids."""
    return [one.id for one in scripts]


FIRST = script("1f0c", collection="set_*")
SECOND = script("7c1e", ["1f0c"], "set_*")


# What a script is for each of its collections ----------------------------------------------------------------------


@given(st.lists(NAMES, min_size=1, max_size=6, unique=True))
def test_each_collection_has_a_revision_that_can_be_named(names: list[str]) -> None:
    own = [member_id("7c1e5d0a9b21", name) for name in names]
    assert len(set(own)) == len(names)
    for id_ in own:
        check_name(id_, "revision id")
        assert re.fullmatch(r"7c1e5d0a9b21_\w+", id_), "steps such as id+1 take it"
    opened = directory(names, script("7c1e5d0a9b21", collection="*"))
    assert [opened.find(id_)[0].collection for id_ in own] == names
    assert not any(map(is_pattern, names))


@given(
    names=st.lists(st.sampled_from(["set_a", "set_b", "set_c", "Set_a", "a set", "é-1"]), unique=True),
    length=st.integers(1, 3),
    pattern=st.sampled_from(["*", "set_*", "set_[ab]"]),
    reached=st.data(),
)
def test_a_pattern_is_what_a_script_for_each_collection_would_be(
    names: list[str], length: int, pattern: str, reached: st.DataObject
) -> None:
    """Written out by hand, and loaded by the pattern, the same revisions follow each other in the same way."""
    over = [script(f"{n}aaa", [f"{n - 1}aaa"] if n else [], pattern) for n in range(length)]
    covered = matching(pattern, names)
    written = [
        script(
            member_id(f"{n}aaa", name),
            [member_id(f"{n - 1}aaa", name)] if n else [],
            name,
            label="" if n or " " in name else name,
        )
        for n in range(length)
        for name in covered
    ]
    shared, alone = directory(names, *over), directory(names, *written)
    assert [replace(one, where=f"{one.id}.py") for one in shared.map] == [one.revision for one in written]
    current = [
        member_id(f"{at - 1}aaa", name) for name in covered if (at := reached.draw(st.integers(0, length), label=name))
    ]
    for target in ("head", "heads"):
        assert ids(shared.upgrade_path(target, current)) == ids(alone.upgrade_path(target, current))
    assert ids(shared.history()) == ids(alone.history())
    if current:
        assert ids(shared.downgrade_path("base", current)) == ids(alone.downgrade_path("base", current))
    top = f"{length - 1}aaa"
    if covered:
        assert ids(shared.upgrade_path(top, current)) == ids(alone.upgrade_path("heads", current))
        assert {one.collection for one in shared.find(top)} == set(covered)


def test_each_is_on_the_branch_of_its_collection() -> None:
    opened = directory(SETS, FIRST, SECOND)
    assert ids(opened.heads()) == ["7c1e_set_a", "7c1e_set_b", "7c1e_set_c"]
    assert ids(opened.upgrade_path("set_b@head")) == ["1f0c_set_b", "7c1e_set_b"]
    assert ids(opened.downgrade_path("set_b@-1", ids(opened.heads()))) == ["7c1e_set_b"]
    assert {one.stated.id for one in opened.scripts.values()} == {"1f0c", "7c1e"}


def test_capital_letters_differ() -> None:
    assert matching("set_*", ["set_a", "Set_b", "set_", "reset_a"]) == ("set_a", "set_")
    assert matching("set_[ab]", SETS) == ("set_a", "set_b")
    assert matching("set_?", [*SETS, "set_10"]) == SETS


def test_a_label_is_never_one_that_is_taken() -> None:
    opened = directory(SETS, FIRST, script("eeee", label="set_a"), script("set_b"))
    assert [one.revision.branch_labels for one in opened.find("1f0c")] == [(), (), ("set_c",)]


def test_only_a_pattern_asks_for_the_collections() -> None:
    opened = directory((), script("aaaa", collection="articles"), script("bbbb", ["aaaa"]))
    opened.__dict__["collection_names"] = pytest.fail
    assert ids(opened.heads()) == ["bbbb"]
    assert opened.patterns == {}
    assert ids(opened.history()) == ["bbbb", "aaaa"]


def test_what_follows_a_pattern_means_its_own_revision_or_all() -> None:
    own = script("aaaa", ["7c1e"], "set_b")
    after = script("bbbb", ["aaaa"], after=["1f0c"])
    beside = script("cccc", ["7c1e_set_a"], "set_a")
    joined = script("dddd", ["1f0c"])
    opened = directory(SETS, FIRST, SECOND, own, after, beside, joined)
    assert opened["aaaa"].revision.down_revisions == ("7c1e_set_b",)
    assert opened["bbbb"].revision.depends_on == ("1f0c_set_a", "1f0c_set_b", "1f0c_set_c")
    assert opened["cccc"].revision.down_revisions == ("7c1e_set_a",)
    assert opened["dddd"].revision.down_revisions == ("1f0c_set_a", "1f0c_set_b", "1f0c_set_c")


def test_a_narrower_pattern_may_follow_a_wider_one() -> None:
    opened = directory(SETS, FIRST, script("7c1e", ["1f0c"], "set_[ab]"))
    assert ids(opened.heads()) == ["1f0c_set_c", "7c1e_set_a", "7c1e_set_b"]


# What names mean ---------------------------------------------------------------------------------------------------


def test_the_id_of_the_script_means_all_of_it() -> None:
    opened = directory(SETS, FIRST, SECOND)
    first, second = ids(opened.find("1f0c")), ids(opened.find("7c1e"))
    assert (first, second) == ([f"1f0c_{name}" for name in SETS], [f"7c1e_{name}" for name in SETS])
    assert sorted(ids(opened.upgrade_path("1f0c", ["1f0c_set_b"]))) == ["1f0c_set_a", "1f0c_set_c"]
    assert sorted(ids(opened.upgrade_path("7c1e", first))) == second
    assert sorted(ids(opened.downgrade_path("1f0c", second))) == second
    assert sorted(ids(opened.history("7c1e:"))) == second
    assert set(ids(opened.history("1f0c:7c1e"))) == {*first, *second}


def test_a_downgrade_to_the_script_leaves_out_what_has_not_reached_it() -> None:
    opened = directory(SETS, FIRST, SECOND)
    assert ids(opened.downgrade_path("1f0c", ["7c1e_set_b", "1f0c_set_a"])) == ["7c1e_set_b"]
    with pytest.raises(ScriptError, match="A downgrade cannot lead to '7c1e_set_a'"):
        opened.downgrade_path("7c1e", ["1f0c_set_a"])


def test_the_start_of_an_id_is_ambiguous_and_says_what_is_not() -> None:
    opened = directory(SETS, script("1f0c3a", collection="set_*"))
    with pytest.raises(AmbiguousRevision, match="'1f0c' could be 1f0c3a_set_a, 1f0c3a_set_b, 1f0c3a_set_c") as caught:
        opened.find("1f0c")
    assert caught.value.hint == "For all of them write 1f0c3a, for one of them COLLECTION@1f0c"
    assert ids(opened.find("set_b@1f0c")) == ["1f0c3a_set_b"]
    with pytest.raises(AmbiguousRevision) as caught:
        directory(SETS, FIRST, script("1f0c_other")).find("1f0c_")
    assert "COLLECTION@" not in caught.value.hint


def test_steps_that_could_be_many_are_not_all_written_out() -> None:
    names = [f"set_{n:02}" for n in range(30)]
    opened = directory(names, FIRST)
    with pytest.raises(ScriptError, match=r"could mean set_00@-1, .* and 22 more") as caught:
        opened.downgrade_path("-1", ids(opened.heads()))
    lines = caught.value.hint.splitlines()
    assert (len(lines), lines[0]) == (10, "Run: vecmig downgrade set_00@-1")
    assert lines[-2:] == ["and so for 22 more", "For all of them: vecmig downgrade base"]


def test_one_step_down_for_all_is_named_where_they_are_at_one_script() -> None:
    opened = directory(SETS, FIRST, SECOND, script("mail", collection="mail"))
    for heads, said in (
        (["7c1e_set_a", "7c1e_set_b"], "\nFor all of them: vecmig downgrade 1f0c"),
        (["7c1e_set_a", "1f0c_set_b"], "\nor:  vecmig downgrade set_a@-1"),
        (["7c1e_set_a", "mail"], "\nor:  vecmig downgrade mail@-1"),
    ):
        with pytest.raises(ScriptError, match="could mean") as caught:
            opened.downgrade_path("-1", heads)
        assert caught.value.hint.endswith(said)


# What is refused ---------------------------------------------------------------------------------------------------


def test_a_pattern_without_a_collection_stops_nothing() -> None:
    opened = directory(["articles"], FIRST, script("aaaa", collection="articles"))
    assert ids(opened.heads()) == ["aaaa"]
    (said,) = opened.without_collection
    assert said == "Revision 1f0c is for set_*, and collections.yaml has no such collection."
    for use in (opened.find, opened.upgrade_path, lambda name: opened.downgrade_path(name, ["aaaa"])):
        with pytest.raises(NoCollection):
            use("1f0c")


def test_a_pattern_that_goes_beyond_what_it_follows_is_refused() -> None:
    with pytest.raises(NotCovered) as caught:
        directory([*SETS, "other"], FIRST, script("7c1e", ["1f0c"], "*")).heads()
    assert caught.value.message == (
        "7c1e.py: revision 7c1e is for the collection other too, and 1f0c, which it names as down_revision, is not: "
        "that is for set_*."
    )
    with pytest.raises(NotCovered, match="which it names as depends_on"):
        directory(SETS, FIRST, script("7c1e", collection="set_*", after=["eeee"]), script("eeee", [], "set_a?")).heads()


@pytest.mark.parametrize("named", ["1f0c_set_d", "1f0c_set_a_b"])
def test_what_follows_a_collection_that_is_gone_says_so(named: str) -> None:
    with pytest.raises(NoSuchMember, match=f"names '{named}' as down_revision, which script 1f0c is only where"):
        directory(SETS, FIRST, script("aaaa", [named], "set_d")).heads()
    with pytest.raises(NoSuchMember):
        directory(["articles"], FIRST, script("aaaa", ["1f0c"])).heads()


def test_two_that_begin_a_collection_are_a_conflict() -> None:
    for other in (script("eeee", collection="*_a"), script("eeee", collection="set_a", label="set_a")):
        opened = directory(SETS, FIRST, other)
        with pytest.raises(ConflictingHeads, match="set_a has 2 heads, 1f0c_set_a, eeee") as caught:
            opened.upgrade_path("head")
        assert "\nOr narrow the pattern of 1f0c" in caught.value.hint
        assert ids(opened.upgrade_path("set_b@head")) == ["1f0c_set_b"]


def test_one_id_twice_is_refused_whoever_has_it() -> None:
    with pytest.raises(DuplicateRevision, match=r"1f0c_set_a is defined twice: 1f0c\.py and 1f0c_set_a\.py"):
        directory(SETS, FIRST, script("1f0c_set_a")).heads()


def test_a_collection_that_went_while_the_database_has_it_is_named() -> None:
    opened = directory(["set_b"], FIRST)
    gone = opened.gone("1f0c_set_a", "set_a")
    assert isinstance(gone, CollectionGone)
    assert gone.message == (
        "The database has revision 1f0c_set_a of the collection set_a, and collections.yaml has it no more."
    )
    assert gone.hint.endswith("vecmig uninstall --collection set_a")
    for changed, pattern in ((FIRST, "set_*"), (script("1f0c", collection="set_b"), "set_b")):
        gone = directory(["mail", "set_b"], changed).gone("1f0c_mail", "mail")
        assert gone is not None
        assert gone.message.endswith(f"of the collection mail, and script 1f0c is for {pattern} now.")
    assert opened.gone("eeee", "set_a") is None
    assert opened.gone("1f0c_set_a", None) is None


# Writing them ------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], ScriptDirectory]:
    """Open the scripts of a new project."""
    monkeypatch.chdir(tmp_path)
    init_project(Path("migrations"))
    return lambda: ScriptDirectory(load_config())


def want(**dims: int) -> None:
    """Write a collections.yaml that asks for these dimensions."""
    lines = ["collections:"]
    for name, wanted in dims.items():
        lines.append(f"  {name}: {{source: {name}, key: [id], text: body, tag: {TAG.format(wanted)}}}")
    lines.append("tags:")
    lines += [f"  {TAG.format(n)}: {{provider: wordllama, dims: {n}}}" for n in (64, 128, 256)]
    Path("migrations/collections.yaml").write_text("\n".join(lines) + "\n")


def new(opened: ScriptDirectory, **options: Any) -> Script:
    """Write a revision."""
    wish = options.pop("wish", Wish())
    return new_revision(opened, load_collections(opened.config.collections_path), wish, **options)


def generated(opened: ScriptDirectory, **options: Any) -> tuple[Script, ...]:
    """Write what has to move."""
    return autogenerate(opened, load_collections(opened.config.collections_path), Wish(**options))


def test_a_revision_over_a_pattern_is_one_file(project: Callable[[], ScriptDirectory]) -> None:
    want(set_a=64, set_b=64, mail=128)
    opened = project()
    first = new(opened, collection="set_*", adopt=AdoptCall("embedding"))
    text = first.path.read_text()
    assert first.path.name.endswith("_set_adopted_vectors_64_dimensions.py")
    assert (first.collection, first.old_tag, first.new_tag) == ("set_*", None, TAG.format(64))
    assert all(line in text for line in ('collection = "set_*"', "branch_labels = None", 'm.adopt("embedding")'))
    assert opened.patterns == {first.id: (f"{first.id}_set_a", f"{first.id}_set_b")}

    want(set_a=256, set_b=256, set_c=256, mail=128)
    assert len(project().patterns[first.id]) == 3, "what is added joins it"
    second = new(project(), collection="set_*", wish=Wish("wider"))
    assert second.revision.down_revisions == (first.id,)
    assert (second.old_tag, second.new_tag) == (TAG.format(64), TAG.format(256))
    assert [one.id for one in project().upgrade_path("set_c@head")] == [f"{first.id}_set_c", f"{second.id}_set_c"]
    assert ids(project().heads()) == [f"{second.id}_{name}" for name in SETS]


def test_without_collections_there_is_none_that_matches(project: Callable[[], ScriptDirectory]) -> None:
    want(set_a=64)
    first = new(project(), collection="set_*")
    Path("migrations/collections.yaml").unlink()
    assert project().patterns == {first.id: ()}
    assert project().heads() == ()
    Path("migrations/collections.yaml").write_text("collections: [set_a]\n")
    with pytest.raises(ConfigError, match=r"collections\.yaml:1: "):
        project().heads()


def test_what_moves_together_is_found(project: Callable[[], ScriptDirectory]) -> None:
    want(set_a=64, set_b=64, mail=64)
    first = new(project(), collection="set_*")
    want(set_a=128, set_b=128)
    assert new(project(), wish=Wish(rev_id="bbbb")).collection == "set_*"
    want(set_a=256, set_b=256, mail=64)
    assert [one.collection for one in generated(project())] == ["set_*", "mail"]
    want(set_a=64, set_b=256, mail=64)
    (alone,) = generated(project())
    assert alone.collection == "set_a"
    assert alone.revision.down_revisions[0].endswith("_set_a")
    assert generated(project()) == ()
    assert first.id in project().patterns


def test_collections_that_do_not_go_together_are_named(project: Callable[[], ScriptDirectory]) -> None:
    want(set_a=64, set_b=64, set_c=128)
    with pytest.raises(ScriptError) as caught:
        new(project(), collection="set_*")
    small, large = TAG.format(64), TAG.format(128)
    assert caught.value.message == (
        f"The collections of 'set_*' ask for different tags: {small} (set_a, set_b); {large} (set_c)."
    )
    want(set_a=64, set_b=64)
    first = new(project(), collection="set_a")
    with pytest.raises(ScriptError, match=f"not at the same script: {first.id} \\(set_a\\); no revision \\(set_b\\)"):
        new(project(), collection="set_*", to_tag=TAG.format(256))
    with pytest.raises(ScriptError, match="adopted by the first revision of a collection, and there is one"):
        new(project(), collection="set_*", adopt=AdoptCall("embedding"))
    with pytest.raises(ScriptError, match=f"Revision {first.id} is for set_a alone"):
        new(project(), collection="set_a*", to_tag=TAG.format(256))
    with pytest.raises(ScriptError, match=r"No collection of migrations/collections.yaml matches 'sets_\*'") as caught:
        new(project(), collection="sets_*")
    assert caught.value.hint == "It has: set_a, set_b"


def test_one_that_is_on_hold_starts_elsewhere(project: Callable[[], ScriptDirectory]) -> None:
    want(set_a=64, set_b=64)
    new(project(), collection="set_*")
    want(set_a=128, set_b=128)
    new(project(), collection="set_*")
    want(set_a=256, set_b=256)
    live = {"set_b": TAG.format(64)}
    with pytest.raises(
        ScriptError, match=f"some have a revision on hold: {TAG.format(128)} \\(set_a\\); .* \\(set_b\\)"
    ):
        new(project(), collection="set_*", live=live)
    written = new(project(), collection="set_*", live={name: TAG.format(64) for name in ("set_a", "set_b")})
    assert written.old_tag == TAG.format(64)


@pytest.mark.parametrize("wish", [Wish(head=("base",)), Wish(branch_labels=("sets",))])
def test_where_it_stands_is_not_for_a_person_to_say(project: Callable[[], ScriptDirectory], wish: Wish) -> None:
    want(set_a=64)
    with pytest.raises(ScriptError, match="does not go together with 'set_"):
        new(project(), collection="set_*", wish=wish)


def test_a_label_in_the_file_is_refused(project: Callable[[], ScriptDirectory]) -> None:
    want(set_a=64)
    written = new(project(), collection="set_*")
    written.path.write_text(written.path.read_text().replace("branch_labels = None", 'branch_labels = "sets"'))
    with pytest.raises(ScriptError, match=r"over a pattern, set_\*, branch_labels is None"):
        project().heads()


def test_others_depend_on_it_and_join_it_by_its_id(project: Callable[[], ScriptDirectory]) -> None:
    want(set_a=64, set_b=64, mail=64)
    first = new(project(), collection="set_*")
    mail = new(project(), collection="mail", wish=Wish(depends_on=(first.id,)))
    assert mail.revision.depends_on == (first.id,)
    assert project()[mail.id].revision.depends_on == (f"{first.id}_set_a", f"{first.id}_set_b")
    joined = merge_revision(project(), Wish(head=(first.id, mail.id)))
    assert joined.revision.down_revisions == (f"{first.id}_set_a", f"{first.id}_set_b", mail.id)
    with pytest.raises(ScriptError, match="it is that of"):
        new(project(), collection="mail", to_tag=TAG.format(128), wish=Wish(rev_id=first.id))


def test_first_revisions_are_over_patterns_too(project: Callable[[], ScriptDirectory]) -> None:
    want(set_a=64, set_b=64, mail=64)
    opened = project()
    collections = load_collections(opened.config.collections_path)
    call = AdoptCall("embedding")
    written = first_revisions(opened, collections, {"set_*": call, "mail": call})
    assert [one.collection for one in written] == ["set_*", "mail"]
    assert {one.collection for one in project().heads()} == {"mail", "set_a", "set_b"}

"""Scripts on disk: loading with errors that name the place, checksums, and new revisions."""

from __future__ import annotations

import ast
import errno
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from vecmig.config import Config, load_config
from vecmig.config.collections import load_collections
from vecmig.errors import ConfigError, ScriptError, TagError
from vecmig.script import ConflictingHeads, MultipleHeads, Script, ScriptDirectory
from vecmig.script.adopt_call import AdoptCall
from vecmig.script.checksum import checksum
from vecmig.script.generate import Wish, autogenerate, empty_revision, merge_revision, new_revision
from vecmig.script.loading import load_script
from vecmig.script.project import init_project
from vecmig.script.template import docstring, literal, template_folder, write_all_new, write_new

TAG = "wordllama@0.4/dim-{}/chunk-none/norm-l2"
SCRIPT = '''"""documents: 64 to 256 dimensions

Revision ID: 7c1e5d0a9b21
Revises: 1f0c3a2b4d5e
Create Date: 2026-11-22 10:00:00
"""
from vecmig import Gate, Migration

revision = "7c1e5d0a9b21"
down_revision = "1f0c3a2b4d5e"
branch_labels = None
depends_on = None

collection = "documents"
old_tag = "wordllama@0.4/norm-l2/dim-64/chunk-none"
new_tag = "wordllama@0.4/dim-256/chunk-none/norm-l2"
gate = Gate(coverage=0.99, freshness_budget=0.01)


def upgrade(m: Migration) -> None:
    m.expand()


def backfill(m: Migration) -> None:
    m.backfill()


def cutover(m: Migration) -> None:
    m.build_index()
    m.cutover(gate)


def downgrade(m: Migration) -> None:
    m.rollback()
'''


@pytest.fixture(autouse=True)
def _in_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    init_project(Path("migrations"))


@pytest.fixture
def open_directory() -> Callable[[], ScriptDirectory]:
    """Open the project's scripts, as a new process would."""
    return lambda: ScriptDirectory(load_config())


@pytest.fixture
def directory(open_directory: Callable[[], ScriptDirectory]) -> ScriptDirectory:
    """Give the scripts of the project."""
    return open_directory()


def want(**dims: int) -> None:
    """Write a collections.yaml that asks for these dimensions."""
    lines = ["collections:"]
    for name, wanted in dims.items():
        lines.append(f"  {name}: {{source: texts, key: [id], text: body, tag: {TAG.format(wanted)}}}")
    lines.append("tags:")
    lines += [f"  {TAG.format(n)}: {{provider: wordllama, dims: {n}}}" for n in (64, 128, 256)]
    Path("migrations/collections.yaml").write_text("\n".join(lines) + "\n")


def write_script(text: str = SCRIPT, name: str = "7c1e.py") -> Path:
    """Write a script into the version location."""
    path = Path("migrations/versions") / name
    path.write_text(text)
    return path


def new(directory: ScriptDirectory, message: str = "", **options: Any) -> Script:
    """Write a revision of the only collection that has to move."""
    return new_revision(directory, load_collections(directory.config.collections_path), Wish(message), **options)


def test_a_script_is_read_whole() -> None:
    script = load_script(write_script())
    assert script.id == "7c1e5d0a9b21"
    assert script.revision.down_revisions == ("1f0c3a2b4d5e",)
    assert script.message == "documents: 64 to 256 dimensions"
    assert str(script.create_date) == "2026-11-22 10:00:00"
    assert (script.collection, script.old_tag, script.new_tag) == ("documents", TAG.format(64), TAG.format(256))
    assert script.gate is not None
    assert script.gate.coverage == 0.99
    assert list(script.functions) == ["upgrade", "backfill", "cutover", "downgrade"]


def test_loading_leaves_nothing_behind() -> None:
    before = set(sys.modules)
    path = write_script()
    load_script(path)
    assert {name for name in set(sys.modules) - before if "7c1e" in name} == set()
    assert [each.name for each in path.parent.iterdir()] == ["7c1e.py"]


def test_a_script_may_define_dataclasses() -> None:
    extra = "\nfrom dataclasses import dataclass\n\n@dataclass\nclass Row:\n    id: 'int'\n"
    assert load_script(write_script(SCRIPT + extra)).id == "7c1e5d0a9b21"


def test_a_merge_script_needs_no_functions() -> None:
    script = load_script(write_script('revision = "aaaa"\ndown_revision = ("b", "c")\n'))
    assert script.revision.down_revisions == ("b", "c")
    assert script.message == ""
    assert script.function("upgrade")(None) is None


REPLACEMENTS: Mapping[str, tuple[str, str, str]] = {
    "syntax": ("import Gate", "import import", "7c1e.py:7: the script is not valid Python: invalid syntax."),
    "import": (
        "from vecmig",
        "import missing_module\nfrom vecmig",
        "7c1e.py:7: the script cannot be imported: ModuleNotFoundError",
    ),
    "exit": ("depends_on = None", "raise SystemExit(3)", "7c1e.py:12: the script cannot be imported: SystemExit: 3."),
    "gate value": ("coverage=0.99", "coverage=2", "7c1e.py:17: the script cannot be imported: Gate(coverage=2)"),
    "no id": ('revision = "7c1e5d0a9b21"\n', "", "7c1e.py: revision is missing."),
    "id type": ('revision = "7c1e5d0a9b21"', "revision = 7", "7c1e.py: revision must be a text, not 7."),
    "no parent": ('down_revision = "1f0c3a2b4d5e"', "", "7c1e.py: down_revision is missing;"),
    "parent type": (
        'down_revision = "1f0c3a2b4d5e"',
        "down_revision = 1",
        "7c1e.py: down_revision must be None, a text",
    ),
    "no old tag": ('old_tag = "wordllama@0.4/norm-l2/dim-64/chunk-none"', "", "7c1e.py: old_tag is missing;"),
    "bad tag": ("dim-256", "dim-x", "7c1e.py: new_tag: The tag"),
    "evals of one tag": (
        "freshness_budget=0.01)",
        'freshness_budget=0.01, shadow=__import__("vecmig").MinSamples(5))\nold_tag = new_tag',
        "7c1e.py: gate: evals and shadow compare with the old tag, and this revision has none.",
    ),
    "no collection": ('collection = "documents"', "", "7c1e.py: it names tags but no collection"),
    "no gate": ("gate = Gate", "other = Gate", "7c1e.py: gate is missing:"),
    "gate type": (
        "gate = Gate(coverage=0.99, freshness_budget=0.01)",
        "gate = 0.9",
        "7c1e.py: gate must be a Gate(…), not 0.9.",
    ),
    "no function": ("def cutover", "def cut", "7c1e.py: the function cutover(m) is missing."),
    "no argument": ("def backfill(m: Migration)", "def backfill()", "7c1e.py:24: backfill must take one argument"),
    "id": ('7c1e5d0a9b21"', '7c1e-5d"', "7c1e.py: '7c1e-5d' cannot be a revision id: it contains '-'."),
}


@pytest.mark.parametrize("case", REPLACEMENTS)
def test_a_broken_script_is_named_with_its_fault(case: str) -> None:
    old, replacement, message = REPLACEMENTS[case]
    assert old in SCRIPT
    with pytest.raises(ScriptError) as caught:
        load_script(write_script(SCRIPT.replace(old, replacement)))
    assert caught.value.message.startswith(f"migrations/versions/{message}")
    assert caught.value.exit_code == 2


def test_a_script_from_a_tag_to_the_same_one_is_of_its_index_alone() -> None:
    assert load_script(write_script(SCRIPT.replace("dim-256", "dim-64"))).index_only
    assert not load_script(write_script(SCRIPT)).index_only


def test_a_missing_script_location_names_the_way_out(directory: ScriptDirectory, tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match="does not exist") as caught:
        ScriptDirectory(Config(None, "", tmp_path / "none", (), tmp_path / "collections.yaml"))
    assert "vecmig init" in caught.value.hint


def test_one_id_in_two_files(directory: ScriptDirectory) -> None:
    write_script(name="a.py")
    write_script(name="b.py")
    with pytest.raises(ScriptError, match=r"defined twice: migrations/versions/a\.py and migrations/versions/b\.py"):
        directory.heads()


def test_other_files_are_passed_over(directory: ScriptDirectory) -> None:
    for name in ("__init__.py", ".#7c1e.py", "notes.txt"):
        write_script("this is not Python", name)
    assert directory.heads() == ()


def digest(source: str) -> str:
    """Give the checksum of a source."""
    return checksum(ast.parse(source))


@pytest.mark.parametrize(
    "same",
    [
        "# Copyright somebody\n\n" + SCRIPT,
        SCRIPT.replace("m.expand()", "m.expand()  # first"),
        SCRIPT.replace('"documents"', "'documents'"),
        SCRIPT.replace("    m.rollback()", '    """Go back."""\n    m.rollback( )'),
        SCRIPT.replace("Create Date: 2026", "Create Date: 2027"),
        SCRIPT.replace(
            "Gate(coverage=0.99, freshness_budget=0.01)", "Gate(\n    coverage=0.990,\n    freshness_budget=0.01,\n)"
        ),
    ],
)
def test_what_does_not_change_a_script_does_not_change_its_checksum(same: str) -> None:
    assert digest(same) == digest(SCRIPT)


@pytest.mark.parametrize(
    ("old", "other"),
    [("0.99", "0.98"), ("m.expand()", "pass"), ("1f0c", "1f0d"), ("None\n\n", "0\n\n"), ("0.01", '"0.01"')],
)
def test_what_changes_a_script_changes_its_checksum(old: str, other: str) -> None:
    assert digest(SCRIPT.replace(old, other)) != digest(SCRIPT)


def test_the_checksum_is_the_same_in_every_version() -> None:
    """A team may use several versions of Python and of vecmig on one database: this value must never change."""
    assert digest(SCRIPT) == "780e1974ddf3ae8a0076b2d5f5c2f9884ac474c55dda1720541744b509eb4204"


def test_tags_fill_themselves_in(directory: ScriptDirectory) -> None:
    want(documents=64)
    first = new(directory)
    assert (first.old_tag, first.new_tag) == (None, TAG.format(64))
    want(documents=256)
    second = new(directory, "to 256")
    assert (second.old_tag, second.new_tag) == (TAG.format(64), TAG.format(256))
    assert second.revision.down_revisions == (first.id,)
    assert second.path.name == f"{second.id}_to_256.py"


def test_the_old_tag_is_the_newest_on_the_branch_that_is_extended(directory: ScriptDirectory) -> None:
    want(documents=64, mail=64)
    first = new(directory, collection="documents")
    new_revision(
        directory, load_collections(directory.config.collections_path), Wish(head=("base",)), collection="mail"
    )
    want(documents=256, mail=64)
    collections = load_collections(directory.config.collections_path)
    on_branch = new_revision(directory, collections, Wish(head=(first.id,)), collection="documents")
    assert on_branch.old_tag == TAG.format(64)
    elsewhere = new_revision(directory, collections, Wish(head=("base",)), collection="documents")
    assert elsewhere.old_tag is None


def test_a_tag_that_is_reached_already_is_refused(directory: ScriptDirectory) -> None:
    want(documents=64)
    new(directory)
    with pytest.raises(ScriptError) as caught:
        new(directory)
    assert TAG.format(64) in caught.value.message
    assert "collections.yaml" in caught.value.hint
    assert "--to-tag" in caught.value.hint
    assert len(directory.scripts) == 1


def test_the_index_changes_by_a_revision_that_stays_at_the_tag(directory: ScriptDirectory) -> None:
    want(documents=64)
    with pytest.raises(ScriptError, match="documents has no tag yet"):
        new(directory, index=True)
    first = new(directory)
    script = new(directory, index=True)
    assert (script.old_tag, script.new_tag, script.index_only) == (TAG.format(64), TAG.format(64), True)
    assert script.revision.down_revisions == (first.id,)
    assert script.message == "documents: another index of wordllama"
    assert "pass  # the vectors stay as they are" in script.path.read_text()
    want(documents=256)
    with pytest.raises(ScriptError, match=f"documents is to move to {TAG.format(256)}, which builds an index anyway"):
        new(directory, index=True)
    second = new(directory)
    assert (second.old_tag, second.revision.down_revisions) == (TAG.format(64), (script.id,))
    want(documents=256, mail=64)
    with pytest.raises(ScriptError, match="whose index is to change: documents, mail"):
        new(directory, index=True)
    with pytest.raises(ConfigError, match="no collection 'docs'"):
        new(directory, index=True, collection="docs")


def test_the_only_collection_that_has_to_move_is_taken(directory: ScriptDirectory) -> None:
    want(documents=64, mail=64)
    with pytest.raises(ScriptError, match="Several collections have to move: documents, mail") as caught:
        new(directory)
    assert "--collection" in caught.value.hint
    new(directory, collection="mail")
    assert new(directory).collection == "documents"
    with pytest.raises(ScriptError, match="No collection has to move"):
        new(directory)


def test_tags_can_be_given(directory: ScriptDirectory) -> None:
    want(documents=64)
    script = new(directory, from_tag=TAG.format(128), to_tag="wordllama@0.4/norm-l2/chunk-none/dim-256")
    assert (script.old_tag, script.new_tag) == (TAG.format(128), TAG.format(256))
    with pytest.raises(TagError):
        new(directory, to_tag="nonsense")
    with pytest.raises(ConfigError, match="no recipe"):
        new(directory, to_tag=TAG.format(512))
    with pytest.raises(ConfigError, match="no collection 'docs'"):
        new(directory, collection="docs")


def test_autogenerate_gives_each_collection_a_branch(directory: ScriptDirectory) -> None:
    want(documents=64, mail=128)
    collections = load_collections(directory.config.collections_path)
    first, second = autogenerate(directory, collections, Wish())
    assert (first.collection, second.collection) == ("documents", "mail")
    assert [one.revision.down_revisions for one in (first, second)] == [(), ()]
    assert [one.revision.branch_labels for one in (first, second)] == [("documents",), ("mail",)]
    assert autogenerate(directory, collections, Wish()) == ()
    want(documents=256, mail=64)
    collections = load_collections(directory.config.collections_path)
    third, fourth = autogenerate(directory, collections, Wish())
    assert [one.revision.down_revisions for one in (third, fourth)] == [(first.id,), (second.id,)]
    assert [one.revision.branch_labels for one in (third, fourth)] == [(), ()]


def test_autogenerate_writes_a_chain_where_it_is_told_what_to_follow(directory: ScriptDirectory) -> None:
    want(documents=64, mail=128)
    collections = load_collections(directory.config.collections_path)
    first = empty_revision(directory, Wish("roles"))
    second, third = autogenerate(directory, collections, Wish(head=(first.id,)))
    assert second.revision.down_revisions == (first.id,)
    assert third.revision.down_revisions == (second.id,)
    assert {second.revision.branch_labels, third.revision.branch_labels} == {()}


def test_one_line_for_several_collections_stays_one(directory: ScriptDirectory) -> None:
    want(documents=64, mail=64)
    first = new(directory, collection="documents")
    collections = load_collections(directory.config.collections_path)
    second = new_revision(directory, collections, Wish(head=(first.id,)), collection="mail")
    want(documents=256, mail=256)
    collections = load_collections(directory.config.collections_path)
    third, fourth = autogenerate(directory, collections, Wish())
    assert (third.collection, fourth.collection) == ("documents", "mail")
    assert third.revision.down_revisions == (second.id,)
    assert fourth.revision.down_revisions == (third.id,)
    want(documents=128, mail=256)
    assert new(directory).revision.down_revisions == (fourth.id,)


@pytest.mark.parametrize("name", ["head", "heads", "base", "current", "my docs"])
def test_a_collection_whose_name_is_no_label_begins_a_branch_without(directory: ScriptDirectory, name: str) -> None:
    want(**{name: 64})
    first = new(directory)
    assert (first.revision.down_revisions, first.revision.branch_labels) == ((), ())
    want(**{name: 64, "mail": 64})
    assert new(directory).revision.branch_labels == ("mail",)
    assert directory.branches.head_name(first.id) == first.id
    assert directory.find("head") == directory.heads()


def test_a_name_that_is_taken_is_no_label(directory: ScriptDirectory) -> None:
    empty_revision(directory, Wish("theirs", branch_labels=("mail",)))
    want(mail=64, documents=64)
    assert new(directory, collection="mail").revision.branch_labels == ()
    collections = load_collections(directory.config.collections_path)
    own = new_revision(directory, collections, Wish(rev_id="documents"), collection="documents")
    assert (own.id, own.revision.branch_labels) == ("documents", ())


def test_a_label_of_ones_own_wins(directory: ScriptDirectory) -> None:
    want(documents=64, mail=64)
    collections = load_collections(directory.config.collections_path)
    named = new_revision(directory, collections, Wish(branch_labels=("docs",)), collection="documents")
    assert named.revision.branch_labels == ("docs",)
    want(documents=128, mail=64)
    collections = load_collections(directory.config.collections_path)
    with pytest.raises(ScriptError, match="--branch-label x cannot name several branches at once"):
        autogenerate(directory, collections, Wish(branch_labels=("x",)))
    assert len(directory.paths()) == 1


def test_a_branch_that_forks_above_its_newest_revision_has_to_be_named(directory: ScriptDirectory) -> None:
    want(documents=64)
    first = new(directory)
    left = empty_revision(directory, Wish("left"))
    right = empty_revision(directory, Wish("right", head=(first.id,), splice=True, branch_labels=("right",)))
    want(documents=128)
    with pytest.raises(MultipleHeads) as caught:
        new(directory)
    assert set(caught.value.heads) == {left.id, right.id}
    assert f"--head {left.id}" in caught.value.hint
    assert "--head right@head" in caught.value.hint


def test_two_who_begin_the_same_collection_conflict(directory: ScriptDirectory) -> None:
    """Each in a git branch of their own, so that both labelled it."""
    want(documents=64, mail=64)
    first = new(directory, collection="documents")
    new(directory, collection="mail")
    theirs = first.path.read_text().replace(first.id, "ffffffffffff").replace("dim-64", "dim-128")
    write_script(theirs, "ffffffffffff.py")
    directory.reload()
    assert len(directory.heads()) == 3
    (conflict,) = directory.branches.conflicts
    assert (conflict.collection, set(conflict.revisions)) == ("documents", {first.id, "ffffffffffff"})
    for target in ("head", "heads"):
        with pytest.raises(ConflictingHeads, match="documents has 2 heads"):
            directory.upgrade_path(target)
    assert [script.collection for script in directory.upgrade_path("mail@head")] == ["mail"]
    # what the message asks for is enough
    path = Path("migrations/versions/ffffffffffff.py")
    after = path.read_text().replace("down_revision = None", f'down_revision = "{first.id}"')
    path.write_text(after.replace("old_tag = None", f'old_tag = "{first.new_tag}"'))
    directory.reload()
    assert directory.branches.conflicts == ()
    assert [script.id for script in directory.upgrade_path("documents@head")] == [first.id, "ffffffffffff"]


def test_empty_revisions_and_merges(directory: ScriptDirectory) -> None:
    left = empty_revision(directory, Wish("left", branch_labels=("left",)))
    right = empty_revision(directory, Wish("right", head=("base",)))
    assert (left.collection, list(left.functions)) == (None, ["upgrade", "downgrade"])
    with pytest.raises(MultipleHeads) as caught:
        empty_revision(directory, Wish("which?"))
    assert f"--head {right.id}" in caught.value.hint
    assert "--head left@head" in caught.value.hint
    merged = merge_revision(directory, Wish(head=("heads",)))
    assert set(merged.revision.down_revisions) == {left.id, right.id}
    assert directory.heads() == (merged,)
    with pytest.raises(ScriptError, match="A merge joins at least two"):
        merge_revision(directory, Wish(head=("heads",)))


def test_the_heads_of_two_collections_may_be_joined(directory: ScriptDirectory) -> None:
    want(documents=64, mail=64)
    collections = load_collections(directory.config.collections_path)
    autogenerate(directory, collections, Wish())
    joined = merge_revision(directory, Wish(head=("documents@head", "mail@head")))
    assert directory.heads() == directory.find("head") == (joined,)
    want(documents=256, mail=64)
    assert new(directory).revision.down_revisions == (joined.id,)


def test_following_what_is_followed_needs_splice(directory: ScriptDirectory) -> None:
    first = empty_revision(directory, Wish("first"))
    empty_revision(directory, Wish("second"))
    with pytest.raises(ScriptError, match="is not a head") as caught:
        empty_revision(directory, Wish("fork", head=(first.id,)))
    assert "--splice" in caught.value.hint
    assert empty_revision(directory, Wish("fork", head=(first.id,), splice=True)).revision.down_revisions == (first.id,)


def test_dependencies_keep_labels_and_complete_ids(directory: ScriptDirectory) -> None:
    labelled = empty_revision(directory, Wish("one", branch_labels=("one",)))
    other = empty_revision(directory, Wish("two", head=("base",), depends_on=("one",)))
    assert other.revision.depends_on == ("one",)
    third = empty_revision(directory, Wish("three", head=("base",), depends_on=(labelled.id[:6],)))
    assert third.revision.depends_on == (labelled.id,)


@pytest.mark.parametrize("rev_id", ["../up", "a-b", "head", "", "a b", "x" * 65])
def test_unsafe_ids_are_refused(directory: ScriptDirectory, rev_id: str) -> None:
    if rev_id == "":
        assert len(empty_revision(directory, Wish(rev_id=rev_id)).id) == 12
    else:
        with pytest.raises(ScriptError, match="cannot be a revision id"):
            empty_revision(directory, Wish(rev_id=rev_id))
        assert directory.paths() == ()


def test_a_graph_that_would_break_is_refused_before_writing(directory: ScriptDirectory) -> None:
    empty_revision(directory, Wish("one", branch_labels=("one",), rev_id="aaaa"))
    with pytest.raises(ScriptError, match="already used"):
        empty_revision(directory, Wish("two", branch_labels=("one",)))
    with pytest.raises(ScriptError, match=r"it is that of migrations/versions/aaaa_one\.py"):
        empty_revision(directory, Wish("two", rev_id="aaaa"))
    assert len(directory.paths()) == 1


def test_several_version_locations(tmp_path: Path) -> None:
    ini = Path("vecmig.ini")
    ini.write_text(ini.read_text() + "version_locations =\n    migrations/versions\n    more\n")
    directory = ScriptDirectory(load_config())
    with pytest.raises(ScriptError, match="2 version locations"):
        empty_revision(directory, Wish("where"))
    first = empty_revision(directory, Wish("there", version_path=Path("more")))
    assert first.path.parent == tmp_path / "more"
    assert empty_revision(directory, Wish("beside it")).path.parent == tmp_path / "more"
    with pytest.raises(ScriptError, match="other is not a version location"):
        empty_revision(directory, Wish(version_path=Path("other")))


@pytest.mark.parametrize(
    ("message", "slug"),
    [
        ("documents: 64 to 256", "_documents_64_to_256"),
        ("../../etc/passwd", "_etc_passwd"),
        ("Größe ändern", "_groe_andern"),
        ("文書", ""),
        ("word " * 30, "_" + "_".join(["word"] * 8)[:39]),
    ],
)
def test_file_names_are_safe(directory: ScriptDirectory, message: str, slug: str) -> None:
    script = empty_revision(directory, Wish(message, rev_id="aaaa"))
    assert script.path.name == f"aaaa{slug}.py"
    assert script.message == message.strip()


@pytest.mark.parametrize(
    "message", ['say """hi"""', '"quoted"', "back\\slash \\d", "two\nlines", "it's", "ends with \\"]
)
def test_any_message_gives_a_script_that_loads_and_is_formatted(directory: ScriptDirectory, message: str) -> None:
    want(documents=64)
    script = new(directory, message)
    assert script.message == " ".join(message.split())
    _is_formatted(script.path)


def test_generated_files_are_formatted(directory: ScriptDirectory) -> None:
    heads = [
        empty_revision(directory, Wish(f"head {n}", head=("base",), branch_labels=(f"b{n}",))).id for n in range(7)
    ]
    merge_revision(directory, Wish(head=tuple(heads)))
    merge_revision(directory, Wish(head=tuple(heads[:2]), splice=True, depends_on=("b3", "b4")))
    want(documents=64)
    new_revision(directory, load_collections(directory.config.collections_path), Wish(head=("base",)))
    for path in directory.paths():
        _is_formatted(path)


def _is_formatted(path: Path) -> None:
    for length in ("88", "120"):
        command = [sys.executable, "-m", "ruff", "format", "--isolated", "--diff", "--line-length", length, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


def test_the_project_may_have_templates_of_its_own(directory: ScriptDirectory) -> None:
    Path("migrations/empty.py.tmpl").write_text(
        '"""$message"""\nrevision = $revision\ndown_revision = $down_revision\nours = 1\n'
    )
    assert "ours = 1" in empty_revision(directory, Wish("x")).path.read_text()
    Path("migrations/empty.py.tmpl").write_text("$nothing")
    with pytest.raises(ScriptError, match="asks for 'nothing'"):
        empty_revision(directory, Wish("y"))


def test_a_template_that_says_itself_what_backfill_does_adopts_nothing(directory: ScriptDirectory) -> None:
    want(documents=64)
    own = Path("migrations/script.py.tmpl")
    own.write_text(
        Path(template_folder("generic") / "script.py.tmpl").read_text().replace("${backfill}", "m.backfill()")
    )
    with pytest.raises(ScriptError, match=r"migrations/script.py.tmpl says itself what backfill\(m\) does") as refused:
        new(directory, adopt=AdoptCall("embedding"))
    assert "${backfill}" in refused.value.hint
    assert "m.backfill()" in new(directory).path.read_text()


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("mine")
    with pytest.raises(ScriptError, match="exists already"):
        write_new(path, "yours")
    assert path.read_text() == "mine"
    assert {each.name for each in tmp_path.iterdir()} == {"a.py", "migrations", "vecmig.ini"}


def test_files_are_written_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    write_new(tmp_path / "a.py", "one")
    with pytest.raises(ScriptError, match="exists already"):
        write_new(tmp_path / "a.py", "two")
    assert (tmp_path / "a.py").read_text() == "one"


def test_several_files_are_written_or_none(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("")
    with pytest.raises(ScriptError):
        write_all_new([(tmp_path / "a", "x"), (tmp_path / "b", "x")])
    assert not (tmp_path / "a").exists()


def test_literals_are_python(tmp_path: Path) -> None:
    for value in ("a", "it's", 'say "x"', "ü\\", None, ("a", "b"), tuple("abcdefghijklmnopqrstuvwxyz")):
        assert ast.literal_eval(literal(value)) == value
    assert (literal(("a",)), literal(())) == ('"a"', "None")
    assert docstring("  two\nlines\x00 ") == "two lines"


def test_init_makes_a_project_that_works(tmp_path: Path) -> None:
    config = load_config()
    assert config.script_location == tmp_path / "migrations"
    assert list(load_collections(config.collections_path).collections) == ["documents"]
    assert (tmp_path / "migrations/versions").is_dir()
    assert "${PGPASSWORD}" in Path("vecmig.ini").read_text()


def test_init_leaves_what_is_there(tmp_path: Path) -> None:
    with pytest.raises(ScriptError, match="The directory migrations is not empty; nothing was written"):
        init_project(Path("migrations"))
    before = Path("vecmig.ini").read_text()
    files = init_project(Path("other"), package=True)
    assert {path.as_posix() for path in files} >= {"other/__init__.py", "other/versions/__init__.py"}
    assert Path("vecmig.ini").read_text() == before
    with pytest.raises(ScriptError, match="There is no template 'generc'") as caught:
        init_project(Path("third"), template="generc")
    assert caught.value.hint == "Did you mean generic?"

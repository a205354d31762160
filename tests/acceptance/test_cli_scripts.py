"""The commands that read and write scripts, as a user types them; no database is needed."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from support.project import COLLECTIONS, NEW_TAG, OLD_TAG
from vecmig.cli.app import main
from vecmig.cli.context import Options
from vecmig.config import load_config
from vecmig.errors import Pending
from vecmig.model.gate import Trust
from vecmig.script import ScriptDirectory

Run = Callable[..., tuple[str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """``run("history", "-v", code=0)`` in an empty directory; gives stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def run(*args: str, code: int = 0) -> tuple[str, str]:
        assert main(list(args)) == code, capsys.readouterr()
        out, err = capsys.readouterr()
        return out, err

    return run


@pytest.fixture
def project(run: Run) -> Run:
    """The same in a new project that wants ``OLD_TAG``."""
    run("init")
    want(OLD_TAG)
    return run


@pytest.fixture
def forked(project: Run) -> Run:
    """The same in a project whose history forks after its first revision, ``aaaa``, into ``bbbb`` and ``cccc``."""
    project("revision", "-m", "documents: first tag", "--rev-id", "aaaa")
    want(NEW_TAG)
    project("revision", "-m", "documents: 64 to 256", "--rev-id", "bbbb")
    project(
        "revision", "-m", "grants", "--empty", "--head", "aaaa", "--splice", "--branch-label", "ops", "--rev-id", "cccc"
    )
    return project


def want(tag: str) -> None:
    """Make collections.yaml ask for a tag."""
    Path("migrations/collections.yaml").write_text(COLLECTIONS.format(tag=tag, old=OLD_TAG, new=NEW_TAG))


def versions() -> list[str]:
    """Give the names of all scripts."""
    return sorted(path.name for path in Path("migrations/versions").iterdir())


def test_a_project_from_nothing(run: Run) -> None:
    out, err = run("init")
    assert out.splitlines() == ["Wrote migrations/collections.yaml", "Wrote migrations/README", "Wrote vecmig.ini"]
    assert "Next: edit database_url in vecmig.ini" in err
    out, err = run("history")
    assert (out, err) == ("", 'There are no revisions yet. To write the first: vecmig revision -m "first tag"\n')
    out, err = run("revision", "-m", "first tag")
    (name,) = versions()
    assert re.fullmatch(r"[0-9a-f]{12}_first_tag\.py", name)
    assert out == f"Wrote migrations/versions/{name}\n"
    assert err == f"  documents: (no tag)\n  -> {OLD_TAG}\nNext: vecmig upgrade head\n"


def test_init_refuses_a_directory_in_use(run: Run) -> None:
    Path("migrations").mkdir()
    Path("migrations/mine.txt").write_text("")
    out, err = run("init", code=2)
    assert out == ""
    assert err.splitlines()[0] == "The directory migrations is not empty; nothing was written."
    assert not Path("vecmig.ini").exists()


def test_init_elsewhere(run: Run) -> None:
    run("-c", "conf/app.ini", "init", "conf/embeddings", "--package")
    assert "script_location = embeddings" in Path("conf/app.ini").read_text()
    assert Path("conf/embeddings/versions/__init__.py").exists()
    assert run("-c", "conf/app.ini", "heads", "--json")[0] == "[]\n"


def test_the_second_revision_fills_in_both_tags(project: Run) -> None:
    project("revision", "--rev-id", "aaaa")
    out, err = project("revision", code=2)
    assert out == ""
    assert "Change the tag of documents in migrations/collections.yaml, or pass another --to-tag." in err
    want(NEW_TAG)
    project("revision", "--rev-id", "bbbb")
    assert versions() == ["aaaa_documents_first_tag_64_dimensions.py", "bbbb_documents_64_to_256_dimensions.py"]
    (shown,) = json.loads(project("show", "head", "--json")[0])
    assert (shown["old_tag"], shown["new_tag"]) == (OLD_TAG, NEW_TAG)


def test_the_comments_on_trust_and_launch_work_once_they_are_no_comments(project: Run) -> None:
    project("revision", "--rev-id", "aaaa")
    (path,) = Path("migrations/versions").iterdir()
    before = ScriptDirectory(load_config(Path("vecmig.ini")))["aaaa"]
    lines = path.read_text().splitlines(keepends=True)
    assert [line for line in lines if line.startswith("# ")] == [
        "# from vecmig import Trust\n",
        "# trust = Trust(days=21, eval_days=3)  # before the old vectors may go: vecmig retire\n",
        "# from datetime import date\n",
        "# launch = date(2026, 12, 1)  # shown beside the estimated end of the backfill; it decides nothing\n",
    ]
    path.write_text("".join(line.removeprefix("# ") for line in lines).replace("days=21", "days=7"))
    after = ScriptDirectory(load_config(Path("vecmig.ini")))["aaaa"]
    assert (before.trust, after.trust) == (Trust(), Trust(days=7))
    assert (before.launch, after.launch) == (None, date(2026, 12, 1))
    assert after.checksum == before.checksum


def test_autogenerate_has_something_to_do_once(project: Run) -> None:
    assert project("revision", "--autogenerate")[0].startswith("Wrote ")
    out, err = project("revision", "--autogenerate")
    assert out == ""
    assert err == "Nothing to do: every collection is at the tag that collections.yaml asks for.\n"
    assert len(versions()) == 1


def test_options_that_exclude_each_other(project: Run) -> None:
    assert (
        "--empty does not go together with --autogenerate, --to-tag."
        in project("revision", "--empty", "--autogenerate", "--to-tag", NEW_TAG, code=2)[1]
    )
    assert "--autogenerate decides" in project("revision", "--autogenerate", "--collection", "documents", code=2)[1]


def test_a_first_revision_that_adopts(project: Run) -> None:
    out, err = project("revision", "--adopt", "embedding", "--in-place", "--adopt-where", "n > 1", "--fill")
    (name,) = versions()
    assert (out, err) == (
        f"Wrote migrations/versions/{name}\n",
        f"  documents: (no tag)\n  -> {OLD_TAG}\nNext: vecmig upgrade head\n",
    )
    script = Path("migrations/versions", name).read_text()
    assert '    m.adopt("embedding", where="n > 1", home="column", fill=True)\n' in script
    out, err = project("revision", "--adopt", "embedding", code=2)
    assert out == ""
    assert "To go on to another tag: vecmig revision, without --adopt." in err
    assert versions() == [name]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--in-place"], "--in-place says how vectors are adopted, and --adopt is missing."),
        (["--adopt-where", "x", "--no-fill"], "--adopt-where and --no-fill say how vectors are adopted"),
        (["--adopt", "e", "--empty"], "--adopt does not go together with --empty: it moves no collection."),
        (
            ["--adopt", "e", "--autogenerate"],
            "--adopt does not go together with --autogenerate: it writes revisions of",
        ),
        (["--adopt", "e", "--from-tag", OLD_TAG], "--adopt does not go together with --from-tag: vectors are adopted"),
        (["--adopt", "e)"], "--adopt 'e)' closes a ')' that it did not open."),
    ],
)
def test_adopting_goes_with_what_makes_sense(project: Run, args: list[str], said: str) -> None:
    out, err = project("revision", *args, code=2)
    assert out == ""
    assert err.startswith(said)
    assert versions() == []


def test_history(forked: Run) -> None:
    assert forked("history")[0].splitlines() == [
        "aaaa -> bbbb (documents) (head), documents: 64 to 256",
        "aaaa -> cccc (documents, ops) (head), grants",
        "<base> -> aaaa (documents) (branchpoint), documents: first tag",
    ]
    assert forked("history", "-r", "cccc:ops@head")[0] == "aaaa -> cccc (documents, ops) (head), grants\n"
    assert forked("history", "-r", ":bbbb")[0].startswith("aaaa -> bbbb (documents) (head)")
    assert [each["revision"] for each in json.loads(forked("history", "--json")[0])] == ["bbbb", "cccc", "aaaa"]


def test_history_in_full(forked: Run) -> None:
    out, _ = forked("history", "-v", "-r", "aaaa:bbbb")
    assert out.startswith("Rev: bbbb (head)\nParent: aaaa\nBranch names: documents\nCollection: documents\n")
    assert f"Old tag: {OLD_TAG}\nNew tag: {NEW_TAG}\nGate: coverage 0.995, freshness budget 0.005\n" in out
    assert "Rev: aaaa (branchpoint)\nParent: <base>\nBranches into: bbbb, cccc\n" in out


def test_history_with_the_current_revision(forked: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Options, "current_heads", lambda options: ("bbbb",))
    assert "aaaa -> bbbb (documents) (head) (current), documents" in forked("history", "-i")[0]
    assert forked("history", "-r", ":current")[0].splitlines()[0].startswith("aaaa -> bbbb (documents) (head), ")
    assert forked("show", "current")[0].startswith("Rev: bbbb")


def test_heads(forked: Run) -> None:
    out, err = forked("heads")
    assert out == "bbbb (documents) (head)\ncccc (documents, ops) (head)\n"
    assert err == "", "the one is that of documents, the other has a label of its own"
    forked("revision", "--empty", "--head", "aaaa", "--splice", "--rev-id", "dddd")
    out, err = forked("heads")
    assert out.splitlines()[2] == "dddd (documents) (head)"
    assert err == (
        "'head' is ambiguous: there are 3 heads, bbbb, cccc, dddd.\n"
        "Join them with: vecmig merge heads   (or name one of them; `heads` means all)\n"
    )
    assert forked("-q", "heads")[1] == ""
    project = forked("heads", "-v")[0]
    assert "Branch names: documents, ops" in project


def test_heads_that_are_depended_on(project: Run) -> None:
    project("revision", "--empty", "--rev-id", "aaaa")
    project("revision", "--empty", "--rev-id", "bbbb", "--head", "base", "--depends-on", "aaaa")
    assert project("heads")[0] == "aaaa (effective head)\nbbbb (head)\n"
    assert project("heads", "--resolve-dependencies")[0] == "bbbb (head)\n"
    assert "<base> (aaaa) -> bbbb (head)" in project("history")[0]


def test_branches(forked: Run) -> None:
    assert forked("branches")[0] == (
        "aaaa (documents) (branchpoint)\n     -> bbbb (documents) (head)\n     -> cccc (documents, ops) (head)\n"
    )
    (point,) = json.loads(forked("branches", "--json")[0])
    assert point["next"] == ["bbbb", "cccc"]


def test_merge(forked: Run) -> None:
    assert forked("revision", "--empty", code=2)[1] == (
        "'head' is ambiguous: there are 2 heads, bbbb, cccc.\nAdd one of: --head bbbb, --head ops@head\n"
    )
    forked("merge", "heads", "-m", "join", "--rev-id", "dddd")
    assert forked("heads")[0] == "dddd (documents, ops) (head)\n"
    assert "bbbb, cccc -> dddd (documents, ops) (head) (mergepoint), join" in forked("history")[0]
    assert "Merges: bbbb, cccc" in forked("show", "dd")[0]


def test_edit(forked: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", f"{sys.executable} -c \"import sys; open('opened', 'w').write(sys.argv[1])\"")
    forked("edit", "ops@head")
    assert Path("opened").read_text().endswith("cccc_grants.py")
    monkeypatch.setenv("EDITOR", "false")
    assert "failed with exit code 1" in forked("edit", "aaaa", code=1)[1]
    monkeypatch.delenv("EDITOR")
    assert "No editor is set." in forked("edit", "aaaa", code=2)[1]


@pytest.mark.parametrize("name", ["list_templates", "list-templates"])
def test_list_templates(run: Run, name: str) -> None:
    assert run(name)[0].startswith("generic  ")
    assert json.loads(run(name, "--json")[0])[0]["name"] == "generic"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["show", "zz"], "There is no revision or branch 'zz'."),
        (["show", ""], "There is no revision or branch ''."),
        (["history", "-r", "aaaa"], "'aaaa' is not a range."),
        (["history", "-r", "bbbb:cccc"], "Revision bbbb is not an ancestor of cccc."),
        (["revision", "--empty", "--head", "aaaa"], "Revision aaaa is not a head: it is followed by bbbb, cccc."),
        (["merge", "aaaa"], "A merge joins at least two revisions; aaaa means aaaa."),
        (["revision", "--empty", "--head", "bbbb", "--rev-id", "../x"], "'../x' cannot be a revision id"),
        (["revision", "--head", "bbbb", "--to-tag", "x"], "'x' is not a tag."),
        (["-c", "none.ini", "heads"], "none.ini does not exist"),
        (["nonsense"], "No such command 'nonsense'."),
        (["show"], "Missing argument"),
        (["heads", "--nonsense"], "No such option: --nonsense"),
    ],
)
def test_what_is_wrong_is_said_on_stderr(forked: Run, args: list[str], said: str) -> None:
    before = versions()
    out, err = forked(*args, code=2)
    assert out == ""
    assert said in err
    assert len(err.splitlines()) >= 2
    assert versions() == before


def test_a_script_that_does_not_import(forked: Run) -> None:
    Path("migrations/versions/aaaa_documents_first_tag.py").write_text("import nothing_of_that_name\n")
    out, err = forked("history", code=2)
    assert out == ""
    assert err.startswith(
        "migrations/versions/aaaa_documents_first_tag.py:1: the script cannot be imported: ModuleNotFound"
    )
    assert "Traceback" not in err
    assert "Traceback" in forked("--raiseerr", "history", code=2)[1]


def _raising(problem: BaseException) -> Callable[..., Any]:
    def fail(*args: object, **options: object) -> Any:
        raise problem

    return fail


def test_the_error_boundary(forked: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ScriptDirectory, "heads", _raising(Pending("[red] No.", state="So it is.", hint="Do [this].")))
    assert forked("heads", code=4) == ("", "[red] No.\nSo it is.\nDo [this].\n")
    monkeypatch.setattr(ScriptDirectory, "heads", _raising(KeyboardInterrupt()))
    assert forked("heads", code=130) == ("", "Interrupted.\n")
    monkeypatch.setattr(ScriptDirectory, "heads", _raising(RuntimeError("lost\npostgresql://me:secret@db/app")))
    assert forked("heads", code=1)[1].splitlines() == [
        "vecmig failed unexpectedly: RuntimeError: lost postgresql://me:***@db/app",
        "To see where, run again with --raiseerr before the command.",
    ]


def test_the_version_and_help(run: Run) -> None:
    assert run("--version")[0].startswith("vecmig ")
    assert "list_templates" in run("--help")[0]
    assert "list-templates" not in run("--help")[0]


@pytest.mark.parametrize(("variables", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colour_is_for_terminals(forked: Run, variables: dict[str, str], *, coloured: bool) -> None:
    ours, theirs = pty.openpty()
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm", "COLUMNS": "40", "PYTHONPATH": str(_root())} | variables
    command = [sys.executable, "-m", "vecmig", "show", "a-long-name-that-no-revision-has-in-this-project"]
    done = subprocess.run(command, env=environment, stderr=theirs, stdout=subprocess.PIPE, check=False)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    assert done.returncode == 2
    assert ("\x1b[" in shown) is coloured
    assert "a-long-name-that-no-revision-has-in-this-project" in shown.replace("\r\n", "")


@pytest.mark.parametrize("args", [("heads",), ("heads", "--json"), ("--help",)], ids=" ".join)
def test_whoever_reads_may_have_read_enough(forked: Run, args: tuple[str, ...]) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(_root())}
    command = [sys.executable, "-m", "vecmig", *args]
    done = subprocess.run(command, env=environment, stdout=theirs, stderr=subprocess.PIPE, check=False)
    os.close(theirs)
    assert (done.returncode, done.stderr) == (1, b"")


def _root() -> Path:
    import vecmig

    return Path(vecmig.__path__[0]).parent


def test_check_offline_asks_for_a_revision_that_nobody_wrote(project: Run) -> None:
    _, err = project("check", "--offline", code=4)
    assert f"No revision leads documents to {OLD_TAG}" in err
    assert "to no tag" in err
    assert "Run: vecmig revision" in err
    project("revision", "-m", "first tag")
    assert project("check", "--offline")[0] == "The scripts lead to every tag that collections.yaml asks for.\n"
    want(NEW_TAG)
    out, err = project("check", "--offline", "--json", code=4)
    assert json.loads(out) == {
        "pending": True,
        "collections": [{"name": "documents", "newest": OLD_TAG, "wanted": NEW_TAG}],
    }
    project("revision", "-m", "second tag")
    assert json.loads(project("check", "--offline", "--json")[0]) == {"pending": False, "collections": []}


def test_check_offline_refuses_scripts_that_do_not_fit_together(project: Run) -> None:
    project("revision", "-m", "first tag", "--rev-id", "aaaa")
    (script,) = Path("migrations/versions").glob("aaaa*.py")
    script.write_text(script.read_text().replace("down_revision = None", 'down_revision = "zzzz"'))
    _, err = project("check", "--offline", code=2)
    assert "zzzz" in err

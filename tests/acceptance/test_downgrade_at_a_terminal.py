"""At a terminal a downgrade says what it will do, asks why, and asks before reads are left without a tag."""

from __future__ import annotations

from support.cli import Vecmig, script
from support.project import NEW_TAG, OLD_TAG, Project
from support.terminal import in_terminal, shown


def _page(project: Project, *args: str, typed: str = "") -> str:
    written = in_terminal(project, *args, columns=200, typed=typed)
    return shown(written.replace("\n", "\r\n"), columns=200).text


def _two_revisions(project: Project, vecmig: Vecmig) -> None:
    script(project, "aaaa", OLD_TAG)
    script(project, "bbbb", NEW_TAG, old=OLD_TAG, down="aaaa")
    vecmig("upgrade", "aaaa")


def test_the_reason_is_asked_for_and_kept(project: Project, vecmig: Vecmig, documents: int) -> None:
    _two_revisions(project, vecmig)
    vecmig("upgrade")
    page = _page(project, "downgrade", "-1", typed="recall fell\n")
    assert f"To be rolled back: bbbb of documents: reads go back to {OLD_TAG}." in page
    assert "Why, for the history (Enter for none): " in page
    (passed,) = vecmig("status", "--json").json["passed"]
    assert passed["hold"]["reason"] == "recall fell"
    vecmig("release", "bbbb")
    vecmig("upgrade")
    in_terminal(project, "downgrade", "-1", columns=200, typed="\n")
    (passed,) = vecmig("status", "--json").json["passed"]
    assert passed["hold"]["reason"] is None


def test_of_a_candidate_it_is_said_that_reads_do_not_move(project: Project, vecmig: Vecmig, documents: int) -> None:
    _two_revisions(project, vecmig)
    vecmig("upgrade", "--until", "expand")
    page = _page(project, "downgrade", "-1", typed="\n")
    assert "To be rolled back: bbbb of documents: it is not live, so reads do not move." in page
    moves = f"  reads of documents have not moved: they use {OLD_TAG}; to move them back: vecmig downgrade -1"
    assert moves in page.splitlines()


def test_before_reads_are_left_without_a_tag_it_asks(project: Project, vecmig: Vecmig, documents: int) -> None:
    _two_revisions(project, vecmig)
    vecmig("upgrade")
    page = _page(project, "downgrade", "base", typed="n\n")
    assert "Reads of documents will use no tag. Go on? [y/N]: " in page
    assert "Nothing was rolled back." in page
    assert vecmig("status", "--json").json["current"] == ["bbbb"]
    in_terminal(project, "downgrade", "base", columns=200, typed="y\n")
    assert vecmig("status", "--json").json["current"] == []
    vecmig("upgrade")
    page = _page(project, "downgrade", "base", "--yes")
    assert "Go on?" not in page

"""The parts of the demo that need no database: how it compares answers, edits the file, and finds its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from vecmig.cli import render
from vecmig.config.collections import load_collections
from vecmig.demo import home, story
from vecmig.errors import UsageError
from vecmig.homes.search import Hit
from vecmig.script.project import init_project


def _hits(*titles: str) -> list[Hit]:
    return [
        Hit((at,), "a@1/dim-2/chunk-none/norm-l2", 0, 0.5, title, {"title": title}) for at, title in enumerate(titles)
    ]


def test_answers_that_differ() -> None:
    text = story.compared(_hits("rmdir", "TemporaryDirectory"), _hits("TemporaryDirectory", "mkdtemp"))
    assert text.startswith("1 of 2 answers are new; first was rmdir, now TemporaryDirectory.")
    assert "does not tell which tag is better" in text


def test_answers_with_the_same_first() -> None:
    text = story.compared(_hits("rmdir", "mkdtemp"), _hits("rmdir", "mkstemp"))
    assert text.startswith("1 of 2 answers are new; rmdir is still first.")


def test_answers_that_agree_are_not_called_better() -> None:
    text = story.compared(_hits("rmdir"), _hits("rmdir"))
    assert text == "The same query, the same answers: here the new tag makes no difference."


def test_the_template_asks_for_the_old_tag_and_knows_both(tmp_path: Path) -> None:
    init_project(tmp_path / "migrations", ini=tmp_path / "vecmig.ini")
    path = tmp_path / "migrations" / "collections.yaml"
    assert load_collections(path).collection(story.COLLECTION).tag == story.OLD_TAG
    story._ask_for(path, story.OLD_TAG, story.NEW_TAG)
    assert load_collections(path).collection(story.COLLECTION).tag == story.NEW_TAG
    assert set(load_collections(path).recipes) == {story.OLD_TAG, story.NEW_TAG}


def test_a_home_to_keep_is_made(tmp_path: Path) -> None:
    assert home.kept_home(tmp_path / "a" / "b").is_dir()


def test_a_home_to_keep_must_be_empty(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UsageError, match="is not empty; it was left as it is"):
        home.kept_home(tmp_path)


def test_a_file_is_no_home(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UsageError, match="cannot be made"):
        home.kept_home(tmp_path / "mine.txt")


def test_a_home_that_postgresql_cannot_live_in(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"its path contains ' '"):
        home.kept_home(tmp_path / "my project")
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_home_goes_with_an_error() -> None:
    made: list[Path] = []

    def fail() -> None:
        with home.temporary_home() as directory:
            made.append(directory)
            (directory / "file").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [directory.exists() for directory in made] == [False]


def test_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "find_spec", lambda name: None)
    with pytest.raises(UsageError) as caught:
        home.require_extra()
    assert caught.value.hint == "Run: pip install 'vecmig[embedded]'"


def test_a_page_breaks_lines_below_their_second_column() -> None:
    assert render.broken("  cutover   reads use a-tag; the flip took 5 ms", 34) == [
        "  cutover   reads use a-tag; the",
        "            flip took 5 ms",
    ]
    assert render.broken("Plain words go on at the left.", 20) == ["Plain words go on at", "the left."]
    assert render.broken("", 20) == [""]


def test_a_page_takes_notes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with render.page(20):
        render.note("A note of more than twenty columns.")
    render.note("Another.")
    assert capsys.readouterr() == ("A note of more than\ntwenty columns.\n", "Another.\n")

"""The demo's corpus: real records from sources, in one order, whatever lies among the files."""

from __future__ import annotations

import sys
from functools import cache
from itertools import islice
from pathlib import Path

import pytest

from vecmig.demo.corpus import Record, read_corpus


@cache
def _reading() -> tuple[list[Record], set[str]]:
    """Read the standard library once, which takes two seconds; give the records, and the modules imported for it."""
    before = set(sys.modules)
    return list(read_corpus()), set(sys.modules) - before


@pytest.fixture
def records() -> list[Record]:
    return _reading()[0]


def _write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _titles(root: Path) -> list[str]:
    return [record.title for record in read_corpus(root)]


def test_the_standard_library_gives_thousands_of_records(records: list[Record]) -> None:
    assert len(records) > 5_000


def test_records_are_numbered_and_named_once(records: list[Record]) -> None:
    assert [record.id for record in records] == list(range(1, len(records) + 1))
    assert len({record.title for record in records}) == len(records)


def test_bodies_can_be_stored_and_embedded(records: list[Record]) -> None:
    assert all(record.body.strip() and "\0" not in record.body for record in records)
    assert all(record.body.encode() for record in records)


def test_a_well_known_docstring_is_there(records: list[Record]) -> None:
    bodies = {record.title: record.body for record in records}
    assert bodies["textwrap.dedent"].startswith("Remove any common leading whitespace")
    assert {"json", "json.encoder.JSONEncoder", "json.encoder.JSONEncoder.default"} <= set(bodies)


def test_tests_and_installed_packages_are_left_out(records: list[Record]) -> None:
    packages = {record.title.split(".")[0] for record in records}
    assert not packages & {"test", "idlelib", "lib2to3", "turtledemo", "pip", "pytest"}


def test_two_readings_agree(records: list[Record]) -> None:
    assert list(islice(read_corpus(), 1_500)) == records[:1_500]


def test_nothing_is_imported() -> None:
    records, imported = _reading()
    assert len(records) > 0
    assert imported <= {"encodings.latin_1", "encodings.utf_8_sig"}


def test_every_kind_of_definition_is_found(tmp_path: Path) -> None:
    source = '''
"""a module"""
import sys
class Outer:
    """a class"""
    def method(self):
        """a method"""
        def inner():
            """a function in a function is nobody's to look up"""
    class Inner:
        """a nested class"""
async def later():
    """a coroutine"""
if sys.platform == "win32":
    def windows():
        """one way"""
else:
    def other():
        """the other way"""
try:
    from _fast import quick
except ImportError:
    def quick():
        """the slow version"""
def silent(): pass
def blank():
    """   """
'''
    _write(tmp_path, "pkg/mod.py", source)
    names = ["", ".Outer", ".Outer.method", ".Outer.Inner", ".later", ".windows", ".other", ".quick"]
    assert _titles(tmp_path) == [f"pkg.mod{name}" for name in names]


def test_a_name_that_is_defined_twice_counts_once(tmp_path: Path) -> None:
    _write(tmp_path, "mod.py", 'def f():\n    """first"""\ndef f():\n    """second"""\n')
    assert [(record.title, record.body) for record in read_corpus(tmp_path)] == [("mod.f", "first")]


def test_a_package_goes_by_its_own_name(tmp_path: Path) -> None:
    _write(tmp_path, "pkg/__init__.py", '"""the package"""')
    _write(tmp_path, "pkg/sub/__init__.py", '"""below it"""')
    assert _titles(tmp_path) == ["pkg", "pkg.sub"]


@pytest.mark.parametrize("folder", ["test", "tests", "site-packages", "idlelib", "lib2to3", "config-3.11-x86_64"])
def test_folders_that_hold_no_library_are_passed_over(tmp_path: Path, folder: str) -> None:
    _write(tmp_path, f"{folder}/mod.py", '"""hidden"""')
    assert _titles(tmp_path) == []


@pytest.mark.parametrize(
    "content",
    [b"def (:", b'"""\xff\xfe"""', b"# coding: no-such-codec\n", b"x = 1\0", b'"""\\N{no such name}"""', b""],
    ids=["syntax", "not utf-8", "unknown coding", "NUL byte", "bad escape", "empty"],
)
def test_a_broken_file_is_passed_over(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "broken.py").write_bytes(content)
    _write(tmp_path, "sound.py", '"""still read"""')
    assert _titles(tmp_path) == ["sound"]


def test_a_file_that_cannot_be_opened_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere.py")
    _write(tmp_path, "sound.py", '"""still read"""')
    assert _titles(tmp_path) == ["sound"]


def test_a_declared_encoding_is_followed(tmp_path: Path) -> None:
    (tmp_path / "mod.py").write_bytes('# coding: latin-1\n"""Größe"""'.encode("latin-1"))
    assert [record.body for record in read_corpus(tmp_path)] == ["Größe"]


def test_what_postgresql_cannot_store_is_taken_out(tmp_path: Path) -> None:
    _write(tmp_path, "mod.py", '"""a\\0b\\ud800c"""')
    assert [record.body for record in read_corpus(tmp_path)] == ["abc"]


def test_an_old_escape_sequence_gives_no_warning(tmp_path: Path) -> None:
    _write(tmp_path, "mod.py", '"""a \\d digit"""')
    assert [record.body for record in read_corpus(tmp_path)] == ["a \\d digit"]


def test_a_missing_library_gives_no_records(tmp_path: Path) -> None:
    assert list(read_corpus(tmp_path / "nothing")) == []

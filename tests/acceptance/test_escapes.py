"""What a record, a reason or a server says can command no terminal: it is shown as text, and JSON stays JSON."""

from __future__ import annotations

import json
import re

import pytest

from support.cli import Vecmig, describe, documents_collection, local, script, tag, write_hashing
from support.project import Project
from support.terminal import in_terminal

A = tag("hashing", 16)
#: A link, a cleared screen, a line that writes over itself, C1, and letters that run backwards.
EVIL = "k\x1b]8;;http://evil\x1b\\\x1b[2J\rover\x07\x9b1m\u202eabc\x7f"
SHOWN = "k\\x1b]8;;http://evil\\x1b\\\\x1b[2J\\x0dover\\x07\\x9b1m\\u202eabc\\x7f"
OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
#: What vecmig itself may send to a terminal.
OWN = re.compile(r"\x1b\[(?:[0-9;]*m|\?25[lh]|[0-9]*[A-K])|\r")


def _prepare(project: Project, vecmig: Vecmig) -> None:
    project.sql("CREATE TABLE public.documents (id text PRIMARY KEY, title text, body text)")
    project.sql("INSERT INTO public.documents VALUES (%s, %s, 'words of a record')", EVIL, EVIL)
    project.sql("INSERT INTO public.documents SELECT i, 'title ' || i, 'body ' || i FROM generate_series(1, 9) i")
    write_hashing(project, 16)
    describe(project, {"documents": documents_collection(A)}, {A: local(16)})
    script(project, "aaaa", A)
    vecmig("upgrade")
    project.sql(
        "INSERT INTO vecmig.rejected (collection, tag, key, source_hash, reason) "
        "VALUES ('documents', %s, jsonb_build_array(%s::text), gen_random_uuid(), %s)",
        A, EVIL, EVIL,
    )  # fmt: skip
    vecmig("pause", "documents", "--reason", EVIL)


#: What ``evil`` stands on.
BEGINNINGS = {"evil": _prepare}


@pytest.fixture
def evil(project: Project) -> Project:
    """A live collection whose keys, texts, reasons and errors hold what terminals obey."""
    return project


COMMANDS = [["search", "documents", "words of a record"], ["rejected"], ["status"], ["search", EVIL, "x"]]


@pytest.mark.parametrize("command", COMMANDS, ids=["search", "rejected", "status", "error"])
def test_nothing_that_a_terminal_obeys_is_printed(evil: Project, vecmig: Vecmig, command: list[str]) -> None:
    result = vecmig(*command, code=None)

    printed = result.stdout + result.stderr
    assert SHOWN in printed
    assert not OBEYED.search(printed)
    on_terminal = OWN.sub("", in_terminal(evil, *command, columns=200))
    assert "\\x1b]8;;http://evil" in on_terminal
    assert not OBEYED.search(on_terminal)


@pytest.mark.parametrize("command", COMMANDS[:3], ids=["search", "rejected", "status"])
def test_json_holds_the_texts_as_they_are_and_obeys_none(evil: Project, vecmig: Vecmig, command: list[str]) -> None:
    printed = vecmig(*command, "--json").stdout

    assert not OBEYED.search(printed)
    assert any(EVIL in text for text in _texts(json.loads(printed)))


def test_the_message_of_a_server_is_shown_as_text(evil: Project, vecmig: Vecmig) -> None:
    evil.sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE '%', OLD.id; END$$")
    evil.sql("CREATE TRIGGER refuse BEFORE DELETE ON documents_vectors FOR EACH ROW EXECUTE FUNCTION refuse()")
    evil.sql("ALTER TABLE documents DISABLE TRIGGER ALL")
    evil.sql("UPDATE documents SET body = '' , title = '' WHERE id = %s", EVIL)
    vecmig("resume", "documents")

    result = vecmig("--raiseerr", "sync", code=None)

    assert result.code != 0
    assert SHOWN in result.stderr
    assert not OBEYED.search(result.stderr)


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for one in value.values() for text in _texts(one)]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []

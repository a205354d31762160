"""Audit names each right and place that is not as vecmig would make it today."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from support.lab import LARGE, Lab
from support.postgres import roles
from vecmig import runner

Connection = psycopg.Connection[Any]


@pytest.fixture
def anon(connection: Connection) -> Iterator[str]:
    """A role that may read nothing."""
    with roles(connection, "anon"):
        yield "anon"


def _kinds(lab: Lab) -> list[tuple[str, str, str]]:
    return [(found.kind, found.severity, found.object) for found in runner.audit(lab.config).findings]


@pytest.mark.upgraded
def test_a_right_on_vecmigs_own_tables_is_named(lab: Lab, connection: Connection, anon: str) -> None:
    connection.execute("GRANT SELECT ON vecmig.route, vecmig.tag TO anon; GRANT INSERT ON vecmig.shadow TO anon")
    assert _kinds(lab) == []
    connection.execute("GRANT UPDATE ON vecmig.tag TO anon; GRANT SELECT ON vecmig.change TO PUBLIC")
    assert sorted(_kinds(lab)) == [
        ("open ledger", "error", "vecmig.tag"),
        ("open ledger", "warning", "vecmig.change"),
    ]
    for found in runner.audit(lab.config).findings:
        connection.execute(found.fix)
    assert _kinds(lab) == []


@pytest.mark.parametrize("damage", ["RLS", "EXECUTE", "USAGE", "partition"])
def test_what_sync_mends_is_named(lab: Lab, connection: Connection, anon: str, damage: str) -> None:
    connection.execute("GRANT SELECT ON documents TO anon")
    if damage == "partition":
        connection.execute(
            "ALTER TABLE documents ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON documents USING (id < 9)"
        )
    lab.upgrade()
    assert _kinds(lab) == []
    part = lab.stamps(LARGE).relation.as_string(None).replace('"', "")
    statement, kind, severity, thing = {
        "RLS": (
            "ALTER TABLE documents_vectors ENABLE ROW LEVEL SECURITY",
            "hidden vectors",
            "error",
            "vecmig.documents_vectors",
        ),
        "EXECUTE": ("REVOKE EXECUTE ON FUNCTION documents_search FROM PUBLIC", "no access", "warning", "anon"),
        "USAGE": ("REVOKE USAGE ON SCHEMA vecmig FROM anon", "no access", "warning", "anon"),
        "partition": (f"ALTER TABLE {part} DISABLE ROW LEVEL SECURITY", "no row security", "error", part),
    }[damage]
    connection.execute(statement)
    assert _kinds(lab) == [(kind, severity, thing)]
    lab.sync()
    assert _kinds(lab) == []


def test_a_foreign_operator_in_the_live_view_is_named_and_goes(bare_lab: Lab, connection: Connection) -> None:
    """As an earlier version left it where somebody else had made one that fits the key better."""
    connection.execute(
        "CREATE TABLE documents (id varchar PRIMARY KEY, body text); INSERT INTO documents VALUES ('a', 'b')"
    )
    lab = bare_lab.write(text="body", chain=(LARGE,))
    lab.upgrade()
    connection.execute("CREATE FUNCTION public.same(varchar, varchar) RETURNS bool LANGUAGE sql AS 'SELECT true'")
    connection.execute("CREATE OPERATOR public.= (LEFTARG = varchar, RIGHTARG = varchar, FUNCTION = public.same)")
    ((definition,),) = connection.execute("SELECT pg_get_viewdef('documents_live'::regclass)").fetchall()
    bad = definition.replace("(s.id)::text = (e.id)::text", "s.id OPERATOR(public.=) e.id")
    assert bad != definition
    connection.execute(f"CREATE OR REPLACE VIEW documents_live WITH (security_invoker = true) AS {bad}")
    (found,) = runner.audit(lab.config).findings
    assert (found.kind, found.fix) == ("foreign operator", "vecmig ensure_version")
    runner.ensure_version(lab.config)
    assert _kinds(lab) == []


def test_vectors_beside_the_source_are_named(lab: Lab, connection: Connection) -> None:
    ini = lab.path / "vecmig.ini"
    before = ini.read_text()
    ini.write_text(f"{before}\nvectors_schema = public\n")
    lab.upgrade()
    assert _kinds(lab) == []
    ini.write_text(before)
    assert _kinds(lab) == [("vectors elsewhere", "warning", "public.documents_vectors")]
    runner.ensure_version(lab.config)
    assert _kinds(lab) == []

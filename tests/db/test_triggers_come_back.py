"""That PostgreSQL reads the triggers again as it prints them, which is what dumps and pg_upgrade live by."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from support.lab import SMALL, Lab
from vecmig.freshness.change_tracking import find_tracking

Connection = psycopg.Connection[Any]

_TEXTS = {"of some columns": "body", "of the whole record": "documents::text"}
_AS_PRINTED = """
    SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'documents'::regclass ORDER BY tgname"""


@pytest.mark.parametrize("text", _TEXTS.values(), ids=list(_TEXTS))
def test_triggers_are_read_as_they_are_printed(lab: Lab, connection: Connection, text: str) -> None:
    lab.write(text=text).upgrade("r1")
    printed = connection.execute(_AS_PRINTED).fetchall()
    assert len(printed) == 3
    for name, definition in printed:
        connection.execute(f"DROP TRIGGER {name} ON documents")
        connection.execute(definition)
    assert connection.execute(_AS_PRINTED).fetchall() == printed
    connection.execute("UPDATE documents SET title = title")
    assert lab.status().outbox.records == 0, "nothing that the text is made of was changed"
    connection.execute("UPDATE documents SET body = 'new' WHERE id = 3")
    assert lab.status().outbox.records == 1


def _make_old(connection: Connection) -> None:
    connection.execute("""
        CREATE OR REPLACE TRIGGER vecmig_documents_track_update AFTER UPDATE ON documents FOR EACH ROW
        WHEN (ROW(OLD.id, OLD.body)::record OPERATOR(pg_catalog.*<>) ROW(NEW.id, NEW.body)::record)
        EXECUTE FUNCTION vecmig.documents_track()""")


@pytest.mark.upgraded("r1")
def test_a_trigger_of_the_old_form_is_replaced(lab: Lab, connection: Connection) -> None:
    wanted = connection.execute(_AS_PRINTED).fetchall()
    _make_old(connection)
    assert connection.execute(_AS_PRINTED).fetchall() != wanted
    problem = lab.status().problem
    assert problem is not None
    assert "not as this vecmig makes them" in problem.message
    lab.sync()
    assert connection.execute(_AS_PRINTED).fetchall() == wanted
    assert lab.status().problem is None


@pytest.mark.upgraded("r1")
def test_a_trigger_function_that_everybody_may_run_is_closed(lab: Lab, connection: Connection) -> None:
    connection.execute("GRANT EXECUTE ON FUNCTION vecmig.documents_track() TO PUBLIC")
    problem = lab.status().problem
    assert problem is not None
    assert "everybody may run the trigger function" in problem.message
    lab.sync()
    assert lab.status().problem is None


@pytest.mark.upgraded("r1")
def test_a_role_that_may_not_replace_a_trigger_leaves_it(lab: Lab, connection: Connection) -> None:
    """A service that did its work so far must not end because of it."""
    _make_old(connection)
    with lab.opened(SMALL) as (session, stamps):
        assert find_tracking(session, stamps.source, "vecmig").old
        session.execute("SET ROLE pg_read_all_data")
        assert not find_tracking(session, stamps.source, "vecmig").old

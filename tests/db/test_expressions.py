"""What text and where may contain: volatile functions are refused by name, and what triggers cannot see is scanned."""

from __future__ import annotations

from typing import Any

import psycopg
import pytest

from support.embedding import Model
from support.lab import SMALL, Lab
from vecmig import runner
from vecmig.errors import ConfigError, UnsteadyExpression
from vecmig.events import StepDone
from vecmig.freshness.pending import Page, read_page

Connection = psycopg.Connection[Any]

COUNT = 300
FUNCTIONS = """
CREATE SEQUENCE numbers;
CREATE SCHEMA helpers;
CREATE TABLE authors (id bigint PRIMARY KEY, name text);
INSERT INTO authors SELECT n, 'author ' || n FROM generate_series(1, 1000) AS n;
CREATE FUNCTION helpers.chance(t text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN t || random(); END $$;
CREATE FUNCTION helpers.author(n bigint) RETURNS text LANGUAGE plpgsql STABLE
AS $$ BEGIN RETURN (SELECT a.name FROM public.authors a WHERE a.id = n); END $$;
CREATE FUNCTION helpers.plain(t text) RETURNS text LANGUAGE sql AS $$ SELECT pg_catalog.lower(t) $$;
CREATE FUNCTION helpers.sure(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN lower(t); END $$;
CREATE FUNCTION helpers.later(t text) RETURNS text LANGUAGE sql STABLE AS $$ SELECT t || pg_catalog.now() $$;
CREATE FUNCTION helpers.joined(a text, b text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN a || b; END $$;
CREATE OPERATOR helpers.%%% (LEFTARG = text, RIGHTARG = text, FUNCTION = helpers.joined);
CREATE TYPE helpers.wrapped AS (t text);
CREATE FUNCTION helpers.wrap(t text) RETURNS helpers.wrapped LANGUAGE plpgsql AS $$ BEGIN RETURN ROW(t); END $$;
CREATE CAST (text AS helpers.wrapped) WITH FUNCTION helpers.wrap(text);
"""
VOLATILE = {
    "body || random()": "random()",
    "body || clock_timestamp()": "clock_timestamp()",
    "body || nextval('public.numbers')": "nextval()",
    "coalesce(body, gen_random_uuid()::text)": "gen_random_uuid()",
    "CASE WHEN id > 5 THEN body ELSE title || timeofday() END": "timeofday()",
    "(SELECT string_agg(w, ' ' ORDER BY random()) FROM unnest(string_to_array(body, ' ')) AS w)": "random()",
    "helpers.chance(body)": "helpers.chance()",
    "body OPERATOR(helpers.%%%) title": "helpers.joined()",
    "(body::helpers.wrapped).t": "helpers.wrap()",
}
PASSING = {
    "body || now()": "now()",
    "body || current_date": "CURRENT_DATE",
    "body || localtimestamp": "LOCALTIMESTAMP",
    "body || statement_timestamp()": "statement_timestamp()",
    "body || age('2020-01-01'::timestamptz)": "CURRENT_DATE",
    "body || 'now'::timestamptz": "'now'",
    "body || 'today'::text::date": "'today'",
    "helpers.later(body)": "now()",
    "body || txid_current()": "txid_current()",
}
LASTING = (
    "title || E'\\n\\n' || body",
    "body || ' random() and now()'",
    "body || ' now ' || 'today'",
    "coalesce(body, 'now')",
    "body || to_char('2020-01-01'::timestamptz, 'YYYY')",
    "body || extract(year FROM '2020-01-01'::timestamptz)",
    "helpers.sure(body)",
    "helpers.plain(body)",
    "left(body, 100) || md5(title)",
    "documents::text",
    "(SELECT string_agg(w, ' ') FROM unnest(string_to_array(body, ' ')) AS w)",
)
UNSEEN = {
    "(SELECT a.name FROM public.authors a WHERE a.id = documents.id) || body": "text reads public.authors",
    "body || (SELECT count(*) FROM public.documents d WHERE d.id < documents.id)": "text reads public.documents",
    "helpers.author(id) || body": "text calls helpers.author(), which is STABLE and may read other tables",
}


@pytest.fixture
def big(bare_lab: Lab, make_source: Any, connection: Connection) -> Lab:
    """A project on 300 records, and functions of the team's own."""
    make_source(COUNT)
    connection.execute(FUNCTIONS)
    return bare_lab.write(chain=(SMALL,))


def objects(connection: Connection) -> list[Any]:
    """Name the tables, views and triggers of the application's schema."""
    return connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace "
        "UNION ALL SELECT tgname FROM pg_trigger WHERE tgrelid = 'documents'::regclass ORDER BY 1"
    ).fetchall()


def refusal(lab: Lab, text: str) -> str:
    """Give what is said of a text that is refused; empty for one that is not."""
    try:
        lab.write(text=text).inspected()
    except ConfigError as error:
        return error.message
    return ""


# Refused -------------------------------------------------------------------------------------------------------------


def test_a_volatile_text_is_refused_at_expand(big: Lab, model: Model, connection: Connection) -> None:
    lab = big.write(text="body || random()")
    before = objects(connection)
    with pytest.raises(ConfigError) as caught:
        lab.upgrade()
    assert caught.value.message == (
        "Collection documents: text calls random(), which is VOLATILE: its vectors would be out of date as soon as "
        "they are there, and be paid for again at each run."
    )
    assert caught.value.state == "Nothing was changed."
    assert model.total() == 0
    assert objects(connection) == before


def test_the_function_at_fault_is_named(big: Lab) -> None:
    """Also that of an operator, of a cast, and of what stands in a sub-select."""
    named = {text: refusal(big, text).partition(", which ")[0] for text in VOLATILE}
    assert named == {text: f"Collection documents: text calls {function}" for text, function in VOLATILE.items()}


def test_a_text_that_changes_with_time_is_refused(big: Lab) -> None:
    named = {text: refusal(big, text).partition(", which ")[0] for text in PASSING}
    assert named == {text: f"Collection documents: text depends on {what}" for text, what in PASSING.items()}


def test_what_only_looks_like_it_is_tracked(big: Lab) -> None:
    assert {text: big.write(text=text).inspected().scanned for text in LASTING} == dict.fromkeys(LASTING, "")


def test_a_volatile_where_is_refused(big: Lab) -> None:
    with pytest.raises(ConfigError, match=r"where calls random\(\), which is VOLATILE: records would come and go"):
        big.write(options={"where": "random() < 0.5"}).upgrade()


def test_a_function_of_the_teams_own_is_to_be_declared(big: Lab, model: Model, connection: Connection) -> None:
    connection.execute(
        "CREATE FUNCTION helpers.trimmed(t text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN trim(t); END $$"
    )
    lab = big.write(text="helpers.trimmed(body)")
    with pytest.raises(ConfigError) as caught:
        lab.upgrade()
    _, _, command = caught.value.hint.partition("say so: ")
    assert command == "ALTER FUNCTION helpers.trimmed(text) IMMUTABLE;"
    connection.execute(command.encode())
    assert lab.upgrade() == ["live"]
    assert model.total() == COUNT


def test_a_collection_that_has_such_a_text_already_buys_nothing_more(
    big: Lab, model: Model, connection: Connection
) -> None:
    """A team's function, whose body the plan does not show, becomes another one after the collection was made."""
    connection.execute(
        "CREATE FUNCTION helpers.body(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN t; END $$"
    )
    lab = big.write(text="helpers.body(body)")
    lab.upgrade(until="backfill")
    assert model.total() == COUNT
    connection.execute(
        "CREATE OR REPLACE FUNCTION helpers.body(t text) RETURNS text LANGUAGE plpgsql "
        "AS $$ BEGIN RETURN t || random(); END $$"
    )
    for verb in (lab.sync, lab.backfill, lab.checks, lab.upgrade):
        with pytest.raises(ConfigError, match=r"text calls helpers\.body\(\), which is VOLATILE"):
            verb()
    assert model.total() == COUNT
    problem = lab.status().problem
    assert isinstance(problem, ConfigError)
    assert "helpers.body()" in problem.message


def test_searches_go_on_whatever_becomes_of_the_text(big: Lab, connection: Connection) -> None:
    connection.execute(
        "CREATE FUNCTION helpers.body(t text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN t; END $$"
    )
    lab = big.write(text="helpers.body(body)")
    lab.upgrade()
    connection.execute("ALTER FUNCTION helpers.body(text) VOLATILE")
    with lab.reader() as reader:
        assert reader.search("documents", "body 3", 1)[0].key == (3,)


# Scanned -------------------------------------------------------------------------------------------------------------


def told(lab: Lab) -> str:
    """Give what expand said."""
    (said,) = (event.summary for event in lab.events if isinstance(event, StepDone) and event.step == "expand")
    return said


def test_a_text_of_other_tables_is_scanned(big: Lab, connection: Connection) -> None:
    assert {text: big.write(text=text).inspected().scanned for text in UNSEEN} == UNSEEN
    text, why = next(iter(UNSEEN.items()))
    lab = big.write(text=text)
    lab.upgrade()
    assert told(lab).endswith(f"change tracking: scan ({why})")
    assert lab.status().scanned == why
    assert connection.execute("SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'vecmig%'").fetchone() == (0,)


def test_a_change_of_another_table_reaches_the_vectors(big: Lab, model: Model, connection: Connection) -> None:
    lab = big.write(text="(SELECT a.name FROM public.authors a WHERE a.id = documents.id) || body")
    lab.upgrade()
    connection.execute("UPDATE authors SET name = 'Agatha' WHERE id = 7")
    model.embedded.clear()
    lab.sync()
    assert set(model.embedded) == {(64, "Agathabody 7")}
    assert lab.cover(SMALL).share == 1


def test_records_that_come_with_time_are_found(big: Lab, model: Model, connection: Connection) -> None:
    connection.execute("ALTER TABLE documents ADD published timestamptz DEFAULT 'epoch'")
    connection.execute("UPDATE documents SET published = now() + interval '1 hour' WHERE id = 9")
    lab = big.write(options={"where": "published <= clock.at()"})
    connection.execute("CREATE SCHEMA clock")
    connection.execute("CREATE TABLE clock.shift (by interval)")
    connection.execute("INSERT INTO clock.shift VALUES ('0')")
    connection.execute(
        "CREATE FUNCTION clock.at() RETURNS timestamptz LANGUAGE plpgsql STABLE "
        "AS $$ BEGIN RETURN now() + (SELECT by FROM clock.shift); END $$"
    )
    lab.upgrade()
    assert lab.cover(SMALL).eligible == COUNT - 1
    connection.execute("UPDATE clock.shift SET by = '2 hours'")
    lab.sync()
    found = lab.cover(SMALL)
    assert (found.eligible, found.share) == (COUNT, 1)


def test_where_with_now_is_scanned(big: Lab, connection: Connection) -> None:
    connection.execute("ALTER TABLE documents ADD published timestamptz DEFAULT 'epoch'")
    lab = big.write(options={"where": "published <= now()"})
    lab.upgrade()
    assert lab.status().scanned == "where depends on now(), which changes with time"


def test_children_that_inherit_are_scanned(big: Lab, model: Model, connection: Connection) -> None:
    connection.execute("CREATE TABLE documents_2024 (PRIMARY KEY (id)) INHERITS (documents)")
    connection.execute("INSERT INTO documents_2024 VALUES (1001, 'title', 'of a child')")
    big.upgrade()
    assert told(big).endswith("change tracking: scan (public.documents_2024 inherits from public.documents)")
    assert model.total() == COUNT + 1
    connection.execute("INSERT INTO documents_2024 VALUES (1002, 'title', 'came later')")
    connection.execute("DELETE FROM documents_2024 WHERE id = 1001")
    big.sync()
    assert (big.cover(SMALL).eligible, big.cover(SMALL).share) == (COUNT + 1, 1)
    assert connection.execute("SELECT count(*) FROM documents_vectors WHERE id > 1000").fetchone() == (1,)


def test_one_key_in_parent_and_child_is_refused(big: Lab, connection: Connection) -> None:
    """The parent's primary key does not reach into the child."""
    connection.execute("CREATE TABLE documents_2024 () INHERITS (documents)")
    connection.execute("INSERT INTO documents_2024 VALUES (7, 'title', 'the same key')")
    with pytest.raises(ConfigError, match=r"2 records of public\.documents share the key"):
        big.upgrade()


def test_a_child_that_comes_later_ends_the_tracking_and_its_end_brings_it_back(
    big: Lab, connection: Connection
) -> None:
    big.upgrade()
    assert big.status().scanned == ""
    connection.execute("CREATE TABLE documents_2024 (PRIMARY KEY (id)) INHERITS (documents)")
    connection.execute("INSERT INTO documents_2024 VALUES (1001, 'title', 'of a child')")
    found = big.status()
    assert found.scanned == "public.documents_2024 inherits from public.documents"
    assert not found.complete
    big.sync()
    assert big.cover(SMALL).share == 1
    connection.execute("DROP TABLE documents_2024")
    big.sync()
    assert big.status().scanned == ""
    connection.execute("UPDATE documents SET body = 'edited' WHERE id = 7")
    assert big.status().lag.records == 1


def test_a_partitioned_source_stays_tracked(bare_lab: Lab, connection: Connection) -> None:
    connection.execute(
        "CREATE TABLE documents (id bigint PRIMARY KEY, title text, body text) PARTITION BY RANGE (id);"
        "CREATE TABLE documents_1 PARTITION OF documents FOR VALUES FROM (1) TO (100);"
        "INSERT INTO documents SELECT n, 'title', 'body ' || n FROM generate_series(1, 20) AS n"
    )
    lab = bare_lab.write(chain=(SMALL,))
    lab.upgrade()
    assert told(lab).endswith("change tracking: triggers")
    assert lab.status().scanned == ""


def test_a_view_and_what_is_configured_are_scanned_too(big: Lab, connection: Connection) -> None:
    connection.execute("CREATE VIEW shown AS SELECT * FROM documents WHERE title <> now()::text")
    assert big.write(source="public.shown").inspected().scanned == "shown is a view"
    assert big.write(options={"change_tracking": "scan"}).inspected().scanned == "change_tracking is scan"


def test_a_view_whose_text_changes_with_time_is_refused(big: Lab, connection: Connection) -> None:
    connection.execute("CREATE VIEW shown AS SELECT id, title, body || now() AS body FROM documents")
    with pytest.raises(ConfigError, match=r"text depends on now\(\), which changes with time"):
        big.write(source="public.shown").upgrade()


_HIDDEN = {
    "a view": (
        "CREATE VIEW shown AS SELECT id, title, helpers.chance(body) AS body FROM documents",
        {"source": "public.shown"},
    ),
    "a view over a table that is asked for once": (
        "CREATE VIEW shown AS WITH d AS MATERIALIZED (SELECT id, body || random() AS body FROM documents) TABLE d",
        {"source": "public.shown", "text": "body"},
    ),
    "a declaration": ("ALTER FUNCTION helpers.chance(text) IMMUTABLE", {"text": "helpers.chance(body)"}),
}


@pytest.mark.parametrize(("made", "changes"), _HIDDEN.values(), ids=list(_HIDDEN))
def test_chance_that_no_plan_shows_buys_nothing(
    big: Lab, model: Model, connection: Connection, made: str, changes: dict[str, str]
) -> None:
    connection.execute(made)
    with pytest.raises(UnsteadyExpression) as refused:
        big.write(**changes).upgrade()
    assert model.total() == 0
    assert "Nothing was " in refused.value.state


def test_a_text_that_an_application_changes_meanwhile_is_no_chance(
    big: Lab, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = 0

    def edited(*args: Any, **options: Any) -> Page:
        nonlocal readings
        readings += 1
        connection.execute("UPDATE documents SET body = body || 'x'")
        return read_page(*args, **options)

    monkeypatch.setattr("vecmig.freshness.steadiness.read_page", edited)
    big.upgrade("r1")
    assert readings >= 2
    assert big.cover(SMALL).share == 1


def test_looking_writes_nothing(big: Lab, connection: Connection) -> None:
    name = connection.info.dbname
    lab = big.write(text="body || random()")
    connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    (found,) = runner.status(lab.config).collections
    assert found.problem is not None
    assert "random()" in found.problem.message


def test_a_subscription_that_fires_no_triggers_is_named(big: Lab, connection: Connection) -> None:
    big.upgrade()
    connection.execute("CREATE SUBSCRIPTION feed CONNECTION 'dbname=x' PUBLICATION p WITH (connect = false)")
    connection.execute(
        "INSERT INTO pg_subscription_rel (srsubid, srrelid, srsubstate) "
        "SELECT oid, 'documents'::regclass, 'r' FROM pg_subscription"
    )
    try:
        assert big.status().silent == (("subscription", "feed"),)
        for suffix in ("track", "track_update", "track_truncate"):
            connection.execute(f"ALTER TABLE documents ENABLE ALWAYS TRIGGER vecmig_documents_{suffix}")
        assert big.status().silent == ()
    finally:
        connection.execute("ALTER SUBSCRIPTION feed SET (slot_name = NONE)")
        connection.execute("DROP SUBSCRIPTION feed")

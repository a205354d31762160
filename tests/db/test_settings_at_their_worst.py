"""A session is vecmig's own: what a database, a role or an environment sets does not reach it."""

from __future__ import annotations

from typing import Any, Final

import psycopg
import pytest
from psycopg import sql

from support.embedding import Model
from support.lab import LARGE, SMALL, Lab
from vecmig import runner
from vecmig.errors import DatabaseError
from vecmig.postgres.sessions import Database
from vecmig.postgres.settings import pinned

#: What does most harm, for each setting that a session of vecmig's has of its own.
WORST: Final = {
    "DateStyle": "SQL, DMY",
    "IntervalStyle": "iso_8601",
    "TimeZone": "Asia/Kathmandu",
    "array_nulls": "off",
    "backslash_quote": "off",
    "bytea_output": "escape",
    "check_function_bodies": "off",
    "client_min_messages": "error",
    "default_table_access_method": "other_heap",
    "default_transaction_deferrable": "on",
    "default_transaction_isolation": "serializable",
    "default_transaction_read_only": "on",
    "enable_bitmapscan": "off",
    "enable_hashagg": "off",
    "enable_hashjoin": "off",
    "enable_incremental_sort": "off",
    "enable_indexonlyscan": "off",
    "enable_indexscan": "off",
    "enable_material": "off",
    "enable_memoize": "off",
    "enable_mergejoin": "off",
    "enable_nestloop": "off",
    "enable_partition_pruning": "off",
    "enable_seqscan": "off",
    "enable_sort": "off",
    "enable_tidscan": "off",
    "exit_on_error": "on",
    "extra_float_digits": "-15",
    "gin_fuzzy_search_limit": "1",
    # long enough for the session's first statement on a machine that has much else to do
    "idle_in_transaction_session_timeout": "60s",
    "idle_session_timeout": "60s",
    "lc_monetary": "C.UTF-8",
    "lc_numeric": "C.UTF-8",
    "lc_time": "C.UTF-8",
    "lock_timeout": "60s",
    "plan_cache_mode": "force_generic_plan",
    "quote_all_identifiers": "on",
    "restrict_nonsystem_relation_kind": "view, foreign-table",
    "row_security": "on",
    "search_path": "public",
    "session_replication_role": "replica",
    "standard_conforming_strings": "off",
    "statement_timeout": "60s",
    "synchronous_commit": "off",
    "timezone_abbreviations": "India",
    "transaction_timeout": "60s",
    "transform_null_equals": "on",
    "xmlbinary": "hex",
    "xmloption": "document",
}
#: Why the others are left as they are.
HARMLESS: Final = {
    "said when a connection is opened": "application_name client_encoding",
    "said for one transaction only": "transaction_deferrable transaction_isolation transaction_read_only",
    "the team's words: an expression that names no configuration means the database's": "default_text_search_config",
    "an application's own texts: errors are told apart by their number": "lc_messages",
    "where things lie is the team's to say": "default_tablespace temp_tablespaces default_toast_compression",
    "what is loaded is settled before the first statement": (
        "local_preload_libraries session_preload_libraries dynamic_library_path extension_control_path"
    ),
    "roles, passwords, collations, large objects, databases, WAL senders: vecmig makes none": (
        "createrole_self_grant password_encryption md5_password_warnings scram_iterations icu_validation_level "
        "lo_compat_privileges file_copy_method wal_sender_timeout debug_logical_replication_streaming "
        "logical_decoding_work_mem"
    ),
    "a superuser's own switch, for a repair": (
        "event_triggers allow_in_place_tablespaces allow_system_table_mods ignore_checksum_failure zero_damaged_pages"
    ),
    "how much of the server one session may take": (
        "backend_flush_after commit_delay commit_siblings effective_io_concurrency hash_mem_multiplier "
        "io_combine_limit maintenance_io_concurrency maintenance_work_mem max_parallel_maintenance_workers "
        "max_parallel_workers max_parallel_workers_per_gather max_stack_depth parallel_leader_participation "
        "temp_buffers temp_file_limit vacuum_buffer_usage_limit work_mem gin_pending_list_limit deadlock_timeout "
        "stats_fetch_consistency"
    ),
    "weights of the planner: they choose among ways that all are there": (
        "constraint_exclusion cpu_index_tuple_cost cpu_operator_cost cpu_tuple_cost cursor_tuple_fraction "
        "default_statistics_target effective_cache_size enable_async_append enable_distinct_reordering "
        "enable_gathermerge enable_group_by_reordering enable_parallel_append enable_parallel_hash "
        "enable_partitionwise_aggregate enable_partitionwise_join enable_presorted_aggregate "
        "enable_self_join_elimination from_collapse_limit geqo geqo_effort geqo_generations geqo_pool_size geqo_seed "
        "geqo_selection_bias geqo_threshold jit jit_above_cost jit_expressions jit_inline_above_cost "
        "jit_optimize_above_cost jit_tuple_deforming join_collapse_limit min_parallel_index_scan_size "
        "min_parallel_table_scan_size parallel_setup_cost parallel_tuple_cost random_page_cost "
        "recursive_worktable_factor seq_page_cost synchronize_seqscans debug_parallel_query force_parallel_mode"
    ),
    "how a search by HNSW is tuned; a reader asks for the order that it needs": (
        "hnsw.ef_search hnsw.iterative_scan hnsw.max_scan_tuples hnsw.scan_mem_multiplier ivfflat.iterative_scan "
        "ivfflat.max_probes ivfflat.probes"
    ),
    "vacuum, which vecmig leaves to the server": (
        "vacuum_cost_delay vacuum_cost_limit vacuum_cost_page_dirty vacuum_cost_page_hit vacuum_cost_page_miss "
        "vacuum_failsafe_age vacuum_freeze_min_age vacuum_freeze_table_age vacuum_max_eager_freeze_failure_rate "
        "vacuum_multixact_failsafe_age vacuum_multixact_freeze_min_age vacuum_multixact_freeze_table_age "
        "vacuum_truncate"
    ),
    "the connection's pulse: vecmig's own side has one": (
        "client_connection_check_interval tcp_keepalives_count tcp_keepalives_idle tcp_keepalives_interval "
        "tcp_user_timeout"
    ),
    "what the server logs, counts and shows": (
        "backtrace_functions compute_query_id debug_pretty_print debug_print_parse debug_print_plan "
        "debug_print_rewritten escape_string_warning log_duration log_error_verbosity log_executor_stats "
        "log_lock_failures log_lock_waits log_min_duration_sample log_min_duration_statement log_min_error_statement "
        "log_min_messages log_parameter_max_length log_parameter_max_length_on_error log_parser_stats "
        "log_planner_stats log_replication_commands log_statement log_statement_sample_rate log_statement_stats "
        "log_temp_files log_transaction_sample_rate trace_notify trace_sort track_activities track_cost_delay_timing "
        "track_counts track_functions track_io_timing track_wal_io_timing update_process_title jit_dump_bitcode"
    ),
    "how the write-ahead log is written": (
        "wal_compression wal_consistency_checking wal_init_zero wal_recycle wal_skip_threshold"
    ),
    "for those who develop PostgreSQL": "debug_discard_caches",
    "what PL/pgSQL warns of; no function of vecmig's leaves a name open": (
        "plpgsql.check_asserts plpgsql.extra_errors plpgsql.extra_warnings plpgsql.print_strict_params "
        "plpgsql.variable_conflict"
    ),
}
#: What an application of this story cannot have and still do what it does here.
APPLICATION: Final = {
    "default_transaction_read_only": "off",
    "session_replication_role": "origin",
    "restrict_nonsystem_relation_kind": "",
}
#: Not turned round: they fill the server's log, or slow it down a hundredfold.
_LOUD: Final = ("debug_", "log_", "trace_", "jit_dump", "wal_consistency")


def harmless() -> set[str]:
    """Name all that are left alone."""
    return {name for names in HARMLESS.values() for name in names.split()}


def test_each_setting_is_pinned_or_known_to_be_harmless(connection: psycopg.Connection[Any]) -> None:
    """Also those of a newer server: whoever meets one here says which of both it is, and why."""
    connection.execute("LOAD 'vector'; LOAD 'plpgsql'")
    rows = connection.execute("SELECT name FROM pg_settings WHERE context IN ('user', 'superuser')").fetchall()
    there = {name for (name,) in rows}
    assert sorted(there - pinned() - harmless()) == []
    assert sorted(pinned() & harmless()) == []
    assert sorted(pinned() - there) == [] or connection.info.server_version < 180000
    assert sorted(pinned() - set(WORST)) == []


@pytest.fixture
def settings_of_the_database(connection: psycopg.Connection[Any]) -> Any:
    """Make a setting of the database; what another server does not know is left out."""
    connection.execute("CREATE ACCESS METHOD other_heap TYPE TABLE HANDLER heap_tableam_handler")
    known = {name for (name,) in connection.execute("SELECT name FROM pg_settings").fetchall()}

    def make(settings: dict[str, str]) -> None:
        database = sql.Identifier(connection.info.dbname)
        for name, value in settings.items():
            if name in known:
                parts = (database, sql.Identifier(name), _value(name, value))
                connection.execute(sql.SQL("ALTER DATABASE {} SET {} = {}").format(*parts))

    return make


def _value(name: str, value: str) -> sql.Composable:
    # a list of several is no text in quotes
    if name == "restrict_nonsystem_relation_kind":
        return sql.SQL(", ").join(map(sql.Literal, value.split(", ")))
    return sql.Literal(value)


def _make_documents(connection: psycopg.Connection[Any]) -> None:
    connection.execute(
        "CREATE TABLE documents (day date, at timestamptz, share float, took interval, raw bytea, body text, "
        "PRIMARY KEY (day, at, share))"
    )
    # without a capital S: where a backslash means nothing, \S is an S
    connection.execute(
        "INSERT INTO documents SELECT date '2026-01-01' + n, timestamptz '2026-03-04 05:06:07Z' - n * interval "
        "'1.000001 s', n / 7.0, n * interval '1 day 2 h', decode('00ff', 'hex'), 'body ' || n "
        "FROM generate_series(1, 12) n"
    )


#: What changes with the settings, all of it.
_TEXT: Final = (
    "concat_ws(' ', day, at, share, took, raw, body, extract(day FROM day)::numeric::money, to_char(share, '9D99L'), "
    "to_char(day, 'TMMonth'), '{NULL,a}'::text[], E'it\\'s', (took = NULL)::text, regexp_replace(body, '\\s', '_'))"
)


def _story(lab: Lab, model: Model, application: psycopg.Connection[Any]) -> None:
    """Build, edit, follow, judge, search and go down again; each step leaves what it would leave anywhere."""
    assert lab.upgrade("+1") == ["live"]
    assert lab.cover(SMALL).fresh == 12
    assert model.total() == 12
    application.execute("UPDATE documents SET body = body || 'x' WHERE share < 0.5")
    application.execute("DELETE FROM documents WHERE share > 1.6")
    application.execute(
        "INSERT INTO documents VALUES ('2026-05-06', '2026-05-06 07:08:09Z', 0.1, '1 mon', decode('fe', 'hex'), 'new')"
    )
    assert lab.sql("SELECT count(*) FROM vecmig.change") == [(4,)]
    lab.sync()
    found = lab.cover(SMALL)
    assert (found.records, found.fresh, found.stale, found.unaccounted) == (12, 12, 0, 0)
    assert lab.sql("SELECT count(*) FROM vecmig.change") == [(0,)]
    assert model.total() == 12 + 4
    lab.upgrade()
    assert lab.live == LARGE
    assert model.total(256) == 12
    # what a role may write unseen is found, and nothing else
    assert {found.object for found in runner.audit(lab.config).findings} <= {"every role"}
    with lab.reader() as reader:
        (hit,) = reader.search("documents", _text_of_the_new(lab), 1)
        assert (hit.key[2], abs(hit.distance) < 1e-5) == (0.1, True)
    assert lab.downgrade() == ["r2"]
    assert lab.live == SMALL


def _text_of_the_new(lab: Lab) -> str:
    with lab.opened(LARGE) as (connection, stamps):
        query = sql.SQL("SELECT s.txt FROM {} s WHERE s.txt LIKE '%new%'").format(stamps.source.records)
        (row,) = connection.execute(query).fetchall()
        return str(row[0])


@pytest.fixture
def dated_lab(bare_lab: Lab, connection: psycopg.Connection[Any]) -> Lab:
    """A project whose key and text are of types that settings write in many ways."""
    _make_documents(connection)
    return bare_lab.write(key=["day", "at", "share"], text=_TEXT)


def test_a_database_with_all_of_them_at_their_worst(
    dated_lab: Lab, settings_of_the_database: Any, model: Model
) -> None:
    settings_of_the_database(WORST | {"client_encoding": "LATIN1"})
    options = " ".join(f"-c {name}={value}" for name, value in APPLICATION.items())
    with psycopg.connect(dated_lab.url, autocommit=True, options=options) as application:
        assert application.execute("SHOW standard_conforming_strings").fetchone() == ("off",)
        application.execute("SET DateStyle = 'ISO, MDY'")
        _story(dated_lab, model, application)
    assert dated_lab.sql(
        "SELECT count(*) FROM pg_class c JOIN pg_am a ON a.oid = relam WHERE amname = 'other_heap'"
    ) == [(0,)]


def test_a_database_with_the_others_turned_round(
    dated_lab: Lab, settings_of_the_database: Any, model: Model, connection: psycopg.Connection[Any]
) -> None:
    """What is called harmless is: every switch of it the other way, every choice another one."""
    connection.execute("LOAD 'plpgsql'")
    rows = connection.execute(
        "SELECT name, setting, vartype, enumvals FROM pg_settings "
        "WHERE vartype IN ('bool', 'enum') AND context IN ('user', 'superuser')"
    ).fetchall()
    turned = {}
    for name, value, kind, choices in rows:
        if name in harmless() and not name.startswith(_LOUD) and not name.startswith("transaction_"):
            turned[name] = (
                ("off" if value == "on" else "on") if kind == "bool" else (set(choices) - {value} or {value}).pop()
            )
    assert len(turned) > 30
    # where a partitioned table may not be said to lie, though all lies there
    settings_of_the_database(turned | {"default_tablespace": "pg_default"})
    with psycopg.connect(dated_lab.url, autocommit=True) as application:
        _story(dated_lab, model, application)


def test_the_environment_does_not_reach_a_session(
    database_url: str, connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What PGOPTIONS says counts like a word of the client's own, and more than what a role or a database says."""
    with Database(database_url).connect() as session:
        own = {name: _current(session, name) for name in pinned()}
    there = {name for (name,) in connection.execute("SELECT name FROM pg_settings").fetchall()}
    connection.execute("CREATE ACCESS METHOD other_heap TYPE TABLE HANDLER heap_tableam_handler")
    words = [f"-c {name}={value}".replace(", ", ",\\ ") for name, value in WORST.items() if name in there]
    monkeypatch.setenv("PGOPTIONS", " ".join(words))
    monkeypatch.setenv("PGCLIENTENCODING", "LATIN1")
    monkeypatch.setenv("PGTZ", "Asia/Kathmandu")
    monkeypatch.setenv("PGDATESTYLE", "SQL, DMY")
    with Database(database_url).connect() as session:
        monkeypatch.undo()
        assert {name: _current(session, name) for name in pinned()} == own
        assert session.info.encoding == "utf-8"
        assert _current(session, "client_encoding") == "UTF8"


def _current(session: psycopg.Connection[Any], name: str) -> str | None:
    row = session.execute("SELECT current_setting(%s, true)", [name]).fetchone()
    assert row is not None
    value: str | None = row[0]
    return value


def test_a_setting_that_the_role_may_not_change_is_said(database_url: str, connection: psycopg.Connection[Any]) -> None:
    """A superuser has every session of the database write as a replica: triggers would see none of it."""
    connection.execute("CREATE ROLE plain_writer LOGIN")
    try:
        connection.execute(f"ALTER DATABASE {connection.info.dbname} SET session_replication_role = replica")
        with pytest.raises(DatabaseError, match="session_replication_role"):
            Database(database_url.replace("//postgres@", "//plain_writer@")).connect()
    finally:
        connection.execute("DROP OWNED BY plain_writer; DROP ROLE plain_writer")

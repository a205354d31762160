"""vecmig.ini, [tool.vecmig], the environment and flags: what wins, and what each mistake is called."""

from __future__ import annotations

import math
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from vecmig.config import Config, load_config
from vecmig.errors import ConfigError

URL = "postgresql://app@db/app"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to stand in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ini(*lines: str, section: str = "[vecmig]") -> None:
    Path("vecmig.ini").write_text("\n".join([section, *lines, ""]))


def refusal(**options: object) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(**({"environ": {}} | options))  # type: ignore[arg-type]
    return caught.value


def test_defaults(project: Path) -> None:
    ini(f"database_url = {URL}")
    assert load_config(environ={}) == Config(
        path=project / "vecmig.ini",
        database_url=URL,
        script_location=project / "migrations",
        version_locations=(project / "migrations/versions",),
        collections_path=project / "migrations/collections.yaml",
        schema="vecmig",
        file_template="{rev}_{slug}",
        truncate_slug_length=40,
        template="generic",
        lock_wait=30.0,
        lock_timeout=0.1,
        maintenance_work_mem_mb=2048,
        index_workers=None,
        reconnect_wait=300.0,
        provider_wait=600.0,
        throttle_query=None,
        max_replica_lag=None,
        x={},
    )


def test_every_option(project: Path) -> None:
    ini(
        "# a comment",
        f"database_url = {URL}",
        "script_location = db/vectors",
        "version_locations = db/a, db/b",
        "    /elsewhere/c",
        "collections = c.yaml",
        "schema = Vec Mig",
        "file_template = {year}-{month:02d}_{rev}_{slug}",
        "truncate_slug_length = 20",
        "template = team",
        "lock_wait = 2.5",
        "lock_timeout = 0.25",
        "maintenance_work_mem_mb = 512",
        "index_workers = 0",
        "reconnect_wait = 0",
        "provider_wait = 1.5",
        "keep_shadow_days = 7.5",
        "keep_sync_days = unlimited",
        "throttle_query = SELECT count(*) FROM pg_stat_activity",
        "  WHERE application_name LIKE 'report%';",
        "max_replica_lag = 2.5",
    )
    config = load_config(environ={}, x=["tenant=a=b", "dry"])
    assert config.version_locations == (project / "db/a", project / "db/b", Path("/elsewhere/c"))
    assert (config.script_location, config.collections_path) == (project / "db/vectors", project / "c.yaml")
    assert (config.schema, config.file_template) == ("Vec Mig", "{year}-{month:02d}_{rev}_{slug}")
    assert (config.truncate_slug_length, config.template) == (20, "team")
    assert (config.lock_wait, config.lock_timeout) == (2.5, 0.25)
    assert (config.maintenance_work_mem_mb, config.index_workers) == (512, 0)
    assert (config.reconnect_wait, config.provider_wait, config.max_replica_lag) == (0.0, 1.5, 2.5)
    assert (config.keep_shadow_days, config.keep_sync_days) == (7.5, math.inf)
    assert config.throttle_query == ("SELECT count(*) FROM pg_stat_activity\nWHERE application_name LIKE 'report%'"), (
        "as it stands there"
    )
    assert config.x == {"tenant": "a=b", "dry": ""}


@pytest.mark.parametrize(
    ("at_terminal", "environ", "written", "seconds"),
    [
        (True, {}, None, math.inf),
        (True, {"CI": "true"}, None, 600),
        (True, {"CI": "false"}, None, math.inf),
        (False, {}, None, 600),
        (False, {}, "unlimited", math.inf),
        (True, {"CI": "1"}, "0", 0),
        (False, {"VECMIG_PROVIDER_WAIT": "unlimited"}, "5", math.inf),
        (True, {"VECMIG_PROVIDER_WAIT": "30"}, None, 30),
    ],
)
def test_a_provider_is_waited_for_without_end_only_where_somebody_watches(
    at_terminal: bool, environ: dict[str, str], written: str | None, seconds: float
) -> None:
    ini(f"database_url = {URL}", *([] if written is None else [f"provider_wait = {written}"]))
    assert load_config(environ=environ, at_terminal=at_terminal).provider_wait == seconds
    assert load_config(environ=environ, overrides={"provider_wait": "7"}).provider_wait == 7


def test_pyproject(project: Path) -> None:
    Path("pyproject.toml").write_text(
        '[project]\nname = "x"\n[tool.vecmig]\n'
        f'database_url = "{URL}"\nlock_wait = 3\nversion_locations = ["a", "${{B}}"]\n'
    )
    config = load_config(environ={"B": "b"})
    assert (config.path, config.lock_wait) == (project / "pyproject.toml", 3.0)
    assert config.version_locations == (project / "a", project / "b")


def test_the_ini_file_goes_before_pyproject() -> None:
    Path("pyproject.toml").write_text('[tool.vecmig]\ndatabase_url = "postgresql://other"\n')
    ini(f"database_url = {URL}")
    assert load_config(environ={}).database_url == URL


def test_flag_then_environment_then_file_then_default() -> None:
    ini(f"database_url = {URL}", "lock_wait = 1", "schema = file", "template = file")
    environ = {"VECMIG_SCHEMA": "environment", "VECMIG_TEMPLATE": "environment", "VECMIG_UNRELATED": "x"}
    config = load_config(environ=environ, overrides={"template": "flag"})
    assert (config.template, config.schema, config.lock_wait) == ("flag", "environment", 1.0)
    assert config.truncate_slug_length == 40


def test_another_file_by_path_or_variable(project: Path) -> None:
    (project / "deploy").mkdir()
    file = project / "deploy/prod.ini"
    file.write_text(f"[vecmig]\ndatabase_url = {URL}\nscript_location = ../migrations\n")
    by_path = load_config(Path("deploy/prod.ini"), environ={"VECMIG_CONFIG": "none.ini"})
    assert by_path == load_config(environ={"VECMIG_CONFIG": str(file)})
    assert (by_path.path, by_path.script_location) == (file, project / "migrations")


def test_the_embedded_database_lies_beside_the_file(project: Path) -> None:
    (project / "deploy").mkdir()
    (project / "deploy/vecmig.ini").write_text("[vecmig]\ndatabase_url = embedded:.vecmig/pgdata\n")
    config = load_config(Path("deploy/vecmig.ini"), environ={})
    assert config.database_url == f"embedded:{project}/deploy/.vecmig/pgdata"


def test_variables_expand_and_percent_signs_stay() -> None:
    ini("database_url = postgresql://app:${PW}@${HOST}/app%20db")
    environ = {"PW": "50%(x)s${HOST}", "HOST": "db"}
    assert load_config(environ=environ).database_url == "postgresql://app:50%25%28x%29s%24%7BHOST%7D@db/app%20db"


@pytest.mark.parametrize("password", ["Xy7@Kq9Lm2:Zt4/abc", "p?w", "100%", "#1", "a b", "ünï"])
def test_a_password_from_a_variable_may_hold_any_character(password: str) -> None:
    ini("database_url = postgresql://app:${PW}@127.0.0.1:5432/shop")
    url = load_config(environ={"PW": password}).database_url
    assert unquote(urlsplit(url).password or "") == password
    assert urlsplit(url).hostname == "127.0.0.1"


def test_variables_in_the_environment_do_not_expand() -> None:
    ini()
    assert load_config(environ={"VECMIG_DATABASE_URL": URL + "?x=${Y}"}).database_url == URL + "?x=${Y}"


def test_history_needs_no_database() -> None:
    ini("database_url = ${DATABASE_URL}")
    assert load_config(environ={}, database=False).database_url == ""
    ini()
    assert load_config(environ={}, database=False).database_url == ""


def test_the_url_is_not_in_the_repr() -> None:
    ini("database_url = postgresql://app:secret@db/app")
    assert "secret" not in repr(load_config(environ={}))


def test_no_file(project: Path) -> None:
    error = refusal()
    assert error.message == f"There is no vecmig.ini in {project}, and no [tool.vecmig] in a pyproject.toml there."
    assert error.hint == "Run: vecmig init, or name the file with -c"
    Path("pyproject.toml").write_text("[project]\n")
    assert refusal().message == error.message


@pytest.mark.parametrize("options", [{"path": Path("x.ini")}, {"environ": {"VECMIG_CONFIG": "x.ini"}}])
def test_a_named_file_that_is_missing(options: dict[str, object]) -> None:
    error = refusal(**options)
    assert (error.message, error.hint) == ("The configuration file x.ini does not exist.", "Run: vecmig init")


FORM = "A line reads: option = value, below [vecmig]"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("database_url = x\n", "vecmig.ini:1: this line stands before any [section]."),
        ("[vecmig]\n\npostgresql://u:secret@h\n", "vecmig.ini:3: this line is not of the form option = value."),
        ("[vecmig]\nschema = a\nschema = b\n", "vecmig.ini:3: this line says schema twice."),
        ("[vecmig]\n[vecmig]\n", "vecmig.ini:2: this line opens [vecmig] a second time."),
    ],
)
def test_what_is_not_an_ini(text: str, message: str) -> None:
    Path("vecmig.ini").write_text(text)
    error = refusal()
    assert (error.message, error.hint) == (message, FORM)


def test_a_file_without_our_section() -> None:
    ini(section="[alembic]")
    error = refusal()
    assert error.message == "vecmig.ini has no section [vecmig]."
    assert error.hint == "Add [vecmig], or run: vecmig init"


def test_a_default_section_adds_nothing() -> None:
    Path("vecmig.ini").write_text(f"[DEFAULT]\nschema = sly\n[vecmig]\ndatabase_url = {URL}\n")
    assert load_config(environ={}).schema == "vecmig"


def test_a_file_that_is_not_text_or_not_a_file(project: Path) -> None:
    Path("vecmig.ini").write_bytes(b"[vecmig]\n\xff\n")
    assert refusal().message == "vecmig.ini is not UTF-8: byte 9 cannot be read."
    (project / "dir.ini").mkdir()
    assert refusal(path=Path("dir.ini")).message == "dir.ini cannot be read: Is a directory."


def test_toml_that_is_not() -> None:
    Path("pyproject.toml").write_text("[tool.vecmig]\nx = \n")
    assert refusal().message == "pyproject.toml is not TOML: Invalid value (at line 2, column 5)."


@pytest.mark.parametrize(
    ("lines", "message", "hint"),
    [
        (
            [f"database_url = {URL}", "index_workers = -1"],
            "vecmig.ini:3: index_workers is '-1'; a whole number from 0 to 1024 is needed.",
            "",
        ),
        (
            [f"database_url = {URL}", "index_workers = 1025"],
            "vecmig.ini:3: index_workers is '1025'; a whole number from 0 to 1024 is needed.",
            "",
        ),
        (
            [f"database_url = {URL}", "provider_wait = long"],
            "vecmig.ini:3: provider_wait is 'long'; a number of seconds from 0 is needed, or unlimited.",
            "",
        ),
        (
            ["databse_url = x"],
            "vecmig.ini:2: unknown option 'databse_url'; did you mean database_url?",
            "",
        ),
        (
            ["zzz = 1"],
            (
                "vecmig.ini:2: unknown option 'zzz'; known: script_location, database_url, collections, "
                "version_locations, schema, vectors_schema, file_template, truncate_slug_length, template, lock_wait, "
                "lock_timeout, maintenance_work_mem_mb, index_workers, reconnect_wait, provider_wait, "
                "keep_shadow_days, keep_sync_days, throttle_query, max_replica_lag, engine, workers"
            ),
            "",
        ),
        (
            [],
            "vecmig.ini does not say database_url.",
            "Add database_url = postgresql://…, or set VECMIG_DATABASE_URL",
        ),
        (["database_url ="], "vecmig.ini:2: database_url is empty.", ""),
        (
            ["", "database_url = ${DATABASE_URL}"],
            "vecmig.ini:3: database_url needs the environment variable DATABASE_URL, which is not set.",
            "Set it: export DATABASE_URL=…",
        ),
        (
            ["database_url = postgresql://${"],
            "vecmig.ini:2: database_url has a ${ that is not followed by the name of a variable and }.",
            "",
        ),
        (
            ["database_url = mysql://app:secret@db/app"],
            "vecmig.ini:2: database_url 'mysql://app:***@db/app' is not a database that vecmig knows.",
            "Write postgresql://user@host/database, or embedded:.vecmig/pgdata",
        ),
        (
            [f"database_url = {URL}", "truncate_slug_length = many"],
            "vecmig.ini:3: truncate_slug_length is 'many'; a whole number from 1 is needed.",
            "",
        ),
        (
            [f"database_url = {URL}", "keep_shadow_days = 0"],
            "vecmig.ini:3: keep_shadow_days is '0'; a number of days above 0 is needed, at most 36500, or unlimited.",
            "",
        ),
        (
            [f"database_url = {URL}", "lock_wait = nan"],
            "vecmig.ini:3: lock_wait is 'nan'; a number of seconds from 0 is needed.",
            "",
        ),
        (
            [f"database_url = {URL}", "reconnect_wait = -1"],
            "vecmig.ini:3: reconnect_wait is '-1'; a number of seconds from 0 is needed.",
            "",
        ),
        (
            [f"database_url = {URL}", "max_replica_lag = 0"],
            "vecmig.ini:3: max_replica_lag is '0'; a number of seconds above 0 is needed.",
            "",
        ),
        (
            [f"database_url = {URL}", "throttle_query = DELETE FROM t"],
            "vecmig.ini:3: throttle_query is not a query.",
            "Write it like: SELECT count(*) FROM … ; above 0 means: wait",
        ),
        (
            [f"database_url = {URL}", "throttle_query = SELECT 1; DELETE FROM t"],
            (
                "vecmig.ini:3: throttle_query is not one query: it holds a ';': one expression is needed, not a "
                "statement."
            ),
            "",
        ),
        (
            [f"database_url = {URL}", "throttle_query = SELECT 1) OR (true"],
            "vecmig.ini:3: throttle_query is not one query: it closes a ')' that it did not open.",
            "",
        ),
        (
            [f"database_url = {URL}", "template = ../etc"],
            "vecmig.ini:3: template is '../etc'; the name of a folder under templates/ is needed.",
            "Run: vecmig list_templates",
        ),
        (
            [f"database_url = {URL}", f"schema = {'s' * 58}"],
            "vecmig.ini:3: schema has 58 bytes; at most 57 are allowed.",
            "",
        ),
        (
            [f"database_url = {URL}", f"schema = {'ü' * 29}"],
            "vecmig.ini:3: schema has 58 bytes; at most 57 are allowed.",
            "",
        ),
        (
            [f"database_url = {URL}", "schema = pg_vecmig"],
            "vecmig.ini:3: schema is not a name that PostgreSQL takes for a schema.",
            "",
        ),
        (
            [f"database_url = {URL}", "file_template = {rev}_{slugg}"],
            "vecmig.ini:3: file_template has an unknown token 'slugg'; did you mean slug?",
            "",
        ),
        (
            [f"database_url = {URL}", "file_template = {slug}"],
            "vecmig.ini:3: file_template must hold {rev} and name a file, not a path.",
            "Write it like {rev}_{slug}",
        ),
        (
            [f"database_url = {URL}", "file_template = {rev"],
            "vecmig.ini:3: file_template is not a template: expected '}' before end of string.",
            "Write it like {rev}_{slug}",
        ),
    ],
)
def test_what_is_wrong_with_an_option(lines: list[str], message: str, hint: str) -> None:
    ini(*lines)
    error = refusal()
    assert (error.message, error.hint) == (message, hint)


def test_mistakes_elsewhere_name_their_place() -> None:
    ini(f"database_url = {URL}")
    assert refusal(environ={"VECMIG_LOCK_WAIT": "x"}).message == (
        "The variable VECMIG_LOCK_WAIT: lock_wait is 'x'; a number of seconds from 0 is needed."
    )
    assert refusal(overrides={"databse_url": "x"}).message == (
        "The command line: unknown option 'databse_url'; did you mean database_url?"
    )
    Path("vecmig.ini").unlink()
    Path("pyproject.toml").write_text("[tool.vecmig]\ndatabase_url = 3\n")
    assert refusal().message == "pyproject.toml:2: database_url must be a text, not a number."
    Path("pyproject.toml").write_text(f'[tool.vecmig]\ndatabase_url = "{URL}"\nlock_wait = true\n')
    assert refusal().message == "pyproject.toml:3: lock_wait is True; a number of seconds from 0 is needed."

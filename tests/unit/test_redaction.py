"""No secret is shown: of a database URL or connection string, of a server's address, of another program's words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecmig.config import is_keyless, origin, redact, without_passwords
from vecmig.errors import ConfigError
from vecmig.postgres.sessions import Database


@pytest.mark.parametrize("where", ["@127.0.0.1:{}/d", "@h1:5432,h2:{}/d", "@h:54{}", "@/d?port={}", "@h/d?port=1#{}"])
def test_what_stands_in_place_of_a_port_is_not_shown(where: str) -> None:
    url = f"postgresql://a{where.format('S3CRETx')}"
    assert "S3CRET" not in redact(url)
    with pytest.raises(ConfigError) as refused:
        _ = Database(url).conninfo
    assert "S3CRET" not in f"{refused.value.message}{refused.value.hint}"


def test_a_connect_timeout_that_is_no_number_is_refused() -> None:
    with pytest.raises(ConfigError, match="not a PostgreSQL URL"):
        _ = Database("postgresql://a@h/d?connect_timeout=abc").conninfo


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://app@db/app", "postgresql://app@db/app"),
        ("postgresql://app:secret@db:5432/app?sslmode=require", "postgresql://app:***@db:5432/app?sslmode=require"),
        ("postgresql://app:se@cr:et/@db/app", "postgresql://app:***@db/app"),
        ("postgresql://app:secret://x@db/app", "postgresql://app:***@db/app"),
        ("app:secret@db/app", "app:***@db/app"),
        ("postgresql://app:secret", "postgresql://app:***"),
        ("postgresql://db:5432/app", "postgresql://db:5432/app"),
        ("postgresql://a:1,b:2/app", "postgresql://a:1,b:2/app"),
        ("postgresql://[::1]:5432/app", "postgresql://[::1]:5432/app"),
        ("postgresql//app:secret@db", "postgresql//app:***@db"),
        ("postgresql://db/app?user=app&password=secret&x=1", "postgresql://db/app?user=app&password=***&x=***"),
        ("host=db user=app password=secret", "host=db user=app password=***"),
        ("host=db password='se cret' x=1", "host=db password=*** x=***"),
        ("embedded:/x/pgdata", "embedded:/x/pgdata"),
        ("postgresql://db/app?pass%77ord=secret", "postgresql://db/app?pass%77ord=***"),
        ("postgresql://db/app?sslpassword=a&options=-csecret", "postgresql://db/app?sslpassword=***&options=***"),
        ("postgresql://db/app?application_name=web+1&port=5433", "postgresql://db/app?application_name=***&port=5433"),
        ("postgresql://db/app?dbname=postgresql%3A%2F%2Fa%3Asecret%40b", "postgresql://db/app?dbname=***"),
        ("postgresql://app:secret/db", "postgresql://app:***"),
        ("postgresql://app:sec?ret@db/app", "postgresql://app:***?***"),
        ("host=db passwd='secret", "host=db ***"),
        ("host=db secret user=app", "host=db ***"),
    ],
)
def test_passwords_are_redacted(url: str, shown: str) -> None:
    assert redact(url) == shown


@given(st.from_regex(r"SECRET[ -~]{0,12}SECRET", fullmatch=True), st.sampled_from(["postgresql://", "x://", "", "//"]))
def test_no_password_survives_redaction(password: str, scheme: str) -> None:
    assert "SECRET" not in redact(f"{scheme}app:{password}@db/app")


_SECRET = st.from_regex(r"SECRET[!-~]{0,8}SECRET", fullmatch=True)
_BEFORE = st.sampled_from(["", "sslmode=require&", "host=x&port=1&", "&&", "dbname=%41&"])
_NAMES = st.one_of(
    st.sampled_from(["password", "pass%77ord", "PASSWORD", "sslpassword", "options", "%70assword", "token"]),
    st.from_regex(r"[a-z_%]{1,8}", fullmatch=True).filter(lambda name: name not in {"user", "host", "port", "dbname"}),
)


@given(_SECRET.filter(lambda secret: "&" not in secret), _NAMES, _BEFORE)
def test_no_parameter_of_a_url_survives_redaction(secret: str, name: str, before: str) -> None:
    for address in ("postgresql://app@db/app", "postgresql://app:pw@[::1]:5/app", "x://", "db"):
        assert "SECRET" not in redact(f"{address}?{before}{name}={secret}&sslmode=require")


@given(st.from_regex(r"SECRET[ -~]{0,8}SECRET", fullmatch=True), _NAMES)
def test_no_setting_of_a_connection_string_survives_redaction(secret: str, name: str) -> None:
    written = "'" + secret.replace("\\", "\\\\").replace("'", "\\'") + "'"
    assert "SECRET" not in redact(f"host=db {name} = {written} user=app")
    assert "SECRET" not in redact(f"host=db {name}={written[:-1]}"), "the quote was forgotten"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://api.example.com:8443/v1", "https://api.example.com:8443/…"),
        ("http://localhost:8080", "http://localhost:8080"),
        ("http://localhost:8080/", "http://localhost:8080"),
        ("https://gateway/SECRET/v1?key=SECRET#SECRET", "https://gateway/…"),
        ("https://SECRET:SECRET@gateway/v1", "https://gateway/…"),
        ("https://gateway?key=SECRET", "https://gateway/…"),
        ("${EMBEDDINGS_URL}/v1", "${EMBEDDINGS_URL}/v1"),
    ],
)
def test_of_a_server_only_its_name_is_shown(address: str, shown: str) -> None:
    assert origin(address) == shown


@pytest.mark.parametrize(
    ("address", "keyless"),
    [
        ("https://api.openai.com/v1", True),
        ("https://host:8080/", True),
        ("http://host/openai/deployments/text-embedding-3-small/v1beta2", True),
        ("https://gateway/${TOKEN}/v1", True),
        ("${EMBEDDINGS_URL}", True),
        ("https://gateway/qzj7Kp2Lx9/v1", False),
        ("https://gateway/${TOKEN}qzj7Kp2Lx9", False),
        ("https://gateway/0a6f3c1e-58d1-4a55-9b64-c3e0c6a1b2f3/v1", False),
        ("https://gateway/sk-abc123/v1", False),
        ("https://gateway/v1?key=a", False),
        ("https://gateway/v1#a", False),
        ("https://me@gateway/v1", False),
        ("https://[gateway/v1", False),
    ],
)
def test_which_addresses_can_hold_no_key(address: str, keyless: bool) -> None:
    assert is_keyless(address) is keyless


@pytest.mark.parametrize(
    "text",
    [
        "connection to postgresql://app:SECRET@db/app failed",
        "bad value password='my SECRET' user=app",
        "cannot read pass%77ord=SECRET",
        "{'api_key': 'SECRET', \"token\": \"SECRET\"}",
        "404 for url https://gateway/SECRET/v1/embeddings?key=SECRET",
        "app:SECRET@db refused",
    ],
)
def test_the_words_of_other_programs_lose_their_secrets(text: str) -> None:
    assert "SECRET" not in without_passwords(text)


def test_other_words_stay() -> None:
    text = "KeyError: 'title' in record 3 of tokens: 8192, see docs/what-if.md"
    assert without_passwords(text.replace(" in ", "\n  in  ")) == text

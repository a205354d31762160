"""Nothing of a secret is shown, however a server repeats it; and nothing else is taken away."""

from __future__ import annotations

import base64
import html
import json
import logging
import os
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vecmig.embedders.keys import address_secrets
from vecmig.embedders.secrets import RUN, Secrets
from vecmig.errors import TerminalEmbedderError

KEY = "Zq7-Xw4_Lm9+Tb2/Kd8=Rf5%Nh3 Vc6&Yj1"
LONG = base64.b64encode(bytes(number * 37 % 251 for number in range(555))).decode()


def encoded(secret: str) -> dict[str, str]:
    """Write a secret as servers, proxies and libraries do."""
    return {
        "plain": secret,
        "bearer": f"Bearer {secret}",
        "capitals": secret.upper(),
        "percent": quote(secret, safe=""),
        "percent, small": quote(secret, safe="").lower(),
        "path": quote(secret),
        "plus": quote_plus(secret),
        "twice": quote(quote(secret, safe=""), safe=""),
        "json": json.dumps({"key": secret}),
        "json in json": json.dumps(json.dumps({"key": secret})),
        "slashes": json.dumps(secret).replace("/", "\\/"),
        "html": html.escape(secret),
        "repr": repr([secret]),
        "hex": secret.encode().hex(),
        "base64": base64.b64encode(secret.encode()).decode(),
        "url-safe": base64.urlsafe_b64encode(secret.encode()).decode(),
        "basic": base64.b64encode(f"me:{secret}".encode()).decode(),
        "basic, long": base64.b64encode(f"somebody:{secret}:x".encode()).decode(),
    }


def runs(secret: str) -> set[str]:
    return {form[at : at + RUN] for form in encoded(secret).values() for at in range(len(form) - RUN + 1)}


def left(text: str, secret: str) -> list[str]:
    """Find the runs of 12 characters that a text still has in common with a secret, in any writing."""
    secretive = runs(secret) - runs("-" * len(secret))
    return [text[at : at + RUN] for at in range(len(text)) if text[at : at + RUN] in secretive]


@pytest.mark.parametrize("writing", encoded(""))
@pytest.mark.parametrize("secret", [KEY, LONG, "p\"ss\\wörd<with>&'everything", "abcdefghijkl"])
def test_a_secret_in_any_writing(secret: str, writing: str) -> None:
    shown = Secrets([secret]).redact(f"<p>No such key: {encoded(secret)[writing]}, sorry.</p>")
    assert "***" in shown
    assert shown.startswith("<p>No such key: ")
    assert shown.endswith(", sorry.</p>")
    assert left(shown, secret) == []


@given(st.integers(0, len(LONG) - RUN), st.integers(RUN, len(LONG)))
def test_any_part_of_twelve_characters(first: int, size: int) -> None:
    part = LONG[first : max(first + RUN, size)]
    assert Secrets([LONG]).redact(f"wrong: {part}, sorry") == "wrong: ***, sorry"


def test_what_is_cut_afterwards_holds_no_rest() -> None:
    secrets = Secrets([LONG])
    said = "token " + LONG[:740] + " is not known here"
    assert secrets.quoted(said) == "token *** is not known here"
    for most in range(20):
        assert secrets.quoted(said, most) == "token *** is not known here"[:most]


@pytest.mark.parametrize("between", ["\0", "\n", "\u200b", "\x1b"])
def test_what_is_taken_out_of_a_text_does_not_put_a_secret_together(between: str) -> None:
    shown = Secrets([LONG]).quoted(between.join([LONG[:5], LONG[5:10], LONG[10:20]]))
    assert LONG[:RUN] not in shown


@pytest.mark.parametrize("mask", ["***", "**********", "...", "…", "xxxx", "••••"])
def test_the_ends_of_a_masked_secret(mask: str) -> None:
    secrets = Secrets([LONG])
    assert secrets.redact(f"key={LONG[:7]}{mask}{LONG[-6:]}!") == "key=***!"
    assert secrets.redact(f"key={LONG[:7]}{mask}!") == "key=***!"
    assert secrets.redact(f"key={mask}{LONG[-6:]}") == "key=***"
    assert secrets.redact(f"wait{mask} then") == f"wait{mask} then"


def test_a_short_secret_is_taken_out_whole_and_leaves_the_words() -> None:
    assert Secrets(["qzj7Kp2Lx9"]).redact("/qzj7Kp2Lx9/v1, qzj7Kp is not it") == "/***/v1, qzj7Kp is not it"
    assert Secrets(["x"]).redact("x is no example") == "*** is no example"
    assert Secrets(["", " "]).redact("nothing to hide") == "nothing to hide"


def test_what_looks_like_a_key() -> None:
    assert Secrets().redact("Incorrect API key: sk-proj-ab**********yz.") == "Incorrect API key: ***"


def test_redacting_twice_changes_nothing() -> None:
    secrets = Secrets([LONG, "qzj7Kp2Lx9"])
    once = secrets.redact(f"{LONG[:30]} {LONG[:6]}***{LONG[-6:]} /qzj7Kp2Lx9/ sk-abcdef12")
    assert secrets.redact(once) == once


@pytest.mark.parametrize(
    "text", [f"{LONG} " * 1400, "x" * 1_000_000, "a.b-" * 250_000, "*" * 1_000_000, "ab***" * 200_000]
)
def test_a_body_of_a_megabyte_is_looked_through_once(text: str) -> None:
    # quadratic, it would take hours
    assert LONG[:RUN] not in Secrets([LONG]).redact(text)


def test_the_parts_of_an_address() -> None:
    environ = {
        "TOKEN": "qzj7Kp2Lx9",
        "HOST": "models.example.com",
        "ADDRESS": "https://gw.example.com/team/hf8Kd93jQx/v1",
    }

    def found(written: str) -> set[str]:
        url = written
        for name, value in environ.items():
            url = url.replace(f"${{{name}}}", value)
        return set(address_secrets(written, url, environ))

    assert found("https://gw.example.com/team/embeddings/v1") == set()
    assert found("https://gw.example.com/team/hf8Kd93jQx/v1") == {"hf8Kd93jQx"}
    assert found("https://${HOST}/${TOKEN}/v1") == {"qzj7Kp2Lx9"}
    assert found("${ADDRESS}") == {"team/hf8Kd93jQx/v1", "hf8Kd93jQx"}


def test_what_an_error_was_raised_from_is_redacted_too() -> None:
    def look_up() -> None:
        try:
            os.environ[LONG]
        except KeyError:
            raise ValueError(f"could not read {LONG}")  # noqa: B904  # a context, as libraries leave them

    def fail() -> None:
        try:
            look_up()
        except ValueError as error:
            raise TerminalEmbedderError(f"No: {LONG}", state=LONG, hint=f"Ask {LONG}") from error

    with pytest.raises(TerminalEmbedderError) as caught:
        fail()
    error = Secrets([LONG]).cleanse(caught.value)
    assert (error.message, error.state, error.hint, str(error)) == ("No: ***", "***", "Ask ***", "No: ***")
    assert str(error.__cause__) == "ValueError: could not read ***"
    assert error.__cause__ is not None
    assert str(error.__cause__.__cause__) == "KeyError: '***'"
    assert (error.__context__, error.__cause__.__context__) == (None, None)


def test_what_the_libraries_log_is_redacted(caplog: pytest.LogCaptureFixture) -> None:
    secrets = Secrets([LONG])
    secrets.watch_logs()
    log = logging.getLogger("httpcore2.http11")
    with caplog.at_level(logging.DEBUG):
        log.debug("Location: %s", f"/{LONG[:50]}")
        try:
            os.environ[LONG]
        except KeyError:
            log.exception("failed")
    assert "Location: /***" in caplog.text
    assert "KeyError: '***'" in caplog.text
    assert left(caplog.text, LONG) == []

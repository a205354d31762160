"""The commands for people who would rather look than read: serve, report."""

from __future__ import annotations

import ipaddress
import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final

import typer

from vecmig.cli import render
from vecmig.cli.context import options_of, web
from vecmig.errors import UsageError

#: The variable that has the token.
_VARIABLE: Final = "VECMIG_WEB_TOKEN"
#: What is shorter can be found by trying.
_SHORTEST: Final = 16


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for command in (serve, report):
        app.command()(command)


def serve(
    ctx: typer.Context,
    host: Annotated[str, typer.Option(help="Where to listen; an address of others' needs a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65_535)] = 8470,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN", help=f"What whoever looks has to know; better in {_VARIABLE}.", show_default=False
        ),
    ] = None,
) -> None:
    """Serve a page that shows how everything stands.

    Coverage, launch, gate, evals, rollback, events, what to run next, and metrics for Prometheus under /metrics.
    """
    token = token if token is not None else os.environ.get(_VARIABLE, "")
    if not token and not _is_loopback(host):
        raise UsageError(
            f"Others can reach {host}: whoever looks has to know a token.", hint=f"Set {_VARIABLE}, or pass --token"
        )
    if token and len(token) < _SHORTEST:
        raise UsageError(f"A token has at least {_SHORTEST} characters.", hint="Such as: openssl rand -hex 16")
    options, site = options_of(ctx), web("site", "The page needs")
    config = options.config()
    shown = f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    try:
        listening = site.listen(host, port)
    except OSError as error:
        # the socket module adds the address
        why = str(error.strerror).partition(" (")[0]
        raise UsageError(f"Nothing can listen on {host}:{port}: {why}.", hint="Name another --port") from error
    options.note(f"Serving {shown}{' to whoever has the token' if token else ''}; Ctrl-C ends it.")
    # its end is always asked for: a service manager must not take it for a failure
    with suppress(KeyboardInterrupt):
        site.serve(config, listening, token=token)


def report(
    ctx: typer.Context,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Where to write it; printed by default.", show_default=False)
    ] = None,
) -> None:
    """Write the page as one file that needs no other.

    For a review, or an archive.
    """
    text = web("site", "The page needs").Site(options_of(ctx).config()).report()
    if output is None:
        render.write(text)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}.", hint="Name another file.") from error


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

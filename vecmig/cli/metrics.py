"""The command that tells a monitoring system how everything stands."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vecmig.cli import render
from vecmig.cli.context import options_of, web
from vecmig.errors import UsageError

if TYPE_CHECKING:
    from vecmig.cli.context import Options
    from vecmig.runner import Status
    from vecmig.serve.looks import Looks


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(metrics)


def metrics(
    ctx: typer.Context,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a file, such as node_exporter's textfile collector reads."),
    ] = None,
) -> None:
    """Print metrics for Prometheus.

    Coverage, lag, gate, rollback, trust, runs, spend, launch.
    """
    serve, latest = web("metrics", "Metrics need"), _looks(options_of(ctx)).latest
    if (failed := latest().error) is not None:
        raise failed
    if output is None:
        render.write(serve.as_text(latest))
        return
    try:
        serve.write(latest, output)
    except OSError as error:
        raise UsageError(f"{output} cannot be written: {error.strerror}.", hint="Name another file.") from error


def answer_scrapes(options: Options, address: str) -> None:
    """Answer Prometheus at HOST:PORT from a thread, until the process ends; an IPv6 address stands in brackets.

    Raises:
        UsageError: it is no address, nothing can listen there, or the extra is not installed.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise UsageError(f"--metrics {address!r} is no address.", hint="Write HOST:PORT, such as 127.0.0.1:9187")
    try:
        web("metrics", "Metrics need").answer(_looks(options).latest, host.strip("[]"), int(port))
    except OSError as error:
        raise UsageError(f"Nothing can listen on {address}: {error.strerror}.", hint="Name another address.") from error
    options.note(f"Metrics: http://{address}/metrics")


def _looks(options: Options) -> Looks[Status]:
    from vecmig import runner
    from vecmig.serve.looks import Looks

    config = options.config()
    return Looks(lambda: runner.status(config))

"""The program: global options, the families of commands, and the one place where an error becomes an exit code."""

from __future__ import annotations

import gc
import logging
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from vecmig.about import version
from vecmig.cli import render
from vecmig.cli.commands import Root
from vecmig.cli.context import Options
from vecmig.errors import GateRefused, VecmigError

INTERRUPTED = 130

app = typer.Typer(
    name="vecmig",
    cls=Root,
    help="Migrate the embeddings in a PostgreSQL database from tag to tag, and back.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        render.line(f"vecmig {version()}")
        raise typer.Exit


@app.callback()
def _global_options(
    ctx: typer.Context,
    *,
    config: Annotated[
        Path | None,
        typer.Option(
            "-c", "--config", metavar="FILE", help="The configuration file; default vecmig.ini, then pyproject.toml."
        ),
    ] = None,
    x: Annotated[
        list[str] | None,
        typer.Option("-x", metavar="KEY=VALUE", help="A value for the scripts (m.x); may be repeated."),
    ] = None,
    raiseerr: Annotated[bool, typer.Option("--raiseerr", help="Show the full traceback of an error.")] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print results and errors only.")] = False,
    show_version: Annotated[  # noqa: ARG001  # its callback has done the work
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    options = ctx.ensure_object(Options)
    options.config_path, options.x, options.raiseerr, options.quiet = config, tuple(x or ()), raiseerr, quiet


def main(argv: list[str] | None = None) -> int:
    """Run one command line, print its error if it has one, and give the exit code."""
    options = Options()
    try:
        result = app(args=argv, prog_name="vecmig", standalone_mode=False, obj=options)
    except BaseException as problem:  # noqa: BLE001  # the one boundary: nothing may pass it
        return _report(problem, options)
    if result == INTERRUPTED:  # typer turns Ctrl-C into this
        return _report(KeyboardInterrupt(), options)
    return result if isinstance(result, int) else 0


def run() -> None:
    """Run the command line of this process; the console script."""
    # what a start loads stays: to look for garbage in it after each 700 objects takes a tenth of the start
    gc.set_threshold(20_000)
    render.prepare_streams()
    # the driver logs that a rollback was cut short by an interrupt, which without a handler goes to stderr
    logging.getLogger("psycopg").addHandler(logging.NullHandler())
    # containers and service managers stop a program by SIGTERM: it is taken as Ctrl-C, so that a run ends in order
    signal.signal(signal.SIGTERM, _interrupt)
    sys.exit(main())


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _report(problem: BaseException, options: Options) -> int:
    if options.raiseerr and not isinstance(problem, typer.TyperException | SystemExit):
        render.traceback_of(problem)
    match problem:
        case VecmigError():
            if isinstance(problem, GateRefused) and problem.checks:
                from vecmig.cli.checks import show_checks

                show_checks(problem.checks)
            render.error(problem)
            return problem.exit_code
        case KeyboardInterrupt() | typer.Abort():
            render.note("Interrupted.")
            return INTERRUPTED
        case SystemExit():
            return problem.code if isinstance(problem.code, int) else int(problem.code is not None)
        case typer.TyperException():
            context = getattr(problem, "ctx", None)
            if type(problem).__name__ == "NoArgsIsHelpError":
                render.note(problem.format_message())
                return 2
            if context is not None:
                render.note(context.get_usage())
            render.note(problem.format_message())
            if context is not None:
                render.note(f"For help: {context.command_path} --help")
            return 2
        case _:
            return _report_unexpected(problem, options)


def _report_unexpected(problem: BaseException, options: Options) -> int:
    from vecmig.config import without_passwords

    what = without_passwords(str(problem))
    render.note(f"vecmig failed unexpectedly: {type(problem).__name__}{': ' if what else ''}{what}", style="bold red")
    if not options.raiseerr:
        render.note("To see where, run again with --raiseerr before the command.")
    return 1

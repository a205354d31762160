"""The commands that write scripts; none of them needs a database, but `revision` asks it what is on hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vecmig.cli import render
from vecmig.cli.context import Options, add_command, options_of
from vecmig.errors import UsageError, VecmigError
from vecmig.text import noun

if TYPE_CHECKING:
    from vecmig.script import Script, ScriptDirectory
    from vecmig.script.adopt_call import AdoptCall
    from vecmig.script.generate import Wish

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Message = Annotated[
    str, typer.Option("-m", "--message", metavar="TEXT", help="What the revision is for.", show_default=False)
]
BranchLabel = Annotated[
    str | None, typer.Option("--branch-label", metavar="LABEL", help="Name the branch of the new revision.")
]
#: Why such an option makes no sense with --adopt.
_NOT_WITH_ADOPT = {
    "--autogenerate": "it writes revisions of several collections, and each adopts vectors of its own",
    "--empty": "it moves no collection",
    "--from-tag": "vectors are adopted by the first revision of a collection, which has no old tag",
}
RevId = Annotated[str | None, typer.Option("--rev-id", metavar="ID", help="The id, instead of a random one.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this family."""
    for function in (init, revision, merge, edit, list_templates):
        add_command(app, function)


def init(
    ctx: typer.Context,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="The directory of scripts to make.")] = Path(
        "migrations"
    ),
    template: Annotated[
        str, typer.Option("-t", "--template", metavar="NAME", help="The template to write from.")
    ] = "generic",
    package: Annotated[bool, typer.Option("--package", help="Add __init__.py files to the directories.")] = False,
) -> None:
    """Make a new project. It gets a vecmig.ini, and a directory for its collections and revisions."""
    from vecmig.script.project import init_project
    from vecmig.text import shown

    options = options_of(ctx)
    ini = options.config_path or Path("vecmig.ini")
    files = init_project(directory, ini=ini, template=template, package=package)
    for path in files:
        render.line(f"Wrote {shown(path)}")
    if ini not in files:
        options.note(f"{shown(ini)} exists already and was kept; its script_location must lead to {shown(directory)}.")
    first = shown(directory / "collections.yaml")
    options.note(
        f'Next: edit database_url in {shown(ini)} and the collection in {first}, then: vecmig revision -m "first tag"',
    )


def revision(
    ctx: typer.Context,
    *,
    message: Message = "",
    collection: Annotated[
        str | None,
        typer.Option("--collection", metavar="NAME", help="The collection to move, or a pattern of several."),
    ] = None,
    from_tag: Annotated[
        str | None, typer.Option("--from-tag", metavar="TAG", help="The old tag, if not the newest revision's.")
    ] = None,
    to_tag: Annotated[
        str | None, typer.Option("--to-tag", metavar="TAG", help="The new tag, if not the one in collections.yaml.")
    ] = None,
    adopt: Annotated[
        str | None,
        typer.Option(
            "--adopt",
            metavar="EXPR",
            help="Take vectors that the source has already: a column, or SQL that gives a vector.",
        ),
    ] = None,
    in_place: Annotated[
        bool, typer.Option("--in-place", help="With --adopt: leave the vectors in their column and copy nothing.")
    ] = False,
    adopt_where: Annotated[
        str | None,
        typer.Option("--adopt-where", metavar="COND", help="With --adopt: take only the records where COND is true."),
    ] = None,
    fill: Annotated[
        bool | None,
        typer.Option(
            "--fill/--no-fill",
            help="With --adopt: embed the records that have no vector, or not; by default a copy does, and "
            "--in-place does not.",
            show_default=False,
        ),
    ] = None,
    index: Annotated[
        bool,
        typer.Option("--index", help="Change the index alone, to what collections.yaml says beside the tag's recipe."),
    ] = False,
    autogenerate: Annotated[
        bool, typer.Option("--autogenerate", help="Write a revision for every collection that has to move.")
    ] = False,
    empty: Annotated[
        bool, typer.Option("--empty", help="Move no collection: a revision for statements of your own.")
    ] = False,
    head: Annotated[
        str | None,
        typer.Option("--head", metavar="REV", help="The revision to follow, if not the newest; base begins a branch."),
    ] = None,
    splice: Annotated[bool, typer.Option("--splice", help="Allow --head to be followed by others already.")] = False,
    branch_label: BranchLabel = None,
    rev_id: RevId = None,
    depends_on: Annotated[
        list[str] | None,
        typer.Option("--depends-on", metavar="REV", help="A revision that must be applied before; may be repeated."),
    ] = None,
    version_path: Annotated[
        Path | None, typer.Option("--version-path", metavar="DIR", help="The version location to write to.")
    ] = None,
) -> None:
    """Write a new revision. It moves a collection to the tag that collections.yaml asks for.

    Each collection has a branch of its own, which its first revision begins and labels with its name. With --adopt that
    first revision takes over the vectors that the source has already.
    """
    from vecmig.script.generate import Wish

    _refuse_together(
        "--empty", empty, autogenerate=autogenerate, collection=collection, from_tag=from_tag, to_tag=to_tag
    )
    others = {"autogenerate": autogenerate, "empty": empty, "from_tag": from_tag, "to_tag": to_tag, "adopt": adopt}
    _refuse_together("--index", index, **others)
    wish = Wish(
        message=message,
        head=None if head is None else (head,),
        splice=splice,
        branch_labels=_labels(branch_label),
        rev_id=rev_id,
        depends_on=tuple(depends_on or ()),
        version_path=version_path,
    )
    options = options_of(ctx)
    call = _adopt_call(adopt, adopt_where, in_place=in_place, fill=fill)
    for option, given in (("--autogenerate", autogenerate), ("--empty", empty), ("--from-tag", from_tag)):
        if call is not None and given:
            why = _NOT_WITH_ADOPT[option]
            raise UsageError(f"--adopt does not go together with {option}: {why}.", hint=f"Leave {option} out")
    if empty:
        from vecmig.script.generate import empty_revision

        scripts = options.scripts()
        _wrote(options, scripts, [empty_revision(scripts, wish)])
    elif autogenerate:
        _refuse_with_autogenerate(collection, from_tag, to_tag)
        _autogenerate(options, wish)
    else:
        from vecmig.config.collections import load_collections
        from vecmig.script.generate import new_revision

        scripts = options.scripts()
        collections = load_collections(scripts.config.collections_path)
        written = new_revision(
            scripts,
            collections,
            wish,
            collection=collection,
            from_tag=from_tag,
            to_tag=to_tag,
            live={} if from_tag or call else _live_where_held(options, scripts),
            adopt=call,
            index=index,
        )
        _wrote(options, scripts, [written])


def merge(
    ctx: typer.Context,
    revisions: Annotated[
        list[str], typer.Argument(metavar="REV...", help="The revisions to join; heads for all heads.")
    ],
    *,
    message: Message = "",
    branch_label: BranchLabel = None,
    rev_id: RevId = None,
    splice: Annotated[bool, typer.Option("--splice", help="Allow revisions that others follow already.")] = False,
) -> None:
    """Write a revision that joins two or more."""
    from vecmig.script.generate import Wish, merge_revision

    options = options_of(ctx)
    wish = Wish(message, tuple(revisions), splice=splice, branch_labels=_labels(branch_label), rev_id=rev_id)
    scripts = options.scripts()
    _wrote(options, scripts, [merge_revision(scripts, wish)])


def edit(
    ctx: typer.Context,
    rev: Annotated[
        str, typer.Argument(metavar="REV", help="An id or the start of one, a label, head, heads, or current.")
    ],
) -> None:
    """Open the script of a revision in $EDITOR."""
    from vecmig.cli.editor import open_in_editor
    from vecmig.script.loading import load_script

    options = options_of(ctx)
    listed = options.scripts().find(rev, options.current_heads() if rev == "current" else ())
    if not listed:
        raise UsageError(
            f"{rev} is before the first revision: there is nothing to edit.", hint="To see all: vecmig history"
        )
    paths = list(dict.fromkeys(script.path for script in listed))
    open_in_editor(paths)
    for path in paths:
        load_script(path)


def list_templates(as_json: Json = False) -> None:
    """List the templates that init can write from."""
    from vecmig.script.template import description, template_folders

    templates = [(name, description(folder)) for name, folder in template_folders().items()]
    if as_json:
        render.as_json([{"name": name, "description": text} for name, text in templates])
    else:
        render.columns(templates)


def _autogenerate(options: Options, wish: Wish) -> None:
    from vecmig.config.collections import load_collections
    from vecmig.script.generate import autogenerate

    scripts = options.scripts()
    collections = load_collections(scripts.config.collections_path)
    written = autogenerate(scripts, collections, wish, live=_live_where_held(options, scripts))
    _wrote(options, scripts, written)
    if not written:
        options.note("Nothing to do: every collection is at the tag that collections.yaml asks for.")


def _live_where_held(options: Options, scripts: ScriptDirectory) -> dict[str, str]:
    """Ask the database, where there is one, which collections have a revision on hold, and which tag is live there."""
    if not scripts.scripts or not (scripts.config.database_url or scripts.config.database_engine):
        return {}
    from vecmig import runner

    try:
        return runner.live_where_held(options.config())
    except VecmigError as error:
        options.note(f"What is on hold could not be asked for, so that nothing is taken to be: {error.message}")
        return {}


def _refuse_together(option: str, given: bool, **others: object) -> None:
    named = [f"--{name.replace('_', '-')}" for name, value in others.items() if value]
    if given and named:
        raise UsageError(f"{option} does not go together with {', '.join(named)}.", hint="Leave one of them out.")


def _adopt_call(expression: str | None, where: str | None, *, in_place: bool, fill: bool | None) -> AdoptCall | None:
    from vecmig.script.adopt_call import AdoptCall

    if expression is not None:
        return AdoptCall(expression, where, in_place=in_place, fill=fill)
    given = {"--in-place": in_place, "--adopt-where": where is not None, "--fill": fill, "--no-fill": fill is False}
    named = [option for option, is_given in given.items() if is_given]
    if named:
        raise UsageError(
            f"{' and '.join(named)} {noun(len(named), 'says', 'say')} how vectors are adopted, and --adopt is missing.",
            hint="Name what gives the vectors, such as: --adopt embedding",
        )
    return None


def _refuse_with_autogenerate(*others: str | None) -> None:
    if any(others):
        raise UsageError(
            "--autogenerate decides collection and tags by itself.",
            hint="Leave --collection, --from-tag and --to-tag out, or leave --autogenerate out.",
        )


def _wrote(options: Options, scripts: ScriptDirectory, written: Sequence[Script]) -> None:
    from vecmig.text import listed, shown

    for script in written:
        render.line(f"Wrote {shown(script.path)}")
        if script.index_only:
            options.note(f"  {script.collection}: another index of\n  {script.new_tag}")
        elif script.collection:
            options.note(f"  {script.collection}: {script.old_tag or '(no tag)'}\n  -> {script.new_tag}")
        if script.id in scripts.patterns:
            named = listed(scripts[id_].collection or "" for id_ in scripts.patterns[script.id])
            options.note(f"  for each of {named}, and what else will match")
        labelled = script.revision.branch_labels or script.id in scripts.patterns
        if script.collection and not script.revision.down_revisions and not labelled:
            options.note(f"  its branch has no label: {script.id}@head is its head")
    if written:
        options.note(f"Next: {'vecmig heads' if scripts.branches.conflicts else scripts.upgrade_command}")


def _labels(label: str | None) -> tuple[str, ...]:
    return (label,) if label else ()

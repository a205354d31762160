"""Carry the vectors of a tag from one database to another in a file: staging's rehearsal pays for production."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from vecmig.about import version
from vecmig.backfill import Import, Taken
from vecmig.config import Config
from vecmig.errors import RecipeError, UsageError
from vecmig.events import Listener, StepDone, StepStarted, TransferProgress, ignore
from vecmig.freshness.coverage import Coverage, count_vectors, measure_coverage
from vecmig.freshness.stamps import Stamps
from vecmig.gate import require_same_canary
from vecmig.homes import (
    Header,
    VectorFile,
    Writer,
    any_to_adopt,
    checked,
    exported,
    header_recipe,
    new_file,
    open_home,
    refuse_existing,
    text_hash,
)
from vecmig.ledger.identity import find_source
from vecmig.ledger.install import ensure
from vecmig.ledger.rows import TagRow
from vecmig.model.recipe import Recipe
from vecmig.model.tag import Tag
from vecmig.operations.embedders import run_options
from vecmig.operations.following import follow, inspect
from vecmig.operations.recipes import recipe_of
from vecmig.runner.at_work import at_work
from vecmig.runner.failures import failures_kept
from vecmig.runner.project import Project
from vecmig.runner.steps import adoption_of
from vecmig.text import count, counted, data_size

#: Seconds between two reports of progress.
_REPORT_EVERY = 0.25


@dataclass(frozen=True, slots=True)
class Exported:
    """A file of vectors that was written."""

    collection: str
    tag: str
    file: Path
    vectors: int
    #: Different texts that these were made from.
    texts: int
    bytes: int
    #: SHA-256 of all but its footer, in hexadecimal.
    digest: str


@dataclass(frozen=True, slots=True)
class Imported:
    """What was taken from a file, and how complete the tag is now."""

    collection: str
    tag: str
    #: Vectors and different texts in the file.
    vectors: int
    texts: int
    taken: Taken
    coverage: Coverage


def export_vectors(
    config: Config, collection: str, tag: str, file: str | Path, *, listener: Listener = ignore
) -> Exported:
    """Write all vectors of a tag into a file, keyed by the hashes of their texts, each text once.

    No text, no key and nothing else of a record is in it. Its owner alone may read it. The database is not changed.

    Raises:
        UsageError: the database has no such tag or no vector of it, or there is such a file already.
    """
    project, tag, path = Project(config, listener), str(Tag.parse(tag)), Path(file)
    project.collections.collection(collection)
    refuse_existing(path)
    began = time.monotonic()
    listener(StepStarted("export", "", collection, tag, tag))
    with project.database.session() as connection, connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        ledger = project.context.ledger(connection)
        row = ledger.tags.get(collection, tag)
        source = find_source(ledger, project.collections.collection(collection))
        home = open_home(ledger, source, tag, kind=row.home)
        # those of a retirement that was cut short are there still
        total, _ = count_vectors(connection, home.stamps) if home.state().place != "gone" else (0, 0)
        if not total:
            raise UsageError(
                f"{collection} has no vector of {tag}.", state="No file was made.", hint="Run: vecmig status"
            )
        header = Header(
            collection,
            tag,
            row.fingerprint,
            header_recipe(row.recipe),
            row.dims,
            source.collection.storage,
            text_hash(connection, home.stamps),
            version(),
            row.canary,
        )
        with new_file(path) as made:
            writer, reported = Writer(made, header), 0.0
            for piece in exported(connection, home.stamps):
                writer.write(piece)
                if time.monotonic() - reported >= _REPORT_EVERY:
                    reported = time.monotonic()
                    listener(TransferProgress(collection, tag, "export", writer.body.vectors, total))
            digest = writer.finish()
    size, body = path.stat().st_size, writer.body
    summary = f"{counted(body.vectors, 'vector')} of {counted(body.texts, 'text')}, {data_size(size)}"
    listener(StepDone("export", "", collection, summary, time.monotonic() - began))
    return Exported(collection, tag, path, body.vectors, body.texts, size, digest)


def import_vectors(config: Config, file: str | Path, *, listener: Listener = ignore) -> Imported:
    """Write the vectors of a file to the records that have their texts and no fresh vector; no provider is asked.

    The file is read to its end before anything is written. Running it again goes on where an earlier run ended.

    Raises:
        UsageError: it is no such file, or its collection or tag is none of this project.
        VecmigError: it was cut or altered.
        RecipeError: the tag has another recipe here.
        LockHeld: another runner is at work on the collection.
    """
    project, path = Project(config, listener), Path(file)
    name = str(path)
    source = checked(path)
    header = source.header
    _tag_to_fill(project, name, header)
    ensure(project.database)
    with (
        at_work(project, [header.collection], "vectors import") as project,
        failures_kept(project, "vectors import", [header.collection]),
    ):
        began = time.monotonic()
        project.listener(StepStarted("import", "", header.collection, header.tag, header.tag))
        stamps, recipe = _stamps_to_fill(project, name, header)
        work = Import(
            project.database, stamps, recipe, source, run_options(project.context, "backfill"), project.listener
        )
        taken = work.run(_keeping_canary(project, stamps, header))
        with project.database.session() as connection:
            coverage = measure_coverage(connection, stamps)
        seconds = time.monotonic() - began
        _record(project, source, taken, coverage, seconds)
        summary = (
            f"{counted(taken.records, 'record')} filled; {count(coverage.fresh)} of {count(coverage.eligible)} fresh"
        )
        project.listener(StepDone("import", "", header.collection, summary, seconds))
    return Imported(header.collection, header.tag, source.vectors, source.texts, taken, coverage)


def _record(project: Project, file: VectorFile, taken: Taken, coverage: Coverage, seconds: float) -> None:
    data = asdict(taken) | {
        "vectors": file.vectors,
        "digest": file.digest,
        "coverage": coverage.share,
        "seconds": round(seconds, 3),
    }
    with project.context.transaction() as ledger:
        ledger.record_event("import", collection=file.header.collection, tag=file.header.tag, data=data)


def _tag_to_fill(project: Project, file: str, header: Header) -> TagRow:
    """Return the tag of a file as it is recorded here.

    Raises:
        UsageError: the collection is none of this project, or its tag was not begun here, or was retired.
        RecipeError: it has another recipe here.
    """
    name, tag = header.collection, header.tag
    if name not in project.collections.collections:
        raise UsageError(
            f"{file} has vectors of the collection {name}, and this project has none of that name.",
            state="Nothing was changed.",
            hint=f"The collections are: {', '.join(project.collections.collections)}",
        )
    with project.database.session() as connection:
        ledger = project.context.ledger(connection)
        row = ledger.tags.of(name).get(tag) if ledger.installed else None
    if row is None or row.state == "retired":
        why = "was retired here" if row is not None else "was not begun here"
        begun = next(
            (
                f"vecmig upgrade {script.id} --until expand"
                for script in project.scripts.scripts.values()
                if row is None and (script.collection, script.new_tag) == (name, tag)
            ),
            f"vecmig revision --to-tag {tag}, then: vecmig upgrade --until expand",
        )
        raise UsageError(
            f"{tag} of {name} {why}, so its vectors have no place.",
            state="Nothing was changed.",
            hint=f"Run: {begun}",
        )
    if row.fingerprint != header.fingerprint:
        differences = "; ".join(row.recipe.differences(header.made_by)) or "its fingerprint"
        raise RecipeError(
            f"The vectors of {file} were made by another recipe than {tag} has here: {differences}.",
            state="Nothing was changed.",
            hint="Vectors of two recipes are never mixed under one tag.",
        )
    return row


def _stamps_to_fill(project: Project, file: str, header: Header) -> tuple[Stamps, Recipe]:
    """Return the stamps of the tag that is filled, and its recipe; all is seen to again under the lock.

    Raises:
        UsageError: it does not take any vector but the application's.
        DatabaseError: its home is gone.
    """
    row = _tag_to_fill(project, file, header)
    require_same_canary(header.tag, row.canary, header.canary)
    source = inspect(project.context, project.collections.collection(header.collection))
    follow(project.context, source)
    if (source.collection.storage, header.storage) == ("vector", "halfvec"):
        raise UsageError(
            f"{file} has vectors of half precision (halfvec), and {header.collection} stores full precision.",
            state="Nothing was changed.",
            hint="Export them from a collection with storage: vector",
        )
    with project.database.session() as connection:
        ledger = project.context.ledger(connection)
        home = open_home(ledger, source, header.tag, kind=row.home)
        home.require()
        leading = ledger.revisions.row_leading_to(header.collection, header.tag)
        recipe = recipe_of(project.context, ledger, header.collection, header.tag)
        script = None if leading is None else project.scripts.scripts.get(leading.id)
        if row.adopted is None:
            offers = script is not None and adoption_of(project, script) is not None
        else:
            offers = home.stamps.buys and any_to_adopt(connection, home.stamps)
    if offers:
        raise UsageError(
            f"{header.tag} of {header.collection} takes over what its source has, and has not adopted it yet.",
            state="Nothing was changed.",
            hint="Run: vecmig backfill --limit 1, which adopts it, and then the same command again",
        )
    if not home.stamps.buys:
        raise UsageError(
            f"{header.tag} of {header.collection} takes its vectors from the application's column only.",
            state="Nothing was changed.",
            hint="To fill what the column lacks, its revision says m.adopt(…, fill=True)",
        )
    return home.stamps, recipe


def _keeping_canary(project: Project, stamps: Stamps, header: Header) -> Callable[[], None]:
    """Return what keeps the canary that came with the vectors, so that the model here is compared with theirs."""

    def begin() -> None:
        if header.canary is not None and stamps.adopted is None:
            with project.context.transaction() as ledger:
                ledger.tags.set_canary(header.collection, header.tag, header.canary)

    return begin

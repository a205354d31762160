"""Run suites against tags and keep what they score, and make a suite where there is none."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from vecmig.config import Config, fragment_problem
from vecmig.config.suites import (
    DEFAULT_K,
    KNOWN_ITEM,
    Suite,
    WrittenKey,
    load_suite,
    suite_path,
    suite_paths,
    suites_folder,
)
from vecmig.embedders import Embedder, row_problems
from vecmig.errors import ConfigError, DatabaseError, TerminalEmbedderError, UsageError
from vecmig.evaluation import Difference, Outcome, comparable, differences, known_item_text, run_suite
from vecmig.events import Listener, StepDone, StepStarted, ignore
from vecmig.freshness.coverage import has_vectors
from vecmig.homes import open_home
from vecmig.ledger import evals
from vecmig.ledger.evals import EvalRun
from vecmig.ledger.identity import find_source
from vecmig.ledger.install import ensure
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.rows import Route
from vecmig.ledger.schema import installed_version
from vecmig.model.tag import Tag
from vecmig.operations.embedders import embedder_to_ask
from vecmig.runner.apart import Apart
from vecmig.runner.project import Project
from vecmig.source.source import Source
from vecmig.text import shown

#: Kinds of suites that can be made.
KINDS: Final = (KNOWN_ITEM,)


@dataclass(frozen=True, slots=True)
class QueryChange:
    """What one query came to under two tags, by one metric, as production searches."""

    query: str
    slice: str | None
    old: float
    new: float

    @property
    def difference(self) -> float:
        """New minus old."""
        return self.new - self.old


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One suite, run against one or more tags of its collection."""

    suite: Suite
    route: Route
    #: In the order in which tags follow each other: standby, live, candidate; or as they were asked for.
    runs: tuple[EvalRun, ...]
    #: Keys of relevant records that the source does not have; they count as not found.
    unknown: tuple[WrittenKey, ...]

    @property
    def pairs(self) -> tuple[tuple[EvalRun, EvalRun], ...]:
        """Each tag and the one that follows it."""
        return tuple((old, new) for old, new in zip(self.runs, self.runs[1:], strict=False) if comparable(old, new))

    def differences(self) -> list[tuple[EvalRun, EvalRun, list[Difference]]]:
        """Compare each tag with the one that follows it."""
        return [(old, new, differences(old, new)) for old, new in self.pairs]

    def changes(self, old: EvalRun, new: EvalRun, metric: str) -> list[QueryChange]:
        """Return each query of one of the pairs with its values of a metric, those first that lost most."""
        texts = {query.id: query.text for query in self.suite.queries}
        values = zip(new.per_query, old.values(metric), new.values(metric), strict=True)
        changes = [QueryChange(texts[outcome.query], outcome.slice, before, after) for outcome, before, after in values]
        return sorted(changes, key=lambda outcome: outcome.difference)


@dataclass(frozen=True, slots=True)
class MadeSuite:
    """A suite that was written."""

    suite: Suite
    #: How many queries were asked for; the suite has fewer where fewer records have a title of their own.
    wanted: int


def evaluate(
    config: Config, suites: Sequence[str] = (), *, tags: Sequence[str] = (), listener: Listener = ignore
) -> list[Evaluation]:
    """Run suites against tags, as production searches and again exactly; each run is kept with its coverage.

    Args:
        config: the project.
        suites: which ones, by name; empty for all in ``evals/``.
        tags: which tags; empty for all of each collection that are kept complete and have vectors: standby, live,
            candidate.
        listener: told of what happens.

    Raises:
        UsageError: there is no such suite, or no tag to run it against.
        ConfigError: a suite cannot be used as it stands; nothing was run.
        EmbedderError: the queries could not be embedded.
        VecmigError: the worst of what a collection failed by, once the others were scored; ``done`` has these.
    """
    project = Project(config, listener)
    loaded = [load_suite(path) for path in _paths(config, suites)]
    for suite in loaded:
        _check_collection(project, suite)
    with project.database.session() as connection:
        if installed_version(connection, project.database.schema) == 0:
            raise UsageError(
                f"There is nothing to search: vecmig was never used in the database at {project.database.safe_url}.",
                hint="Run: vecmig upgrade",
            )
    ensure(project.database)
    apart = Apart(listener, several=len({suite.collection for suite in loaded}) > 1)
    done: dict[Path, Evaluation] = {}
    for group in _chosen(project, loaded, tags, apart):
        with apart.each(group.source.collection.name):
            done |= {suite.path: run for suite, run in _run_all(project, group)}
    _require_kept(project, [run.id for result in done.values() for run in result.runs])
    evaluated = [done[suite.path] for suite in loaded if suite.path in done]
    apart.raise_worst(evaluated)
    return evaluated


def _paths(config: Config, names: Sequence[str]) -> list[Path]:
    paths = [suite_path(config, name) for name in names] or suite_paths(config)
    if not paths:
        raise UsageError(
            f"There are no suites in {shown(suites_folder(config))}.",
            hint=f"Write a suite there, NAME.yaml, or run: vecmig eval --make {KNOWN_ITEM}",
        )
    return list(dict.fromkeys(paths))


def _check_collection(project: Project, suite: Suite) -> None:
    known = project.collections.collections
    if suite.collection not in known:
        raise ConfigError(
            f"{shown(suite.path)}: {shown(project.collections.path)} has no collection {suite.collection!r}; it has: "
            f"{', '.join(known) or 'none'}."
        )


@dataclass(frozen=True, slots=True)
class _Chosen:
    """The suites of one collection, and the tags that they are run against."""

    source: Source
    route: Route
    suites: tuple[Suite, ...]
    tags: tuple[str, ...]


def _chosen(project: Project, suites: Sequence[Suite], tags: Sequence[str], apart: Apart) -> list[_Chosen]:
    asked = tuple(dict.fromkeys(str(Tag.parse(tag)) for tag in tags))
    names = list(dict.fromkeys(suite.collection for suite in suites))
    with project.database.session() as connection:
        for tag in asked:
            _require_known(project.context.ledger(connection), names, tag)
    chosen = []
    for name in names:
        with apart.each(name), project.database.session() as connection:
            ledger = project.context.ledger(connection)
            source = find_source(ledger, project.collections.collection(name))
            of_collection = _tags(ledger, source, asked)
            its_suites = tuple(suite for suite in suites if suite.collection == name)
            if of_collection:
                chosen.append(_Chosen(source, ledger.routes.of(name), its_suites, of_collection))
    return chosen


def _require_known(ledger: Ledger, collections: Sequence[str], tag: str) -> None:
    """Refuse a tag that no collection of the suites has."""
    if not any(tag in ledger.tags.of(name) for name in collections):
        ledger.tags.get(collections[0], tag)


def _tags(ledger: Ledger, source: Source, asked_for: Sequence[str]) -> tuple[str, ...]:
    """Return the tags of a collection to ask.

    Raises:
        UsageError: one that is wanted, or each that there is, has no vectors.
    """
    name = source.collection.name
    known, route = ledger.tags.of(name), ledger.routes.of(name)
    kept = (route.standby, route.live, route.candidate)
    asked = [tag for tag in asked_for if tag in known] if asked_for else [tag for tag in kept if tag is not None]
    for tag in asked:
        if known[tag].state == "retired":
            raise UsageError(f"{tag} of {name} is retired: its vectors are gone.", hint="Run: vecmig status")
    filled = []
    for tag in asked:
        home = open_home(ledger, source, tag, kind=known[tag].home)
        if home.exists() and has_vectors(home.session, home.stamps):
            filled.append(tag)
        elif asked_for:
            raise UsageError(f"{tag} of {name} has no vectors yet.", hint="Run: vecmig backfill")
    if not filled and not asked_for:
        raise UsageError(f"No tag of {name} has vectors yet.", hint="Run: vecmig upgrade")
    return tuple(filled)


def _run_all(project: Project, group: _Chosen) -> Iterator[tuple[Suite, Evaluation]]:
    """Run the suites of one collection."""
    outcomes: dict[Path, list[Outcome]] = {suite.path: [] for suite in group.suites}
    for tag in group.tags:
        with embedder_to_ask(project.context, group.source.collection.name, tag) as embedder:
            for suite in group.suites:
                outcomes[suite.path].append(_run(project, group.source, suite, tag, embedder))
    for suite in group.suites:
        of_suite = outcomes[suite.path]
        yield suite, Evaluation(suite, group.route, tuple(each.run for each in of_suite), of_suite[-1].unknown)


def _run(project: Project, source: Source, suite: Suite, tag: str, embedder: Embedder) -> Outcome:
    """Run one suite against one tag and keep what it scores."""
    started = time.monotonic()
    project.listener(StepStarted("eval", "", suite.collection, f"{suite.name} against {tag}"))
    # before any transaction is open
    embedded = embedder.embed_each([query.text for query in suite.queries], "query")
    if embedded.failure is not None:
        raise embedded.failure
    for row, problem in (row_problems(embedded.vectors) | dict(embedded.refused)).items():
        raise TerminalEmbedderError(
            f"The query {suite.queries[row].text!r} of {suite.name} cannot be embedded under {tag}: "
            f"{problem.removesuffix('.')}.",
            state="Nothing was kept of this run.",
        )
    vectors = embedded.vectors
    with project.database.session() as connection:
        host = project.context.actor.host
        home = open_home(project.context.ledger(connection), source, tag)
        outcome = run_suite(home, suite, vectors, host=host)
        run = evals.record(connection, project.database.schema, outcome.run)
    seconds = time.monotonic() - started
    summary = f"{suite.name} against {tag}: {run.queries:,} queries"
    project.listener(StepDone("eval", "", suite.collection, summary, seconds))
    return Outcome(run, outcome.unknown)


def _require_kept(project: Project, ids: Sequence[UUID]) -> None:
    """Look on a fresh connection whether the runs are kept."""
    with project.database.session() as connection:
        if evals.kept(connection, project.database.schema, ids) != len(ids):
            raise DatabaseError("The scores were written, but the database does not have them.")


# Make a suite ------------------------------------------------------------------------------------------------------


def make_suite(
    config: Config,
    kind: str,
    *,
    collection: str | None = None,
    size: int = 200,
    title: str | None = None,
    output: Path | None = None,
) -> MadeSuite:
    """Write a suite without labels: the title of a record must find the record. The same one each time.

    Args:
        config: the project.
        kind: ``known-item``.
        collection: which one; needed where there are several.
        size: how many queries, at most.
        title: a SQL expression over the source's columns; else the first sentence of a record's text.
        output: where to; else ``evals/known-item.yaml``.

    Raises:
        UsageError: there is no such kind, the file is there already, or no record has a title of its own.
        ConfigError: the collection or the title cannot be used.
    """
    if kind not in KINDS:
        raise UsageError(f"--make {kind!r} is no kind of suite.", hint=f"It is: {', '.join(KINDS)}")
    if title is not None and (what := fragment_problem(title)):
        raise UsageError(f"--title {title!r} {what}.")
    path = output or suites_folder(config) / f"{kind}.yaml"
    _refuse_taken(path)
    project = Project(config)
    name = _only_collection(project, collection)
    with project.database.session() as connection:
        source = find_source(project.context.ledger(connection), project.collections.collection(name))
        items = evals.known_items(connection, source, title, size)
    if not items:
        raise UsageError(
            f"No record of {name} has a title of its own.", hint="Say what its title is: --title 'a SQL expression'"
        )
    what = "the first sentence of a record" if title is None else f"the title of a record ({title})"
    text = known_item_text(name, DEFAULT_K, items, " ".join(what.split()))
    _write(path, text)
    return MadeSuite(load_suite(path), size)


def _refuse_taken(path: Path) -> None:
    if path.suffix != ".yaml":
        raise UsageError(f"{shown(path)} is no place for a suite: its name must end with .yaml.")
    if path.exists():
        raise UsageError(
            f"{shown(path)} is there already.", state="Nothing was written.", hint="Name another file: --output FILE"
        )


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UsageError(f"{shown(path)} cannot be written: {error.strerror}.") from None


def _only_collection(project: Project, name: str | None) -> str:
    known = list(project.collections.collections)
    if name is not None:
        return project.collections.collection(name).name
    if len(known) != 1:
        raise UsageError(
            f"There are {len(known)} collections: {', '.join(known) or 'none'}.", hint="Say which: --collection NAME"
        )
    return known[0]

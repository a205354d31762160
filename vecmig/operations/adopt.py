"""Take over the vectors that a team has already, in place of embedding the corpus again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from vecmig.backfill import Result
from vecmig.embedders import Embedder
from vecmig.errors import ConfigError, ScriptError
from vecmig.events import Warned
from vecmig.freshness.change_tracking import install_tracking
from vecmig.freshness.changes import distrust_changes
from vecmig.freshness.coverage import count_vectors, has_vectors
from vecmig.freshness.stamps import Stamps
from vecmig.gate import judge_spot, look, new_canary
from vecmig.homes import VectorColumn, find_column, home_over, misfit, open_home, survey
from vecmig.model.adoption import HOMES, RETIRED, AdoptedTag, Adoption
from vecmig.model.tag import Tag
from vecmig.operations.backfill import Backfill, fill_tag
from vecmig.operations.context import Context
from vecmig.postgres.sessions import Connection
from vecmig.source.catalog import vector_columns
from vecmig.source.relations import PARTITIONED, column_names, relation_of
from vecmig.source.resolving import resolve
from vecmig.source.source import Source
from vecmig.text import count, counted, noun

#: How long a spot check holds for what is taken over meanwhile.
_VERIFIED_FOR: Final = timedelta(hours=1)


@dataclass(frozen=True)
class Adopt(Backfill):
    """Complete the new tag with what the source has, and embed only what that lacks. Running it again is resuming."""

    _: KW_ONLY
    adoption: Adoption

    def run(self) -> None:
        """Write down what is adopted, follow the column from then on, and take over what is there.

        Raises:
            ScriptError: the arguments do not fit together, or the tag has vectors that came about otherwise.
            DatabaseError: the vectors are not such as the tag can have.
        """
        self._check_arguments()
        source = self.followed_source()
        adopted = source.adopted_by(self.new_tag)
        if adopted is None or adopted.adoption != self.adoption:
            self.context.locked(lambda connection: self._declare(connection, source))
            source = self.source()
        self._refuse_misfits(source)
        with self.reported("adopt", self.new_tag) as summarise:
            result = fill_tag(self.context, self.stamps(source), self.revision.revision, self.limit)
            with self.context.transaction() as ledger:
                counts = {
                    "adopted": result.done.adopted,
                    "written": result.done.written,
                    "rejected": result.done.rejected,
                }
                counts |= {"unsound": result.done.unsound}
                figures = {"home": self.adoption.home, "seconds": round(result.seconds, 3)}
                self.record(ledger, "adopt", counts | figures | {"coverage": result.coverage.share})
                if self.limit is None:
                    self.advance(ledger, "backfilled")
            summarise(self._summary(result))
        self._tell_of_unsound(result.done.unsound)

    def check(self) -> None:
        """Refuse what cannot be adopted before the revision has changed anything; nothing is written.

        Raises:
            ScriptError, ConfigError, DatabaseError: as ``run`` would.
        """
        self._check_arguments()
        source = self.source()
        with self.context.database.session() as connection:
            offering = self.offering(connection, source)
            indexed = home_over(connection, self.stamps(offering)).index().exists
        if self.adoption.in_place and source.kind == PARTITIONED and not indexed:
            raise ConfigError(
                f"{source.schema}.{source.table} is partitioned, and {self.adoption.expression} has no index: nothing "
                "builds one on all partitions while the application writes.",
                state="Nothing was taken over.",
                hint="Build one on each partition (CREATE INDEX CONCURRENTLY), and attach them to one that is made by "
                "CREATE INDEX … ON ONLY; or copy the vectors.",
            )
        self._refuse_misfits(offering)

    def offering(self, connection: Connection, source: Source) -> Source:
        """Return the source as it is once the tag has adopted its vectors.

        Raises:
            ConfigError: the expression or the condition does not work, or the column cannot be the tag's home.
        """
        where, dims = self.adoption.where, Tag.parse(self.new_tag).dims
        storage, read = source.collection.storage, find_column(connection, source, self.adoption.expression)
        column = self._home_column(connection, source) if self.adoption.in_place else None
        adopted = AdoptedTag(
            self.new_tag,
            self.adoption,
            vector=resolve(connection, source, self.adoption.expression, "vector"),
            condition=None if where is None else resolve(connection, source, where, "condition"),
            column=None if column is None else column.name,
            declared=column is not None and column.dims == dims,
            # what is too large for a halfvec fails
            plain=where is None and read is not None and storage in ("vector", read.type),
        )
        adopted = replace(adopted, numbers=_numbers(connection, source, adopted))
        return replace(source, adopted=(*(one for one in source.adopted if one.tag != self.new_tag), adopted))

    def sql(self) -> list[str]:
        """Return a comment that says what is taken over, which only a command does."""
        source = self.source()
        how = "left in place" if self.adoption.in_place else "copied"
        where = f" WHERE {self.adoption.where}" if self.adoption.where else ""
        what = f"{source.schema}.{source.table}, {self.adoption.expression}{where}"
        return [f"-- adopt: the vectors of {what}, are {how} under {self.new_tag}: vecmig upgrade"]

    def _check_arguments(self) -> None:
        adoption, revision = self.adoption, self.revision.revision
        wrong = ""
        if self.revision.old_tag is not None:
            wrong = "m.adopt() is for the first revision of a collection; this one has an old_tag"
        elif Tag.parse(self.new_tag).chunk is not None:
            wrong = "the tag of adopted vectors has chunk-none: a row of the source is a record with one vector"
        elif adoption.home not in HOMES:
            wrong = f"home={adoption.home!r} is neither of {', '.join(map(repr, HOMES))}"
        elif adoption.retire not in RETIRED:
            wrong = f"retire={adoption.retire!r} is none of {', '.join(map(repr, RETIRED))}"
        elif adoption.retire != "leave" and not adoption.in_place:
            wrong = f'retire={adoption.retire!r} is for home="column": a copy leaves the column alone'
        if wrong:
            raise ScriptError(
                f"Revision {revision}: {wrong}.",
                state="Nothing was taken over.",
                hint=f"Correct it: vecmig edit {revision}",
            )

    def _declare(self, connection: Connection, source: Source) -> None:
        """Write down what is adopted, unless expand did, and let the triggers tell of its changes; in one transaction.

        What they told before is not known to be of the text or of its vector: each such record counts as edited.

        Raises:
            ScriptError: the tag has vectors that came about otherwise, or another one follows the source.
        """
        ledger, name = self.context.ledger(connection), source.collection.name
        home = open_home(ledger, source, self.new_tag)
        if has_vectors(connection, home.stamps):
            hint = "To begin again, discard them: vecmig downgrade -1 --discard, then vecmig upgrade head"
            if ledger.tags.was_live(name, self.new_tag):
                edit = f"vecmig edit {self.revision.revision}"
                hint = f"Take the change of the script back: {edit}. Or begin again with a tag of another version."
            raise ScriptError(
                f"{self.new_tag} has {counted(count_vectors(connection, home.stamps)[0], 'vector')} already, by "
                "another way than this revision says.",
                state="Nothing was taken over.",
                hint=hint,
            )
        others = [adopted.tag for adopted in source.adopted if adopted.follows and adopted.tag != self.new_tag]
        if others:
            raise ScriptError(
                f"{others[0]} has adopted vectors of {name} already; a collection has one such tag at a time.",
                state="Nothing was taken over.",
                hint=f"Retire it first: vecmig retire {name} {others[0]}",
            )
        source = self.declared(connection, source)
        open_home(ledger, source, self.new_tag).create()
        if source.tracked:
            install_tracking(connection, source, ledger.schema)
            distrust_changes(connection, source, ledger.schema)

    def declared(self, connection: Connection, source: Source) -> Source:
        """Write down what is adopted, unless the tag has vectors already or another one follows the source.

        The tag's home may be another one than it was made with; it is for the caller to create.

        Returns:
            The source as it is then.
        """
        ledger, name = self.context.ledger(connection), source.collection.name
        home = open_home(ledger, source, self.new_tag)
        known, followed = source.adopted_by(self.new_tag), source.followed
        if known is not None and known.adoption == self.adoption:
            return source
        taken = followed is not None and followed.tag != self.new_tag
        if taken or (home.exists() and has_vectors(connection, home.stamps)):
            return source
        source = self.offering(connection, source)
        adopted = source.adopted_by(self.new_tag)
        assert adopted is not None, "it is in it"
        if home.kind != self.adoption.home and home.exists():
            home.drop()
        ledger.tags.adopt(name, adopted)
        return source

    def _home_column(self, connection: Connection, source: Source) -> VectorColumn:
        """Return the column that is to be the tag's home.

        Raises:
            ConfigError: it is none that can be.
        """
        expression, name = self.adoption.expression, f"{source.schema}.{source.table}"
        column = find_column(connection, source, expression)
        wrong, hint = "", 'Copy the vectors instead: leave home="column" out.'
        if column is None:
            wrong = f"{expression!r} is no column of {name} with pgvector's type vector or halfvec"
        elif not source.tracked:
            wrong = f"nothing tells of changes of {name} ({source.scanned}), and so none of the column"
        elif column.type == "halfvec" != source.collection.storage:
            wrong = f"{column.name} is of type halfvec, and storage of {source.collection.name} is vector"
            hint = "Write storage: halfvec for it in collections.yaml."
        elif self.adoption.fill and column.generated:
            wrong, hint = f"{column.name} is generated by PostgreSQL, so nothing can fill it", "Leave fill=True out."
        elif self.adoption.retire == "clear" and not column.nullable:
            wrong = f"{column.name} is NOT NULL, so it cannot be cleared"
            hint = 'Write retire="leave" or retire="drop".'
        if column is None or wrong:
            raise ConfigError(f"{wrong}.", state="Nothing was taken over.", hint=hint)
        return column

    def _refuse_misfits(self, source: Source) -> None:
        stamps = self.stamps(source)
        with self.context.database.session() as connection:
            found = misfit(survey(connection, stamps), stamps)
        if found is not None:
            raise ConfigError(f"{found.what}.", state="Nothing was taken over.", hint=found.hint)

    def _summary(self, result: Result) -> str:
        done, coverage = result.done, result.coverage
        rate = f" ({done.adopted / result.seconds:,.0f}/s)" if done.adopted and result.seconds else ""
        how = "left in place" if self.adoption.in_place else "copied"
        parts = [f"{counted(done.adopted, 'vector')} {how}{rate}"]
        if done.written:
            parts.append(f"{counted(done.written, 'record')} embedded")
        if done.rejected:
            parts.append(f"{count(done.rejected)} rejected")
        return f"{', '.join(parts)}; {count(coverage.fresh)} of {count(coverage.eligible)} fresh"

    def _tell_of_unsound(self, unsound: int) -> None:
        if unsound:
            are = noun(unsound, "is", "are")
            then = "embedded by the recipe" if self.adoption.fill else "missing"
            text = (
                f"{counted(unsound, 'value')} of {self.collection} {are} not such as {self.new_tag} can have "
                f"(no vector, zero, or of another length or size): those records are {then}"
            )
            self.context.listener(Warned(text))


def _numbers(connection: Connection, source: Source, adopted: AdoptedTag) -> tuple[tuple[str, int], ...]:
    """Return the numbers of the columns that the adopted vectors come from, which no renaming changes."""
    relation = relation_of(connection, source.oid)
    assert relation is not None, "it was just read"
    numbers = {name: number for number, name in column_names(connection, relation).items()}
    read = vector_columns(connection, source, adopted) or source.columns
    return tuple((name, numbers[name]) for name in read if name in numbers)


def verify_adopted(context: Context, stamps: Stamps, embedder: Embedder, *, taken_over: int) -> None:
    """Compare a sample of what a tag has adopted with what its recipe gives: first, and when more was taken over.

    What is taken over within an hour is counted, and looked at after it: a sample costs up to 64 texts.
    """
    name, tag = stamps.source.collection.name, stamps.tag
    with context.database.session() as connection:
        row = context.ledger(connection).tags.get(name, tag)
        if row.adopted is None:
            return
        if row.refuted is not None and datetime.now(UTC) < _again(row.refuted):
            return
        if row.verified is not None and row.canary is not None:
            since = taken_over + row.verified.get("taken_over", 0)
            if not since or datetime.now(UTC) < _again(row.verified):
                if taken_over:
                    with context.transaction() as ledger:
                        ledger.tags.verify(name, tag, {**row.verified, "taken_over": since})
                return
        spot = look(home_over(connection, stamps), embedder)
    if spot.error or not spot.sampled:
        return
    if judge_spot(spot, asked=True)[0].passed:
        canary = new_canary(embedder)
        with context.transaction() as ledger:
            ledger.tags.verify(name, tag, spot.verified)
            ledger.tags.set_canary(name, tag, canary)
    else:
        with context.transaction() as ledger:
            ledger.tags.verify(name, tag, spot.verified | {"refuted": True})
        context.listener(
            Warned(
                f"{name}: only {count(spot.good)} of {count(spot.sampled)} vectors drawn at random that {tag} has "
                "adopted are what its recipe gives: they are of another model, or of other texts"
            )
        )


def _again(looked: Mapping[str, Any]) -> datetime:
    """Return when to look again, by what was found the last time."""
    return datetime.fromisoformat(looked["at"]) + _VERIFIED_FOR

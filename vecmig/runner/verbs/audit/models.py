"""Recipes that are missing or have drifted, revisions without a script, and models that are not what they were."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from vecmig.config.recipe_line import recipe_line
from vecmig.embedders import Retry, open_embedder
from vecmig.errors import VecmigError
from vecmig.gate import CANARY_SIMILARITY, canary_similarity
from vecmig.ledger.phases import RevisionRow
from vecmig.ledger.rows import TagRow
from vecmig.ledger.trusted_recipes import unvouched
from vecmig.operations.recipes import trusted_recipe
from vecmig.runner.project import Project
from vecmig.runner.verbs.audit.finding import Finding, Subject

#: Somebody waits for the audit: a provider that is away is not tried for long.
_RETRY: Final = Retry(attempts=2, most=2.0, longest_retry_after=5.0)
_NEW_TAG: Final = "make a new tag with a new version after the @, then: vecmig revision"


def findings(subject: Subject) -> Iterator[Finding]:
    """Compare the recorded recipes of one collection with those of collections.yaml, and with their fingerprints."""
    recipes = subject.project.collections.recipes
    for tag, row in subject.kept.items():
        if row.recipe.fingerprint != row.fingerprint:
            yield subject.finding(
                "recorded recipe",
                "error",
                f"{subject.project.database.schema}.tag",
                "The recipe in the database is not the one that the tag was recorded with: readers embed queries by "
                "it.",
                "Put back what was there: its fingerprint is kept beside it. vecmig never changes it.",
                tag=tag,
                fingerprint=row.fingerprint,
            )
        elif tag not in recipes:
            yield _no_recipe(subject, row)
        elif recipes[tag].fingerprint != row.fingerprint:
            changed = recipes[tag].differences(row.recipe)
            yield subject.finding(
                "recipe drifted",
                "error",
                "collections.yaml",
                f"The recipe is not the one that made the tag's vectors: {'; '.join(changed)}.",
                f"Take the change back; or {_NEW_TAG}",
                tag=tag,
                changed=changed,
            )


def _no_recipe(subject: Subject, row: TagRow) -> Finding:
    problem = unvouched(row.recipe, os.environ, records=True)
    use = f"the recorded one is not used, because it {problem}" if problem else "the recorded one is used"
    add = "If it is yours, add" if problem else "Add"
    return subject.finding(
        "no recipe",
        "warning",
        "collections.yaml",
        f"It has no recipe for this tag; {use}.",
        f"{add} under tags: {recipe_line(row.tag, row.recipe)}",
        tag=row.tag,
    )


_BRING_BACK: Final = (
    "Bring the script back from version control, or pull its branch; where it was renamed: vecmig stamp"
)


def without_script(project: Project, rows: Mapping[str, RevisionRow]) -> Iterator[Finding]:
    """Name the revisions that the database is at, or on the way to, and for which there is no script."""
    for row in rows.values():
        if (row.applied or row.in_progress) and row.id not in project.scripts.map:
            gone = project.scripts.gone(row.id, row.collection)
            yield Finding(
                "no script",
                "error",
                row.collection,
                row.new_tag,
                row.id,
                gone.message if gone else f"The database has this revision ({row.phase}), and no script defines it.",
                gone.hint if gone else _BRING_BACK,
                {"phase": row.phase},
            )


# Canaries ----------------------------------------------------------------------------------------------------------


def canaries(project: Project, tags: Sequence[TagRow]) -> Iterator[Finding]:
    """Ask the model of each tag whether it still is the one that made the vectors; no transaction is open meanwhile."""
    for name in dict.fromkeys(row.tag for row in tags):
        yield from _canary(project, [row for row in tags if row.tag == name])


def _canary(project: Project, rows: Sequence[TagRow]) -> Iterator[Finding]:
    """Ask one model, about the canary of each collection that has its tag."""
    asked = [row for row in rows if row.canary]
    for row in rows:
        if not row.canary:
            yield _unchecked(row, "no canary was kept when the tag was new", f"vecmig sync {row.collection}")
    configured = project.collections.recipes.get(rows[0].tag)
    fingerprint = (configured or rows[0].recipe).fingerprint
    # what differs is a finding already, and its vectors would differ too
    if not asked or any(fingerprint != row.fingerprint for row in asked):
        return
    try:
        recipe = configured or trusted_recipe(project.context, rows[0])
        embedder = open_embedder(rows[0].tag, recipe, retry=_RETRY)
        try:
            similar = [(row, canary_similarity(embedder, row.canary or {})) for row in asked]
        finally:
            embedder.close()
    except VecmigError as error:
        fix = (
            f"{error.hint} Then: vecmig audit".strip() if error.hint else "Make the embedder answer, then: vecmig audit"
        )
        yield from (_unchecked(row, error.message.rstrip("."), fix) for row in asked)
        return
    yield from (_differs(row, similarity) for row, similarity in similar if similarity < CANARY_SIMILARITY)


def _differs(row: TagRow, similarity: float) -> Finding:
    figures: dict[str, Any] = {"similarity": similarity, "required": CANARY_SIMILARITY}
    return Finding(
        "canary differs",
        "error",
        row.collection,
        row.tag,
        row.recipe.model,
        f"The model gives other vectors than when the tag was new: similarity {similarity:.4f}, at least "
        f"{CANARY_SIMILARITY} is needed. Queries are embedded in another space than the records.",
        f"Restore the old weights; or {_NEW_TAG}",
        figures,
    )


def _unchecked(row: TagRow, why: str, fix: str) -> Finding:
    return Finding(
        "canary not checked",
        "unchecked",
        row.collection,
        row.tag,
        row.recipe.model,
        f"Whether the model still is the one that made the vectors could not be asked: {why}.",
        fix,
    )

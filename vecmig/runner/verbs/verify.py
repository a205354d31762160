"""Refuse scripts and recipes that were changed after the database got to know them."""

from __future__ import annotations

from collections.abc import Mapping

from vecmig.config import Config
from vecmig.ledger.ledger import Ledger
from vecmig.ledger.phases import RevisionRow
from vecmig.ledger.recipe_check import check_recipes
from vecmig.runner.plan import check_applied
from vecmig.runner.project import Project


def verify(config: Config) -> None:
    """Refuse scripts and recipes that were changed after the database got to know them; reads only.

    Raises:
        ScriptError, RecipeError: the first one that was.
    """
    project = Project(config)
    with project.database.session() as connection:
        ledger = project.context.ledger(connection)
        check_unedited(project, ledger, ledger.revisions.all())


def check_unedited(project: Project, ledger: Ledger, rows: Mapping[str, RevisionRow]) -> None:
    """Do the work of ``verify`` on a ledger that is open, with its revisions.

    Raises:
        ScriptError, RecipeError: the first one that was changed.
    """
    check_applied(project.scripts.scripts, rows)
    check_recipes(ledger.tags.all(), project.collections.recipes)

"""Refuse scripts and recipes that were changed after the database got to know them."""

from __future__ import annotations

from vecmig.config import Config
from vecmig.runner.plan import check_applied
from vecmig.runner.project import Project
from vecmig.runner.steps import check_known_recipes


def verify(config: Config) -> None:
    """Refuse scripts and recipes that were changed after the database got to know them; reads only.

    Raises:
        ScriptError, RecipeError: the first one that was.
    """
    project = Project(config)
    check_applied(project.scripts.scripts, project.revisions())
    check_known_recipes(project)

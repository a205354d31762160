"""The revisions of a project: the graph as pure values, and the scripts on disk."""

from vecmig.script.directory import ScriptDirectory
from vecmig.script.errors import (
    AmbiguousRevision,
    CycleDetected,
    GraphError,
    MultipleHeads,
    ResolutionError,
    UnknownRevision,
)
from vecmig.script.generate import Move, Wish, autogenerate, empty_revision, merge_revision, movers, new_revision
from vecmig.script.graph import Revision
from vecmig.script.loading import load_script
from vecmig.script.project import init_project
from vecmig.script.revision import RevisionMap
from vecmig.script.script import STEPS, Script, Step
from vecmig.script.template import description, template_folders

__all__ = [
    "STEPS",
    "AmbiguousRevision",
    "CycleDetected",
    "GraphError",
    "Move",
    "MultipleHeads",
    "ResolutionError",
    "Revision",
    "RevisionMap",
    "Script",
    "ScriptDirectory",
    "Step",
    "UnknownRevision",
    "Wish",
    "autogenerate",
    "description",
    "empty_revision",
    "init_project",
    "load_script",
    "merge_revision",
    "movers",
    "new_revision",
    "template_folders",
]

"""The revisions of a project: the graph as pure values, and the scripts on disk."""

from vecmig.script.branches import Conflict
from vecmig.script.directory import ScriptDirectory
from vecmig.script.errors import (
    AmbiguousRevision,
    ConflictingHeads,
    CycleDetected,
    GraphError,
    MultipleHeads,
    ResolutionError,
    UnknownRevision,
)
from vecmig.script.graph import Graph, Revision
from vecmig.script.loading import load_script
from vecmig.script.revision import RevisionMap
from vecmig.script.script import STEPS, Script, Step

__all__ = [
    "STEPS",
    "AmbiguousRevision",
    "Conflict",
    "ConflictingHeads",
    "CycleDetected",
    "Graph",
    "GraphError",
    "MultipleHeads",
    "ResolutionError",
    "Revision",
    "RevisionMap",
    "Script",
    "ScriptDirectory",
    "Step",
    "UnknownRevision",
    "adopt_call",
    "generate",
    "load_script",
    "moves",
    "patterns",
    "project",
    "template",
]

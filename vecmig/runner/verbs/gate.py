"""Judge the gates of the revisions in progress, as their cutovers would."""

from __future__ import annotations

from collections.abc import Sequence

from vecmig.config import Config
from vecmig.events import Listener, ignore
from vecmig.gate import Report
from vecmig.homes import open_home
from vecmig.ledger.identity import find_source
from vecmig.model.gate import Gate
from vecmig.operations.judging import judge
from vecmig.runner.apart import Apart
from vecmig.runner.project import Project
from vecmig.runner.steps import revisions_in_progress


def gate_reports(
    config: Config, collections: Sequence[str] = (), *, ask: bool = True, listener: Listener = ignore
) -> dict[str, tuple[str, Report]]:
    """Judge the gate of each revision in progress, as its cutover would; nothing is written but what asking costs.

    Args:
        config: the project.
        collections: which ones; empty for all that have a revision in progress.
        ask: whether to ask the embedder, for the canary and a close look; otherwise these checks are left open.
        listener: told of what is waited for.

    Returns:
        By collection: the revision's id and the report; empty where nothing is in progress.

    Raises:
        VecmigError: the worst of why one could not be judged, once the others were; ``done`` has these.
    """
    project = Project(config, listener)
    context = project.context
    reports = {}
    going = revisions_in_progress(project, collections)
    apart = Apart(several=len(going) > 1)
    for name, row in going.items():
        assert row.new_tag is not None, "a revision with a collection has a new tag"
        with apart.each(name):
            with context.database.session() as connection:
                ledger = context.ledger(connection)
                source = find_source(ledger, project.collections.collection(name))
                open_home(ledger, source, row.new_tag).require()
            gate = project.scripts[row.id].gate or Gate()
            reports[name] = row.id, judge(context, gate, source, row.new_tag, row.old_tag, ask=ask)
    apart.raise_worst(reports)
    return reports

"""See which records were rejected, and let them be tried again."""

from __future__ import annotations

from vecmig.config import Config
from vecmig.ledger.install import ensure
from vecmig.ledger.rows import Rejected
from vecmig.runner.project import Project


def rejected(config: Config, collection: str | None = None) -> list[Rejected]:
    """List the records that cannot be embedded as they are, with the reasons; of one collection, or of all."""
    project = Project(config)
    if collection is not None:
        project.collections.collection(collection)
    with project.database.session() as connection:
        return project.context.ledger(connection).rejections.all(collection)


def retry_rejected(config: Config, collection: str | None = None) -> int:
    """Let rejected records be tried again by the next run; return how many there are."""
    project = Project(config)
    if collection is not None:
        project.collections.collection(collection)
    ensure(project.database)
    with project.context.transaction() as ledger:
        count = ledger.rejections.retry(collection)
        if count:
            ledger.record_event("retry", collection=collection, data={"records": count})
        return count

"""A project halfway through a migration, and all that a dump, a restore or pg_upgrade must give back of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest

from support.embedding import Model
from support.lab import LARGE, SMALL, Lab
from vecmig import runner
from vecmig.cli.app import main
from vecmig.errors import PoisonInputError

#: The role that may read the source, and of it what is not hidden.
READER = "halfway_reader"
_POISON = "POISON"

_OURS = "('{public,vecmig}'::regnamespace[])"
#: What PostgreSQL's catalogue says of everything in the schemas of source and ledger, one line an object.
_CATALOGUE = f"""
WITH ours AS (SELECT * FROM pg_class WHERE relnamespace = ANY {_OURS}),
     functions AS (SELECT * FROM pg_proc p WHERE pronamespace = ANY {_OURS} AND prokind = 'f'
                   AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e'))
SELECT 'relation', oid::regclass::text, concat_ws(' ', relkind, relrowsecurity, relforcerowsecurity,
                                                  pg_get_expr(relpartbound, oid), reloptions, pg_get_viewdef(oid))
FROM ours
UNION ALL
SELECT 'column', c.oid::regclass || '.' || a.attname, concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attnotnull,
           a.attidentity, a.attcollation::regcollation, pg_get_expr(d.adbin, d.adrelid))
FROM pg_attribute a JOIN ours c ON c.oid = a.attrelid
LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT 'index', i.indexrelid::regclass::text, concat_ws(' ', pg_get_indexdef(i.indexrelid), i.indisvalid)
FROM pg_index i JOIN ours c ON c.oid = i.indrelid
UNION ALL
-- before 18 a NOT NULL is none
SELECT 'constraint', c.oid::regclass || '.' || o.conname, concat_ws(' ', pg_get_constraintdef(o.oid), o.convalidated)
FROM pg_constraint o JOIN ours c ON c.oid = o.conrelid WHERE o.contype <> 'n'
UNION ALL
SELECT 'trigger', c.oid::regclass || '.' || t.tgname, concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled)
FROM pg_trigger t JOIN ours c ON c.oid = t.tgrelid WHERE NOT t.tgisinternal
UNION ALL
SELECT 'policy', c.oid::regclass || '.' || p.polname, concat_ws(' ', p.polcmd, p.polroles::regrole[],
           pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
FROM pg_policy p JOIN ours c ON c.oid = p.polrelid
UNION ALL
SELECT 'function', oid::regprocedure::text, pg_get_functiondef(oid) FROM functions
ORDER BY 1, 2, 3"""
_GRANTS = f"""
SELECT o.kind, o.name, a.grantee::regrole::text, a.privilege_type
FROM (SELECT 'relation', oid::regclass::text, coalesce(relacl, acldefault('r', relowner)) FROM pg_class
      WHERE relkind IN ('r', 'p', 'v') AND relnamespace = ANY {_OURS}
      UNION ALL
      SELECT 'function', oid::regprocedure::text, coalesce(proacl, acldefault('f', proowner)) FROM pg_proc p
      WHERE pronamespace = ANY {_OURS} AND NOT EXISTS (SELECT FROM pg_depend WHERE objid = p.oid AND deptype = 'e')
      UNION ALL
      SELECT 'schema', nspname, coalesce(nspacl, acldefault('n', nspowner)) FROM pg_namespace
      WHERE oid = ANY {_OURS}) o (kind, name, acl),
     aclexplode(o.acl) a
-- an owner has it from 17 on
WHERE a.privilege_type <> 'MAINTAIN'
ORDER BY 1, 2, 3, 4"""


@dataclass(frozen=True, slots=True)
class Halfway:
    """A lab of 20 records, taken there: one tag is live, of the next there is a half, changes wait, one is rejected.

    The source has row-level security, which shows the reader the records up to 10.
    """

    lab: Lab
    model: Model

    def go(self) -> Halfway:
        """Take it there."""
        self.model.before = _refuse_poison
        lab = self.lab
        lab.sql("UPDATE documents SET body = %s WHERE id = 7", _POISON)
        lab.sql("ALTER TABLE documents ENABLE ROW LEVEL SECURITY")
        lab.sql(f"CREATE POLICY first_ten ON documents FOR SELECT TO {READER} USING (id <= 10)")
        lab.sql(f"GRANT SELECT ON documents TO {READER}")
        there = lab.write(coverage=0.9, budget=0.1)
        assert there.upgrade("r1") == ["live"]
        there.upgrade(until="expand")
        there.backfill(limit=10)
        lab.sql("UPDATE documents SET body = 'new' WHERE id = 3")
        lab.sql("INSERT INTO documents VALUES (21, 'title 21', 'body 21')")
        lab.sql("DELETE FROM documents WHERE id = 5")
        return Halfway(there, self.model)

    def moved(self, url: str) -> Halfway:
        """The same project on another database."""
        return Halfway(replace(self.lab, url=url).write(), self.model)

    @property
    def objects(self) -> list[tuple[Any, ...]]:
        """Describe every object in the schemas of source and ledger that is not an extension's."""
        return self.lab.sql(_CATALOGUE)

    @property
    def grants(self) -> list[tuple[Any, ...]]:
        """Say who may do what with them."""
        return self.lab.sql(_GRANTS)

    @property
    def rows(self) -> dict[str, list[Any]]:
        """Give all rows: the source's, the vectors' and the ledger's, as text."""
        tables = self.lab.sql(
            "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND NOT relispartition"
            " AND relnamespace IN ('public'::regnamespace, 'vecmig'::regnamespace) ORDER BY 1"
        )
        names = [*(name for (name,) in tables), self.lab.inspected().vectors.as_string(None)]
        return {name: sorted(row[0] for row in self.lab.sql(f"SELECT t::text FROM {name} t")) for name in names}

    @property
    def findings(self) -> set[tuple[str, str | None]]:
        """Name what the audit finds."""
        return {(finding.kind, finding.tag) for finding in runner.audit(self.lab.config, (), ask=False).findings}

    def finish(self, *, same_oids: bool = False) -> None:
        """Go on where the migration stood, to its end and back: nothing that was embedded is embedded again.

        The trigger function knows the source by its oid, too: after a restore the next command writes it anew.
        """
        lab = self.lab
        problem = lab.status().problem
        if same_oids:
            assert problem is None
        else:
            assert problem is not None
            assert "the triggers on the source are not as this vecmig makes them" in problem.message
        assert self._run("check") == 4, "r2 is pending"
        assert self._run("status") == 0
        assert {tag for _, tag in lab.sync()} >= {SMALL}
        assert lab.status().problem is None
        assert lab.upgrade() == ["live"]
        self._require_complete()
        for text in ("title 3\n\nnew", "title 21\n\nbody 21"):
            assert (self.model.embedded[64, text], self.model.embedded[256, text]) == (1, 1)
        assert max(self.model.embedded.values()) == 1, "what was there is not embedded again"
        with lab.reader() as reader:
            assert [hit.key for hit in reader.search("documents", "title 4\n\nbody 4", k=1)] == [(4,)]
        self._require_tracking()
        self.require_reader(7)
        assert lab.downgrade() == ["r2"]
        assert lab.live == SMALL
        self._require_complete()

    def require_reader(self, records: int) -> None:
        """See that the reader sees so many records in the live view."""
        with psycopg.connect(self.lab.url.replace("//postgres@", f"//{READER}@")) as connection:
            assert connection.execute("SELECT count(*) FROM documents_live").fetchone() == (records,)

    def _run(self, *args: str) -> int:
        return main(["--config", str(self.lab.path / "vecmig.ini"), *args])

    def _require_complete(self) -> None:
        for tag in (SMALL, LARGE):
            found = self.lab.cover(tag)
            assert (found.fresh, found.rejected) == (found.eligible - 1, 1)
        assert self.lab.sql("SELECT count(*) FROM vecmig.change") == [(0,)]

    def _require_tracking(self) -> None:
        """See that each trigger does its work, and that an event can be added and not be changed."""
        lab = self.lab
        lab.sql("UPDATE documents SET body = 'newer' WHERE id = 4")
        lab.sql("INSERT INTO documents VALUES (22, 'title 22', 'body 22')")
        assert lab.sql("SELECT key FROM vecmig.change ORDER BY key") == [([4],), ([22],)]
        lab.sql("DELETE FROM documents WHERE id = 6")
        vectors = lab.inspected().vectors.as_string(None)
        assert lab.sql(f"SELECT count(*) FROM {vectors} WHERE id IN (5, 6)") == [(0,)]
        lab.sync()
        with pytest.raises(psycopg.Error, match="append-only"):
            lab.sql("UPDATE vecmig.event SET kind = 'x'")


def _refuse_poison(texts: list[str]) -> None:
    if any(_POISON in text for text in texts):
        raise PoisonInputError("no")

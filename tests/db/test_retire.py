"""The way back, trust, and what only retire may delete: with readers, and with the time in the database's rows."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import numpy as np
import psycopg
import pytest
from numpy.typing import NDArray
from psycopg.types.json import Jsonb

from support.checks import said
from support.embedding import Model
from support.lab import LARGE, SMALL, TINY, Lab, recipe
from support.postgres import Connect
from vecmig import runner
from vecmig.errors import DatabaseError, GateRefused, LockHeld, UsageError, VecmigError
from vecmig.events import Waiting, Warned
from vecmig.homes import home_over
from vecmig.homes.partition import PartitionHome
from vecmig.ledger.ledger import Ledger
from vecmig.postgres.locks import runner_locks
from vecmig.runner.verbs.retire import Retired
from vecmig.runner.verbs.route import RouteChange

Connection = psycopg.Connection[Any]


def retire(lab: Lab, tag: str = SMALL, **options: Any) -> Retired:
    """Retire a tag."""
    return runner.retire(lab.config, lab.name, tag, listener=lab.listen, **options)


def age(lab: Lab, days: float) -> None:
    """Let all that has happened, but for the evals, have happened so many days earlier."""
    times = {"revision": "live_at", "route": "changed_at", "tag": "created_at", "shadow": "at", "event": "at"}
    moves = [
        f"UPDATE vecmig.{table} SET {column} = {column} - make_interval(secs => {days * 86_400})"
        for table, column in times.items()
    ]
    trigger = "ALTER TABLE vecmig.event {} TRIGGER append_only"
    lab.sql("; ".join([trigger.format("DISABLE"), *moves, trigger.format("ENABLE")]))


def keep_eval(lab: Lab, tag: str, days_ago: float, *, score: float = 0.8, **changes: Any) -> None:
    """Enter the run of a suite of 40 queries against a tag."""
    names = [f"{name}@10" for name in ("nDCG", "recall", "MRR", "success")]
    kinds = {"mean": score, "low": score, "high": score}
    values = dict.fromkeys(names, score)
    query = {"slice": None, "search": values, "exact": values, "index_recall": 1.0, "nearest": 0.1, "last": 0.9}
    row = {
        "id": uuid4(),
        "collection": lab.name,
        "tag": tag,
        "suite": "faq",
        "suite_fingerprint": "f",
        "k": 10,
        "queries": 40,
        "coverage": 1.0,
        "eligible": 20,
        "records": 20,
        "scores": Jsonb(
            {name: {"search": kinds, "exact": kinds} for name in names}
            | {"slices": {}, "index_recall": None, "index_used": True}
        ),
        "per_query": Jsonb([{"query": f"q{n}"} | query for n in range(40)]),
        "distances": Jsonb({}),
        "host": "here",
        "version": "0",
    } | changes
    columns = ", ".join(row)
    marks = ", ".join(["%s"] * len(row))
    lab.sql(
        f"INSERT INTO vecmig.eval ({columns}, at) VALUES ({marks}, now() - make_interval(secs => %s))",
        *row.values(),
        days_ago * 86_400,
    )


def keep_evals(lab: Lab, days: int, *, new: float = 0.8) -> None:
    """Enter a run against both tags on so many days."""
    for day in range(days):
        keep_eval(lab, SMALL, day)
        keep_eval(lab, LARGE, day, score=new)


def without_title_7(texts: list[str], made: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give no vector that can be found for one record."""
    made[[text.startswith("title 7\n") for text in texts]] = 0
    return made


def without_questions(texts: list[str], made: NDArray[np.float32]) -> NDArray[np.float32]:
    """Give no vector that can be searched with under LARGE."""
    return np.full_like(made, np.nan) if made.shape[1] == 256 else made


def shadow(lab: Lab, tag: str, searches: int) -> None:
    """Have so many searches, which may be a hundred, ask another tag as well."""

    def kept() -> int:
        return int(lab.sql("SELECT count(*) FROM vecmig.shadow")[0][0])

    runner.route(lab.config, "documents", RouteChange(shadow=tag, share=1.0))
    wanted, deadline = kept() + searches, time.monotonic() + 60
    with lab.reader() as reader:
        for number in range(searches):
            reader.search("documents", f"title {number}", 1)
        while kept() < wanted:
            assert time.monotonic() < deadline, "they were not kept"
            time.sleep(0.005)


@pytest.fixture
def trusted(lab: Lab) -> Lab:
    """From SMALL to LARGE 30 days ago, with evals on three days."""
    age(lab, 30)
    keep_evals(lab, 3)
    return lab


def vectors(lab: Lab) -> dict[str, int]:
    """Count the vectors of each tag."""
    return dict(lab.sql("SELECT tag, count(*) FROM documents_vectors GROUP BY tag"))


def written(lab: Lab) -> int:
    """Count the records that backfills have embedded so far."""
    ((count,),) = lab.sql("SELECT sum((data ->> 'written')::int)::int FROM vecmig.event WHERE kind = 'backfill'")
    return int(count)


def partitions(lab: Lab) -> list[str]:
    """Name the relations of vectors that there are, but for their indexes."""
    found = lab.sql("SELECT relname FROM pg_class WHERE relname LIKE 'documents\\_vectors\\_%' AND relkind = 'r'")
    return sorted(name for (name,) in found)


# The way back ------------------------------------------------------------------------------------------------------


@pytest.mark.upgraded
def test_the_way_back_is_refused_until_sync_has_caught_up(lab: Lab) -> None:
    lab.sql("UPDATE documents SET body = 'new' WHERE id = 1")
    lab.sql("INSERT INTO documents VALUES (21, 'new', 'record')")
    with pytest.raises(GateRefused) as refused:
        lab.downgrade()
    error = refused.value
    assert error.message == (
        f"The gate refuses the rollback: {SMALL} lacks 2 of 21 records, and the freshness_budget 0.005 of revision "
        "r2 allows 0."
    )
    assert error.state == (
        f"Nothing was changed: reads use {LARGE}. After a rollback 1 records would not be found at all, and 1 only by "
        "their old text."
    )
    assert error.hint.startswith("Run: vecmig sync, which takes about ")
    assert (error.exit_code, lab.live) == (3, LARGE)
    way = lab.status().rollback
    assert way is not None
    assert (way.tag, way.lacking, way.ready) == (SMALL, 2, False)
    lab.sync()
    assert lab.downgrade() == ["r2"]
    assert lab.live == SMALL


@pytest.mark.upgraded
def test_at_three_in_the_morning_the_budget_is_raised_in_the_revision(lab: Lab) -> None:
    """There is no flag; what was decided stands in the script."""
    lab.sql("UPDATE documents SET body = 'new' WHERE id < 5")
    with pytest.raises(GateRefused):
        lab.downgrade()
    lab = lab.write(budget=0.5)
    assert lab.downgrade(listener=lab.listen) == ["r2"]
    warnings = [event.message for event in lab.events if isinstance(event, Warned)]
    assert warnings == [
        "Revision r2 was changed since it was applied; its downgrade() runs as it is.",
        f"{SMALL} lacks a fresh vector for 4 of 20 records, which vecmig sync embeds.",
    ]


@pytest.mark.upgraded(budget=0.1)
def test_within_the_budget_it_flips_and_says_what_is_lacking(lab: Lab) -> None:
    lab.sql("UPDATE documents SET body = 'new' WHERE id = 1")
    assert lab.downgrade(listener=lab.listen) == ["r2"]
    (warning,) = [event.message for event in lab.events if isinstance(event, Warned)]
    assert warning == f"{SMALL} lacks a fresh vector for 1 of 20 records, which vecmig sync embeds."


def test_what_the_old_tag_rejected_is_not_lost_by_going_back(lab: Lab, model: Model) -> None:
    lab = lab.write(coverage=0.9)
    model.after = without_title_7
    lab.upgrade()
    assert lab.status().rollback.ready is True  # type: ignore[union-attr]
    assert lab.downgrade() == ["r2"]


@pytest.mark.upgraded("r1")
def test_the_first_revision_goes_back_to_nothing_without_a_check(lab: Lab) -> None:
    lab.sql("UPDATE documents SET body = 'new'")
    assert lab.status().rollback is None
    assert lab.downgrade("base") == ["r1"]


@pytest.mark.upgraded(chain=(SMALL, LARGE, TINY))
def test_two_steps_back_stop_where_the_second_tag_lacks_records(lab: Lab) -> None:
    """A tag before the standby is not kept complete; once it is the standby itself, sync completes it."""
    lab.sql("INSERT INTO documents VALUES (21, 'new', 'record')")
    lab.sync()
    with pytest.raises(GateRefused, match=f"{SMALL} lacks 1 of 21"):
        lab.downgrade("base")
    assert (lab.live, lab.status().route.standby) == (LARGE, SMALL)
    lab.sync()
    assert lab.downgrade("base") == ["r2", "r1"]


@pytest.mark.upgraded(chain=(SMALL, LARGE, TINY))
def test_a_step_back_that_fails_tells_of_the_steps_before_it(lab: Lab) -> None:
    lab.sql("INSERT INTO documents VALUES (21, 'new', 'record')")
    lab.sync()
    with pytest.raises(GateRefused) as refused:
        lab.downgrade("-2")
    assert refused.value.state == (
        f"Revision r3 was rolled back: reads of documents use {LARGE}. At revision r2: Nothing was changed: "
        f"reads use {LARGE}. After a rollback 1 records would not be found at all, and 0 only by their old text."
    )
    # run again, -2 would be counted from here
    assert refused.value.hint.endswith("\nTo go on to where this was to lead: vecmig downgrade r1")
    assert lab.live == LARGE
    lab.sync()
    assert lab.downgrade("r1") == ["r2"]


@pytest.mark.upgraded("r3", until="expand", chain=(SMALL, LARGE, TINY))
def test_a_candidate_that_was_given_up_is_told_of_too(lab: Lab) -> None:
    lab.sql("INSERT INTO documents VALUES (21, 'new', 'record')")
    with pytest.raises(GateRefused) as refused:
        lab.downgrade("r1")
    assert refused.value.state.startswith(
        f"Revision r3 was abandoned: reads of documents have not moved: they use {LARGE}. At revision r2: Nothing was "
        "changed"
    )
    assert lab.status().route.candidate is None
    with pytest.raises(GateRefused) as refused:
        lab.downgrade("r1")
    assert refused.value.state.startswith(f"Nothing was changed: reads use {LARGE}.")


@pytest.mark.upgraded
def test_status_names_the_way_back_while_a_candidate_is_in_progress(lab: Lab) -> None:
    way = lab.status().rollback
    assert way is not None
    assert (way.command, way.besides) == ("vecmig downgrade -1", ())
    lab = lab.write(chain=(SMALL, LARGE, TINY))
    lab.upgrade(until="expand")
    way = lab.status().rollback
    assert way is not None
    assert (way.command, way.besides) == ("vecmig downgrade r1", ("r3",))
    assert lab.downgrade("r1") == ["r3", "r2"]
    assert (lab.live, lab.status().route.candidate) == (SMALL, None)


@pytest.mark.upgraded
def test_what_to_do_about_a_worse_tag_is_the_way_back(lab: Lab) -> None:
    lab = lab.write(chain=(SMALL, LARGE, TINY))
    keep_evals(lab, 3, new=0.5)
    lab.upgrade(until="expand")
    age(lab, 30)
    trust = lab.status().trust
    assert trust is not None
    (check,) = trust.failed
    assert said(check) == "run vecmig eval again; if the new tag is worse, go back: vecmig downgrade r1"


# Trust -------------------------------------------------------------------------------------------------------------


def _failed(lab: Lab) -> list[str]:
    trust = lab.status().trust
    assert trust is not None
    return [check.name for check in trust.failed]


@pytest.mark.upgraded
def test_only_time_and_evidence_let_the_old_vectors_go(lab: Lab) -> None:
    assert _failed(lab) == ["days live", "eval days"]
    with pytest.raises(GateRefused, match="has not earned the trust yet") as refused:
        retire(lab)
    assert [check.name for check in refused.value.failed] == ["days live", "eval days"]
    age(lab, 20.9)
    keep_evals(lab, 2)
    assert _failed(lab) == ["days live", "eval days"]
    age(lab, 0.2)
    assert _failed(lab) == ["eval days"]
    keep_eval(lab, SMALL, 5)
    keep_eval(lab, LARGE, 5)
    assert _failed(lab) == []
    assert vectors(lab) == {SMALL: 20, LARGE: 20}


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda lab: keep_eval(lab, LARGE, 0, score=0.7), "nDCG@10 on faq -0.100"),
        (lambda lab: keep_eval(lab, LARGE, 0, suite_fingerprint="other"), "2 days with evals"),
        (lambda lab: keep_eval(lab, LARGE, 0, coverage=0.9, suite="more"), ""),
        (lambda lab: lab.sql("UPDATE vecmig.eval SET coverage = 0.9 WHERE tag = %s", LARGE), "no day since"),
        (lambda lab: lab.sql("UPDATE vecmig.eval SET at = at - interval '40 days'"), "no day since"),
        (lambda lab: lab.sql("UPDATE vecmig.eval SET at = now()"), "1 day with evals"),
    ],
    ids=["worse", "another suite", "less coverage aside", "less coverage", "before the cutover", "one day"],
)
@pytest.mark.upgraded
def test_evals_count_by_day_pair_and_coverage(trusted: Lab, spoil: Callable[[Lab], Any], why: str) -> None:
    spoil(trusted)
    trust = trusted.status().trust
    assert trust is not None
    assert [check.name for check in trust.failed] == (["eval days"] if why else [])
    assert why in trust.checks[1].detail


@pytest.mark.upgraded
def test_a_revision_says_what_trust_takes_also_after_it_went_live(lab: Lab) -> None:
    """It decides only when old vectors may go, so it is no change of what was applied."""
    script = lab.path / "migrations" / "versions" / "r2.py"
    text = script.read_text().replace("import Gate, Migration", "import Gate, Migration, Trust")
    script.write_text(text.replace("\n\ndef upgrade", "trust = Trust(days=2, eval_days=0)\n\n\ndef upgrade", 1))
    runner.verify(lab.config)
    age(lab, 1)
    assert _failed(lab) == ["days live"]
    age(lab, 1)
    assert _failed(lab) == []
    script.write_text(text.replace("\n\ndef upgrade", "trust = 5\n\n\ndef upgrade", 1))
    with pytest.raises(UsageError, match=r"trust must be a Trust\(…\), not 5"):
        lab.status()


@pytest.mark.upgraded
def test_the_gate_says_which_evals_count(trusted: Lab) -> None:
    script = trusted.path / "migrations" / "versions" / "r2.py"
    text = script.read_text().replace("import Gate,", "import Gate, NoWorse,")

    def ask(terms: str) -> list[str]:
        script.write_text(text.replace("freshness_budget=0.005", f"freshness_budget=0.005, evals=[{terms}]"))
        return _failed(trusted)

    assert ask('NoWorse("faq", "MRR@10")') == []
    assert ask('NoWorse("faq", "MRR@10"), NoWorse("other", "MRR@10")') == ["eval days"]
    assert ask('NoWorse("faq", "MAP@10")') == ["eval days"]


@pytest.mark.upgraded
def test_going_back_and_forward_again_starts_the_clock_anew(trusted: Lab) -> None:
    trusted.downgrade()
    with pytest.raises(GateRefused, match="days live"):
        retire(trusted, LARGE)
    trusted.upgrade()
    assert _failed(trusted) == ["days live", "eval days"]


def _begin(lab: Lab) -> None:
    """Leave nothing of LARGE undone but for its cutover."""
    lab.upgrade("r1")
    lab.upgrade(until="index")


def _fail_a_shadow_read(lab: Lab, model: Model) -> None:
    """Let LARGE give no answer to one search that another tag answered."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "after", without_questions)
        shadow(lab, LARGE, 1)


def test_failing_shadow_reads_keep_the_old_vectors(lab: Lab, model: Model) -> None:
    _begin(lab)
    _fail_a_shadow_read(lab, model)
    lab.upgrade()
    age(lab, 20)
    trust = lab.status().trust
    assert trust is not None
    assert [check.name for check in trust.failed] == ["days live", "eval days", "shadow"]
    assert trust.checks[2].detail == "1 of 1 shadow reads of the tag failed in the 21 days before it went live"
    # however long it is live, it is not asked beside itself: this does not grow old
    age(lab, 30)
    keep_evals(lab, 3)
    assert _failed(lab) == ["shadow"]
    with pytest.raises(GateRefused, match=r"lets .* go: shadow\."):
        retire(lab)


def test_what_makes_up_for_failing_shadow_reads(lab: Lab, model: Model) -> None:
    """What the refusal says to do."""
    _begin(lab)
    _fail_a_shadow_read(lab, model)
    lab.upgrade()
    lab.downgrade()
    lab.upgrade(until="index")
    shadow(lab, LARGE, 99)
    lab.upgrade()
    age(lab, 30)
    keep_evals(lab, 3)
    assert _failed(lab) == []


@pytest.mark.parametrize(("days", "fails"), [(20.9, True), (21.1, False)])
def test_shadow_reads_long_before_the_cutover_do_not_count(lab: Lab, model: Model, days: float, fails: bool) -> None:
    _begin(lab)
    _fail_a_shadow_read(lab, model)
    age(lab, days)
    lab.upgrade()
    assert ("shadow" in _failed(lab)) is fails


@pytest.mark.upgraded
def test_shadow_reads_of_a_standby_count_once_reads_are_back_on_it(trusted: Lab, model: Model) -> None:
    lab = trusted.write(chain=(SMALL, LARGE, TINY))
    lab.upgrade()
    _fail_a_shadow_read(lab, model)
    lab.downgrade()
    assert _failed(lab) == ["days live", "eval days", "shadow"]


def test_shadow_reads_of_vectors_that_were_retired_count_for_nothing(lab: Lab) -> None:
    lab.script(2, SMALL, LARGE, more=", shadow=MinSamples(1)")
    _begin(lab)
    shadow(lab, LARGE, 1)
    lab.upgrade()
    lab.downgrade()
    age(lab, 30)
    retire(lab, LARGE)
    lab.upgrade(until="index")
    assert lab.checks()["shadow"] is False
    shadow(lab, LARGE, 1)
    assert lab.checks()["shadow"] is True


@pytest.mark.upgraded
def test_days_count_while_the_tag_serves_every_search(trusted: Lab) -> None:
    lab = trusted.write(chain=(SMALL, LARGE, TINY))
    lab.upgrade(until="gate")
    assert _failed(lab) == []
    runner.route(lab.config, "documents", RouteChange(ramp=10))
    trust = lab.status().trust
    assert trust is not None
    assert [check.name for check in trust.failed] == ["days live"]
    assert f"now {TINY} serves 10 % of the searches" in trust.checks[0].detail
    runner.route(lab.config, "documents", RouteChange(ramp=0))
    assert _failed(lab) == ["days live", "eval days"]
    age(lab, 22)
    assert _failed(lab) == []
    runner.route(lab.config, "documents", RouteChange(ramp=10))
    lab.downgrade()
    assert lab.status().route.ramp_share == 0
    assert _failed(lab) == ["days live", "eval days"]


def test_the_cutover_ends_a_ramp(lab: Lab) -> None:
    """Whatever is said about the route later on, the days count from there."""
    _begin(lab)
    runner.route(lab.config, "documents", RouteChange(ramp=10, shadow=LARGE))
    lab.upgrade()
    age(lab, 22)
    keep_evals(lab, 3)
    assert _failed(lab) == []
    runner.route(lab.config, "documents", RouteChange(no_shadow=True))
    assert _failed(lab) == []


@pytest.mark.upgraded
def test_the_trust_in_a_tag_whose_old_one_is_gone_asks_for_no_comparison(trusted: Lab) -> None:
    """Reads are back on a tag whose old one was retired, and what failed may go once the days are over."""
    retire(trusted)
    lab = trusted.write(chain=(SMALL, LARGE, TINY))
    lab.upgrade()
    lab.downgrade()
    with pytest.raises(GateRefused) as refused:
        retire(lab, TINY)
    assert [check.name for check in refused.value.failed] == ["days live"]
    age(lab, 22)
    planned = runner.retirement(lab.config, "documents", TINY)
    assert planned.trust is not None
    assert planned.trust.checks[1].detail == "the old tag was retired: nothing to be compared with"
    retire(lab, TINY)
    assert vectors(lab) == {LARGE: 20}


# What goes, and what never does ------------------------------------------------------------------------------------


@pytest.mark.upgraded
def test_retire_removes_one_tag_and_says_what_it_was(trusted: Lab, connection: Connection) -> None:
    planned = runner.retirement(trusted.config, "documents", SMALL)
    assert (planned.vectors, planned.records, planned.begun) == (20, 20, False)
    assert planned.bytes > planned.index_bytes > 0
    assert planned.redone.tokens > 20
    before = trusted.sql("SELECT relacl, relrowsecurity FROM pg_class WHERE relname = 'documents_vectors'")
    done = retire(trusted, reason="the disk is full")
    assert done.bytes_freed == planned.bytes
    assert (vectors(trusted), len(partitions(trusted))) == ({LARGE: 20}, 1)
    assert trusted.sql("SELECT relacl, relrowsecurity FROM pg_class WHERE relname = 'documents_vectors'") == before
    assert trusted.sql("SELECT state FROM vecmig.tag WHERE tag = %s", SMALL) == [("retired",)]
    ((data, role),) = trusted.sql("SELECT data, role FROM vecmig.event WHERE kind = 'retire'")
    assert (data["vectors"], data["reason"], data["revision"], role) == (20, "the disk is full", "r2", "postgres")
    assert trusted.sql("SELECT data FROM vecmig.event WHERE kind = 'retired'") == [({"bytes_freed": planned.bytes},)]
    assert connection.execute("SELECT count(*) FROM documents_live").fetchone() == (20,)
    status = trusted.status()
    assert ([tag.tag for tag in status.tags], status.route.standby) == ([LARGE], None)
    assert status.rollback is not None
    assert status.rollback.retired
    assert set(trusted.sync()) == {("documents", LARGE)}
    with pytest.raises(UsageError, match="was retired already on 20"):
        retire(trusted)


@pytest.mark.parametrize("tag", [LARGE, "toy@9/dim-4/chunk-none/norm-l2", "toy@1/dim-4"])
@pytest.mark.upgraded
def test_the_live_tag_and_unknown_ones_are_never_retired(trusted: Lab, tag: str) -> None:
    with pytest.raises(VecmigError, match=r"is the live tag|has no tag|does not say"):
        retire(trusted, tag)
    assert vectors(trusted) == {SMALL: 20, LARGE: 20}


@pytest.mark.upgraded
def test_a_candidate_is_never_retired(trusted: Lab) -> None:
    lab = trusted.write(chain=(SMALL, LARGE, TINY))
    lab.upgrade(until="backfill")
    with pytest.raises(UsageError, match="on its way"):
        retire(lab, TINY)
    assert vectors(lab)[TINY] == 20


@pytest.mark.upgraded("r3", until="backfill", chain=(SMALL, LARGE, TINY))
def test_a_tag_that_never_was_live_waits_for_the_same_trust(lab: Lab) -> None:
    lab.downgrade()
    with pytest.raises(GateRefused) as refused:
        retire(lab, TINY)
    assert refused.value.hint.endswith(
        "by vecmig upgrade r3 --release --until expand, then vecmig downgrade r3@-1 --discard"
    )
    age(lab, 30)
    keep_evals(lab, 3)
    retire(lab, TINY)
    assert vectors(lab) == {SMALL: 20, LARGE: 20}
    assert lab.status().route.standby == SMALL
    assert lab.downgrade() == ["r2"]


@pytest.mark.upgraded("r3", until="backfill", chain=(SMALL, LARGE, TINY))
def test_what_a_refusal_names_gives_up_a_tag_that_never_was_live(lab: Lab) -> None:
    with pytest.raises(UsageError, match="on its way") as refused:
        retire(lab, TINY)
    assert refused.value.hint == "To give it up, with its vectors: vecmig downgrade r3@-1 --discard"
    lab.downgrade()
    runner.upgrade(lab.config, "r3", release=True, until="expand")
    runner.downgrade(lab.config, "r3@-1", discard=True)
    assert vectors(lab) == {SMALL: 20, LARGE: 20}
    assert lab.live == LARGE


@pytest.mark.upgraded
def test_nothing_is_retired_where_nothing_is_live(trusted: Lab) -> None:
    trusted.downgrade("base")
    with pytest.raises(UsageError, match="No tag of documents is live"):
        retire(trusted)
    assert vectors(trusted) == {SMALL: 20, LARGE: 20}


@pytest.mark.upgraded
def test_a_revision_whose_old_vectors_are_gone_is_not_taken_back(trusted: Lab) -> None:
    retire(trusted)
    with pytest.raises(DatabaseError) as refused:
        trusted.downgrade()
    assert refused.value.message == f"Revision r2 cannot be rolled back: the vectors of {SMALL} were retired."
    assert refused.value.hint == f"Make a new revision that goes to that tag: vecmig revision --to-tag {SMALL}"
    assert trusted.upgrade() == []
    lab = trusted.write(chain=(SMALL, LARGE, SMALL))
    assert lab.upgrade() == ["live"]
    assert (lab.live, lab.status().route.standby, written(lab)) == (SMALL, LARGE, 60)
    assert lab.downgrade() == ["r3"]
    with pytest.raises(DatabaseError, match="cannot be rolled back"):
        lab.downgrade()
    assert lab.live == LARGE


@pytest.mark.upgraded
def test_no_step_is_taken_where_a_later_one_meets_a_retired_tag(trusted: Lab) -> None:
    """What is known beforehand is said beforehand: reads do not move."""
    retire(trusted)
    lab = trusted.write(chain=(SMALL, LARGE, TINY))
    lab.upgrade()
    lab.events.clear()
    for target in ("r1", "-2", "base"):
        with pytest.raises(DatabaseError) as refused:
            lab.downgrade(target, listener=lab.listen)
        error = refused.value
        assert error.message == f"Revision r2 cannot be rolled back: the vectors of {SMALL} were retired."
        assert error.state == "Nothing was changed."
        assert error.hint == (
            f"Make a new revision that goes to that tag: vecmig revision --to-tag {SMALL}\n"
            "To roll back only what came after it: vecmig downgrade r2"
        )
        assert lab.events == []
        assert lab.live == TINY
    assert lab.downgrade("r2") == ["r3"]
    assert lab.live == LARGE


@pytest.mark.upgraded
def test_stamping_does_not_bring_the_way_back(trusted: Lab) -> None:
    retire(trusted)
    script = trusted.path / "migrations" / "versions" / "r2.py"
    script.write_text(script.read_text().replace("coverage=0.995", "coverage=0.99"))
    assert runner.stamp(trusted.config, "r2") == ("r2",)
    with pytest.raises(DatabaseError, match="were retired"):
        trusted.downgrade()


def test_rejected_records_and_the_shadow_go_with_the_tag(lab: Lab, model: Model) -> None:
    lab = lab.write(coverage=0.9)
    model.after = without_title_7
    lab.upgrade()
    age(lab, 30)
    keep_evals(lab, 3)
    lab.sql("UPDATE vecmig.route SET shadow_tag = %s, shadow_share = 0.1", SMALL)
    assert len(runner.rejected(lab.config)) == 2
    retire(lab)
    assert [one.tag for one in runner.rejected(lab.config)] == [LARGE]
    assert lab.status().route.shadow_tag is None
    lab.sql("UPDATE documents SET body = 'new' WHERE id = 1")
    lab.sync()
    assert lab.status().outbox.records == 0


# Readers, locks and interruptions ----------------------------------------------------------------------------------


@contextmanager
def reading(connect: Connect, statement: str) -> Iterator[list[str]]:
    """Read again and again, prepared and not, in a thread of its own; the list has what failed."""
    failed: list[str] = []
    done = threading.Event()
    first = threading.Event()

    def work(connection: Connection) -> None:
        while not done.is_set():
            try:
                if connection.execute(statement, prepare=True).fetchone() is None:
                    failed.append("no row")
            except psycopg.Error as error:
                failed.append(str(error))
            first.set()

    threads = [threading.Thread(target=work, args=(connect(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    first.wait(10)
    try:
        yield failed
    finally:
        done.set()
        for thread in threads:
            thread.join(10)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT id FROM documents_live ORDER BY id LIMIT 1",
        f"SELECT id FROM documents_search(array_fill(1, ARRAY[256])::vector, 3, '{LARGE}') LIMIT 1",
        "SELECT count(*) FROM documents_vectors",
    ],
)
@pytest.mark.upgraded
def test_no_read_fails_while_a_tag_is_retired(trusted: Lab, connect: Connect, statement: str) -> None:
    with reading(connect, statement) as failed:
        retire(trusted)
    assert failed == []
    assert vectors(trusted) == {LARGE: 20}


@pytest.mark.upgraded
def test_who_is_in_the_way_is_named_and_the_next_run_finishes_it(trusted: Lab, connect: Connect) -> None:
    lab = trusted.write(lock_wait=0.5)
    old = connect()
    old.execute("SET application_name = 'nightly report'")
    old.execute("BEGIN")
    old.execute("SELECT count(*) FROM documents_vectors")
    with pytest.raises(DatabaseError, match="nightly report") as refused:
        retire(lab)
    assert refused.value.state == f"Reads go on. {SMALL} is out of use, and its vectors are still there."
    assert refused.value.hint.endswith("To finish it, run the same command again.")
    assert "nightly report" in [event.reason for event in lab.events if isinstance(event, Waiting)][-1]
    # its own view of the vectors is as it was, and nobody else waits for it
    assert old.execute("SELECT count(*) FROM documents_live").fetchone() == (20,)
    connect().execute("INSERT INTO documents VALUES (21, 'while', 'it waits')")
    lab.sync()
    assert lab.status().half_retired == (SMALL,)
    assert _state(lab) == "pending"
    old.execute("ROLLBACK")
    done = retire(lab)
    assert done.bytes_freed > 0
    assert vectors(lab) == {LARGE: 21}
    assert lab.status().half_retired == ()


def _state(lab: Lab) -> str:
    with lab.opened(SMALL) as (connection, stamps):
        return home_over(connection, stamps).state().place


class _Killed(BaseException):
    """Stands for SIGKILL: nothing behind it runs."""


#: The steps of a retirement, one after the other.
STEPS = {"begin": (Ledger, "retire"), "leave": (PartitionHome, "leave"), "remove": (PartitionHome, "remove")}


def _kill(monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    def killed(*_: object, **__: object) -> None:
        raise _Killed

    monkeypatch.setattr(*STEPS[step], killed)


@pytest.mark.parametrize("before", STEPS)
@pytest.mark.upgraded
def test_killed_between_any_two_steps_the_next_run_finishes(
    trusted: Lab, before: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        _kill(patch, before)
        with pytest.raises(_Killed):
            retire(trusted, reason="first")
    assert trusted.sql("SELECT count(*) FROM documents_live") == [(20,)]
    assert len(partitions(trusted)) == 2
    retire(trusted, reason="second")
    assert (vectors(trusted), len(partitions(trusted))) == ({LARGE: 20}, 1)
    reasons = trusted.sql("SELECT data ->> 'reason' FROM vecmig.event WHERE kind = 'retire'")
    assert reasons == [("second",)] if before == "begin" else [("first",)]


@pytest.mark.upgraded
def test_killed_in_the_middle_of_a_detach_the_next_run_finishes(trusted: Lab, connect: Connect) -> None:
    """What a killed DETACH CONCURRENTLY leaves is pending, and its next step is FINALIZE."""
    _leave_pending(trusted, connect)
    assert _state(trusted) == "pending"
    retire(trusted)
    assert vectors(trusted) == {LARGE: 20}


def _leave_pending(lab: Lab, connect: Connect) -> None:
    old = connect()
    old.execute("BEGIN")
    old.execute("SELECT count(*) FROM documents_vectors")
    with pytest.raises(DatabaseError):
        retire(lab.write(lock_wait=0.1))
    old.execute("ROLLBACK")
    lab.write()


@pytest.mark.upgraded
def test_a_tag_whose_retirement_was_cut_short_can_be_taken_up_again(trusted: Lab, connect: Connect) -> None:
    """Its vectors are as good as they were, so they are not paid for twice."""
    _leave_pending(trusted, connect)
    lab = trusted.write(chain=(SMALL, LARGE, SMALL))
    assert lab.upgrade() == ["live"]
    assert (lab.live, vectors(lab), written(lab)) == (SMALL, {SMALL: 20, LARGE: 20}, 40)


@pytest.mark.parametrize("at", ["leave", "remove"])
@pytest.mark.upgraded
def test_taken_up_again_from_every_step(trusted: Lab, at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        _kill(patch, at)
        with pytest.raises(_Killed):
            retire(trusted)
    with pytest.raises(DatabaseError, match="were retired"):
        trusted.downgrade()
    lab = trusted.write(chain=(SMALL, LARGE, SMALL))
    assert lab.upgrade() == ["live"]
    assert (vectors(lab), written(lab)) == ({SMALL: 20, LARGE: 20}, 40)


@pytest.mark.upgraded
def test_one_runner_and_beside_a_sync(trusted: Lab) -> None:
    with runner_locks(trusted.database, ["documents"], what="upgrade"), pytest.raises(LockHeld):
        retire(trusted)
    with runner_locks(trusted.database, ["documents"], what="sync --watch", kind="sync"):
        retire(trusted)
    assert vectors(trusted) == {LARGE: 20}


@pytest.mark.upgraded
def test_it_depends_on_nothing_that_was_edited_since(trusted: Lab) -> None:
    (trusted.path / "migrations" / "collections.yaml").write_text("collections: [")
    retire(trusted)
    assert vectors(trusted.write()) == {LARGE: 20}


@pytest.mark.upgraded
def test_looking_writes_nothing(trusted: Lab) -> None:
    before = trusted.sql("SELECT count(*), max(id) FROM vecmig.event")
    runner.retirement(trusted.config, "documents", SMALL)
    assert trusted.sql("SELECT count(*), max(id) FROM vecmig.event") == before
    assert trusted.write(recipes={SMALL: recipe(SMALL, price_per_million_tokens=2.0)}).live == LARGE

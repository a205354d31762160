"""Fewer dims of the same vectors: nothing is asked of the provider, by a service neither; with a model made for it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from support.cli import Vecmig, describe, documents_collection, make_documents, script, tag
from support.project import NEW_TAG, OLD_TAG, Project
from support.provider import Provider
from support.stamps import text_hash
from support.waiting import wait_for

BASE, CUT = tag("fake", 8), tag("fake", 4)
COUNT = 40
IDLE = "SELECT count(*) FROM vecmig.run WHERE what = 'sync' AND reason LIKE 'no change is noted; last full pass %'"
#: Records of which one of the tags in use lacks a fresh vector.
LACKING = f"""
SELECT count(*)
FROM public.documents d, vecmig.route r, unnest(ARRAY[r.live, r.standby]) AS t
WHERE NOT EXISTS (SELECT FROM documents_vectors v
                  WHERE v.id = d.id AND v.tag = t AND v.source_hash = {text_hash("d.title || ' ' || d.body")})
"""
#: Vectors of the one tag that are not the first dims of those of the other.
DIFFERENT = """
SELECT count(*)
FROM documents_vectors c
JOIN documents_vectors b USING (id)
WHERE c.tag = %s AND b.tag = %s AND c.embedding <-> l2_normalize(subvector(b.embedding, 1, 4)) > 1e-6
"""


@pytest.fixture
def live(project: Project, provider: Provider, vecmig: Vecmig) -> Project:
    make_documents(project, COUNT)
    recipe: dict[str, Any] = {"provider": "openai", "dims": 8, "base_url": provider.url, "max_batch": 5}
    tags = {BASE: recipe, CUT: {"derive": {"from": BASE, "dims": 4}}}
    describe(project, {"documents": documents_collection(CUT)}, tags)
    script(project, "aaaa", BASE)
    script(project, "bbbb", CUT, old=BASE, down="aaaa")
    vecmig("upgrade", "aaaa")
    provider.forget()
    return project


def sent(provider: Provider) -> Counter[str]:
    """Count how often each text was sent."""
    return Counter(text for request in provider.requests() for text in request["inputs"])


def test_the_backfill_asks_the_provider_for_nothing(live: Project, provider: Provider, vecmig: Vecmig) -> None:
    plan = vecmig("plan", "--json").json
    assert [(one["derived"], one["pending"], one["tokens"]) for one in plan] == [(COUNT, 0, 0)]
    vecmig("upgrade", "--until", "index")
    assert provider.requests() == []
    assert live.sql(DIFFERENT, CUT, BASE) == [(0,)]
    vecmig("upgrade")
    assert vecmig("status", "--json").json["collections"][0]["live_tag"] == CUT


def test_a_service_embeds_an_edit_once_for_both(live: Project, provider: Provider, vecmig: Vecmig) -> None:
    vecmig("upgrade")
    provider.forget()
    with live.running("sync", "--watch", "--every", "0.1") as service:
        wait_for(lambda: live.sql(IDLE) == [(2,)], service)
        live.sql("UPDATE documents SET body = 'changed' WHERE id = 3")
        live.sql("INSERT INTO documents (id, title, body) VALUES (90, 'title', 'new')")
        wait_for(lambda: live.sql(LACKING) == [(0,)], service)
        wait_for(lambda: live.sql("SELECT count(*) FROM vecmig.change") == [(0,)], service)
    texts = {text for (text,) in live.sql("SELECT title || ' ' || body FROM documents WHERE id IN (3, 90)")}
    assert {text: count for text, count in sent(provider).items() if text in texts} == dict.fromkeys(texts, 1)
    assert live.sql(DIFFERENT, CUT, BASE) == [(0,)]


def test_the_first_dims_of_a_model_that_was_made_for_it_are_its_own_of_that_size(
    project: Project, vecmig: Vecmig
) -> None:
    """wordllama, asked for 64 dims, gives the first 64 of its 256."""
    make_documents(project, COUNT)
    derived = "wordllama@0.4/cut-yes/dim-64/chunk-none/norm-l2"
    tags = {
        NEW_TAG: {"provider": "wordllama", "dims": 256},
        derived: {"derive": {"from": NEW_TAG, "dims": 64}},
        OLD_TAG: {"provider": "wordllama", "dims": 64},
    }
    describe(project, {"documents": documents_collection(OLD_TAG)}, tags)
    script(project, "aaaa", NEW_TAG)
    script(project, "bbbb", derived, old=NEW_TAG, down="aaaa")
    script(project, "cccc", OLD_TAG, old=derived, down="bbbb")
    vecmig("upgrade")
    distances = project.sql(
        "SELECT max(a.embedding <-> b.embedding) FROM documents_vectors a JOIN documents_vectors b USING (id) "
        "WHERE a.tag = %s AND b.tag = %s",
        vecmig("status", "--json").json["collections"][0]["standby_tag"],
        OLD_TAG,
    )
    assert distances[0][0] < 1e-3

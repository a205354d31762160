"""The metrics of a suite, by ir-measures, for each query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vecmig.ledger.evals import metric_names


def query_metrics(
    relevant: Sequence[Mapping[str, int]], answers: Sequence[Sequence[str]], k: int
) -> list[dict[str, float]]:
    """Return the metrics of each query, from 0 to 1, by name.

    For recall, MRR and success a record answers a query if its grade is 1 or more; nDCG takes the grade as its gain.

    Args:
        relevant: for each query, the grade of each judged record.
        answers: for each query, the records that were found, best first, at most k, each once.
        k: how many records an answer has.
    """
    from ir_measures import RR, Qrel, R, ScoredDoc, Success, iter_calc, nDCG

    ndcg, recall, mrr, success = metric_names(k)
    # an answer has no more than k records, so the reciprocal rank needs no cut of its own
    measures = {nDCG @ k: ndcg, R @ k: recall, RR: mrr, Success @ k: success}
    qrels = [Qrel(str(n), doc, grade) for n, judged in enumerate(relevant) for doc, grade in judged.items()]
    # by rank, because records at one distance would else be put in the order of their names
    run = [ScoredDoc(str(n), doc, -float(at)) for n, answer in enumerate(answers) for at, doc in enumerate(answer)]
    found = [dict.fromkeys(measures.values(), 0.0) for _ in relevant]
    if run:
        for metric in iter_calc(list(measures), qrels, run):
            found[int(metric.query_id)][measures[metric.measure]] = float(metric.value)
    return found

"""Judgements and a run in, every measure for every query out: what trec_eval computes, and as it computes it.

The rules. Results are ordered by score, highest first; equal scores by document id, greatest first, compared as strings
of bytes. A retrieved document without a judgement, or with a negative one, is not relevant. Queries without judgements
are left out; `missing` says what becomes of judged queries that the run does not answer.

A judged document is all that a measure can see, and most retrieved documents are not judged. So nothing is sorted.
Three steps:

    match    where in the run is each judged document?  A look into a dictionary, or `matching` for files and arrays.
    rank     how many scores are higher than its own?  That, and one, is its rank.    `one_pass.rank_by_score`
    measure  one pass over the ranked grades gives every measure.                     `one_pass.measure`

    query 0, judged:    grade   2  0  1  1                            R = 3 relevant
                        rank    1  4  0  2     0: not retrieved       AP = (1/1 + 2/2) / 3

The table is ragged: the judged documents of query i are entries judged_offsets[i]:judged_offsets[i + 1] of flat arrays.
The measures are those of `ranking`, whose plain definitions this is tied to by test.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from itertools import chain, repeat
from os import PathLike
from struct import error as struct_error
from struct import pack, pack_into

import numpy as np

from ..validation import check_array, check_choice, check_integer
from . import trec
from .matching import match, take_ragged
from .one_pass import Names, break_ties, measure, parse_measures, rank_by_score


def evaluate(qrels, run, measures, *, relevance_level=1, missing="skip", depth=None, judged_only=False):
    """Every measure of every query: {measure: {query: value}}; `mean` averages them.

    qrels     {query: {document: grade}}, grades int; or the path of a TREC qrels file ("query 0 document grade"
              a line); or an iterable of (query, document, grade)
    run       {query: {document: score}}, scores real, not NaN; or the path of a TREC run file ("query Q0 document
              rank score name" a line, where the rank is ignored); or an iterable of (query, document, score)
    measures  names, or one name: "map" "mrr" "ndcg" "ndcg_exponential" "dcg" "dcg_exponential" "precision" "recall"
              "hit_rate" "err", each alone (the whole list) or cut off, as in "ndcg@10"; "r_precision" "bpref";
              "rbp@0.8", where the number is p. "precision" alone divides by the number retrieved, "err" takes the
              highest grade in qrels as its scale.

    relevance_level  the least grade that is relevant (trec_eval -l); gains are the grades whatever the level
    missing          judged queries that are not in the run: "skip" them, give them "zero" (trec_eval -c), or "error",
                     which also refuses queries in the run that have no judgements
    depth            look at the first `depth` results only (trec_eval -M)
    judged_only      take unjudged documents out of the ranking first (trec_eval -J)

    Raises ValueError for duplicate documents, NaN scores, grades that are not integers, malformed lines (with file and
    line), and when no query of the run is judged. Whether the ids of a dictionary run are str is seen from the first
    and the last of each query. With several runs, build one `Evaluator` and keep it.
    Source: the rules of trec_eval, https://github.com/usnistgov/trec_eval. Queries come in the order of qrels.
    """
    evaluator = Evaluator(
        qrels, measures, relevance_level=relevance_level, missing=missing, depth=depth, judged_only=judged_only
    )
    return evaluator.evaluate(run)


def evaluate_arrays(judged, grades, retrieved, measures, *, scores=None, relevance_level=1):
    """Every measure of every query from integer ids, such as an index returns: {measure: (q,) float64}.

    judged     (q, m) integers       the judged documents of each query; negative ids are padding
    grades     (q, m) integers       their grades, below 2^63; those of padding are not looked at
    retrieved  (q, depth) integers   the results; rows end in negative ids where fewer were found
    scores     (q, depth) real       their scores, with ties to the greater id; without them, rows are in ranked order

    The measures are named as in `evaluate`. Raises ValueError for an id that occurs twice in a row, and for NaN.
    """
    measures, plan = parse_measures(measures)
    level = check_integer(relevance_level, "relevance_level", minimum=0)
    judged = _check_ids(judged, "judged")
    retrieved = _check_ids(retrieved, "retrieved", rows=len(judged))
    grades = check_array(grades, "grades", shape=judged.shape)
    if grades.dtype.kind not in "iu":
        raise ValueError(f"grades: expected integers, got dtype {grades.dtype}")
    if grades.dtype == np.uint64 and (grades[judged >= 0] >= 2**63).any():
        raise ValueError(f"grades: expected integers below 2^63, got {grades[judged >= 0].max()}")
    grades = np.where(judged < 0, -1, grades.astype(np.int64)).ravel()  # int64 first: -1 is 255 among uint8
    q, width = judged.shape
    offsets, judged_offsets = np.arange(q + 1) * retrieved.shape[1], np.arange(q + 1) * width
    position, counts, problem = match(retrieved.ravel(), offsets, judged.ravel(), judged_offsets)
    _check_rows(problem, retrieved, "retrieved")
    nothing = np.empty(0, dtype=np.int64), np.zeros(q + 1, dtype=np.int64)
    _check_rows(match(judged.ravel(), judged_offsets, *nothing)[2], judged, "judged")
    if scores is None:
        ranks = position + 1
    else:
        scores = check_array(scores, "scores", shape=retrieved.shape)
        scores = np.ascontiguousarray(scores, dtype=np.float64)
        nan = np.isnan(scores)
        if counts.min() < retrieved.shape[1]:
            padding = retrieved < 0
            nan &= ~padding
            scores = np.where(padding, np.nan, scores)
        if nan.any():
            raise ValueError(f"scores: expected numbers, got NaN in row {nan.any(axis=1).argmax()}")
        found = scores.ravel().take(np.maximum(position, 0) + np.repeat(offsets[:-1], width))
        found[position < 0] = np.nan
        ranks, tied = rank_by_score(scores.ravel(), offsets, found, judged_offsets)
        names, judged_names = partial(_ids_as_names, retrieved), partial(_ids_as_names, judged)
        break_ties(ranks, tied, scores.ravel(), offsets, names, found, judged_offsets, judged_names)
    values = measure(plan, grades, ranks, judged_offsets, counts, level=level, top=int(grades.max()))
    return dict(zip(measures, values))


def mean(values):
    """The mean over the queries of each measure: {measure: number} of what `evaluate` or `evaluate_arrays` returned."""
    return {m: float(np.mean(list(v.values()) if isinstance(v, Mapping) else v)) for m, v in values.items()}


class Evaluator:
    """Judgements and measures, prepared once for many runs; the arguments are those of `evaluate`."""

    def __init__(self, qrels, measures, *, relevance_level=1, missing="skip", depth=None, judged_only=False):
        self.measures, self._plan = parse_measures(measures)
        self._level = check_integer(relevance_level, "relevance_level", minimum=0)
        self._missing = check_choice(missing, "missing", ("skip", "zero", "error"))
        self._depth = None if depth is None else check_integer(depth, "depth", minimum=1)
        self._judged_only = bool(judged_only)
        if isinstance(qrels, (str, PathLike)):
            self._table = trec.read_table(qrels, "qrels")
            self._table.check_unique()
            self.queries, self._grades, self._offsets = self._table.queries, self._table.values, self._table.offsets
            self._documents = None  # as str, when a run comes as a dictionary
        else:
            judged = {query: documents for query, documents in _as_dicts(qrels, "qrels").items() if len(documents)}
            self._table = None
            self.queries, self._documents = list(judged), [list(documents) for documents in judged.values()]
            self._grades = _grades_of(judged)
            self._offsets = np.concatenate([[0], np.cumsum([len(d) for d in self._documents], dtype=np.int64)])
        if not self.queries:
            raise ValueError("qrels: expected at least one judged document, got none")
        self._top = max(int(self._grades.max()), 1)

    def evaluate(self, run):
        """{measure: {query: value}} of a run, as `evaluate` returns it."""
        if not isinstance(run, (str, PathLike)):
            return self._evaluate_dicts(_as_dicts(run, "run"))
        table = trec.read_table(run, "run")
        return self._evaluate_dicts(table.as_dicts()) if self._table is None else self._evaluate_tables(table)

    def _evaluate_dicts(self, run):
        rows = self._answered(run)
        queries = [self.queries[i] for i in rows]
        runs = [run[query] for query in queries]
        if self._documents is None:
            self._documents = self._table.documents()
        documents = [self._documents[i] for i in rows]
        scores, found = _look_up(runs, documents, queries)
        offsets = np.concatenate([[0], np.cumsum(list(map(len, runs)), dtype=np.int64)])
        grades, judged_offsets = self._judgements(rows)
        ranks, tied = rank_by_score(scores, offsets, found, judged_offsets)
        names, judged_names = partial(_as_names, "run", queries, runs), partial(_as_names, "qrels", queries, documents)
        break_ties(ranks, tied, scores, offsets, names, found, judged_offsets, judged_names)
        return self._measure(rows, grades, ranks, judged_offsets, np.diff(offsets))

    def _evaluate_tables(self, run):
        rows = self._answered(dict.fromkeys(run.queries))
        judged = self._table.select(rows)
        row_of = {query: i for i, query in enumerate(run.queries)}
        mine = run.select([row_of[query] for query in judged.queries])
        if mine is not run and len(mine.queries) < len(run.queries):
            run.check_unique()  # what is not judged is checked too
        found = trec.scores_of(mine, judged)
        ranks, tied = rank_by_score(mine.values, mine.offsets, found, judged.offsets)
        names = mine.names_of, judged.names_of
        break_ties(ranks, tied, mine.values, mine.offsets, names[0], found, judged.offsets, names[1])
        return self._measure(rows, judged.values, ranks, judged.offsets, np.diff(mine.offsets))

    def _answered(self, run):
        """Rows of the judged queries that are in the run."""
        rows = [i for i, query in enumerate(self.queries) if query in run]
        if self._missing == "error" and not len(rows) == len(self.queries) == len(run):
            unanswered = [query for query in self.queries if query not in run]
            unjudged = list(set(run) - set(self.queries))
            raise ValueError(
                f"run: expected the queries of qrels, got {len(unanswered)} of them missing {unanswered[:3]}"
                f" and {len(unjudged)} others {unjudged[:3]}"
            )
        if not rows and self._missing != "zero":
            raise ValueError("run: expected at least one query that is judged in qrels, got none")
        return rows

    def _judgements(self, rows):
        if len(rows) == len(self.queries):
            return self._grades, self._offsets
        pick, offsets = take_ragged(self._offsets, rows)
        return self._grades[pick], offsets

    def _measure(self, rows, grades, ranks, judged_offsets, counts):
        if self._depth is not None:
            counts = np.minimum(counts, self._depth)
        options = {"level": self._level, "top": self._top, "judged_only": self._judged_only}
        values = measure(self._plan, grades, ranks, judged_offsets, counts, **options)
        queries = self.queries
        if len(rows) < len(queries) and self._missing == "zero":
            answered, values = values, np.zeros((len(values), len(queries)))
            values[:, rows] = answered
        elif len(rows) < len(queries):
            queries = [queries[i] for i in rows]
        return {name: dict(zip(queries, row.tolist())) for name, row in zip(self.measures, values)}


# ---- From what came to arrays ---------------------------------------------------------------------------------------


def _look_up(runs, documents, queries):
    """All scores end to end, and the scores of the judged `documents`, NaN where they were not retrieved.

    Memory sets the pace: a block of queries at a time, so that a dictionary is still in cache when it is looked into.
    """
    scores, at, nan = bytearray(8 * sum(map(len, runs))), 0, repeat(float("nan"))
    found = [np.empty(0)]
    for block in range(0, len(runs), 64):
        some, names = runs[block : block + 64], queries[block : block + 64]
        judged = []
        try:
            values = list(chain.from_iterable([run.values() for run in some]))
            pack_into(f"{len(values)}d", scores, at, *values)  # as fast as np.fromiter, and refuses what is no number
            at += 8 * len(values)
            for run, wanted in zip(some, documents[block : block + 64]):
                judged.extend(map(run.get, wanted, nan))
        except (AttributeError, TypeError, OverflowError, struct_error) as error:
            _check_scores(some, names)
            raise ValueError(f"run: expected a score for every document, got {error}") from None
        found.append(np.array(judged, dtype=np.float64))
        # The first and the last of each: to look at all would take a sixth of the time of everything.
        if {type(next(end, "")) for end in chain(map(iter, some), map(reversed, some))} != {str}:
            for run, query in zip(some, names):
                _check_names(run, "run", query)
    scores = np.frombuffer(scores, dtype=np.float64)
    if np.isnan(scores).any():
        _check_scores(runs, queries)
    return scores, np.concatenate(found)


def _as_dicts(source, name):
    """{query: {document: value}} of a dictionary, or of triples."""
    if isinstance(source, Mapping):
        if set(map(type, source)) <= {str} and set(map(type, source.values())) <= {dict}:
            return source
        for query, documents in source.items():
            if not isinstance(query, str) or not isinstance(documents, Mapping):
                kind = type(documents).__name__
                raise ValueError(f"{name}: expected {{str: {{str: number}}}}, got {query!r}: {kind}")
        return {query: dict(documents) for query, documents in source.items()}
    if not isinstance(source, Iterable):
        raise ValueError(f"{name}: expected a dictionary, a path or triples, got {type(source).__name__}")
    result = {}
    for triple in source:
        try:
            query, document, value = triple
        except (TypeError, ValueError):
            raise ValueError(f"{name}: expected (query, document, value), got {triple!r}") from None
        documents = result.setdefault(query, {})
        if document in documents:
            raise ValueError(f"{name}: document {document!r} occurs twice for query {query!r}")
        documents[document] = value
    return _as_dicts(result, name)


def _grades_of(judged):
    for query, documents in judged.items():
        _check_names(documents, "qrels", query)
        for document, grade in documents.items():
            if not isinstance(grade, (int, np.integer)) or abs(int(grade)) > 2**62:
                raise ValueError(f"qrels: expected whole grades, got {grade!r} for {document!r} of query {query!r}")
    values = chain.from_iterable([documents.values() for documents in judged.values()])
    return np.fromiter(values, dtype=np.int64)


def _as_names(name, queries, lists, rows):
    """The documents in `lists` of the queries `rows`, end to end: one joined string, cut up again at the separators."""
    some = [lists[i] for i in rows]
    try:
        joined = "\0".join(chain.from_iterable(some)).encode("utf-8", "surrogateescape")
    except (TypeError, UnicodeEncodeError):
        for i in rows:
            _check_names(lists[i], name, queries[i])
        raise ValueError(f"{name}: expected document ids that are text, got lone surrogates") from None
    text = np.frombuffer(bytearray(joined) + b"\0", dtype=np.uint8)
    ends = np.flatnonzero(text == 0)
    if len(ends) != sum(map(len, some)):
        raise ValueError(f"{name}: expected document ids without NUL characters, got some")
    starts = np.concatenate([[0], ends[:-1] + 1])
    return Names(text, starts, ends - starts)


def _ids_as_names(ids, rows):
    """Ids as eight bytes, the most significant first: their order is that of the numbers, since none is negative."""
    text = ids[rows].astype(">i8").ravel().view(np.uint8)
    starts = np.arange(0, len(text), 8)
    return Names(text, starts, np.full(len(starts), 8))


def _check_names(documents, name, query):
    for document in documents:
        if not isinstance(document, str):
            raise ValueError(f"{name}: expected document ids of type str, got {document!r} for query {query!r}")


def _check_scores(runs, queries):
    for run, query in zip(runs, queries):
        for document, score in run.items():
            try:
                (number,) = np.frombuffer(pack("d", score))
            except (TypeError, OverflowError, struct_error):
                number = np.nan
            if np.isnan(number):
                where = f"{document!r} of query {query!r}"
                raise ValueError(f"run: expected scores that are numbers, got {score!r} for {where}")


def _check_ids(ids, name, rows=None):
    ids = check_array(ids, name, ndim=2, shape=(rows, None), min_rows=1)
    if ids.dtype.kind not in "iu" or ids.shape[1] == 0 or (ids.dtype == np.uint64 and ids.max() >= 2**63):
        raise ValueError(f"{name}: expected integers below 2^63 in at least one column, got {ids.dtype} {ids.shape}")
    return np.ascontiguousarray(ids, dtype=np.int64)


def _check_rows(problem, ids, name):
    if (problem >= 0).any():
        i = int((problem >= 0).argmax())
        at = int(problem[i])
        what = "occurs twice" if (ids[i, :at] >= 0).all() else "stands behind padding"
        raise ValueError(f"{name}: expected different ids and then padding, got {ids[i, at]} in row {i}, which {what}")

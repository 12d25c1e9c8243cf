"""Reading TREC files: judgements ("qrels") and results ("runs"), strictly, at a gigabyte in a few seconds.

    qrels   query  ignored  document  grade                         101 0 img_7 2
    run     query  ignored  document  ignored  score  name          101 Q0 img_7 1 0.93 resnet

Fields are separated by white space, and the lines of a query need not be together. The rank in a run is ignored: the
order is that of the scores. Blank lines and lines that start with # are skipped. In a run, anything after the sixth
field is ignored, as trec_eval does. What trec_eval would read as something else than was meant is refused, with the
file and the line: a grade that is not a whole number ("1.0", "high"), a score that is not a number or is NaN, too few
fields, too many in qrels, control characters, and a document that occurs twice for one query.

No line becomes a Python object. A file is a `Table`: its bytes, and for every line where the document name is in
them, a hash of it, and the number. Names are compared by hash and then by their bytes, so that a collision costs time
and not correctness.
"""

import os
import stat
from typing import NamedTuple

import numba
import numpy as np
from numba import njit

from ..kernels import in_threads
from .matching import match, take_ragged
from .one_pass import Names
from .parse_float import MOST, nearest_double, powers_of_five

NEWLINE, HASH, MINUS, PLUS, POINT, ZERO, NINE = 10, 35, 45, 43, 46, 48, 57
OK, SLOW, TOO_FEW, TOO_MANY, CONTROL, NOT_AN_INTEGER = range(6)
PROBLEMS = {
    TOO_FEW: "expected {fields}, got too few fields",
    TOO_MANY: "expected {fields}, got more fields",
    CONTROL: "expected text, got a control character",
    NOT_AN_INTEGER: "expected a whole number as grade, got {token!r}",
}
FIELDS = {"qrels": "query, 0, document, grade", "run": "query, Q0, document, rank, score, name"}


class Table(NamedTuple):
    """A file. Lines of query i: offsets[i]:offsets[i + 1]; the document of line j: text[starts[j]:][:lengths[j]]."""

    path: str
    text: np.ndarray  # (bytes,) uint8
    queries: list  # q names
    offsets: np.ndarray  # (q + 1,) int64
    starts: np.ndarray  # (n,) int64
    lengths: np.ndarray  # (n,) int32
    keys: np.ndarray  # (n,) int64, hashes of the documents, not negative
    values: np.ndarray  # (n,) int64 grades or float64 scores

    def names(self, i):
        """The documents of query i, as bytes."""
        lines = slice(self.offsets[i], self.offsets[i + 1])
        starts, lengths = self.starts[lines].tolist(), self.lengths[lines].tolist()
        return [self.text[s : s + n].tobytes() for s, n in zip(starts, lengths)]

    def names_of(self, rows):
        """The documents of the queries `rows`, end to end, as `Names`."""
        pick, _ = take_ragged(self.offsets, rows)
        return Names(self.text, self.starts, self.lengths).take(pick)

    def documents(self):
        """The documents of every query, as lists of str."""
        return [[_decode(name) for name in self.names(i)] for i in range(len(self.queries))]

    def as_dicts(self):
        """{query: {document: value}}"""
        self.check_unique()
        values = self.values.tolist()
        return {
            query: dict(zip(names, values[self.offsets[i] : self.offsets[i + 1]]))
            for i, (query, names) in enumerate(zip(self.queries, self.documents()))
        }

    def select(self, rows):
        """The table of the queries `rows` (indices), in that order."""
        if rows == list(range(len(self.queries))):
            return self
        pick, offsets = take_ragged(self.offsets, rows)
        queries = [self.queries[i] for i in rows]
        per_line = self.starts[pick], self.lengths[pick], self.keys[pick], self.values[pick]
        return Table(self.path, self.text, queries, offsets, *per_line)

    def check_unique(self):
        """Raise if a document occurs twice for one query."""
        nothing = np.empty(0, dtype=np.int64), np.zeros(len(self.offsets), dtype=np.int64)
        self.check_problems(match(self.keys, self.offsets, *nothing)[2])

    def check_problems(self, problem):
        """Raise if equal hashes at `problem` (see `match`) are equal names."""
        for i in np.flatnonzero(problem >= 0):
            seen = set()
            for j, name in enumerate(self.names(i)):
                if name in seen:
                    at = self.starts[self.offsets[i] + j]
                    raise _error(self.path, self.text, at, f"document {_decode(name)!r} occurs twice for the query")
                seen.add(name)


def read_qrels(path):
    """{query: {document: grade}} of a TREC qrels file, four fields a line; ValueError names file and line."""
    return read_table(path, "qrels").as_dicts()


def read_run(path):
    """{query: {document: score}} of a TREC run file, six fields a line; ValueError names file and line."""
    return read_table(path, "run").as_dicts()


def read_table(path, kind):
    """The `Table` of a file; `kind` is "qrels" or "run". Documents that occur twice are found by `check_unique`."""
    text, path = _read_bytes(path), os.fspath(path)
    edges = _chunks(text)
    rows = np.cumsum([0] + [_count_lines(text[a:b]) for a, b in zip(edges, edges[1:])])
    n, chunks = rows[-1], len(edges) - 1
    query_starts, starts, keys = (np.empty(n, np.int64) for _ in range(3))
    query_lengths, lengths = np.empty(n, np.int32), np.empty(n, np.int32)
    bits, status, last = np.empty(n, np.uint64), np.empty(n, np.uint8), np.empty(chunks, np.int64)
    trouble = np.full((chunks, 2), -1, dtype=np.int64)
    columns = query_starts, query_lengths, starts, lengths, keys, bits, status
    args = text, edges, rows, kind == "run", powers_of_five(), *columns, last, trouble
    in_threads(chunks, _parse_lines, *args, at_least=1)
    for problem, at in trouble:
        if problem >= 0:
            token = _decode(text[at : at + 60].tobytes().split()[0]) if problem == NOT_AN_INTEGER else ""
            raise _error(path, text, at, PROBLEMS[int(problem)].format(fields=FIELDS[kind], token=token))
    if (last < rows[1:]).any():  # blank lines and comments left gaps
        kept = np.concatenate([np.arange(a, b) for a, b in zip(rows, last)])
        columns = tuple(column[kept] for column in columns)
    return _table(path, text, kind, *columns)


def scores_of(run, judged):
    """The score of each judged document in the run of the same query, NaN where it was not retrieved: (m,) float64.

    Two tables with the same queries in the same order. Raises if a document occurs twice for a query of the run.
    """
    position, _, problem = match(run.keys, run.offsets, judged.keys, judged.offsets)
    run.check_problems(problem)
    line = np.where(position >= 0, position + np.repeat(run.offsets[:-1], np.diff(judged.offsets)), -1)
    differs = np.zeros(len(line), dtype=np.bool_)
    columns = run.text, run.starts, run.lengths, judged.text, judged.starts, judged.lengths
    in_threads(len(line), _differ, *columns, line, differs, at_least=2**16)
    found = np.full(len(line), np.nan)
    found[line >= 0] = run.values[line[line >= 0]]
    collided = np.searchsorted(judged.offsets, np.flatnonzero(differs), side="right") - 1
    for i in sorted(set(collided.tolist())):
        score_of = dict(zip(run.names(i), run.values[run.offsets[i] : run.offsets[i + 1]].tolist()))
        found[judged.offsets[i] : judged.offsets[i + 1]] = [score_of.get(name, np.nan) for name in judged.names(i)]
    return found


# ---- Bytes to columns -----------------------------------------------------------------------------------------------


def _read_bytes(path):
    """The bytes of a file without a byte order mark, ending in a newline: no scan can run off the end."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode):
            size = status.st_size
            text = np.empty(size + 1, dtype=np.uint8)
            got = file.readinto(memoryview(text)[:size])
            if got != size:
                raise ValueError(f"{os.fspath(path)}: expected {size} bytes, got {got}")
            text[size] = NEWLINE
        else:  # of a pipe the size is not known before its end
            text = np.frombuffer(bytearray(file.read()) + b"\n", dtype=np.uint8)
    return text[3:] if text[:3].tobytes() == b"\xef\xbb\xbf" else text


def _chunks(text):
    """Where to cut, always behind a newline, so that every thread has a part to parse."""
    parts = min(numba.config.NUMBA_NUM_THREADS, 1 + len(text) // 2**20)
    edges = [0]
    for i in range(1, parts):
        at = max(len(text) * i // parts, edges[-1])
        if at == len(text):  # the line before it is the last
            break
        while text[at] != NEWLINE:
            at += 1
        edges.append(at + 1)
    return np.array(sorted({*edges, len(text)}), dtype=np.int64)


def _count_lines(text):
    return sum(np.count_nonzero(text[i : i + 2**18] == NEWLINE) for i in range(0, len(text), 2**18))


@njit(nogil=True, cache=True)
def _parse_lines(
    first, last_chunk, text, edges, rows, is_run, powers,
    query_starts, query_lengths, starts, lengths, keys, bits, status, last, trouble,
):  # fmt: skip
    """Splits lines into fields, hashes the document, reads the number; slow cases get a status."""
    fields = 6 if is_run else 4
    for chunk in range(first, last_chunk):
        p, end, row = edges[chunk], edges[chunk + 1], rows[chunk]
        while p < end:
            line, field = p, 0
            while True:
                while text[p] == 32 or (9 <= text[p] <= 13 and text[p] != NEWLINE):
                    p += 1
                if text[p] == NEWLINE or field == fields or (field == 0 and text[p] == HASH):
                    break
                begin = p
                if field == 2:
                    key = np.uint64(0xCBF29CE484222325)  # FNV-1a
                    while text[p] > 32:
                        key = (key ^ np.uint64(text[p])) * np.uint64(0x100000001B3)
                        p += 1
                    keys[row] = np.int64(key >> np.uint64(1))
                    starts[row], lengths[row] = begin, p - begin
                else:
                    while text[p] > 32:
                        p += 1
                    if field == 0:
                        query_starts[row], query_lengths[row] = begin, p - begin
                    elif field == (4 if is_run else 3):
                        bits[row], status[row] = _number(text, begin, p, is_run, powers)
                        if status[row] == NOT_AN_INTEGER:
                            trouble[chunk, 0], trouble[chunk, 1] = NOT_AN_INTEGER, begin
                            return
                if text[p] < 9 or 13 < text[p] < 32:
                    trouble[chunk, 0], trouble[chunk, 1] = CONTROL, line
                    return
                field += 1
            if text[p] != NEWLINE and field == fields and not is_run:
                trouble[chunk, 0], trouble[chunk, 1] = TOO_MANY, line
                return
            if 0 < field < fields:
                trouble[chunk, 0], trouble[chunk, 1] = TOO_FEW, line
                return
            while text[p] != NEWLINE:
                p += 1
            p += 1
            row += field == fields
        last[chunk] = row


@njit(nogil=True, cache=True)
def _number(text, begin, end, is_run, powers):
    """(bits, status) of the number in text[begin:end]: of a double for a run, of an integer for qrels."""
    p = begin
    negative = text[p] == MINUS
    if negative or text[p] == PLUS:
        p += 1
    w, digits, exponent, any_digit, point = np.uint64(0), 0, 0, False, False
    while p < end and (ZERO <= text[p] <= NINE or (text[p] == POINT and not point)):
        if text[p] == POINT:
            point = True
        else:
            any_digit = True
            digits += digits > 0 or text[p] > ZERO
            w = w * np.uint64(10) + np.uint64(text[p] - ZERO)
            exponent -= point
        p += 1
    if not is_run:
        if p < end or point or not any_digit or digits > 18:
            return np.uint64(0), NOT_AN_INTEGER
        return (np.uint64(0) - w if negative else w), OK
    if p < end and any_digit and (text[p] == 69 or text[p] == 101):  # E or e
        p += 1
        sign = 1
        if p < end and (text[p] == MINUS or text[p] == PLUS):
            sign = -1 if text[p] == MINUS else 1
            p += 1
        power, any_power = 0, False
        while p < end and ZERO <= text[p] <= NINE and power < 10000:
            power, any_power = power * 10 + (text[p] - ZERO), True
            p += 1
        exponent += sign * power
        any_digit = any_power
    if p < end or not any_digit or digits > 19 or exponent < -MOST or exponent > MOST:
        return np.uint64(0), SLOW
    bits = nearest_double(w, exponent, powers)
    if bits == ~np.uint64(0):
        return bits, SLOW
    return (bits | (np.uint64(1) << np.uint64(63)) if negative else bits), OK


@njit(nogil=True, cache=True)
def _differ(first, last, text_a, starts_a, lengths_a, text_b, starts_b, lengths_b, line, differs):
    """differs[i]: entry i of b and its partner line[i] of a (-1: none) are not the same bytes."""
    for i in range(first, last):
        if line[i] >= 0:
            j = line[i]
            differs[i] = lengths_a[j] != lengths_b[i]
            for c in range(min(lengths_a[j], lengths_b[i])):
                differs[i] |= text_a[starts_a[j] + c] != text_b[starts_b[i] + c]


# ---- Columns to a table ---------------------------------------------------------------------------------------------


def _table(path, text, kind, query_starts, query_lengths, starts, lengths, keys, bits, status):
    if kind == "qrels":
        values = bits.view(np.int64)
    else:
        values = bits.view(np.float64)
        _parse_slowly(path, text, values, status, starts + lengths)
    if not len(starts):
        return Table(path, text, [], np.zeros(1, dtype=np.int64), starts, lengths, keys, values)
    changes = np.zeros(len(starts), dtype=np.bool_)
    before = np.arange(-1, len(starts) - 1)
    columns = text, query_starts, query_lengths
    in_threads(len(before), _differ, *columns, *columns, before, changes, at_least=2**16)
    begins = np.flatnonzero(changes | (before < 0))
    spans = zip(query_starts[begins].tolist(), query_lengths[begins].tolist())
    names = [_decode(text[s : s + n].tobytes()) for s, n in spans]
    queries = list(dict.fromkeys(names))
    offsets = np.append(begins, len(starts))
    if len(queries) < len(names):  # the lines of a query are not all together: bring them together
        row_of = {query: i for i, query in enumerate(queries)}
        query_of = np.repeat([row_of[name] for name in names], np.diff(offsets))
        order = np.argsort(query_of, kind="stable")
        starts, lengths, keys, values = starts[order], lengths[order], keys[order], values[order]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(query_of, minlength=len(queries)))])
    return Table(path, text, queries, offsets.astype(np.int64), starts, lengths, keys, values)


def _parse_slowly(path, text, values, status, behind_document):
    """Fill in the scores that `_number` left to `float`: over 19 digits, extreme exponents, infinities, nonsense."""
    for i in np.flatnonzero(status == SLOW):
        at = int(behind_document[i])
        line = text[at : at + 4096].tobytes().split(b"\n")[0]
        token = line.split()[1]
        try:
            values[i] = float(token.decode("ascii"))
            wrong = np.isnan(values[i]) or b"_" in token
        except ValueError:
            wrong = True
        if wrong:
            raise _error(path, text, at, f"expected a number as score, not NaN, got {_decode(token)!r}")


def _decode(name):
    return name.decode("utf-8", "surrogateescape")


def _error(path, text, at, problem):
    return ValueError(f"{path}, line {_count_lines(text[:at]) + 1}: {problem}")

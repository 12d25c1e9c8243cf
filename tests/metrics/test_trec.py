"""TREC files: read back as written, malformed lines refused with file and line, numbers to the last bit."""

import os
import random
import struct

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refimpl import metrics
from refimpl.metrics import trec
from refimpl.metrics.matching import match
from refimpl.metrics.parse_float import nearest_double, powers_of_five

from .strategies import judged_runs
from .test_evaluate import MEASURES

QRELS = "q1 0 a 1\nq1 0 b 0\nq2\t0\ta\t-1\n"
RUN = "q1 Q0 a 1 0.5 sys\nq1 Q0 b 2 0.25 sys\nq2 Q0 a 1 1e-3 sys\n"


@pytest.fixture
def written(tmp_path):
    def write(text, name="file"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_files_are_read_as_written(written):
    assert metrics.read_qrels(written(QRELS)) == {"q1": {"a": 1, "b": 0}, "q2": {"a": -1}}
    assert metrics.read_run(written(RUN)) == {"q1": {"a": 0.5, "b": 0.25}, "q2": {"a": 0.001}}


@pytest.mark.parametrize(
    "text",
    [
        RUN.replace("\n", "\r\n"),
        RUN.rstrip("\n"),
        "\ufeff" + RUN,
        "# from a system\n\n  \n" + RUN.replace("sys\n", "sys # and more fields\n\n"),
        RUN.replace(" ", " \t "),
        "q2 Q0 a 1 1e-3 sys\n" + RUN.replace("q2 Q0 a 1 1e-3 sys\n", ""),
        "q1 Q0 b 2 0.25 sys\nq2 Q0 a 1 1e-3 sys\nq1 Q0 a 1 0.5 sys",
    ],
)
def test_what_does_not_matter_changes_nothing(written, text):
    assert metrics.read_run(written(text)) == metrics.read_run(written(RUN, "other"))


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("qrels", QRELS + "q3 0 a\n", "line 4: expected query, 0, document, grade, got too few fields"),
        ("qrels", "#\n\nq3 0 a 1 2\n", "line 3: .* got more fields"),
        ("qrels", QRELS + "q3 0 a 1.0", "line 4: expected a whole number as grade, got '1.0'"),
        ("qrels", "q3 0 a high\n", "line 1: expected a whole number as grade, got 'high'"),
        ("qrels", "q3 0 a -\n", "line 1: expected a whole number"),
        ("qrels", QRELS + "q1 0 b 0\n", "line 4: document 'b' occurs twice"),
        ("qrels", "q1 0 \x00b 0\n", "line 1: .*control character"),
        ("run", RUN + "q1 Q0 c 3 0.1\n", "line 4: .*too few fields"),
        ("run", RUN + "\nq1 Q0 c 3 high sys\n", "line 5: expected a number as score, not NaN, got 'high'"),
        ("run", "q1 Q0 c 3 nan sys\n", "line 1: expected a number as score, not NaN"),
        ("run", "q1 Q0 c 3 1_0 sys\n", "line 1: expected a number as score"),
        ("run", "q1 Q0 c 3 0.5x sys\n", "line 1: expected a number as score"),
        ("run", "q1 Q0 c 3 1e sys\n", "line 1: expected a number as score"),
        ("run", "q1 Q0 a 1 0.5 sys\nq2 Q0 a 1 0.5 sys\nq1 Q0 a 2 0.4 sys\n", "line 3: document 'a' occurs twice"),
    ],
)
def test_malformed_lines_are_refused_with_file_and_line(written, kind, text, message):
    path = written(text, "lines.txt")
    with pytest.raises(ValueError, match=f"lines.txt, {message}"):
        (metrics.read_qrels if kind == "qrels" else metrics.read_run)(path)
    with pytest.raises(ValueError, match=f"lines.txt, {message}"):
        good = written(QRELS if kind == "run" else RUN, "good.txt")
        metrics.evaluate(*((good, path) if kind == "run" else (path, good)), "map")


def test_a_duplicate_is_refused_in_a_query_that_is_not_judged(written):
    qrels, run = written(QRELS, "qrels"), written(RUN + "q7 Q0 a 1 1 s\nq7 Q0 a 2 1 s\n", "run")
    with pytest.raises(ValueError, match="line 5: document 'a' occurs twice"):
        metrics.evaluate(qrels, run, "map")


@given(judged_runs(), st.randoms(use_true_random=False), st.sampled_from(["skip", "zero"]))
def test_files_give_what_dictionaries_give(tmp_path_factory, case, shuffle, missing):
    qrels, run = case
    folder = tmp_path_factory.mktemp("trec")
    run = run or {"q0": {"a": 1.0}}
    lines = [f"{q} 0 {d} {g}\n" for q, judged in qrels.items() for d, g in judged.items()]
    (folder / "qrels").write_text("".join(lines), encoding="utf-8")
    lines = [f"{q} Q0 {d} 0 {s!r} sys\n" for q, found in run.items() for d, s in found.items()]
    shuffle.shuffle(lines)
    (folder / "run").write_text("".join(lines), encoding="utf-8")
    run = {q: found for q, found in run.items() if found}  # a file cannot say that a query has no results
    if missing == "skip" and not set(run) & set(qrels):
        return
    expected = metrics.evaluate(qrels, run, MEASURES, missing=missing)
    for judged, found in ((folder / "qrels", str(folder / "run")), (qrels, folder / "run"), (folder / "qrels", run)):
        assert metrics.evaluate(judged, found, MEASURES, missing=missing) == expected


def test_a_large_file_is_read_in_parts_that_fit_together(written):
    rng = random.Random(0)
    run = {f"q{i}": {f"doc-{i}-{j}": rng.random() for j in range(rng.randint(1, 90))} for i in range(1500)}
    lines = [f"{q} Q0 {d} 0 {s!r} system\n" for q, found in run.items() for d, s in found.items()]
    lines[::7] = ["\n" + line for line in lines[::7]]
    path = written("".join(lines))
    assert path.stat().st_size > 2**21
    assert metrics.read_run(path) == run
    lines[-5] = "q1 Q0 too few\n"
    with pytest.raises(ValueError, match=f"line {''.join(lines[:-5]).count(chr(10)) + 1}: .*too few"):
        metrics.read_run(written("".join(lines)))


@pytest.mark.parametrize("before", ["", "q0 0 a 1\n"])
def test_a_line_longer_than_the_parts_of_several_threads(written, monkeypatch, before):
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 4)
    name = "d" * 2**22
    expected = {"q": {name: 1}, **({"q0": {"a": 1}} if before else {})}
    assert metrics.read_qrels(written(f"{before}q 0 {name} 1")) == expected


@pytest.mark.skipif(not os.path.isdir("/dev/fd"), reason="files that are open have no names here")
def test_a_pipe_is_read_to_its_end():
    ends = [os.pipe(), os.pipe()]
    for (_, write), text in zip(ends, (QRELS, "\ufeff" + RUN)):
        os.write(write, text.rstrip("\n").encode())
        os.close(write)
    (qrels, _), (run, _) = ends
    try:
        values = metrics.evaluate(f"/dev/fd/{qrels}", f"/dev/fd/{run}", "map")
    finally:
        os.close(qrels)
        os.close(run)
    assert values == {"map": {"q1": 1.0, "q2": 0.0}}


# ---- Numbers --------------------------------------------------------------------------------------------------------


def bits_of(number):
    return struct.unpack("Q", struct.pack("d", number))[0]


@given(st.floats(allow_nan=False), st.sampled_from([repr, "{:.6f}".format, "{:.20e}".format, "{:+.17g}".format]))
def test_scores_are_read_to_the_last_bit(tmp_path_factory, number, form):
    path = tmp_path_factory.mktemp("number") / "run"
    path.write_text(f"q Q0 d 1 {form(number)} s")
    assert bits_of(metrics.read_run(path)["q"]["d"]) == bits_of(float(form(number)))


def test_the_nearest_double_is_found_for_random_and_for_halfway_cases():
    rng, powers = random.Random(1), powers_of_five()
    cases = [(rng.getrandbits(rng.randint(1, 64)), rng.randint(-64, 64)) for _ in range(20000)]
    for _ in range(5000):  # 54 bits with the last one set are halfway between two doubles
        halfway = rng.getrandbits(53) * 2 + 1
        q = rng.randint(1, 4)
        cases += [(halfway, 0), (halfway << rng.randint(0, 10), 0), (halfway * 5**q % 2**64, -q)]
    cases += [(2**k - 1, q) for k in range(50, 65) for q in range(-5, 6)]  # rounding up to a power of two
    for w, q in cases:
        assert int(nearest_double(np.uint64(w), q, powers)) == bits_of(float(f"{w}e{q}")), (w, q)


# ---- Matching -------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.lists(st.integers(0, 12)), st.lists(st.integers(-2, 12))), min_size=1, max_size=4))
def test_match_finds_what_a_dictionary_finds(lists):
    keys, wanted = (np.array([x for pair in lists for x in pair[side]], dtype=np.int64) for side in (0, 1))
    offsets, wanted_offsets = (np.cumsum([0] + [len(pair[side]) for pair in lists]) for side in (0, 1))
    position, counts, problem = match(keys, offsets, wanted, wanted_offsets)
    assert counts.tolist() == [len(listed) for listed, _ in lists]
    for i, (listed, asked) in enumerate(lists):
        assert (problem[i] >= 0) == (len(set(listed)) < len(listed))
        if problem[i] < 0:
            expected = [listed.index(x) if x in listed else -1 for x in asked]
            assert position[wanted_offsets[i] : wanted_offsets[i + 1]].tolist() == expected


def test_short_lists_beside_a_long_one_are_matched():
    """10,000 short lists beside a long one: to clear a table for the longest at each would write 640 GB."""
    lengths = np.append(np.full(10_000, 3), 2_000_000)
    offsets = np.append(0, np.cumsum(lengths))
    keys = np.arange(offsets[-1])
    position, counts, problem = match(keys, offsets, keys, offsets)
    assert (position + np.repeat(offsets[:-1], lengths) == keys).all()
    assert (counts == lengths).all() and (problem == -1).all()


def test_equal_hashes_of_different_names_cost_time_and_not_correctness(written, monkeypatch):
    qrels, run = written("q 0 aa 1\nq 0 cc 1\n", "qrels"), written("q Q0 aa 1 0.2 s\nq Q0 bb 2 0.5 s\n", "run")
    expected = metrics.evaluate(qrels, run, ["mrr", "recall"])
    read = trec.read_table

    def with_one_hash_for_all(path, kind):
        table = read(path, kind)
        return table._replace(keys=np.zeros_like(table.keys))

    monkeypatch.setattr(trec, "read_table", with_one_hash_for_all)
    assert metrics.evaluate(qrels, run, ["mrr", "recall"]) == expected == {"mrr": {"q": 0.5}, "recall": {"q": 0.5}}

"""How fast is an evaluation? 10,000 queries, 100 results and 20 relevant documents each, the five metrics of the
chapter.

    python scripts/benchmark_metrics.py [--peers] [--json docs/results/benchmark_metrics.json]

Measured on two threads: arrays in, dictionaries in, TREC files in, and the first call of a new process with an empty
and with a filled cache. Times are medians of --repeats; with --peers, each repeat runs the peer directly after this
library, so that both see the same machine. Every time that a peer spends on converting its input has a row with that
time counted on both sides, and one without it. With --json, a bar chart is written beside the file.

What is compared: MRR, mAP, precision@10, recall@10, nDCG@10, and before anything is timed, that the values agree.
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("NUMBA_NUM_THREADS", "2")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np  # noqa: E402
from command_line import Parser, check_writable  # noqa: E402

from refimpl import metrics  # noqa: E402
from refimpl.files import atomic_write  # noqa: E402

MEASURES = ["mrr", "map", "precision@10", "recall@10", "ndcg@10"]
PYTREC = {"recip_rank", "map", "P.10", "recall.10", "ndcg_cut.10"}
PYTREC_NAMES = ["recip_rank", "map", "P_10", "recall_10", "ndcg_cut_10"]

FIRST_CALL = {
    "refimpl": f"""
from refimpl import metrics
metrics.evaluate({{"q": {{"a": 1}}}}, {{"q": {{"a": 0.5, "b": 0.25}}}}, {MEASURES})
""",
    "ranx": f"""
import ranx
qrels, run = ranx.Qrels({{"q": {{"a": 1}}}}), ranx.Run({{"q": {{"a": 0.5, "b": 0.25}}}})
ranx.evaluate(qrels, run, {MEASURES})
""",
}


def make_case(queries, depth, relevant, seed):
    """Ids, grades and scores in arrays, and the same as dictionaries; half of the relevant documents are retrieved."""
    rng = np.random.default_rng(seed)
    retrieved = np.stack([rng.choice(50 * depth, depth, replace=False) for _ in range(queries)])
    scores = -np.sort(-rng.random((queries, depth), dtype=np.float32), axis=1)  # pytrec_eval keeps float32
    found = np.stack([rng.permutation(depth)[: relevant // 2] for _ in range(queries)])
    missed = 50 * depth + np.tile(np.arange(relevant - relevant // 2), (queries, 1))
    judged = np.hstack([np.take_along_axis(retrieved, found, axis=1), missed])
    grades = rng.integers(1, 4, judged.shape)
    scores = scores.astype(np.float64)
    qrels, run = as_dicts(judged, grades), as_dicts(retrieved, scores)
    return {"judged": judged, "grades": grades, "retrieved": retrieved, "scores": scores, "qrels": qrels, "run": run}


def as_dicts(ids, values):
    return {f"q{i}": {f"doc{d}": v for d, v in zip(*row)} for i, row in enumerate(zip(ids.tolist(), values.tolist()))}


def write_files(case, folder):
    qrels, run = folder / "qrels.txt", folder / "run.txt"
    with open(qrels, "w", encoding="utf-8") as file:
        for query, judged in case["qrels"].items():
            file.writelines(f"{query} 0 {document} {grade}\n" for document, grade in judged.items())
    with open(run, "w", encoding="utf-8") as file:
        for query, found in case["run"].items():
            lines = enumerate(found.items(), start=1)
            file.writelines(f"{query} Q0 {document} {rank} {score!r} benchmark\n" for rank, (document, score) in lines)
    return qrels, run


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def medians(ours, theirs, repeats):
    """Median seconds of both, one after the other in every repeat; the first repeat warms up and does not count."""
    mine, peer = [], []
    for _ in range(repeats + 1):
        mine.append(seconds(ours))
        if theirs is not None:
            peer.append(seconds(theirs))
    return statistics.median(mine[1:]), statistics.median(peer[1:]) if peer else None


def in_new_process(name, cache):
    """Seconds from the start of a Python process to the end of its first evaluation, imports included."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    root = str(Path(__file__).resolve().parent.parent)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-c", FIRST_CALL[name]]
    return seconds(lambda: subprocess.run(command, check=True, env=environment, capture_output=True))


def first_calls(name, repeats):
    """(empty, filled): median seconds of a new process with an empty and with a filled Numba cache."""
    empty, filled = [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            empty.append(in_new_process(name, cache))
            filled.append(in_new_process(name, cache))
    return statistics.median(empty), statistics.median(filled)


def has(name):
    return importlib.util.find_spec(name) is not None


class Table:
    """Rows of the result, printed as they come."""

    def __init__(self):
        self.rows = []
        print(f"{'work':<66} {'ours':>10} {'theirs':>10} {'ratio':>7}  peer")

    def add(self, work, ours, peer=None, theirs=None):
        ratio = theirs / ours if theirs is not None else None
        row = {"work": work, "ours": ours * 1e3, "unit": "ms", "peer": peer}
        self.rows.append({**row, "theirs": None if theirs is None else theirs * 1e3, "ratio": ratio})
        shown = ("", "") if theirs is None else (f"{theirs * 1e3:.2f}", f"{ratio:.1f}x")
        print(f"{work:<66} {ours * 1e3:>7.2f} ms {shown[0]:>10} {shown[1]:>7}  {peer or ''}", flush=True)


def benchmark_arrays(case, table, peers, repeats):
    arrays = case["judged"], case["grades"], case["retrieved"], MEASURES
    rel, r = relevance_matrix(case), np.full(len(case["judged"]), case["judged"].shape[1])

    def plain():
        metrics.reciprocal_rank(rel)
        metrics.average_precision(rel, r)
        metrics.precision_at_k(rel, 10)
        metrics.recall_at_k(rel, 10, r)
        metrics.ndcg_at_k(rel, 10, case["grades"])

    theirs, peer = None, None
    if peers and has("ranx"):
        import ranx

        small = [dict(list(case[name].items())[:10]) for name in ("qrels", "run")]
        ranx.evaluate(ranx.Qrels(small[0]), ranx.Run(small[1]), MEASURES)  # compiles
        start = time.perf_counter()
        qrels, run = ranx.Qrels(case["qrels"]), ranx.Run(case["run"])
        means = ranx.evaluate(qrels, run, MEASURES, threads=2, save_results_in_run=False)
        converted = time.perf_counter() - start
        check_close("ranx", metrics.mean(metrics.evaluate_arrays(*arrays)), means)

        def theirs():
            ranx.evaluate(qrels, run, MEASURES, threads=2, save_results_in_run=False)

        peer = "ranx, evaluate alone"
    table.add("arrays in, ranked", *with_peer(partial(metrics.evaluate_arrays, *arrays), theirs, peer, repeats))
    with_scores = partial(metrics.evaluate_arrays, *arrays, scores=case["scores"])
    table.add("arrays in, with scores", *with_peer(with_scores, theirs, peer, repeats))
    table.add("relevance in ranked order, plain definitions", *with_peer(plain, theirs, peer, repeats))
    if theirs is not None:
        mine = partial(metrics.evaluate, case["qrels"], case["run"], MEASURES)
        ours = statistics.median(seconds(mine) for _ in range(3))
        table.add("dictionaries in, conversion counted", ours, "ranx with its conversion, compiled before", converted)


def with_peer(ours, theirs, peer, repeats):
    mine, other = medians(ours, theirs, repeats)
    return mine, peer, other


def relevance_matrix(case):
    grades = {}
    rel = np.zeros(case["retrieved"].shape, dtype=np.int64)
    for i, (names, values) in enumerate(zip(case["judged"].tolist(), case["grades"].tolist())):
        grades = dict(zip(names, values))
        rel[i] = [grades.get(name, 0) for name in case["retrieved"][i].tolist()]
    return rel


def benchmark_dicts(case, table, peers, repeats):
    evaluator = metrics.Evaluator(case["qrels"], MEASURES)
    tied = {query: {d: round(s, 1) for d, s in found.items()} for query, found in case["run"].items()}
    theirs = tied_theirs = everything = peer = None
    if peers and has("pytrec_eval"):
        import pytrec_eval

        other = pytrec_eval.RelevanceEvaluator(case["qrels"], PYTREC)
        values = other.evaluate(case["run"])
        check_close("pytrec_eval", metrics.mean(evaluator.evaluate(case["run"])), mean_of(values))

        def theirs():
            other.evaluate(case["run"])

        def tied_theirs():
            other.evaluate(tied)

        def everything():
            pytrec_eval.RelevanceEvaluator(case["qrels"], PYTREC).evaluate(case["run"])

        peer = "pytrec_eval"
    work = "dictionaries in, evaluator construction not counted"
    table.add(work, *with_peer(partial(evaluator.evaluate, case["run"]), theirs, peer, repeats))
    work = "dictionaries in, evaluator construction counted"
    mine = partial(metrics.evaluate, case["qrels"], case["run"], MEASURES)
    table.add(work, *with_peer(mine, everything, peer, repeats))
    work = "dictionaries in, scores tied in groups of ten"
    table.add(work, *with_peer(partial(evaluator.evaluate, tied), tied_theirs, peer, repeats))


def mean_of(values):
    return {m: np.mean([v[name] for v in values.values()]) for m, name in zip(MEASURES, PYTREC_NAMES)}


def benchmark_files(case, folder, table, peers, repeats):
    qrels, run = write_files(case, folder)
    theirs = peer = None
    if peers and has("pytrec_eval"):
        import pytrec_eval

        def theirs():
            with open(qrels, encoding="utf-8") as a, open(run, encoding="utf-8") as b:
                evaluator = pytrec_eval.RelevanceEvaluator(pytrec_eval.parse_qrel(a), PYTREC)
                return evaluator.evaluate(pytrec_eval.parse_run(b))

        check_close("pytrec_eval", metrics.mean(metrics.evaluate(qrels, run, MEASURES)), mean_of(theirs()))
        peer = "pytrec_eval with its parsing"
    lines = sum(map(len, case["run"].values()))
    work = f"TREC files in, {lines:,} lines, {run.stat().st_size / 1e6:.0f} MB"
    ours = partial(metrics.evaluate, qrels, run, MEASURES)
    table.add(work, *with_peer(ours, theirs, peer, repeats))
    floor = statistics.median(seconds(lambda: np.fromfile(run, dtype=np.uint8).max()) for _ in range(repeats))
    mine = statistics.median(seconds(ours) for _ in range(repeats))
    table.add("TREC files in, beside reading the bytes once", mine, "numpy.fromfile and max: the floor", floor)


def benchmark_first_calls(table, peers, repeats):
    empty, filled = first_calls("refimpl", repeats)
    theirs = first_calls("ranx", 1) if peers and has("ranx") else (None, None)
    peer = "ranx" if theirs[0] is not None else None
    table.add("new process, imports and first evaluation, empty cache", empty, peer, theirs[0])
    table.add("new process, imports and first evaluation, filled cache", filled, peer, theirs[1])


def check_close(name, ours, theirs):
    for measure in MEASURES:
        if abs(ours[measure] - theirs[measure]) > 1e-9:
            raise SystemExit(f"{name} disagrees on {measure}: {ours[measure]} here, {theirs[measure]} there")


def environment(case_size, repeats):
    names = ["numpy", "numba", "ranx", "pytrec-eval-terrier"]
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return {
        "command": shlex.join(["python", *sys.argv]),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": int(os.environ["NUMBA_NUM_THREADS"]),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": versions,
        "case": case_size,
        "repeats": repeats,
    }


def processor():
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def draw(rows, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows = [row for row in rows if row["ratio"] is not None and "floor" not in row["peer"]][::-1]
    figure, axes = plt.subplots(figsize=(9, 0.5 * len(rows) + 1.2), layout="constrained")
    labels = [f"{row['work']}\nbeside {row['peer']}" for row in rows]
    axes.barh(labels, [row["ratio"] for row in rows], color="#3b6ea5")
    for i, row in enumerate(rows):
        axes.annotate(f"{row['ratio']:.1f}x", (row["ratio"], i), xytext=(3, 0), textcoords="offset points", va="center")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set(xscale="log", xlabel="times as fast as the peer (logarithmic)")
    axes.tick_params(axis="y", labelsize=7)
    axes.margins(x=0.15)
    with atomic_write(path) as file:
        figure.savefig(file, dpi=120, format=path.suffix[1:] or "png")


def main():
    parser = Parser(__doc__)
    parser.add_argument("--peers", action="store_true", help="also time ranx and pytrec_eval, where installed")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows there, and a chart beside it")
    parser.add_argument("--queries", type=int, default=10000)
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--relevant", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    parser.at_least(args, queries=1, depth=10, relevant=2, repeats=1, seed=0)
    if args.json is not None:
        check_writable(parser, "--json", args.json)
    if args.peers:
        for name in ("ranx", "pytrec_eval"):
            if not has(name):
                print(f"{name} is not installed: skipped")
    case = make_case(args.queries, args.depth, args.relevant, args.seed)
    table = Table()
    benchmark_first_calls(table, args.peers, 3)
    benchmark_dicts(case, table, args.peers, args.repeats)
    with tempfile.TemporaryDirectory() as folder:
        benchmark_files(case, Path(folder), table, args.peers, args.repeats)
    benchmark_arrays(case, table, args.peers, args.repeats)
    if args.json is not None:
        size = {"queries": args.queries, "depth": args.depth, "relevant": args.relevant, "seed": args.seed}
        result = {"environment": environment(size, args.repeats), "rows": table.rows}
        with atomic_write(args.json) as file:
            file.write((json.dumps(result, indent=1) + "\n").encode())
        draw(table.rows, args.json.with_suffix(".png"))


if __name__ == "__main__":
    main()

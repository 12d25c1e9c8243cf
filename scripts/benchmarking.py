"""What the benchmarks of the indexes share: two threads for all libraries, times in turn, vectors, and the record.

Import this first: the libraries read the number of threads, and OpenBLAS which kernels to use, when they are loaded.
"""

import importlib.metadata
import importlib.util
import json
import os
import platform
import shlex
import statistics
import sys
import time
from pathlib import Path

THREADS = 2
os.environ.setdefault("NUMBA_NUM_THREADS", str(THREADS))
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

#: processor's flag: the kernels of OpenBLAS for it. The OpenBLAS in faiss's wheel is of 2021: it takes processors that
#: it does not know for one without AVX ("Prescott"), and faiss's products then take three times as long
KERNELS = {"avx512f": "SkylakeX", "avx2": "Haswell"}
if Path("/proc/cpuinfo").exists():
    flags = Path("/proc/cpuinfo").read_text().split()
    for flag, kernels in KERNELS.items():
        if flag in flags:  # whatever the environment says: peers get what this library takes
            os.environ["OPENBLAS_CORETYPE"] = kernels
            break

import numba  # noqa: E402
import numpy as np  # noqa: E402

from refimpl.files import atomic_write  # noqa: E402

PACKAGES = (
    "numpy", "numba", "scipy", "pykdtree", "faiss-cpu", "scann", "scalable-vs", "hnswlib", "usearch", "pynndescent",
    "annoy", "scikit-learn",
)  # fmt: skip


def seconds(call):
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def medians(calls, repeats):
    """{name: median seconds}, all of `calls` in turn in every repeat; the first repeat does not count."""
    times = {name: [] for name in calls}
    for _ in range(repeats + 1):
        for name, call in calls.items():
            times[name].append(seconds(call))
    return {name: statistics.median(taken[1:]) for name, taken in times.items()}


def has(name):
    return importlib.util.find_spec(name) is not None


class Table:
    """Rows of the result, printed as they come. `amount`: queries, for rates; None for seconds."""

    def __init__(self):
        self.rows = []
        print(f"{'work':<72} {'ours':>12} {'theirs':>12} {'ratio':>7}  peer")

    def add(self, work, times, amount=None):
        ours, others = times["ours"], {name: taken for name, taken in times.items() if name != "ours"}
        peer = min(others, key=others.get) if others else None
        theirs = others.get(peer)
        ratio = theirs / ours if theirs else None
        unit = "s" if amount is None else "queries/s"
        value = [None if t is None else t if amount is None else amount / t for t in (ours, theirs)]
        row = {"work": work, "ours": value[0], "unit": unit, "peer": peer, "theirs": value[1], "ratio": ratio}
        self.rows.append(row)
        form = "{:.3f} s" if amount is None else "{:,.0f}/s"
        shown = [form.format(v) if v else "" for v in value]
        ratio = f"{ratio:.1f}x" if ratio else ""
        print(f"{work:<72} {shown[0]:>12} {shown[1]:>12} {ratio:>7}  {peer or ''}", flush=True)


def embeddings(n, n_queries, seed):
    """Unit vectors, as an encoder makes them: 1,000 clusters in 16 dimensions, a random tanh layer, and noise."""
    rng = np.random.default_rng(seed)
    centers, layer = rng.standard_normal((1000, 16)), rng.standard_normal((16, 128)) / 4
    inner = centers[rng.integers(0, 1000, n + n_queries)] + 0.5 * rng.standard_normal((n + n_queries, 16))
    x = np.tanh(inner @ layer) + 0.05 * rng.standard_normal((n + n_queries, 128))
    x = (x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32)
    return x[:n], x[n:]


def true_neighbours(vectors, queries, k):
    """By |x|^2 - 2 q.x in blocks."""
    squares, found = (vectors**2).sum(1), []
    for start in range(0, len(queries), 250):
        scores = squares - 2 * queries[start : start + 250] @ vectors.T
        found.append(np.argpartition(scores, k, axis=1)[:, :k])
    return np.concatenate(found)


def recall(ids, truth):
    return float(np.mean([len(set(a) & set(b)) for a, b in zip(ids.tolist(), truth.tolist())]) / truth.shape[1])


def environment():
    """What the times depend on: the processor, threads, versions of all libraries that are there."""
    installed = {
        distribution.metadata["Name"]: distribution.version for distribution in importlib.metadata.distributions()
    }
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    return {
        "cpu": cpu,
        "threads": numba.config.NUMBA_NUM_THREADS,
        "python": platform.python_version(),
        "system": platform.system(),
        **{name: installed.get(name) for name in PACKAGES},
        "OPENBLAS_CORETYPE": os.environ.get("OPENBLAS_CORETYPE"),
    }


def about_this_run():
    """What a record says of how it came about; the benchmarks' own seeds are all 0."""
    return {"command": shlex.join(["python", *sys.argv]), "environment": environment(), "seed": 0}


def write_record(path, found):
    """Write {"command", "environment", "seed", **found} to `path`, atomically."""
    with atomic_write(path) as file:
        file.write(json.dumps({**about_this_run(), **found}, indent=1).encode() + b"\n")


def rows_before(path):
    """The record at `path`, without rows if there is none yet. Raises ValueError if the file holds something else."""
    if path is None or not path.exists():
        return {"rows": []}
    try:
        record = json.loads(path.read_text())
        if all("part" in row for row in record["rows"]):
            return record
    except (ValueError, LookupError, TypeError):
        pass
    raise ValueError(f"--json {path}: the file that is there is no record of this script")


def write_rows(path, rows, parts, order, **found):
    """Write the rows of these `parts`; those of others in the file stay, with what it says of how they came about.

    {"command", "environment", "seed"} of this run, and "parts": the same of the run that each part is of.

    rows   each with "part"; order: all parts, as the rows are sorted
    found  further entries; of None the one before stays
    """
    before = rows_before(path)
    kept = [row for row in before["rows"] if row.get("part") in set(order) - set(parts)]
    told = before.get("parts", {})  # files of before told it once for all parts
    about = {row["part"]: told.get(row["part"], {k: before.get(k) for k in ("command", "environment")}) for row in kept}
    about |= {name: about_this_run() for name in parts}
    record = {
        **about_this_run(),
        "parts": {name: about[name] for name in order if name in about},
        "rows": sorted(kept + rows, key=lambda row: list(order).index(row["part"])),
        **{name: before.get(name) if value is None else value for name, value in found.items()},
    }
    with atomic_write(path) as file:
        file.write(json.dumps(record, indent=1).encode() + b"\n")

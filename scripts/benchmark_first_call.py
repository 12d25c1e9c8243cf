"""How long does the first call of an index take, compilation included, and from Numba's cache?

    python scripts/benchmark_first_call.py [--only ExactIndex,...] [--functions 10] [--vectors 1000]
                                           [--json docs/results/benchmark_first_call.json]

Each index with its default settings, in a new process: fit some vectors of 16 dimensions, and search for the 10 nearest
of 10 queries. Once with an empty cache, and then again, in another process, with what the first left there.
The rows are wall-clock seconds of both calls together, medians of --repeats; the imports before them have a row of
their own, and so has the least that any first call takes: Numba makes itself ready when the first kernel of a process
is called, here one of a single line, and imports scipy.linalg. A row also has the processor's seconds, which say
about the same on a machine that does other things too, and how many functions were compiled.

--functions prints those that took longest, each without the functions that it had compiled on the way.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarking import write_record
from command_line import Parser, check_writable

INDEXES = (
    "ExactIndex", "KDTreeIndex", "RPForestIndex", "LSHIndex", "HammingIndex", "IVFIndex", "PQIndex", "IVFPQIndex",
    "RaBitQIndex", "HNSWIndex", "ScaNNIndex",
)  # fmt: skip
SMALLEST = "one small kernel"

CALL = """
import time
start = time.perf_counter()
import json, sys
import numpy as np
from numba.core import event
from refimpl import ann
from refimpl.ann.fast_scan import with_some_more
imported = time.perf_counter()

class Compilations(event.Listener):  # of a function may start those of others
    def __init__(self):
        self.open, self.own = [], []
    def on_start(self, started):
        self.open.append([time.process_time(), 0.0])
    def on_end(self, ended):
        begun, others = self.open.pop()
        taken, function = time.process_time() - begun, ended.data["dispatcher"].py_func
        self.own.append((taken - others, f"{function.__module__}.{function.__qualname__}"))
        if self.open:
            self.open[-1][1] += taken

compilations, rng = Compilations(), np.random.default_rng(0)
event.register("numba:compile", compilations)
vectors, queries = rng.standard_normal((int(sys.argv[2]), 16), np.float32), rng.standard_normal((10, 16), np.float32)
wall, cpu = time.perf_counter(), time.process_time()
if hasattr(ann, sys.argv[1]):
    getattr(ann, sys.argv[1])().fit(vectors).search(queries, 10)
else:
    with_some_more(1)
print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "imports": imported - start,
                  "functions": sorted(compilations.own, reverse=True)}))
"""


def call_in_new_process(name, n_vectors, cache):
    root = str(Path(__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    variables = {**os.environ, "NUMBA_CACHE_DIR": cache, "PYTHONPATH": path}
    command = [sys.executable, "-c", CALL, name, str(n_vectors)]
    return json.loads(subprocess.run(command, check=True, env=variables, capture_output=True, text=True).stdout)


def first_calls(name, n_vectors, repeats):
    """(with an empty cache, with a filled one): what `repeats` calls of each printed."""
    empty, filled = [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            empty.append(call_in_new_process(name, n_vectors, cache))
            filled.append(call_in_new_process(name, n_vectors, cache))
    return empty, filled


def row(work, calls):
    def median(key):
        return statistics.median(call[key] for call in calls)

    about = {"cpu": median("cpu"), "compiled": len(calls[0]["functions"])}
    found = {"work": work, "ours": median("wall"), "unit": "s", "peer": None, "theirs": None, "ratio": None, **about}
    print(f"{work:<32} {found['ours']:>8.2f} s {about['cpu']:>8.2f} s {about['compiled']:>8}", flush=True)
    return found


def main():
    parser = Parser(__doc__)
    parser.add_argument("--only", default=",".join(INDEXES), help="indexes, separated by commas")
    parser.add_argument("--functions", type=int, default=0, help="how many of the slowest to print")
    parser.add_argument("--vectors", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    parser.at_least(options, functions=0, vectors=1, repeats=1)
    if options.json:
        check_writable(parser, "--json", options.json)
    names = options.only.split(",")
    for name in names:
        if name not in INDEXES:
            parser.error(f"--only: expected some of {', '.join(INDEXES)}, got {name}")
    print(f"{'first fit and search':<32} {'wall':>10} {'processor':>10} {'compiled':>8}")
    rows, imports = [], []
    for name in (SMALLEST, *names):
        empty, filled = first_calls(name, options.vectors, options.repeats)
        rows += [row(f"{name}, empty cache", empty), row(f"{name}, filled cache", filled)]
        imports += [call["imports"] for call in filled]
        for own, function in empty[0]["functions"][: options.functions]:
            print(f"    {own:8.2f} s {function}")
    imported = {"work": "imports", "ours": statistics.median(imports), "unit": "s", "peer": None, "theirs": None}
    rows.append({**imported, "ratio": None})
    print(f"{'imports':<32} {imported['ours']:>8.2f} s")
    if options.json:
        write_record(options.json, {"rows": rows})


if __name__ == "__main__":
    main()

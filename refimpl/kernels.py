"""How kernels are compiled, and how a loop is shared out among threads: a kernel over a range of it in each.

Plain threads, and not Numba's `prange`: of a parallel function Numba compiles four versions, one within the other,
which takes several times as long, and whoever makes a first call waits for it. To hand a part to another thread costs
some tens of microseconds; `at_least` says how much work is worth that.

A kernel releases the GIL, and each turn of its loop writes to places of its own: the result does not depend on where
the range is cut.

Kernels make no arrays: `in_threads` gives each thread `room` to work in. Then Numba need not count how often an array
is referred to (`_nrt=False`), which it would do at every row that a loop takes out of one: two atomic additions, and
where two threads read the same array, each waits for the other's. On vectors of 128 coordinates that took longer than
the arithmetic.
"""

import functools
import gc
import os
from concurrent.futures import ThreadPoolExecutor

import numba
from numba import njit
from numba.core import event

#: for what Python calls. Numba would also compile a version for C, which takes a tenth of the time and is never used
kernel = njit(cache=True, nogil=True, no_cfunc_wrapper=True, _nrt=False)

#: for what only other kernels call: without the code that takes the arguments out of Python's objects, too. Python
#: must not call these: there is nothing to be called, and the process ends
inner = njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False)

#: `inner` sums of floats that may be taken in any order, in vector registers; infinities stay what they are
SUMS = {"reassoc", "contract", "nsz"}
inner_sum = njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False, fastmath=SUMS)

#: for what few other kernels call, of an index seldom more than one: becomes a part of their text, and is compiled with
#: them instead of once more
inlined = njit(cache=True, inline="always", no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False)


class _NoCollections(event.Listener):
    """Python's garbage collector rests while a kernel of ours is compiled.

    Numba builds hundreds of thousands of small objects that are needed to the end. The collector looks through them at
    every few hundred new ones, which takes a tenth of a first call. Numba compiles in one thread at a time.
    """

    def __init__(self):
        self.depth, self.rested = 0, False

    def on_start(self, started):
        if _is_ours(started):
            if self.depth == 0:
                self.rested = gc.isenabled()
                gc.disable()
            self.depth += 1

    def on_end(self, ended):
        if _is_ours(ended):
            self.depth -= 1
            if self.depth == 0 and self.rested:
                gc.enable()


def _is_ours(compilation):
    """Whether the event is of a function of this package: what a caller compiles is the caller's."""
    function = getattr(compilation.data["dispatcher"], "py_func", None)  # a loop that Numba lifted out has none
    module = getattr(function, "__module__", None)  # nor has what was made by exec a module, as Numba's jitclass does
    return module is not None and module.split(".")[0] == __package__


event.register("numba:compile", _NoCollections())


@functools.cache
def _workers(process):
    """Threads that wait for work: to start one takes longer than many a part. `process`: a fork has none of them."""
    return ThreadPoolExecutor(max(1, numba.config.NUMBA_NUM_THREADS - 1))


def in_threads(n, kernel, *args, at_least=1024, room=None):
    """kernel(first, last, *args) over 0..n, in at most numba.get_num_threads() threads of at least `at_least` turns.

    room   makes an array or a tuple of arrays, which each call gets as its last argument, its own

    All of them have ended when it returns, or raises what one of them raised.
    """
    own = tuple if room is None else lambda: (room(),)
    if n < 2 * at_least:  # at once: a single query has several such loops, and asking for the threads takes its time
        kernel(0, n, *args, *own())
        return
    n_threads = min(n // at_least, numba.get_num_threads())
    edges, others = [n * i // n_threads for i in range(n_threads + 1)], []
    rooms = [own() for _ in range(n_threads)]  # all before the first thread starts: making one may fail
    if n_threads > 1:
        workers = _workers(os.getpid())
        parts = zip(edges[1:-1], edges[2:], rooms[1:])
        others = [workers.submit(kernel, first, last, *args, *room) for first, last, room in parts]
    try:
        kernel(0, edges[1], *args, *rooms[0])
    finally:
        failures = [other.exception() for other in others]
    for failure in failures:
        if failure is not None:
            raise failure

"""How kernels are compiled, and how a loop is shared out among threads: a kernel over a range of it in each.

Plain threads, and not Numba's `prange`: of a parallel function Numba compiles four versions, one within the other,
which takes several times as long, and whoever makes a first call waits for it. Starting a thread takes a tenth of a
millisecond; `at_least` says how much work is worth that.

A kernel releases the GIL, and each turn of its loop writes to places of its own: the result does not depend on where
the range is cut.
"""

import threading

import numba
from numba import njit

#: for what Python calls. Numba would also compile a version for C, which takes a tenth of the time and is never used
kernel = njit(cache=True, nogil=True, no_cfunc_wrapper=True)

#: for what only other kernels call: without the code that takes the arguments out of Python's objects, too
inner = njit(cache=True, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def in_threads(n, kernel, *args, at_least=1024):
    """kernel(first, last, *args) over 0..n, in at most numba.get_num_threads() threads of at least `at_least` turns."""
    n_threads = max(1, min(n // at_least, numba.get_num_threads()))
    edges, failures = [n * i // n_threads for i in range(n_threads + 1)], []

    def run(first, last):
        try:
            kernel(first, last, *args)
        except BaseException as failure:  # a thread would print it and go on
            failures.append(failure)

    others = [threading.Thread(target=run, args=both) for both in zip(edges[1:-1], edges[2:])]
    for thread in others:
        thread.start()
    run(0, edges[1])
    for thread in others:
        thread.join()
    if failures:
        raise failures[0]

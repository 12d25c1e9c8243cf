"""The product of two matrices, with the same bits at any number of threads and in any batch.

    C = A B        C[i, j] = sum over p of A[i, p] B[p, j], summed in the order of p, one fused multiply-add at a time

NumPy's `@` hands a product to a BLAS library, which cuts the sum over p differently for other shapes and other numbers
of threads. Floating-point sums depend on where they are cut, so a training run would depend on the machine's cores, and
a picture's embedding on the batch that it came in. Here every C[i, j] is one sum from p = 0 to the end: it depends on
row i of A and column j of B, and on nothing else.

Blocking: a task is BLOCK_ROWS rows of A by BLOCK_PANELS panels of B (see `refimpl.microkernel`), and takes the sum
BLOCK_K steps at a time, so that its part of B (128 KiB in float32) and of A (64 KiB) stay in the second-level cache. Of
A, ROWS rows are read side by side in place; a transpose that several blocks of columns read is packed into tiles first.
"""

import numpy as np

from .kernels import in_threads, kernel
from .microkernel import ROWS, columns_of, pack_panels, tile_product
from .validation import FLOATS

BLOCK_ROWS = -(-64 // ROWS) * ROWS
BLOCK_PANELS = 4
BLOCK_K = 256
MIRRORED = 16  # rows and columns at a time: lines of the cache are used whole
SMALL = 1 << 19  # multiply-adds below which waking the other threads costs more than it saves


def matrix_product(a, b, panels=None):
    """a (m, k) times b (k, n) -> (m, n), C-contiguous; all float32 or all float64, any strides.

    panels: `pack_panels(b, columns_of(b.dtype))`, if it is at hand: for many products with one b.

    Row i of the result depends on row i of `a` and on `b` alone, to the last bit, whatever the number of threads.
    Raises ValueError for shapes, dtypes or panels that do not fit each other.
    Cost: m n k multiply-adds at the rate of the microkernel, and a packed copy of b: let `a` be the longer one.
    """
    _check(a, b, panels)
    return _product(a, b, pack_panels(b, columns_of(b.dtype)) if panels is None else panels, symmetric=False)


def symmetric_product(a, b):
    """a (n, k) times b (k, n), as `matrix_product`, where the result is known to be symmetric, but for rounding.

    What lies on and below the diagonal is computed, a block at a time, and mirrored: little more than half of n n k
    multiply-adds. So the result is symmetric to the last bit, also where the order of the sums would not have it so.
    Raises ValueError as `matrix_product`, and for a product that is not square.
    """
    _check(a, b)
    if len(a) != b.shape[1]:
        raise ValueError(f"a, b: expected (n, k) and (k, n), got {a.shape} and {b.shape}")
    c = _product(a, b, pack_panels(b, columns_of(b.dtype)), symmetric=True)
    blocks = -(-len(c) // MIRRORED)
    in_threads(blocks, _mirror, c, at_least=1 if c.size > SMALL else max(1, blocks))
    return c


def _check(a, b, panels=None):
    """ValueError unless the kernel reads inside of its arrays: it knows neither shapes nor types."""
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != len(b) or a.dtype != b.dtype or a.dtype not in FLOATS:
        raise ValueError(
            "a, b: expected (m, k) and (k, n), both float32 or both float64, "
            f"got {a.shape} {a.dtype} and {b.shape} {b.dtype}"
        )
    if panels is not None:
        columns = columns_of(b.dtype)
        shape = (-(-b.shape[1] // columns), len(b), columns)
        if panels.shape != shape or panels.dtype != b.dtype:
            raise ValueError(f"panels: expected {shape} {b.dtype}, got {panels.shape} {panels.dtype}")


def _product(a, b, panels, symmetric):
    """The product; of a symmetric one what is above the diagonal is anything."""
    (m, k), n = a.shape, b.shape[1]
    if not (m and k and n):
        return np.zeros((m, n), a.dtype)
    if a.flags.c_contiguous or not a.T.flags.c_contiguous:
        stored, strides = np.ascontiguousarray(a), (k, k, 1)
    elif len(panels) > BLOCK_PANELS:  # in place, steps m apart would compete for few lines of a cache, again and again
        stored, strides = pack_panels(a.T, ROWS).reshape(-1, ROWS), (k, 1, ROWS)
    else:
        stored, strides = a.T, (1, 1, m)
    whole = m // ROWS * ROWS
    edge = np.zeros((ROWS, k), a.dtype)  # the last rows, filled up: a tile reads ROWS of them
    edge[: m - whole] = a[whole:]
    c = np.empty((-(-m // ROWS) * ROWS, len(panels) * panels.shape[2]), a.dtype)
    across = -(-len(panels) // BLOCK_PANELS)
    tasks = np.arange(-(-len(c) // BLOCK_ROWS) * across)  # blocks are counted along the columns first
    if symmetric:
        row, column = tasks // across * BLOCK_ROWS, tasks % across * BLOCK_PANELS * panels.shape[2]
        tasks = tasks[row + BLOCK_ROWS > column]
    arguments = stored, *strides, edge, whole, panels, c, tasks, across
    in_threads(len(tasks), _multiply, *arguments, at_least=len(tasks) if m * n * k < SMALL else 1)
    return np.ascontiguousarray(c[:m, :n])


@kernel
def _multiply(first, last, a, a_tile, a_row, a_step, edge, whole, panels, c, tasks, across):
    """Fill the blocks tasks[first:last] of c. The tile from row r of A on starts at r a_tile."""
    n_panels, k, columns = panels.shape
    for task in tasks[first:last]:
        first_row = task // across * BLOCK_ROWS
        first_panel = task % across * BLOCK_PANELS
        end_row = first_row + BLOCK_ROWS if first_row + BLOCK_ROWS < len(c) else len(c)
        end_panel = first_panel + BLOCK_PANELS if first_panel + BLOCK_PANELS < n_panels else n_panels
        for p in range(0, k, BLOCK_K):
            steps = BLOCK_K if BLOCK_K < k - p else k - p
            for panel in range(first_panel, end_panel):
                b_at = (panel * k + p) * columns
                for row in range(first_row, end_row, ROWS):
                    at = row * c.shape[1] + panel * columns
                    if row < whole:
                        from_a = row * a_tile + p * a_step
                        tile_product(a, from_a, a_row, a_step, panels, b_at, c, at, c.shape[1], steps, p > 0)
                    else:
                        tile_product(edge, p, k, 1, panels, b_at, c, at, c.shape[1], steps, p > 0)


@kernel
def _mirror(first, last, c):
    """What is below the diagonal of c (n, n) to above it, for the blocks first to last - 1 of MIRRORED rows."""
    for block in range(first, last):
        for column in range(0, block * MIRRORED + 1, MIRRORED):
            for i in range(block * MIRRORED, min((block + 1) * MIRRORED, len(c))):
                for j in range(column, min(column + MIRRORED, i)):
                    c[j, i] = c[i, j]

"""3x3 convolutions of stride 1 with a quarter of the multiplications: Winograd's F(4x4, 3x3), and its gradients.

The three convolutions of a training step are the three gradients of one number. Along one axis, for a tile of 4 results
and the 6 values of x under them, that number is

    f(x, w, d) = sum over i < 4, u < 3 of d[i] w[u] x[i + u]        y = df/dd    dw = df/dw    dx = df/dx

and it takes 12 products. Read w and d as polynomials, w(t) = w[0] + w[1] t + w[2] t^2. The sums over i + u = k are the
coefficients of their product s(t) = w(t) d(t), so f = <x, s>. A polynomial of degree 5 is known from its values at 5
points a_k and its highest coefficient (Lagrange; the sixth point is "infinity"):

    s(t) = sum over k < 5 of w(a_k) d(a_k) / N_k * P_k(t)  +  w[2] d[3] P(t)
    P(t) = prod over l of (t - a_l)        P_k(t) = prod over l != k of (t - a_l)        N_k = P_k(a_k)

so  f = sum over k < 6 of (B^T x)[k] (G w)[k] (A d)[k],  with 6 products, and constant matrices: row k of B^T has the
coefficients of P_k, that of G 1, a_k, a_k^2 over N_k, that of A 1, a_k, .., a_k^3. In two dimensions each matrix is
applied to rows and columns, and 144 products become 36:

    X = B^T x B    U = G w G^T    D = A d A^T        36 planes, each (tiles, c_in), (c_in, c_out), (tiles, c_out)
    y = A^T (X U) A        dw = G^T (X^T D) G        a matrix product in each plane, a sum over channels or tiles

dx is the y of a convolution of dy with the turned kernel. Sources: Toom 1963, Cook 1966; Winograd, "Arithmetic
complexity of computations", 1980; for convolutional networks, Lavin and Gray 2015 (arXiv:1509.09308).

The points. x is multiplied by large and small numbers and comes back: the closer the matrices' entries are to 1, the
smaller the rounding errors. Points in pairs of a and 1 / a do best (Barabasz et al. 2018, arXiv:1803.10986): with 0,
2/3, -2/3, 3/2, -3/2 a float32 result has 2 to 3 times the error of the direct product (a test measures it), with Lavin
and Gray's 0, 1, -1, 2, -2 another 2 times that, and 4 times in the worst result.

A task takes a block of tiles whose X stays in the second-level cache, and, 2 vectors of output channels at a time,
multiplies all 36 planes (`refimpl.microkernel`) and transforms back: X, XU and D are never stored for more than a
block. Who sums what depends on the shapes only: results have the same bits with any number of threads, and y in any
batch.
"""

from fractions import Fraction

import numpy as np
from numba import njit, prange

from ..microkernel import ROWS, VECTOR_BYTES, columns_of, make_tile_product, tile_product
from .memory import empty
from .tile_transform import make_transform

POINTS = (Fraction(0), Fraction(2, 3), Fraction(-2, 3), Fraction(3, 2), Fraction(-3, 2))
OUT, TAPS = 4, 3  # results and kernel taps along an axis
IN = OUT + TAPS - 1
PLANES = IN * IN

BLOCK_BYTES = 1 << 20 if VECTOR_BYTES == 64 else 1 << 18  # of X: half of a core's second-level cache
PACKED = 8  # input channels whose transformed weights are put into a panel at a time
GRADIENT_ROWS = 12 * ROWS  # input channels of a task of the weight gradient
GRADIENT_TILES = 16  # tiles that it sums over at a time
GRADIENT_TASKS = 8

FEW_ROWS = 2
few_rows_product = make_tile_product(FEW_ROWS, VECTOR_BYTES)  # for the last tiles of a block: one small image


def _matrices(points):
    """A (6, 4), G (6, 3) and B^T (6, 6) of the module's text, as lists of rows of exact fractions."""

    def product_of_roots(roots):
        """The coefficients of prod (t - root), lowest power first."""
        coefficients = [Fraction(1)]
        for root in roots:
            shifted, scaled = [Fraction(0), *coefficients], [*(root * c for c in coefficients), Fraction(0)]
            coefficients = [a - b for a, b in zip(shifted, scaled)]
        return coefficients

    a_rows, g_rows, b_rows = [], [], []
    for k, point in enumerate(points):
        p_k = product_of_roots(points[:k] + points[k + 1 :])
        n_k = sum(c * point**power for power, c in enumerate(p_k))
        a_rows.append([point**i for i in range(OUT)])
        g_rows.append([point**u / n_k for u in range(TAPS)])
        b_rows.append([*p_k, Fraction(0)])
    infinity = [[Fraction(int(i == size - 1)) for i in range(size)] for size in (OUT, TAPS)]
    return [*a_rows, infinity[0]], [*g_rows, infinity[1]], [*b_rows, product_of_roots(points)]


def _transposed(matrix):
    return [list(column) for column in zip(*matrix)]


A, G, B_T = _matrices(POINTS)
_to_x = make_transform(B_T)  # 6 x 6 pixels -> X
_to_u = make_transform(G)  # 3 x 3 taps -> U
_to_d = make_transform(A)  # 4 x 4 pixels -> D
_from_d = make_transform(_transposed(A))  # X U -> 4 x 4 pixels
_from_u = make_transform(_transposed(G))  # X^T D -> 3 x 3 taps


def suits(weight_shape, stride, out):
    """Whether this is the faster way: 3x3, stride 1, 16 channels or more, and results that fill their tiles half.

    weight_shape (kh, kw, c_in, c_out), stride a pair, out (height, width) of the result.
    """
    kh, kw, c_in, c_out = weight_shape
    if (kh, kw) != (TAPS, TAPS) or tuple(stride) != (1, 1) or min(c_in, c_out) < 16:
        return False
    down, across = _tiles(out)
    return 2 * out[0] * out[1] >= down * across * OUT * OUT


def transformed_weight(weight, turned=False):
    """U = G w G^T in panels (c_out / columns, 36, c_in, columns), zeros in the last; turned: of the kernel for dx."""
    weight = np.ascontiguousarray(weight)
    c_in, c_out = weight.shape[2:] if not turned else weight.shape[:1:-1]
    columns = columns_of(weight.dtype)
    panels = empty((-(-c_out // columns), PLANES, c_in, columns), weight.dtype)
    _fill_panels(weight, turned, panels)
    return panels


def convolve(x, panels, c_out, padding, statistics=False):
    """The convolution of x (n, h, w, c_in) with the weight of `panels`; padding a pair, also negative (a crop).

    With `statistics`: y, and of the pixels of each task the number (tasks,), and (tasks, 2, c_out) in float64: the
    mean, and the sum of squared deviations from it. Otherwise y alone.
    """
    x = np.ascontiguousarray(x)
    n, h, w, _ = x.shape
    y = empty((n, h + 2 * padding[0] - TAPS + 1, w + 2 * padding[1] - TAPS + 1, c_out), x.dtype)
    tiles, tasks = tasks_of(x, y.shape)
    counts, partials = np.zeros(tasks, np.int64), np.zeros((tasks, 2, c_out if statistics else 0))
    _convolve(x, *padding, panels, tiles, y, counts, partials)
    return (y, counts, partials) if statistics else y


def input_gradient(dy, weight, padding):
    """dx: a convolution of dy, padded by 2 - padding, with the turned kernel."""
    return convolve(dy, transformed_weight(weight, turned=True), weight.shape[2], [TAPS - 1 - p for p in padding])


def weight_gradient(x, dy, padding):
    """dw = G^T (X^T D) G, (3, 3, c_in, c_out)."""
    x, dy = np.ascontiguousarray(x), np.ascontiguousarray(dy)
    c_in, c_out = x.shape[3], dy.shape[3]
    down, across = _tiles(dy.shape[1:3])
    groups = -(-c_in // GRADIENT_ROWS)
    splits = max(1, min(GRADIENT_TASKS // groups, len(x) * down * across // GRADIENT_TILES))
    parts = empty((splits, TAPS, TAPS, c_in, c_out), x.dtype)
    _gradient_parts(x, dy, *padding, columns_of(x.dtype), parts)
    return parts[0] if splits == 1 else parts.sum(axis=0)


def tasks_of(x, out):
    """(tiles a task, tasks) for the convolution of x to a result of shape `out`."""
    down, across = _tiles(out[1:3])
    tiles = ROWS * max(2, BLOCK_BYTES // (ROWS * PLANES * x.shape[3] * x.itemsize))
    tiles = min(tiles, -(-down * across * out[0] // ROWS) * ROWS)
    return tiles, -(-out[0] * down * across // tiles)


def _tiles(size):
    return -(-size[0] // OUT), -(-size[1] // OUT)


# --- Transforms ----------------------------------------------------------------------------------------------------


@njit(cache=True, parallel=True)
def _fill_panels(weight, turned, panels):
    """G w G^T of every channel pair, as the panels of each plane; `turned` for dx."""
    n_panels, _, c_in, columns = panels.shape
    c_out = weight.shape[2] if turned else weight.shape[3]
    blocks = -(-c_in // PACKED)
    for task in prange(n_panels * blocks):
        panel, first = task // blocks, task % blocks * PACKED
        count = min(PACKED, c_in - first)
        taps = np.zeros((TAPS, TAPS, columns), weight.dtype)
        planes = np.empty((PLANES, PACKED, columns), weight.dtype)  # so that a plane is written in whole cache lines
        for c in range(count):
            for u in range(TAPS):
                for v in range(TAPS):
                    for j in range(min(columns, c_out - panel * columns)):
                        o = panel * columns + j
                        turn = (
                            weight[TAPS - 1 - u, TAPS - 1 - v, o, first + c] if turned else weight[u, v, first + c, o]
                        )
                        taps[u, v, j] = turn
            for j in range(0, columns, columns // 2):
                at, plane = c * columns + j, PACKED * columns
                _to_u(taps, j, TAPS * columns, columns, planes, at, IN * plane, plane)
        for p in range(PLANES):
            for c in range(count):
                for j in range(columns):
                    panels[panel, p, first + c, j] = planes[p, c, j]


@njit(cache=True)
def tile_corner(tile, shape):
    """(image, row, column) of the first pixel of a tile of images of `shape`."""
    across = -(-shape[2] // OUT)
    down = -(-shape[1] // OUT)
    return tile // (down * across), tile // across % down * OUT, tile % across * OUT


@njit(cache=True)
def _copy_window(x, image, top, left, low, window):
    """window[u, v, c] = x[image, top + u, left + v, low + c], and 0 outside of the image and of the channels."""
    _, h, w, channels = x.shape
    width = min(window.shape[2], channels - low)
    for u in range(window.shape[0]):
        for v in range(window.shape[1]):
            inside = 0 <= top + u < h and 0 <= left + v < w
            for c in range(width if inside else 0):
                window[u, v, c] = x[image, top + u, left + v, low + c]
            for c in range(width if inside else 0, window.shape[2]):
                window[u, v, c] = 0


@njit(cache=True)
def transform_tiles(x, out, down, across, low, first, count, window, planes, lanes):
    """planes[p, t, c] = X of channel low + c of the tiles first + t < first + count; out: the shape of the result.

    window (6, 6, channels) is room for one tile, planes (36, more than tiles * channels) is where X goes.
    """
    channels = window.shape[2]
    plane = planes.shape[1]
    for t in range(count):
        image, row, column = tile_corner(first + t, out)
        _copy_window(x, image, row - down, column - across, low, window)
        for c in range(0, channels, lanes):
            _to_x(window, c, IN * channels, channels, planes, t * channels + c, IN * plane, plane)


@njit(cache=True)
def multiply_planes(planes, channels, count, panels, panel, products):
    """products[p, t, :] = X U in every plane, for the tiles t < count and the output channels of a panel."""
    k, columns = panels.shape[2:]
    for p in range(PLANES):
        b_at = (panel * PLANES + p) * k * columns
        for t in range(0, count, ROWS):
            a_at, c_at = p * planes.shape[1] + t * channels, p * products.shape[1] + t * columns
            if count - t > FEW_ROWS:
                tile_product(planes, a_at, channels, 1, panels, b_at, products, c_at, columns, k, False)
            else:
                few_rows_product(planes, a_at, channels, 1, panels, b_at, products, c_at, columns, k, False)


@njit(cache=True)
def transform_back(products, t, pixels):
    """pixels (4, 4, columns) = the results of tile t of a block."""
    plane, columns = products.shape[1], pixels.shape[2]
    for j in range(0, columns, columns // 2):
        _from_d(products, t * columns + j, IN * plane, plane, pixels, j, OUT * columns, columns)


@njit(cache=True)
def block_buffers(channels, tiles, columns, like):
    """(window, planes, products) for blocks of tiles.

    Between two planes there are some more bytes: at a distance of a power of two, the 36 numbers that a transform reads
    or writes would all compete for the same few places of the first-level cache.
    """
    window = np.empty((IN, IN, channels), like.dtype)
    planes = np.empty((PLANES, tiles * channels + columns), like.dtype)
    return window, planes, np.empty((PLANES, tiles * columns + columns), like.dtype)


# --- The products ----------------------------------------------------------------------------------------------------


@njit(cache=True, parallel=True)
def _convolve(x, down, across, panels, tiles, y, counts, partials):
    """A task: a block of tiles transformed, multiplied, transformed back, panel after panel of outputs."""
    total = y.shape[0] * -(-y.shape[1] // OUT) * -(-y.shape[2] // OUT)
    n_panels, _, c_in, columns = panels.shape
    lanes = columns // 2
    channels = -(-c_in // lanes) * lanes
    for task in prange(counts.shape[0]):
        first, count = task * tiles, min(tiles, total - task * tiles)
        window, planes, products = block_buffers(channels, tiles, columns, x)
        pixels, moments = np.empty((OUT, OUT, columns), x.dtype), np.empty((2, columns), x.dtype)
        transform_tiles(x, y.shape, down, across, 0, first, count, window, planes, lanes)
        for panel in range(n_panels):
            multiply_planes(planes, channels, count, panels, panel, products)
            low = panel * columns
            width = min(columns, y.shape[3] - low)
            seen = 0
            for t in range(count):
                transform_back(products, t, pixels)
                image, row, column = tile_corner(first + t, y.shape)
                height, length = min(OUT, y.shape[1] - row), min(OUT, y.shape[2] - column)
                for u in range(height):
                    for v in range(length):
                        for j in range(width):
                            y[image, row + u, column + v, low + j] = pixels[u, v, j]
                if partials.size > 0:
                    _add_statistics(pixels, height, length, width, seen, moments, partials[task, :, low:])
                seen += height * length
            counts[task] = seen


@njit(cache=True)
def _add_statistics(pixels, height, length, width, seen, moments, partial):
    """Merge the mean and squared deviations of a tile into those of `seen` pixels (Chan et al., see fused.py)."""
    count = height * length
    moments[:] = 0
    for u in range(height):
        for v in range(length):
            for j in range(moments.shape[1]):
                moments[0, j] += pixels[u, v, j]
    for j in range(moments.shape[1]):
        moments[0, j] /= pixels.dtype.type(count)
    for u in range(height):
        for v in range(length):
            for j in range(moments.shape[1]):
                moments[1, j] += (pixels[u, v, j] - moments[0, j]) ** 2
    share, weight = count / (seen + count), seen * count / (seen + count)
    for j in range(width):
        delta = moments[0, j] - partial[0, j]
        partial[0, j] += delta * share
        partial[1, j] += moments[1, j] + delta * delta * weight


@njit(cache=True, parallel=True)
def _gradient_parts(x, dy, down, across, columns, parts):
    groups = -(-x.shape[3] // GRADIENT_ROWS)
    for task in prange(parts.shape[0] * groups):
        _gradient_part(task // groups, task % groups * GRADIENT_ROWS, x, dy, down, across, columns, parts)


@njit(cache=True)
def _gradient_part(split, low, x, dy, down, across, columns, parts):
    """parts[s] = G^T (X^T D) G over the s-th share of the tiles, for GRADIENT_ROWS channels of x from `low` on.

    A block is done plane after plane: X, D and the sums of a plane together fit the second-level cache, and each is
    read once. Panel after panel, all X would come from further away for every panel, as the sums take its place.
    """
    c_in, c_out = parts.shape[3:]
    total = dy.shape[0] * -(-dy.shape[1] // OUT) * -(-dy.shape[2] // OUT)
    share = -(-total // (parts.shape[0] * GRADIENT_TILES)) * GRADIENT_TILES
    n_panels, lanes = -(-c_out // columns), columns // 2
    rows = -(-min(GRADIENT_ROWS, c_in - low) // ROWS) * ROWS
    channels = -(-rows // lanes) * lanes
    window, planes, _ = block_buffers(channels, GRADIENT_TILES, columns, x)
    dy_window = np.empty((OUT, OUT, n_panels * columns), x.dtype)
    others = np.empty((PLANES, n_panels * GRADIENT_TILES * columns + columns), x.dtype)
    sums = np.zeros((PLANES, n_panels, rows, columns), x.dtype)
    for first in range(split * share, min(total, (split + 1) * share), GRADIENT_TILES):
        count = min(GRADIENT_TILES, total - first)
        transform_tiles(x, dy.shape, down, across, low, first, count, window, planes, lanes)
        _transform_gradients(dy, first, count, dy_window, others, columns)
        _add_products(planes, channels, count, others, sums)
    _store_taps(sums, low, parts[split])


@njit(cache=True)
def _transform_gradients(dy, first, count, window, others, columns):
    """others[p] = the panels (tiles, columns) of D in plane p, for the tiles first + t < first + count."""
    width, plane, lanes = window.shape[2], others.shape[1], columns // 2
    for t in range(count):
        image, row, column = tile_corner(first + t, dy.shape)
        _copy_window(dy, image, row, column, 0, window)
        for j in range(0, width, lanes):
            at = (j // columns * GRADIENT_TILES + t) * columns + j % columns
            _to_d(window, j, OUT * width, width, others, at, IN * plane, plane)


@njit(cache=True)
def _add_products(planes, channels, count, others, sums):
    """sums[p] += X^T D in every plane p: a sum over the tiles of a block."""
    _, n_panels, rows, columns = sums.shape
    for p in range(PLANES):
        for panel in range(n_panels):
            b_at = p * others.shape[1] + panel * GRADIENT_TILES * columns
            for c in range(0, rows, ROWS):
                a_at, c_at = p * planes.shape[1] + c, ((p * n_panels + panel) * rows + c) * columns
                tile_product(planes, a_at, 1, channels, others, b_at, sums, c_at, columns, count, True)


@njit(cache=True)
def _store_taps(sums, low, dweight):
    """dweight[:, :, low + c, :] = G^T sums G."""
    _, n_panels, rows, columns = sums.shape
    c_in, c_out = dweight.shape[2:]
    taps = np.empty((TAPS, TAPS, columns), sums.dtype)
    for c in range(min(rows, c_in - low)):
        for panel in range(n_panels):
            for j in range(0, columns, columns // 2):
                at, plane = (panel * rows + c) * columns + j, n_panels * rows * columns
                _from_u(sums, at, IN * plane, plane, taps, j, TAPS * columns, columns)
            for u in range(TAPS):
                for v in range(TAPS):
                    for j in range(min(columns, c_out - panel * columns)):
                        dweight[u, v, low + c, panel * columns + j] = taps[u, v, j]

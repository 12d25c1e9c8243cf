"""Winograd's convolution (`winograd.py`) for inference: bias, shortcut, ReLU and 2x2 max pooling on each tile.

Tiles have 4 x 4 results and start at multiples of 4, so no window of the pooling crosses the edge of a tile.
"""

import numpy as np
from numba import njit, prange

from .winograd import OUT, block_buffers, multiply_planes, tasks_of, tile_corner, transform_back, transform_tiles

FEW = 4  # blocks of tiles; below, tasks share the output channels as well


def winograd_layer(x, padding, panels, shape, bias, added, activate, pool, y):
    """y = relu(convolution + bias + added), or, with `pool`, the largest of every 2x2 window of that.

    x (n, h, w, c_in), panels from `winograd.transformed_weight`, shape (n, height, width, c_out) of the convolution,
    bias (c_out,); added has the shape of y, or no rows, and none with `pool`; y has `shape`, with `pool` half the
    height and width. Without `activate` there is no ReLU.
    """
    tiles, tasks = tasks_of(x, shape)
    groups = 1 if tasks >= FEW else min(len(panels), -(-FEW // tasks))
    x = np.ascontiguousarray(x)
    _layer(x, *padding, panels, shape, tiles, tasks, groups, bias, added, activate, pool, y)


@njit(cache=True, parallel=True)
def _layer(x, down, across, panels, out, tiles, tasks, groups, bias, added, activate, pool, y):
    """`winograd._convolve` with bias, shortcut, ReLU and pooling where a tile is stored."""
    total = out[0] * -(-out[1] // OUT) * -(-out[2] // OUT)
    n_panels, _, c_in, columns = panels.shape
    lanes = columns // 2
    channels = -(-c_in // lanes) * lanes
    floor = y.dtype.type(0 if activate else -np.inf)
    for task in prange(tasks * groups):
        first, group = task // groups * tiles, task % groups
        count = min(tiles, total - first)
        window, planes, products = block_buffers(channels, tiles, columns, x)
        pixels = np.empty((OUT, OUT, columns), x.dtype)
        transform_tiles(x, out, down, across, 0, first, count, window, planes, lanes)
        for panel in range(group * n_panels // groups, (group + 1) * n_panels // groups):
            multiply_planes(planes, channels, count, panels, panel, products)
            for t in range(count):
                transform_back(products, t, pixels)
                image, row, column = tile_corner(first + t, out)
                if pool:
                    _store_largest(pixels, image, row // 2, column // 2, panel * columns, bias, floor, y)
                else:
                    _store(pixels, image, row, column, panel * columns, bias, added, floor, y)


@njit(cache=True)
def _store(pixels, image, row, column, low, bias, added, floor, y):
    """A tile of results with bias, shortcut and ReLU, as far as it lies in the picture."""
    _, h, w, c_out = y.shape
    width = min(pixels.shape[2], c_out - low)
    for u in range(min(OUT, h - row)):
        for v in range(min(OUT, w - column)):
            for j in range(width):
                value = pixels[u, v, j] + bias[low + j]
                if added.shape[0] > 0:
                    value += added[image, row + u, column + v, low + j]
                y[image, row + u, column + v, low + j] = floor if floor > value else value  # a NaN stays one


@njit(cache=True)
def _store_largest(pixels, image, row, column, low, bias, floor, y):
    """The largest of every 2x2 window of a tile, with bias and ReLU."""
    _, h, w, c_out = y.shape
    width = min(pixels.shape[2], c_out - low)
    for u in range(min(OUT // 2, h - row)):
        for v in range(min(OUT // 2, w - column)):
            for j in range(width):
                upper = max(pixels[2 * u, 2 * v, j], pixels[2 * u, 2 * v + 1, j])
                lower = max(pixels[2 * u + 1, 2 * v, j], pixels[2 * u + 1, 2 * v + 1, j])
                value = max(upper, lower) + bias[low + j]
                y[image, row + u, column + v, low + j] = floor if floor > value else value  # a NaN stays one

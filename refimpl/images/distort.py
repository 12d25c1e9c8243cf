"""Distortions of drawings: the same character as another hand, or the same hand in a hurry, would write it.

Each pixel of the result is looked up in the source, bilinearly, at

    source = centre + A (pixel - centre) + shift + field(pixel)

A is a rotation times a scaling and a shear; the field is elastic: random displacements at the points of a coarse grid,
made smooth by a cubic B-spline. Beyond the border is 0: drawings are bright strokes on a dark ground.
Source: Simard, Steinkraus and Platt 2003, section 2, with a spline in place of their Gaussian.
"""

import numpy as np
from numba import njit, prange

from ..validation import check_array, check_integer, check_number


def distort(images, seed, *, size=None, rotation=10.0, scale=0.2, shear=0.2, shift=0.08, elastic=0.03, grid=5):
    """A random distortion of each picture.

    images    (n, h, w) float32, finite
    seed      an integer or a numpy.random.Generator
    size      side of the result in pixels; None keeps the height
    rotation  degrees; angles are uniform in [-rotation, rotation]
    scale     s: both axes are scaled by factors between 1 / (1 + s) and 1 + s, uniform in the logarithm
    shear     columns move by up to this share of the distance to the middle row
    shift     in both directions, share of the side
    elastic   standard deviation of the spline's coefficients, share of the side. At a point of the grid the spline
              averages 3 x 3 coefficients, with weights 1/6, 4/6 and 1/6 along each axis, so the displacement there has
              half that standard deviation
    grid      points of the elastic grid to a side, 2 or more
    Returns (n, size, size) float32. Raises ValueError for wrong arguments.
    """
    images = check_array(images, "images", ndim=3, dtypes=(np.float32,), finite=True, min_rows=1)
    n, height, width = images.shape
    if min(height, width) == 0:
        raise ValueError(f"images: expected at least one pixel, got shape {images.shape}")
    size = height if size is None else check_integer(size, "size", minimum=1)
    grid = check_integer(grid, "grid", minimum=2)
    rotation = np.deg2rad(check_number(rotation, "rotation", minimum=0, maximum=180))
    scale, shear, shift, elastic = (
        check_number(value, name, minimum=0)
        for name, value in (("scale", scale), ("shear", shear), ("shift", shift), ("elastic", elastic))
    )
    rng = np.random.default_rng(seed)
    angle, lean = rng.uniform(-rotation, rotation, n), rng.uniform(-shear, shear, n)
    factor = np.exp(rng.uniform(-1, 1, (2, n)) * np.log1p(scale))
    cosine, sine = np.cos(angle), np.sin(angle)
    # rotation times [[f0, 0], [f1 lean, f1]], in (row, column), in units of the side
    matrix = np.empty((n, 2, 2))
    matrix[:, 0, 0], matrix[:, 0, 1] = cosine * factor[0] - sine * factor[1] * lean, -sine * factor[1]
    matrix[:, 1, 0], matrix[:, 1, 1] = sine * factor[0] + cosine * factor[1] * lean, cosine * factor[1]
    offset = rng.uniform(-shift, shift, (n, 2))
    basis = _spline_basis(size, grid)
    coarse = (elastic * rng.standard_normal((n, 2, grid + 2, grid + 2))).astype(np.float32)
    field = np.ascontiguousarray(basis @ coarse @ basis.T)
    result = np.empty((n, size, size), np.float32)
    _distort(np.ascontiguousarray(images), matrix.astype(np.float32), offset.astype(np.float32), field, result)
    return result


def _spline_basis(size, grid):
    """(size, grid + 2) float32: the cubic B-splines of the grid's points (and one beyond each end) at the pixels."""
    at = (np.arange(size) + 0.5) / size * (grid - 1) + 1
    t = np.abs(at[:, None] - np.arange(grid + 2))
    near, far = 2 / 3 - t**2 + t**3 / 2, np.maximum(2 - t, 0) ** 3 / 6
    return np.where(t < 1, near, far).astype(np.float32)


@njit(parallel=True, cache=True)
def _distort(images, matrix, offset, field, result):
    _, height, width = images.shape
    size = result.shape[1]
    half, step = np.float32(0.5), np.float32(1) / np.float32(size)
    for n in prange(len(images)):
        for i in range(size):
            for j in range(size):
                u, v = (np.float32(i) + half) * step - half, (np.float32(j) + half) * step - half
                y = matrix[n, 0, 0] * u + matrix[n, 0, 1] * v + offset[n, 0] + field[n, 0, i, j] + half
                x = matrix[n, 1, 0] * u + matrix[n, 1, 1] * v + offset[n, 1] + field[n, 1, i, j] + half
                y, x = y * np.float32(height) - half, x * np.float32(width) - half
                top, left = int(np.floor(y)), int(np.floor(x))
                value = np.float32(0)
                for a in range(2):
                    for b in range(2):
                        row, column = top + a, left + b
                        if 0 <= row < height and 0 <= column < width:
                            weight = (np.float32(1) - abs(y - np.float32(row))) * (
                                np.float32(1) - abs(x - np.float32(column))
                            )
                            value += weight * images[n, row, column]
                result[n, i, j] = value

"""Scalar quantization: each coordinate on a grid of its own, in a byte instead of a float32.

    code = round((x - low) / step)        step = (high - low) / (2^bits - 1)
    decoded = low + step code             |x - decoded| <= step / 2, up to float32 rounding, for low <= x <= high

Gersho and Gray, "Vector quantization and signal compression", 1992, chapter 5: the uniform quantizer; its mean squared
error is step^2 / 12 where the density varies little within a step. Values beyond the range clip to its ends. A
coordinate that is constant has step 0 and is exact.
"""

from typing import NamedTuple

import numpy as np

from ..validation import check_array, check_integer

SMALLEST = np.finfo(np.float32).smallest_subnormal  # step of a coordinate that varies


class ScalarQuantizer(NamedTuple):
    """low, step (d,) float32; bits, 1 to 8. Made by `fit_scalar_quantizer`.

    Encoding and decoding take O(n d) time; codes are n d bytes, also where bits < 8.
    """

    low: np.ndarray
    step: np.ndarray
    bits: int

    def encode(self, vectors):
        """vectors (n, d) -> codes (n, d) uint8, the nearest grid point of each coordinate."""
        vectors = check_array(vectors, "vectors", shape=(None, len(self.low)), finite=True)
        steps = np.where(self.step > 0, self.step, 1).astype(np.float64)
        codes = np.rint((vectors.astype(np.float64) - self.low) / steps)
        return np.clip(codes, 0, np.where(self.step > 0, 2**self.bits - 1, 0)).astype(np.uint8)

    def decode(self, codes):
        """codes (n, d) uint8 -> (n, d) float32, what they stand for."""
        codes = check_array(codes, "codes", shape=(None, len(self.low)), dtypes=(np.uint8,))
        values = self.low.astype(np.float64) + self.step.astype(np.float64) * codes
        return np.minimum(values, np.finfo(np.float32).max).astype(np.float32)  # a rounded step may lead beyond

    @property
    def largest_error(self):
        """e: |x - decode(encode(x))| <= e for every x within the range, up to float32 rounding; |step| / 2."""
        return float(np.linalg.norm(self.step.astype(np.float64)) / 2)


def fit_scalar_quantizer(vectors, *, bits=8):
    """The grid between the least and the largest value of each coordinate of vectors (n, d), n >= 1 -> ScalarQuantizer.

    Raises ValueError for bad arguments, and for a range beyond float32.
    """
    vectors = check_array(vectors, "vectors", ndim=2, finite=True, min_rows=1)
    bits = check_integer(bits, "bits", minimum=1, maximum=8)
    low, high = vectors.min(0).astype(np.float64), vectors.max(0).astype(np.float64)
    with np.errstate(over="ignore"):
        step = ((high - low) / (2**bits - 1)).astype(np.float32)
        step = np.where(high > low, np.maximum(step, SMALLEST), 0)
        low, high = low.astype(np.float32), high.astype(np.float32)
    if not (np.isfinite(low).all() and np.isfinite(high).all() and np.isfinite(step).all()):
        raise ValueError(f"vectors: expected values within float32, got {np.abs(vectors).max()}")
    return ScalarQuantizer(low, step, bits)

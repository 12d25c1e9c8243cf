"""The double nearest to a decimal number w * 10^q, from integers alone: what makes reading a million scores cheap.

A score of sixteen or seventeen digits does not fit a double, so w * 10^q in floating point rounds twice and is now
and then off by one place - enough to make two scores tie, or to order them wrongly. Eisel and Lemire multiply
exactly:

    w * 10^q = w * 5^q * 2^q      5^q is kept as its leading 128 bits; a 64 x 128 bit product has 53 good bits and more

The power of two only enters the exponent. The 128 bits of 5^q for q from -64 to 64 are computed here with Python's
integers (cut off, but rounded up from q = -27 to -1, where 1 / 5^q never ends), and 64 of them are enough unless the
product ends in a long run of ones. Other exponents, subnormals and overflows are left to `float`.

Source: Lemire, Number parsing at a gigabyte per second, SPE 2021, algorithm 1; Mushtak and Lemire, Fast number
parsing without fallback, SPE 2023, for the proof that the product always decides.
"""

import numpy as np
from numba import njit

MOST = 64


def powers_of_five():
    """(2 MOST + 1, 2) uint64: high and low half of the leading 128 bits of 5^q, row q + MOST."""
    rows = []
    for q in range(-MOST, MOST + 1):
        power = 5 ** abs(q)
        if q >= 0:
            shift = 128 - power.bit_length()
            bits = power << shift if shift >= 0 else power >> -shift
        else:
            bits = 2 ** (power.bit_length() + 127) // power + (q >= -27)
        rows.append((bits >> 64, bits & (2**64 - 1)))
    return np.array(rows, dtype=np.uint64)


@njit(nogil=True, cache=True)
def nearest_double(w, q, powers):
    """The bits (uint64) of the double nearest to w * 10^q, w uint64, |q| <= MOST; all ones if it is left to `float`."""
    one = np.uint64(1)
    if w == np.uint64(0):
        return np.uint64(0)
    zeros = 0
    while w >> np.uint64(63) == np.uint64(0):
        w <<= one
        zeros += 1
    high, low = _product(w, powers[q + 64, 0])
    if high & np.uint64(0x1FF) == np.uint64(0x1FF):  # the carry from below could still move the 55th bit
        more, _ = _product(w, powers[q + 64, 1])
        low += more
        if low < more:
            high += one
    top = high >> np.uint64(63)
    shift = top + np.uint64(9)
    mantissa = high >> shift
    exponent = ((217706 * q) >> 16) + 63 + np.int64(top) - zeros + 1023
    if exponent <= 0 or exponent >= 2046:
        return ~np.uint64(0)
    halfway = low <= one and -4 <= q <= 23 and mantissa & np.uint64(3) == one and mantissa << shift == high
    if halfway:
        mantissa &= ~one
    mantissa = (mantissa + (mantissa & one)) >> one
    if mantissa >= np.uint64(1) << np.uint64(53):
        mantissa = np.uint64(1) << np.uint64(52)
        exponent += 1
    return (mantissa & ((np.uint64(1) << np.uint64(52)) - one)) | (np.uint64(exponent) << np.uint64(52))


@njit(nogil=True, cache=True)
def _product(a, b):
    """The high and the low 64 bits of a 64 x 64 bit product."""
    half, low_half = np.uint64(32), np.uint64(0xFFFFFFFF)
    a0, a1, b0, b1 = a & low_half, a >> half, b & low_half, b >> half
    low, middle, cross = a0 * b0, a1 * b0, a0 * b1
    carry = (low >> half) + (middle & low_half) + (cross & low_half)
    return a1 * b1 + (middle >> half) + (cross >> half) + (carry >> half), a * b

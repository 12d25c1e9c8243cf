"""How often two vectors fall into the same bucket, and how many tables and bits a target recall takes.

A family of hash functions is locality-sensitive when near pairs collide more often than far ones (Indyk and Motwani
1998). Both families here have a closed form for the probability p that one function gives two vectors the same value:

    random hyperplanes   p(angle)    = 1 - angle / pi                                             (Charikar 2002)
    p-stable, l2         p(distance) = 1 - 2 Phi(-r) - sqrt(2 / pi) (1 - exp(-r^2 / 2)) / r,      (Datar et al. 2004)
                                       r = width / distance

One function says little. A table keys its buckets by `bits` functions at once, and a pair meets there with
probability p^bits; with `tables` independent tables, it meets in at least one of them with probability

    1 - (1 - p^bits)^tables

More bits empty the buckets of strangers (their share of the n vectors falls as p_far^bits), more tables bring the
near pairs back. `choose_tables` finds the pair with the least work for a recall that is asked for. The trade is
summed up by rho = ln p_near / ln p_far: about n^rho tables and as many candidates a query suffice, and rho < 1.
"""

import math
from typing import NamedTuple

import numpy as np
from scipy.special import bdtr, erf

from ..validation import check_array, check_integer, check_number


class Tables(NamedTuple):
    """`bits` hash functions a table, `tables` tables; `cost`: hash functions evaluated + candidates, a query."""

    bits: int
    tables: int
    cost: float


def hyperplane_collision(angle):
    """P(sign(a.x) = sign(a.y)) for a standard normal: 1 - angle / pi, with `angle` in radians, an array in [0, pi].

    Source: Charikar 2002, section 3; Goemans and Williamson 1995, lemma 3.2.
    """
    return 1 - _in_range(angle, "angle", 0, np.pi) / np.pi


def pstable_collision(distance, width):
    """P(floor((a.x + b) / width) = floor((a.y + b) / width)) for a standard normal and b uniform in [0, width).

    a.(x - y) is normal with deviation `distance`; with r = width / distance,

        p = integral over t in [0, width] of the density of |a.(x - y)| at t, times (1 - t / width)
          = 1 - 2 Phi(-r) - sqrt(2 / pi) (1 - exp(-r^2 / 2)) / r

    `distance` is an array >= 0 (0 gives 1), `width` a number > 0. Source: Datar et al. 2004, section 3.2.
    """
    width = check_number(width, "width", above=0)
    # erf(r / sqrt 2) is 1 - 2 Phi(-r). It and -expm1 keep their digits where r is small, pairs much farther apart than
    # the width; there p = r / sqrt(2 pi), less a part of r^2, which the difference of the two would lose in the end.
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        r = width / _in_range(distance, "distance", 0, np.inf)
        far = np.sqrt(2 / np.pi) * -np.expm1(-r * r / 2) / r
        return np.where(r < 1e-8, r / np.sqrt(2 * np.pi), erf(r / np.sqrt(2)) - far)[()]


def success_probability(p, bits, tables):
    """1 - (1 - p^bits)^tables: a pair that collides with probability `p` (array) meets in at least one table."""
    bits, tables = check_integer(bits, "bits", minimum=1), check_integer(tables, "tables", minimum=1)
    met = _in_range(p, "p", 0, 1) ** bits
    with np.errstate(divide="ignore"):
        return -np.expm1(tables * np.log1p(-met))


def multiprobe_probability(p, bits, flips):
    """P(two vectors differ in at most `flips` of `bits` functions): what probing all those buckets of a table finds.

    The sum over r <= flips of C(bits, r) p^(bits - r) (1 - p)^r. Probing in the order of the query's own margins finds
    more with as many probes (Lv et al. 2007), so this is a floor for it.
    """
    bits, flips = check_integer(bits, "bits", minimum=1), check_integer(flips, "flips", minimum=0)
    return bdtr(min(flips, bits), bits, 1 - _in_range(p, "p", 0, 1))


def rho(p_near, p_far):
    """ln p_near / ln p_far: the exponent of n in the number of tables. Source: Indyk and Motwani 1998, theorem 4."""
    p_far = check_number(p_far, "p_far", above=0, below=1)
    return math.log(check_number(p_near, "p_near", minimum=p_far, maximum=1)) / math.log(p_far)


def choose_tables(p_near, p_far, n, recall, *, max_bits=64, max_tables=1000):
    """The cheapest Tables(bits, tables, cost) that finds a near pair with probability >= `recall` among `n` vectors.

    For each number of bits the tables follow from the recall, tables = ceil(ln(1 - recall) / ln(1 - p_near^bits)), and
    the work of a query is bits * tables hash functions plus tables * n * p_far^bits candidates, an inner product of
    the full dimension each. Raises ValueError if no choice within `max_bits` and `max_tables` will do.
    """
    p_far = check_number(p_far, "p_far", above=0, below=1)
    p_near = check_number(p_near, "p_near", above=p_far, maximum=1)
    n = check_integer(n, "n", minimum=1)
    recall = check_number(recall, "recall", above=0, below=1)
    max_tables = check_integer(max_tables, "max_tables", minimum=1)
    best = None
    for bits in range(1, check_integer(max_bits, "max_bits", minimum=1) + 1):
        met = p_near**bits
        tables = 1 if met == 1 else max(1, math.ceil(math.log1p(-recall) / math.log1p(-met)))
        if tables > max_tables:
            break
        cost = tables * (bits + n * p_far**bits)
        if best is None or cost < best.cost:
            best = Tables(bits, tables, cost)
    if best is None:
        raise ValueError(f"max_tables: expected room for recall {recall} at p_near {p_near}, got {max_tables}")
    return best


def _in_range(values, name, low, high):
    values = check_array(values, name, finite=True).astype(np.float64)
    if not ((values >= low) & (values <= high)).all():
        raise ValueError(f"{name}: expected values between {low} and {high}, got {values}")
    return values

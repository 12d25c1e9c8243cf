"""The anisotropic loss: eta by the formula and by simulation, codes and codebooks that never make it larger."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.ann.anisotropic import (
    anisotropic_codes,
    anisotropic_eta,
    anisotropic_loss,
    directions,
    train_anisotropic,
    update_codebooks,
)
from refimpl.ann.codebooks import decode, places, split, train_codebooks


def test_eta_of_the_paper():
    assert anisotropic_eta(0.2, 100) == pytest.approx(4.125)
    assert anisotropic_eta(0.4, 100, norm=2.0) == pytest.approx(4.125)
    for bad in ({"threshold": 0.0}, {"threshold": 1.0}, {"norm": -1.0}, {"dimension": 0}):
        with pytest.raises(ValueError, match=r"expected"):
            anisotropic_eta(**{"threshold": 0.5, "dimension": 3, **bad})


@pytest.mark.parametrize("threshold, d", [(0.2, 4000), (0.5, 900)])
def test_eta_is_what_the_weighted_pairs_say(threshold, d):
    """The mean of (q.r)^2 over unit q with q.x >= T, for r along x and for r across it, by integration over t = q.x.

    The density of t is (1 - t^2)^((d - 3) / 2); a direction across has 1 / (d - 1) of the rest, 1 - t^2.
    """
    t = np.linspace(threshold, 1, 2_000_001)
    density = ((1 - t**2) / (1 - threshold**2)) ** ((d - 3) / 2)
    ratio = (t**2 * density).sum() / ((1 - t**2) / (d - 1) * density).sum()
    assert ratio == pytest.approx(anisotropic_eta(threshold, d), rel=0.02)  # the formula is the limit of large d


def problem(n, d, m, k, seed, spread=1.0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)).astype(np.float32)
    x[rng.random(n) < 0.1] = 0
    y = (x - spread * rng.standard_normal(d)).astype(np.float32)
    width = -(-d // m)
    books = rng.standard_normal((m, k, width)).astype(np.float32)
    books *= np.isin(np.arange(m * width), places(d, m)).reshape(m, 1, width)  # parts are filled up with zeros
    return y, directions(x), books


SHAPES = {"n": st.integers(1, 40), "d": st.integers(1, 11), "m": st.integers(1, 5), "k": st.integers(1, 6)}


@given(**SHAPES, eta=st.floats(1, 50), seed=st.integers(0, 999))
def test_codes_never_raise_the_loss_and_stop_where_no_part_can_lower_it(n, d, m, k, eta, seed):
    y, u, books = problem(n, d, min(m, d), k, seed)
    start = np.random.default_rng(seed).integers(0, k, (n, len(books)), dtype=np.uint8)
    loss, given = anisotropic_loss(y, u, decode(start, books, d), eta), start.copy()
    codes = anisotropic_codes(y, u, books, eta, start)
    np.testing.assert_array_equal(start, given)
    reached = anisotropic_loss(y, u, decode(codes, books, d), eta)
    assert (reached <= loss * (1 + 1e-9) + 1e-9).all()
    again = anisotropic_codes(y, u, books, eta, codes)
    if np.array_equal(again, codes):  # at rest, unless the sweeps ran out
        for j in range(len(books)):
            for c in range(k):
                other = codes.copy()
                other[:, j] = c
                assert (anisotropic_loss(y, u, decode(other, books, d), eta) >= reached * (1 - 1e-6) - 1e-6).all()


def test_nearly_all_codes_come_to_rest():
    y, u, books = problem(2000, 12, 6, 8, 0)
    codes = anisotropic_codes(y, u, books, 5.0)
    assert (anisotropic_codes(y, u, books, 5.0, codes) == codes).all(1).mean() > 0.995


@given(**SHAPES, seed=st.integers(0, 999))
def test_eta_one_is_plain_assignment(n, d, m, k, seed):
    y, u, books = problem(n, d, min(m, d), k, seed)
    codes = anisotropic_codes(y, u, books, 1.0)
    for j, part in enumerate(split(y, len(books))):
        squares = ((part[:, None].astype(np.float64) - books[j]) ** 2).sum(2)
        np.testing.assert_allclose(squares[np.arange(n), codes[:, j]], squares.min(1), rtol=1e-9, atol=1e-12)


@given(**SHAPES, eta=st.floats(1, 50), seed=st.integers(0, 999))
@settings(max_examples=40)
def test_codebooks_have_the_least_loss(n, d, m, k, eta, seed):
    """Never above before; and no step in any coordinate of an entry of the last part lowers it."""
    y, u, books = problem(n, d, min(m, d), k, seed)
    codes = np.random.default_rng(seed).integers(0, k, (n, len(books)), dtype=np.uint8)

    def total(own):
        return anisotropic_loss(y, u, decode(codes, own, d), eta).sum()

    updated = update_codebooks(y, u, codes, books, eta)
    least = total(updated)
    assert least <= total(books) * (1 + 1e-6) + 1e-6
    for c, w, step in ((c, w, step) for c in range(k) for w in range(books.shape[2]) for step in (-0.01, 0.01)):
        moved = updated.copy()
        moved[-1, c, w] += step
        assert total(moved) >= least * (1 - 1e-5) - 1e-6
    unused = np.setdiff1d(np.arange(k), codes[:, -1])
    np.testing.assert_array_equal(updated[-1, unused], books[-1, unused])


def test_training_trades_error_across_for_error_along():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3000, 16)).astype(np.float32)
    u, eta = directions(x), 6.0

    def along_and_total(books, weight):
        r = x - decode(anisotropic_codes(x, u, books, weight), books, 16)
        return ((r * u).sum(1) ** 2).mean(), (r**2).sum(1).mean()

    plain, trained = train_codebooks(x, 8, 4, 0), train_anisotropic(x, u, 8, 4, eta, 0)
    (along, total), (new_along, new_total) = along_and_total(plain, 1.0), along_and_total(trained, eta)
    assert new_along < 0.6 * along and total < new_total < 1.3 * total
    assert new_total + (eta - 1) * new_along < total + (eta - 1) * along

"""Bounds of inner products from a few coordinates: never below them, whatever the axes; axes where they pay."""

from unittest import mock

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from refimpl.ann import principal
from refimpl.ann.panels import rounding_error
from refimpl.ann.principal import choose_axes, principal_axes, project, sample_rows, split_sample


def some_axes(d, depth, seed):
    return np.linalg.qr(np.random.default_rng(seed).standard_normal((d, depth)))[0]


@given(
    d=st.integers(2, 40), share=st.floats(0, 1), seed=st.integers(0, 999), scale=st.sampled_from([1e-6, 1.0, 1e6]),
    kind=st.sampled_from(["normal", "on the axes", "across", "zero"]), sample=st.integers(1, 9),
)  # fmt: skip
def test_the_product_of_projections_bounds_the_inner_product(d, share, seed, scale, kind, sample):
    """sample: the rows that are projected at a time."""
    rng, depth = np.random.default_rng(seed), 1 + int(share * (d - 1))
    axes = some_axes(d, depth, seed + 1)
    x, q = (scale * rng.standard_normal((7, d)) for _ in range(2))
    if kind == "on the axes":
        x, q = x @ axes @ axes.T, q @ axes @ axes.T
    elif kind == "across":
        x, q = x - x @ axes @ axes.T, x - x @ axes @ axes.T  # the bound is the square itself
    elif kind == "zero":
        x = np.zeros_like(x)
    x, q = x.astype(np.float32), q.astype(np.float32)
    with mock.patch.object(principal, "SAMPLE", sample):
        bounds = project(q, axes).astype(np.float64) @ project(x, axes).T.astype(np.float64)
    inner = q.astype(np.float64) @ x.T.astype(np.float64)
    norms = np.linalg.norm(q.astype(np.float64), axis=1)
    slack = rounding_error(norms, np.linalg.norm(x.astype(np.float64), axis=1).max(), d)[:, None]
    assert project(x, axes).shape == (7, depth + 1) and project(x, axes).dtype == np.float32
    assert (bounds >= inner - slack).all()
    if kind == "on the axes":  # nothing is left out
        np.testing.assert_allclose(bounds, inner, atol=float(slack.max()))


def test_the_axes_hold_the_most_of_the_squares():
    rng = np.random.default_rng(0)
    turn = np.linalg.qr(rng.standard_normal((30, 30)))[0]
    x = rng.standard_normal((2000, 30)) * np.r_[10.0, 8, 6, 4, np.full(26, 0.1)] @ turn
    axes = principal_axes(x, 4)
    np.testing.assert_allclose(axes.T @ axes, np.eye(4), atol=1e-12)
    np.testing.assert_allclose(((x @ axes) ** 2).sum() / np.linalg.eigvalsh(x.T @ x)[-4:].sum(), 1, atol=1e-6)
    assert (np.diff(((x @ axes) ** 2).sum(0)) < 0).all()


def test_axes_are_taken_where_they_pay():
    rng = np.random.default_rng(1)
    plain = rng.standard_normal((3000, 64)).astype(np.float32)
    inner = rng.standard_normal((3000, 6)) @ rng.standard_normal((6, 64))
    flat = (inner + 0.01 * plain).astype(np.float32)
    assert choose_axes(plain[:100], plain[100:]) is None
    assert choose_axes(flat[:100], flat[100:]).shape == (64, 8)
    assert choose_axes(1e30 * flat[:100], 1e30 * flat[100:]).shape == (64, 8)
    for none in (np.zeros((200, 64), np.float32), flat[:, :9], flat[:9]):
        assert choose_axes(none[:5], none[5:]) is None


@given(st.integers(1, 20_000))
def test_samples_are_rows_and_not_too_many(n):
    x = np.arange(n)[:, None]
    rows = sample_rows(x, 100).ravel()
    assert len(np.unique(rows)) == len(rows) and min(n, 50) <= len(rows) <= 100
    asking, others = (part.ravel() for part in split_sample(x))
    assert not set(asking) & set(others) and len(asking) >= 1


@given(st.integers(1, 20_000), st.integers(1, 300))
def test_samples_reach_from_the_first_to_the_last(n, most):
    rows = sample_rows(np.arange(n), most)
    assert len(rows) <= most and rows[0] == 0
    steps = np.diff(np.append(rows, n))
    assert len(set(steps[:-1])) <= 1 and steps[-1] <= steps[0]

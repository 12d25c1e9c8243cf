"""SimCLR learns what can be learned, gives the same bits for a seed, and refuses what it cannot use."""

import sys

import numpy as np
import pytest

from refimpl.nn import mlp, mlp_init, resnet_init, whitened, whitened_init
from refimpl.training import simclr, simclr_step

ENCODER = {"widths": (8, 16), "blocks": 1, "embedding": 16, "seed": 0}
PROTOTYPES = np.random.default_rng(0).standard_normal((24, 8, 8, 3)).astype(np.float32)


def draw_pairs(rng):
    """Two noisy views of each of 24 prototypes, dimmed at random: their likeness must be learned."""
    noise = rng.standard_normal((2, *PROTOTYPES.shape), dtype=np.float32)
    light = rng.uniform(0.2, 2, (2, len(PROTOTYPES), 1, 1, 1)).astype(np.float32)
    return tuple(light * PROTOTYPES + 0.3 * noise)


def test_training_lowers_the_loss_from_guessing():
    seen = []
    trained = simclr(draw_pairs, *resnet_init(**ENCODER), steps=60, progress=lambda *a: seen.append(a))
    assert abs(trained.losses[0] - np.log(2 * len(PROTOTYPES) - 1)) < 0.6
    assert trained.losses[-5:].mean() < trained.losses[:5].mean() - 1
    assert [a[1] for a in seen] == list(range(1, 61)) and seen[-1][0] == 1


def test_an_encoder_without_a_head_learns_too():
    params, state = whitened_init(PROTOTYPES, widths=(16, 32), seed=0)
    trained = simclr(draw_pairs, params, state, encoder=whitened, steps=60, learning_rate=5e-3)
    assert trained.losses[-5:].mean() < trained.losses[:5].mean() - 1
    assert {name: p.shape for name, p in trained.params.items()} == {name: p.shape for name, p in params.items()}
    assert [len(b) for b in (trained.head["layer0/bias"], trained.head["layer1/bias"])] == [32, 64]


def views_of(rng, n_views):
    """Noisy views of the prototypes, (n, h, w, c) float64 each."""
    return [PROTOTYPES + 0.5 * rng.standard_normal(PROTOTYPES.shape) for _ in range(n_views)]


@pytest.mark.parametrize("n_views", [2, 3, 5])
def test_the_loss_is_a_mean_over_all_pairs_of_views_of_one_picture(n_views):
    params, state = whitened_init(PROTOTYPES, widths=(8, 8), seed=0, dtype=np.float64)
    head = mlp_init((8, 12, 6), seed=1, dtype=np.float64)
    head["layer0/bias"] += 0.1  # where all features are zero, neither a kink of the ReLU nor a zero vector
    views, rng = views_of(np.random.default_rng(3), n_views), np.random.default_rng(4)

    def loss_of(params, head):
        return simclr_step(params, head, state, *views, temperature=0.5, encoder=whitened)

    loss, dparams, dhead, _ = loss_of(params, head)
    h, _, _ = whitened(params, state, np.concatenate(views), training=True)
    z = mlp(head, h)[0]
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    similarity, picture = z @ z.T / 0.5, np.tile(np.arange(len(PROTOTYPES)), n_views)
    terms = []
    for i in range(len(z)):
        others = np.arange(len(z)) != i
        total = np.log(np.exp(similarity[i, others]).sum())
        terms += [total - similarity[i, p] for p in np.flatnonzero(others & (picture == picture[i]))]
    assert loss == pytest.approx(np.mean(terms), rel=1e-10)
    move_params, move_head = ({k: rng.standard_normal(v.shape) for k, v in d.items()} for d in (params, head))
    slope = sum((dparams[k] * move_params[k]).sum() for k in params) + sum(
        (dhead[k] * move_head[k]).sum() for k in head
    )
    up, down = (
        loss_of(*({k: v + e * m[k] for k, v in d.items()} for d, m in ((params, move_params), (head, move_head))))[0]
        for e in (1e-6, -1e-6)
    )
    assert (up - down) / 2e-6 == pytest.approx(slope, rel=1e-4)


def test_more_views_and_a_wider_head_train_too():
    def draw(rng):
        return draw_pairs(rng) + draw_pairs(rng)[:1]

    trained = simclr(draw, *resnet_init(**ENCODER), steps=40, hidden=40)
    assert trained.losses[-5:].mean() < trained.losses[:5].mean() - 0.5
    assert trained.head["layer0/weight"].shape == (16, 40)


def test_same_seed_same_bits():
    first, second = (simclr(draw_pairs, *resnet_init(**ENCODER), steps=3, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.losses, second.losses)
    for name in first.params:
        np.testing.assert_array_equal(first.params[name], second.params[name])
    other = simclr(draw_pairs, *resnet_init(**ENCODER), steps=3, seed=6)
    assert (other.losses != first.losses).any()


def test_the_clock_ends_the_training():
    trained = simclr(draw_pairs, *resnet_init(**ENCODER), minutes=1 / 600)
    assert len(trained.losses) >= 1 and trained.seconds < 30


def test_wrong_arguments():
    encoder = resnet_init(**ENCODER)
    with pytest.raises(ValueError, match="steps, minutes: expected exactly one"):
        simclr(draw_pairs, *encoder)
    with pytest.raises(ValueError, match="steps, minutes: expected exactly one"):
        simclr(draw_pairs, *encoder, steps=1, minutes=1)
    with pytest.raises(ValueError, match="minutes: expected a finite number > 0"):
        simclr(draw_pairs, *encoder, minutes=0)
    with pytest.raises(ValueError, match="hidden"):
        simclr(draw_pairs, *encoder, steps=1, hidden=0)
    with pytest.raises(ValueError, match="views: expected two or more"):
        simclr(lambda rng: draw_pairs(rng)[:1], *encoder, steps=1)
    with pytest.raises(ValueError, match="learning_rate"):
        simclr(draw_pairs, *encoder, steps=1, learning_rate=-1)


def test_a_loss_that_is_not_finite_stops_the_training(monkeypatch):
    module = sys.modules["refimpl.training.simclr"]  # the attribute of that name is the function
    monkeypatch.setattr(module, "nt_xent", lambda z1, z2, temperature: (np.nan, (z1, z2)))
    with pytest.raises(FloatingPointError, match="nan at step 0"):
        simclr(draw_pairs, *resnet_init(**ENCODER), steps=2)

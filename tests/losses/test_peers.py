"""Values and gradients against torch and pytorch-metric-learning, where the same formula exists there.

Where a library's form differs, the test states the difference; docs/losses.md lists them.
"""

import numpy as np
import pytest

from refimpl import losses

torch = pytest.importorskip("torch")
F = torch.nn.functional

RNG = np.random.default_rng(0)
X, Y, W = (RNG.standard_normal((8, 5)) for _ in range(3))
LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 4])
WEIGHTS = np.array([0.5, 2.0, 1.0, 0.1, 3.0])
T_LABELS, T_WEIGHTS = torch.tensor(LABELS), torch.tensor(WEIGHTS)


def same(ours, theirs, *arrays):
    """`ours(*arrays)` -> loss, gradients, and `theirs` on tensors of the same values."""
    value, gradients = ours(*arrays)
    tensors = [torch.tensor(a, requires_grad=True) for a in arrays]
    expected = theirs(*tensors)
    expected.backward()
    np.testing.assert_allclose(value, expected.item(), rtol=1e-10)
    for found, tensor in zip(gradients if isinstance(gradients, tuple) else (gradients,), tensors):
        np.testing.assert_allclose(found, tensor.grad.numpy(), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy(smoothing, weighted):
    same(
        lambda x: losses.softmax_cross_entropy(
            x, LABELS, label_smoothing=smoothing, class_weights=WEIGHTS if weighted else None
        ),
        lambda x: F.cross_entropy(x, T_LABELS, T_WEIGHTS if weighted else None, label_smoothing=smoothing),
        X,
    )


def test_triplet_distillation_and_binary_cross_entropy():
    def triplet(a, p, n):
        d = torch.linalg.vector_norm
        return F.relu(d(a - p, dim=1) - d(a - n, dim=1) + 0.4).mean()

    same(lambda *a: losses.triplet_loss(*a, margin=0.4), triplet, X, Y, W)

    def divergence(s, t):
        q, p = F.log_softmax(s / 3, 1), F.log_softmax(t / 3, 1)
        return 9 * F.kl_div(q, p, log_target=True, reduction="batchmean")

    same(lambda s, t: losses.distillation_loss(s, t, temperature=3.0), divergence, X, Y)
    targets = (Y > 0).astype(float)
    same(
        lambda x: losses.focal_loss(x, targets, alpha=None, gamma=0.0),
        lambda x: F.binary_cross_entropy_with_logits(x, torch.tensor(targets)),
        X,
    )


def test_similarities():
    def through(similarity):
        def ours(x, y):
            s, pullback = similarity(x, y)
            return s.sum() + (s * s).sum(), pullback(1 + 2 * s)

        return ours

    def total(s):
        return s.sum() + (s * s).sum()

    same(through(losses.dot_similarity), lambda x, y: total(x @ y.T), X, Y)
    same(through(losses.cosine_similarity), lambda x, y: total(F.cosine_similarity(x[:, None], y[None], dim=2)), X, Y)
    same(through(losses.euclidean_distance), lambda x, y: total(torch.cdist(x, y)), X, Y)


def test_both_take_the_slope_of_a_distance_0_as_0():
    x = torch.tensor(X, requires_grad=True)
    torch.cdist(x, torch.tensor(X))[2, 2].backward()
    only = np.zeros((8, 8))
    only[2, 2] = 1
    assert not x.grad.numpy().any() and not losses.euclidean_distance(X, X)[1](only)[0].any()


class TestMetricLearning:
    """pytorch-metric-learning: L2-normalises by default, as NT-Xent, SupCon and its distances do."""

    pml = pytest.importorskip("pytorch_metric_learning")

    def test_nt_xent_and_sup_con(self):
        from pytorch_metric_learning.losses import NTXentLoss, SupConLoss

        pairs = torch.arange(8).repeat(2)
        # its NT-Xent treats every positive pair on its own; with one positive an anchor that is SimCLR's
        same(
            lambda x, y: losses.nt_xent(x, y, temperature=0.3),
            lambda x, y: NTXentLoss(temperature=0.3)(torch.cat([x, y]), pairs),
            X,
            Y,
        )
        # its mean is over anchors with a positive, as ours: label 4 occurs once
        same(
            lambda x: losses.sup_con(x, LABELS, temperature=0.3),
            lambda x: SupConLoss(temperature=0.3)(x, T_LABELS),
            X,
        )

    def test_n_pair(self):
        from pytorch_metric_learning.losses import NPairsLoss

        # it wants the pairs in one batch, with labels, and dot products of vectors as they are
        same(
            losses.n_pair_loss,
            lambda x, y: NPairsLoss(distance=self.dot())(
                torch.stack([x, y], 1).reshape(16, 5), torch.arange(8).repeat_interleave(2)
            ),
            X,
            Y,
        )

    def test_contrastive_is_linear_there(self):
        """It has margin - d where ours has 1/2 (margin - d)^2."""
        from pytorch_metric_learning.losses import ContrastiveLoss

        theirs = ContrastiveLoss(neg_margin=9.0, distance=self.euclidean())
        x = torch.tensor(X[:2])
        value, _ = losses.contrastive_loss(X[:1], X[1:2], [0], margin=9.0)
        np.testing.assert_allclose(np.sqrt(2 * value), theirs(x, torch.tensor([0, 1])).item(), rtol=1e-9)

    def test_batch_all(self):
        from pytorch_metric_learning.losses import TripletMarginLoss

        # its default reducer averages the losses above 0
        for mean_over, reducer in (("violating", None), ("all", self.pml.reducers.MeanReducer())):
            same(
                lambda x, over=mean_over: losses.batch_all_triplet_loss(x, LABELS, margin=0.4, mean_over=over),
                lambda x, reducer=reducer: TripletMarginLoss(margin=0.4, distance=self.euclidean(), reducer=reducer)(
                    x, T_LABELS
                ),
                X,
            )

    def test_batch_hard(self):
        from pytorch_metric_learning.miners import BatchHardMiner

        theirs = BatchHardMiner(distance=self.euclidean())(torch.tensor(X), T_LABELS)
        for found, expected in zip(losses.batch_hard(X, LABELS), theirs):
            np.testing.assert_array_equal(found, expected.numpy())

    def test_semi_hard(self):
        """Its miner keeps every semi-hard negative of a pair, ours the nearest of them."""
        from pytorch_metric_learning.miners import TripletMarginMiner

        theirs = TripletMarginMiner(margin=1.0, type_of_triplets="semihard", distance=self.euclidean())
        d = losses.euclidean_distance(X, X)[0]
        nearest = {}
        for a, p, n in zip(*(t.tolist() for t in theirs(torch.tensor(X), T_LABELS))):
            nearest[a, p] = min((d[a, n], n), nearest.get((a, p), (np.inf, -1)))
        found = losses.semi_hard(X, LABELS, margin=1.0)
        assert [(a, p, n) for (a, p), (_, n) in sorted(nearest.items())] == list(zip(*(c.tolist() for c in found)))
        assert nearest

    def euclidean(self):
        return self.pml.distances.LpDistance(normalize_embeddings=False)

    def dot(self):
        return self.pml.distances.DotProductSimilarity(normalize_embeddings=False)

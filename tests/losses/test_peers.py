"""Values and gradients against torch and pytorch-metric-learning.

Where the formula exists there, against their function; where a library's form differs, the test states the difference,
and docs/losses.md lists them. Where it does not, against the formula in torch's operations: what is independent is then
the gradient, by autograd.
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


def test_contrastive_and_mined_triplets():
    pairs = torch.tensor(LABELS > 0, dtype=torch.float64)

    def contrastive(x, y):
        d = torch.linalg.vector_norm(x - y, dim=1)
        return (pairs * d**2 + (1 - pairs) * F.relu(3.0 - d) ** 2).mean() / 2

    same(lambda x, y: losses.contrastive_loss(x, y, LABELS > 0, margin=3.0), contrastive, X, Y)
    rows = losses.semi_hard(X, LABELS, margin=1.0)

    def mined(x):
        a, p, n = (x[torch.tensor(r)] for r in rows)
        return F.relu(torch.linalg.vector_norm(a - p, dim=1) - torch.linalg.vector_norm(a - n, dim=1) + 1.0).mean()

    same(lambda x: losses.mined_triplet_loss(x, rows, margin=1.0), mined, X)


def test_cross_entropy_of_candidates():
    """torch's cross-entropy of logits that are written out: shared negatives, a query's own, the positive anywhere."""
    first, position = torch.zeros(8, dtype=torch.long), LABELS % 3
    own = np.random.default_rng(1).standard_normal((8, 3, 5))

    def to_positive(q, p):
        return (q * p).sum(1, keepdim=True)

    same(
        lambda *a: losses.info_nce(*a, temperature=0.3),
        lambda q, p, k: F.cross_entropy(torch.cat([to_positive(q, p), q @ k.T], 1) / 0.3, first),
        X, Y, W[:6],
    )  # fmt: skip
    same(
        lambda *a: losses.info_nce(*a, temperature=0.3),
        lambda q, p, k: F.cross_entropy(torch.cat([to_positive(q, p), (q[:, None] * k).sum(2)], 1) / 0.3, first),
        X, Y, own,
    )  # fmt: skip
    same(
        lambda *a: losses.candidate_cross_entropy(*a, position, temperature=0.3),
        lambda q, c: F.cross_entropy((q[:, None] * c).sum(2) / 0.3, torch.tensor(position)),
        X, own,
    )  # fmt: skip


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_focal(alpha, gamma):
    targets = torch.tensor((Y > 0).astype(float))

    def sigmoids(x):
        """As torchvision has it: binary cross-entropy times the two factors."""
        p = torch.sigmoid(x)
        p_t = p * targets + (1 - p) * (1 - targets)
        alpha_t = 1 if alpha is None else alpha * targets + (1 - alpha) * (1 - targets)
        return (alpha_t * (1 - p_t) ** gamma * F.binary_cross_entropy_with_logits(x, targets, reduction="none")).mean()

    same(lambda x: losses.focal_loss(x, targets.numpy(), alpha=alpha, gamma=gamma), sigmoids, X)
    weights = None if alpha is None else WEIGHTS
    of_rows = torch.ones(8, dtype=torch.float64) if alpha is None else T_WEIGHTS[T_LABELS]

    def softmax(x):
        surprise = F.cross_entropy(x, T_LABELS, reduction="none")
        return (of_rows * (1 - torch.exp(-surprise)) ** gamma * surprise).sum() / of_rows.sum()

    same(lambda x: losses.softmax_focal_loss(x, LABELS, gamma=gamma, class_weights=weights), softmax, X)


def test_decoupled_contrastive():
    partner = (torch.arange(16) + 8) % 16
    negative = ~torch.eye(16, dtype=torch.bool) & (torch.arange(16)[None] != partner[:, None])

    def decoupled(x, y):
        z = F.normalize(torch.cat([x, y]), dim=1)
        s = z @ z.T / 0.3
        return (torch.logsumexp(s.masked_fill(~negative, -torch.inf), 1) - s[torch.arange(16), partner]).mean()

    same(lambda x, y: losses.decoupled_contrastive(x, y, temperature=0.3), decoupled, X, Y)


def test_soft_nearest_neighbor():
    others = ~torch.eye(8, dtype=torch.bool)
    positive = others & (T_LABELS[:, None] == T_LABELS[None])
    anchors = positive.any(1)  # label 4 occurs once

    def neighbours(x):
        s = -((x[:, None] - x[None]) ** 2).sum(2)[anchors] / 1.3
        among = [torch.logsumexp(s.masked_fill(~m[anchors], -torch.inf), 1) for m in (others, positive)]
        return (among[0] - among[1]).mean()

    same(lambda x: losses.soft_nearest_neighbor(x, LABELS, temperature=1.3), neighbours, X)


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
    same(through(losses.squared_distance), lambda x, y: total(((x[:, None] - y[None]) ** 2).sum(2)), X, Y)


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

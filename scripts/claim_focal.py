"""Claim: under class imbalance focal loss learns the rare class better than cross-entropy.

Points of two overlapping groups, the rare one in two clusters inside the common one's cloud, so that a line does not
tell them apart; 1, 10 or 100 common points for each rare one. The same perceptron, start, batches and number of steps
for each loss; judged on a test set with the same imbalance, by average precision (the order alone) and by F1 at 1/2
(the decision). Cross-entropy with classes weighted inversely to their size is the plain remedy to compare with.
"""

import numpy as np
from claims import gain_and_noise, mean_and_spread

from refimpl.losses import focal_loss
from refimpl.metrics import confusion_matrix, pr_auc, precision_recall_f1
from refimpl.nn import adamw, cosine_schedule, mlp, mlp_init

TITLE, XLABEL, YLABEL = "Class imbalance", "common points for each rare one", "average precision"
IMBALANCES = (1, 10, 100)
DIMENSION, HIDDEN, BATCH = 16, 32, 512
STEPS = 24  # times as many as of the other claims' trainings: at 1:100 cross-entropy has learnt hardly anything by 320
TRAIN_RARE, TEST_RARE = 200, 500
SHIFT = 1.7  # of the rare clusters from the middle of the common one, in its standard deviations
FOCAL = {"focal, alpha 0.25": 0.25, "focal, no alpha": None}
LOSSES = ("cross-entropy", "weighted cross-entropy", *FOCAL)


def points(imbalance, rare, rng):
    """x (n, DIMENSION) float32, target (n,) of 0 and 1."""
    common = imbalance * rare
    x = rng.standard_normal((common + rare, DIMENSION)).astype(np.float32)
    side = np.where(rng.random(rare) < 0.5, -1, 1)
    x[common:, 0] = 0.5 * x[common:, 0] + SHIFT * side
    x[common:, 1] = 0.5 * x[common:, 1] + SHIFT
    return x, np.repeat([0, 1], [common, rare])


def loss_of(name, imbalance):
    """function of (logits (n,), target (n,)) -> value, gradient."""
    if name in FOCAL:
        return lambda logits, target: focal_loss(logits, target, alpha=FOCAL[name])
    if name == "cross-entropy":
        return lambda logits, target: focal_loss(logits, target, alpha=None, gamma=0.0)
    # Weights inverse to the class sizes: alpha : 1 - alpha = imbalance : 1.
    return lambda logits, target: focal_loss(logits, target, alpha=imbalance / (imbalance + 1), gamma=0.0)


def learn(x, target, loss, steps, seed):
    """Parameters of a perceptron after so many steps."""
    params, memory = mlp_init((DIMENSION, HIDDEN, 1), seed=seed), {}
    rng = np.random.default_rng(seed)
    for step in range(steps):
        rows = rng.integers(0, len(x), BATCH)
        logits, pullback = mlp(params, x[rows])
        _, dlogits = loss(logits[:, 0], target[rows])
        _, gradients = pullback(np.ascontiguousarray(dlogits[:, None]))
        rate = cosine_schedule(step, steps, 1e-2)
        params, memory = adamw(params, gradients, memory, learning_rate=rate)
    return params


def measured(options, stages):
    """{"imbalance": [...], "average precision": {loss: [[by seed] for each]}, "F1": same}."""
    found = {name: {loss: [] for loss in LOSSES} for name in ("average precision", "F1")}
    with stages.stage("imbalance", "training") as progress:
        total = len(IMBALANCES) * len(LOSSES)
        for done, (imbalance, name) in enumerate([(i, n) for i in IMBALANCES for n in LOSSES], 1):
            precision, f1 = [], []
            for seed in options.seeds:
                x, target = points(imbalance, TRAIN_RARE, np.random.default_rng([seed, imbalance, 0]))
                params = learn(x, target, loss_of(name, imbalance), STEPS * options.steps, seed)
                x, target = points(imbalance, TEST_RARE, np.random.default_rng([seed, imbalance, 1]))
                logits = mlp(params, x)[0][:, 0]
                precision.append(pr_auc(target, logits))
                f1.append(float(precision_recall_f1(confusion_matrix(target, (logits > 0).astype(int), 2))[2][1]))
            found["average precision"][name].append(precision)
            found["F1"][name].append(f1)
            progress(done, total)
    return {"imbalance": list(IMBALANCES), **found}


def verdict(found):
    """Held if, at the largest imbalance, the better of the two kinds of focal loss beats cross-entropy."""
    rows = {loss: found["average precision"][loss][-1] for loss in LOSSES}
    precision, f1 = ({loss: np.mean(found[of][loss][-1]) for loss in LOSSES} for of in ("average precision", "F1"))
    name = max(FOCAL, key=precision.get)
    gain, noise = gain_and_noise(rows[name], rows["cross-entropy"])
    answer = "Held" if gain > noise else "Did not hold"
    apart = "" if abs(gain) > noise else ", which cannot be told apart"
    return (
        f"{answer}: at 1:{found['imbalance'][-1]} average precision is {precision[name]:.3f} with {name}, "
        f"{precision['cross-entropy']:.3f} with cross-entropy{apart} (twice the spread of the differences: "
        f"{noise:.3f}), {precision['weighted cross-entropy']:.3f} with weighted classes; F1 at 1/2 is {f1[name]:.3f}, "
        f"{f1['cross-entropy']:.3f} and {f1['weighted cross-entropy']:.3f}."
    )


def draw(axes, found):
    for loss in LOSSES:
        means, spread = mean_and_spread(found["average precision"][loss])
        axes.errorbar(found["imbalance"], means, yerr=spread, marker="o", label=loss)
    axes.set_xscale("log")
    axes.legend(fontsize="small")

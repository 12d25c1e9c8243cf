"""Claim: the more negatives a query is compared with, the better the embedding (the book's n images a training row).

InfoNCE with k negatives, drawn for each query among the other products of the batch. All runs encode the same
pictures, so only the number of comparisons differs: what is measured is the loss, not the size of the batch.
"""

import numpy as np
from claim_training import learn, make_shop, two_photographs
from claims import beats, mean_and_spread, share_of_gain
from results import step_printer

from refimpl.losses import info_nce

TITLE, XLABEL, YLABEL = "Negatives a query", "negatives", "mAP, held-out products"
PAIRS, TEMPERATURE = 64, 0.1


def measured(options, stages):
    """{"negatives": [...], "map": [[by seed] for each]}."""
    shop = make_shop(options.items, options.seed)
    draw, batch = two_photographs(shop), min(PAIRS, options.items - options.items // 4)
    counts = [k for k in (1, 4, 16) if k < batch - 1] + [batch - 1]
    table = []
    for k in counts:
        by_seed = []
        for seed in options.seeds:
            with stages.stage(f"{k} negatives, seed {seed}", "step") as progress:
                by_seed.append(
                    learn(
                        shop, lambda rng: draw(rng, batch), compared_with(k), steps=options.steps, seed=seed,
                        about={**options.about(), "negatives": k, "temperature": TEMPERATURE},
                        path=options.checkpoint(f"negatives-{k}-{seed}"), progress=step_printer(progress),
                    )
                )  # fmt: skip
        table.append(by_seed)
    return {"negatives": counts, "map": table}


def compared_with(k):
    """A loss of unit vectors: each query, its positive, and the positives of k others."""

    def loss(z1, z2, rng):
        n = len(z1)
        others = rng.random((n, n))
        others[np.arange(n), np.arange(n)] = 2  # never its own
        rows = others.argsort(axis=1)[:, :k]
        value, (dquery, dpositive, dnegatives) = info_nce(z1, z2, z2[rows], temperature=TEMPERATURE)
        np.add.at(dpositive, rows, dnegatives)
        return value, (dquery, dpositive)

    return loss


def verdict(found):
    means, _ = mean_and_spread(found["map"])
    few, *_, many = found["map"]
    counts = found["negatives"]
    words = f"mAP {means[0]:.3f} with {counts[0]} and {means[-1]:.3f} with {counts[-1]}"
    if beats(many, few):
        middle = len(counts) // 2
        part = share_of_gain(means, middle)
        return f"Held: {words}; {counts[middle]} negatives already bring {100 * part:.0f}% of the gain."
    direction = "fell" if beats(few, many) else "did not change by more than the seeds differ"
    return f"Did not hold: from few negatives to many the quality {direction} ({words})."


def draw(axes, found):
    means, spread = mean_and_spread(found["map"])
    axes.errorbar(found["negatives"], means, yerr=spread, marker="o")
    axes.set_xscale("log", base=2)

"""Claim: Euclidean distance does badly in many dimensions; cosine or dot product should be used.

Vectors around a direction of their class, noise in all dimensions, and lengths that say nothing about the class (for
images: contrast, confidence). Ranked by each similarity, as they come and brought to length 1. Directions of different
classes have cosines of about 1 / sqrt(dimension); the noise is such that the cosines within a class are SEPARATION
times as large: classes stay as hard to tell apart in any dimension, and what is left is the similarity's own doing.
Below about 16 dimensions 20 classes have no room. Beside quality, the contrast between far and near,

    (largest - smallest distance) / smallest      of the vectors to a query, median over queries (Beyer et al. 1999)
"""

import numpy as np
from claims import beats, mean_and_spread
from retrieval import means, measure, rank

from refimpl.ann import ExactIndex

TITLE, XLABEL, YLABEL = "Similarity and dimension", "dimension", "mAP"
DIMENSIONS = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
CLASSES, EACH, QUERIES = 20, 40, 200
SEPARATION, LENGTHS = 4.0, 0.5  # LENGTHS: standard deviation of the logarithm of the lengths
SIMILARITIES = ("cosine", "dot", "Euclidean")


def vectors(dimension, varied, rng):
    """(n, dimension) float32 and labels (n,); `varied` lengths or all of length 1."""
    directions = rng.standard_normal((CLASSES, dimension))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    labels = np.repeat(np.arange(CLASSES), EACH)
    # noise of squared length s: the cosine of two of a class is about 1 / (1 + s)
    s = max(np.sqrt(dimension) / SEPARATION - 1, 0.1)
    x = directions[labels] + np.sqrt(s / dimension) * rng.standard_normal((len(labels), dimension))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    lengths = np.exp(LENGTHS * rng.standard_normal(len(x))) if varied else np.ones(len(x))
    return (x * lengths[:, None]).astype(np.float32), labels


def quality(x, labels, similarity, rng):
    """mAP of the ranking of all others, for some of the vectors as queries."""
    queries = np.sort(rng.choice(len(x), min(QUERIES, len(x)), replace=False))
    if similarity == "cosine":
        ids, _ = rank(x, queries)
    else:
        metric = "ip" if similarity == "dot" else "l2"
        found = ExactIndex(metric=metric).fit(x).search(x[queries], len(x)).ids
        ids = found[found != queries[:, None]].reshape(len(queries), -1)
    grades = (labels[queries][:, None] == labels[None, :]).astype(np.uint8)
    return means(measure(ids, grades, queries, 1))["map"]


def contrast(x):
    found = ExactIndex(metric="l2").fit(x).search(x[:QUERIES], len(x)).distances
    return float(np.median(found[:, -1] / found[:, 1] - 1))  # the first is the query itself


def measured(options, stages):
    """{"dimensions": [...], "map": {lengths: {similarity: [[by seed] for each]}}, "contrast": {lengths: same}}."""
    quality_of, contrast_of = {}, {}
    with stages.stage("distances", "dimension") as progress:
        for done, (name, varied) in enumerate((("varied lengths", True), ("length 1", False)), 1):
            tables = {similarity: [] for similarity in SIMILARITIES}
            contrasts = []
            for dimension in DIMENSIONS:
                rows = {similarity: [] for similarity in SIMILARITIES}
                spread = []
                for seed in options.seeds:
                    x, labels = vectors(dimension, varied, np.random.default_rng([seed, dimension]))
                    for similarity in SIMILARITIES:
                        rng = np.random.default_rng(seed)
                        rows[similarity].append(quality(x, labels, similarity, rng))
                    spread.append(contrast(x))
                for similarity in SIMILARITIES:
                    tables[similarity].append(rows[similarity])
                contrasts.append(spread)
            quality_of[name], contrast_of[name] = tables, contrasts
            progress(done, 2)
    return {"dimensions": list(DIMENSIONS), "map": quality_of, "contrast": contrast_of}


def verdict(found):
    def last(lengths, similarity):
        return float(np.mean(found["map"][lengths][similarity][-1]))

    tables = found["map"]["varied lengths"]
    # by seed, and the differences too: a seed's vectors are the same for all similarities
    lag = np.subtract(tables["cosine"], tables["Euclidean"])
    dimension = found["dimensions"][-1]
    cosine, dot, euclidean = (last("varied lengths", s) for s in SIMILARITIES)
    equal = max(abs(last("length 1", s) - last("length 1", "cosine")) for s in SIMILARITIES)
    behind, grows = beats(tables["cosine"][-1], tables["Euclidean"][-1]), beats(lag[-1], lag[0])
    where = f"at {dimension} dimensions mAP is {cosine:.3f} by cosine, {dot:.3f} by dot, {euclidean:.3f} by Euclidean"
    if not behind:
        return f"Did not hold: with varied lengths {where}."
    extent = "and the gap grows with the dimension" if grows else "though the gap does not grow with the dimension"
    same = "all three rank alike" if equal < 1e-3 else f"they still differ by {equal:.3f}"
    answer = "Held only without normalisation" if equal < 1e-3 else "Held"
    return f"{answer}: with varied lengths {where}, {extent}; on vectors of length 1 {same}."


def draw(axes, found):
    styles = {"varied lengths": "-", "length 1": ":"}
    for lengths, tables in found["map"].items():
        for k, similarity in enumerate(SIMILARITIES):
            means, spread = mean_and_spread(tables[similarity])
            label = f"{similarity}, {lengths}"
            axes.errorbar(found["dimensions"], means, yerr=spread, ls=styles[lengths], color=f"C{k}", label=label)
    axes.set_xscale("log", base=2)
    axes.legend(fontsize="small")

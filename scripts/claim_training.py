"""What two of the book's claims share: a small network on small pictures of the catalogue, trained in seconds.

A quarter of the products is held out; quality is mAP on their pictures, each a query for the other pictures of its
product. Two pictures of a product share no pose, light or background.
"""

from typing import NamedTuple

import numpy as np
from retrieval import means, measure, rank

from refimpl.data import Catalogue, grades, render_catalogue
from refimpl.images import channel_statistics, preprocess, simclr_views
from refimpl.nn import adamw, cnn, cnn_embedder, cnn_init, fold_batch_norm, l2_normalize
from refimpl.training import train
from refimpl.training.loop import cosine_rate, update

WIDTHS, EMBEDDING, SIZE, STORED = (16, 32, 64), 64, 24, 32
VIEWS = {"crop_area": (0.5, 1.0), "jitter_strength": 0.25, "grey_probability": 0.0}
PHOTOGRAPHS = 4  # of a product
LEARNING_RATE, WARMUP = 3e-3, 0.05


class Shop(NamedTuple):
    """Products to learn from and products to be judged on."""

    catalogue: Catalogue
    train: np.ndarray  # rows
    test: np.ndarray  # rows
    mean: np.ndarray
    std: np.ndarray


def make_shop(items, seed, progress=None):
    catalogue = render_catalogue(items, PHOTOGRAPHS, size=STORED, seed=seed, progress=progress)
    held_out = np.random.default_rng([seed, 1]).permutation(items)[: items // 4]
    test = np.flatnonzero(np.isin(catalogue.item, held_out))
    learned = np.setdiff1d(np.arange(len(catalogue.item)), test)
    mean, std = (np.asarray(value, np.float32) for value in channel_statistics(catalogue.images[learned]))
    return Shop(catalogue, learned, test, mean, std)


def learn(shop, draw_rows, loss, *, steps, seed, about, path, progress, views=VIEWS):
    """mAP on the held-out products of a network trained on pairs.

    draw_rows  function of rng -> rows (n,), rows (n,): which pictures are taken as similar
    loss       function of (z1, z2, rng) -> value, (dz1, dz2), of unit vectors
    about      of `train`: the shop, and what else distinguishes this training; the views are added
    path       of the checkpoint, or None
    views      of `simclr_views`: each picture of a pair is seen through one
    """
    params, state = cnn_init(widths=WIDTHS, embedding=EMBEDDING, size=(SIZE, SIZE), seed=seed)

    def step(run, rng, share):
        first, second = draw_rows(rng)
        rows = np.concatenate([first, second])
        x = (simclr_views(shop.catalogue.images[rows], rng, size=SIZE, **views) - shop.mean) / shop.std
        h, pullback, state = cnn(run["params"], run["state"], x, training=True)
        z, unnormalise = l2_normalize(h)
        value, gradients = loss(z[: len(first)], z[len(first) :], rng)
        rate = cosine_rate(share, LEARNING_RATE, WARMUP)
        run = update(run, {"params": pullback(unnormalise(np.concatenate(gradients)))}, adamw, learning_rate=rate)
        return {**run, "state": state}, value

    run = train(
        {"params": params, "state": state}, step, seed=seed, steps=steps,
        about={**about, "views": views, "rate": [LEARNING_RATE, WARMUP]},
        checkpoint=path, progress=progress,
    )  # fmt: skip
    return judge(shop, run.sections["params"], run.sections["state"])


def judge(shop, params, state):
    embed = cnn_embedder(fold_batch_norm(params, state))
    embeddings = np.array(embed(preprocess(shop.catalogue.images[shop.test], SIZE, shop.mean, shop.std)))
    queries = np.arange(len(shop.test))
    graded = grades(shop.catalogue, shop.test, shop.test)
    return means(measure(rank(embeddings, queries)[0], graded, queries, 3))["map"]


def two_photographs(shop):
    """draw(rng, n) -> two photographs of each of n products that are learned from."""
    items = np.unique(shop.catalogue.item[shop.train])

    def draw(rng, n):
        chosen = rng.choice(items, min(n, len(items)), replace=False)
        pairs = rng.random((len(chosen), PHOTOGRAPHS)).argsort(axis=1)[:, :2]
        rows = chosen[:, None] * PHOTOGRAPHS + pairs  # the photographs of a product lie next to one another
        return rows[:, 0], rows[:, 1]

    return draw

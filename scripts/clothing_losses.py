"""Which loss? All of them on photographs of clothes, at one budget, judged by retrieval on the test split.

    python scripts/clothing_losses.py --checkpoint out                each loss and seed: --steps of --batch pictures
    python scripts/clothing_losses.py --losses "triplet, batch-hard" SupCon --seeds 1

The same network, start, augmentation, optimizer, schedule and number of pictures for each; only what is done with
the embeddings of a batch differs. With labels a batch is CLASSES classes with the same number of pictures each; without
labels it is half as many pictures, each seen twice. Where its paper puts a projection head or a classifier behind the
embedding, so does this. A training takes less than a minute and no loss has been tuned, so that differences of a few
hundredths say little; each stands with its spread over seeds.

Left out: distillation, which needs a teacher, and the book's own form, which is InfoNCE with its positive shuffled.
"""

from typing import NamedTuple

import numpy as np
from arithmetic import training_cost
from command_line import Stages, one_line_errors
from random_encoder import settled
from results import about, arguments, checkpoint, parse, record, record_of_a_part, save_figure, step_printer
from retrieval import MEASURES, means, measure, rank

from refimpl.data import clothing
from refimpl.images import channel_statistics, colour_histogram, preprocess, simclr_views
from refimpl.losses import (
    Triplets,
    batch_all_triplet_loss,
    batch_hard,
    contrastive_loss,
    decoupled_contrastive,
    distance_weighted,
    focal_loss,
    info_nce,
    mined_triplet_loss,
    n_pair_loss,
    nt_xent,
    semi_hard,
    soft_nearest_neighbor,
    softmax_cross_entropy,
    softmax_focal_loss,
    sup_con,
)
from refimpl.nn import adamw, cnn, cnn_embedder, cnn_init, fold_batch_norm, l2_normalize, linear, mlp, mlp_init
from refimpl.training import train
from refimpl.training.loop import cosine_rate, update

WIDTHS, EMBEDDING, PROJECTION, SIZE, STORED = (32, 64, 128), 128, 64, 24, 48
VIEWS = {"crop_area": (0.35, 1.0), "jitter_strength": 0.4, "grey_probability": 0.1}
LEARNING_RATE, WARMUP = 2e-3, 0.05
CLASSES, MARGIN = 10, 0.2
METRICS = tuple(name for name in MEASURES if name != "precision@10")


def on_unit_vectors(loss):
    """The loss of l2-normalised embeddings."""

    def normalised(z, labels, rng):
        z, unnormalise = l2_normalize(z)
        value, dz = loss(z, labels, rng)
        return value, unnormalise(dz)

    return normalised


def pairs(z, labels, rng):
    """Every pair of one class, and as many of two classes, drawn."""
    first, second = np.triu_indices(len(z), 1)
    same = labels[first] == labels[second]
    different = rng.permutation(np.flatnonzero(~same))[: same.sum()]
    chosen = np.concatenate([np.flatnonzero(same), different])
    rows = first[chosen], second[chosen]
    value, gradients = contrastive_loss(z[rows[0]], z[rows[1]], same[chosen], margin=1.0)
    return value, scattered(z, rows, gradients)


def triplets(mine):
    """Triplet loss of the rows that mine(z, labels, rng) chooses."""
    return lambda z, labels, rng: mined_triplet_loss(z, mine(z, labels, rng), margin=MARGIN)


def random_triplets(z, labels, rng):
    """Of each picture any other of its class and any of another class."""
    same = labels[:, None] == labels[None, :]
    draw = rng.random(same.shape)
    positive = np.where(same & ~np.eye(len(z), dtype=bool), draw, 2).argmin(axis=1)
    return Triplets(np.arange(len(z)), positive, np.where(same, 2, draw).argmin(axis=1))


def n_pairs(z, labels, rng):
    """Groups of one pair a class: the negatives are the positives of the other classes."""
    by_class = np.argsort(labels, kind="stable").reshape(len(np.unique(labels)), -1)
    total, dz = 0.0, np.zeros_like(z)
    groups = by_class.shape[1] // 2
    for group in range(groups):
        rows = by_class[:, 2 * group], by_class[:, 2 * group + 1]
        value, gradients = n_pair_loss(z[rows[0]], z[rows[1]])
        total += value / groups
        dz += scattered(z, rows, gradients) / np.float32(groups)
    return total, dz


def with_negatives(z, labels, rng):
    """InfoNCE: each picture, another of its class, and all of the batch that are of other classes."""
    same = labels[:, None] == labels[None, :]
    positive = np.where(same & ~np.eye(len(z), dtype=bool), rng.random(same.shape), 2).argmin(axis=1)
    negative = np.nonzero(~same)[1].reshape(len(z), -1)  # a batch has as many of every class
    value, (dquery, dpositive, dnegative) = info_nce(z, z[positive], z[negative], temperature=0.1)
    rows = np.arange(len(z)), positive, negative.ravel()
    return value, scattered(z, rows, (dquery, dpositive, dnegative.reshape(-1, z.shape[1])))


def scattered(z, rows, gradients):
    """The gradient for z of values that were taken from its rows."""
    dz = np.zeros_like(z)
    for r, gradient in zip(rows, gradients):
        np.add.at(dz, r, gradient)
    return dz


def two_views(loss):
    """A loss of pairs of views, which lie in the two halves of the batch."""

    def halves(z, labels, rng):
        value, gradients = loss(z[: len(z) // 2], z[len(z) // 2 :])
        return value, np.concatenate(gradients)

    return halves


def focal(logits, labels, rng):
    """One question a class, "is it this one?", most of them easy."""
    targets = np.zeros(logits.shape, logits.dtype)
    targets[np.arange(len(logits)), labels] = 1
    return focal_loss(logits, targets)


class Contender(NamedTuple):
    loss: object  # function of (z, labels, rng) -> value, dz
    behind: str  # what stands between embedding and loss: "nothing", "projection" or "classifier"
    labelled: bool = True


CONTENDERS = {
    "contrastive": Contender(on_unit_vectors(pairs), "nothing"),
    "triplet, random": Contender(on_unit_vectors(triplets(random_triplets)), "nothing"),
    "triplet, batch-all": Contender(
        on_unit_vectors(lambda z, labels, rng: batch_all_triplet_loss(z, labels, margin=MARGIN)), "nothing"
    ),
    "triplet, batch-hard": Contender(
        on_unit_vectors(triplets(lambda z, labels, rng: batch_hard(z, labels))), "nothing"
    ),
    "triplet, semi-hard": Contender(
        on_unit_vectors(triplets(lambda z, labels, rng: semi_hard(z, labels, margin=MARGIN))), "nothing"
    ),
    "triplet, distance-weighted": Contender(on_unit_vectors(triplets(distance_weighted)), "nothing"),
    "n-pair": Contender(n_pairs, "nothing"),
    "InfoNCE": Contender(on_unit_vectors(with_negatives), "nothing"),
    "SupCon": Contender(lambda z, labels, rng: sup_con(z, labels, temperature=0.1), "projection"),
    "soft nearest neighbour": Contender(
        on_unit_vectors(lambda z, labels, rng: soft_nearest_neighbor(z, labels, temperature=0.2)), "nothing"
    ),
    "cross-entropy": Contender(
        lambda z, labels, rng: softmax_cross_entropy(z, labels, label_smoothing=0.1), "classifier"
    ),
    "focal, sigmoid": Contender(focal, "classifier"),
    "focal, softmax": Contender(lambda z, labels, rng: softmax_focal_loss(z, labels), "classifier"),
    "NT-Xent (no labels)": Contender(
        two_views(lambda z1, z2: nt_xent(z1, z2, temperature=0.2)), "projection", labelled=False
    ),
    "decoupled (no labels)": Contender(
        two_views(lambda z1, z2: decoupled_contrastive(z1, z2, temperature=0.2)), "projection", labelled=False
    ),
}


def drawer(images, labels, batch, labelled, mean, std):
    """draw(rng) -> x, labels: so many pictures of each class, or half as many pictures, twice."""
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]

    def draw(rng):
        if labelled:
            each = batch // len(members)
            rows = np.concatenate([rng.choice(m, each, replace=len(m) < each) for m in members])
        else:
            rows = np.tile(rng.choice(len(images), min(batch // 2, len(images)), replace=False), 2)
        return (simclr_views(images[rows], rng, size=SIZE, **VIEWS) - mean) / std, labels[rows]

    return draw


def head_of(behind, seed):
    """(parameters, function of (head, h) -> z, pullback(dz) -> dh, dhead) of what stands behind the embedding."""
    if behind == "projection":
        return mlp_init((EMBEDDING, EMBEDDING, PROJECTION), seed=seed), mlp
    if behind == "classifier":

        def classifier(head, h):
            z, pullback = linear(h, head["weight"], head["bias"])

            def named(dz):
                dh, dweight, dbias = pullback(dz)
                return dh, {"weight": dweight, "bias": dbias}

            return z, named

        weight = np.random.default_rng(seed).standard_normal((EMBEDDING, CLASSES)) / np.sqrt(EMBEDDING)
        return {"weight": weight.astype(np.float32), "bias": np.zeros(CLASSES, np.float32)}, classifier
    return {}, lambda head, h: (h, lambda dz: (dz, {}))


def make_step(draw, loss, through):
    """step(run, rng, share) for `refimpl.training.train`."""

    def step(run, rng, share):
        x, labels = draw(rng)
        h, encoder_pullback, state = cnn(run["params"], run["state"], x, training=True)
        z, head_pullback = through(run["head"], h)
        value, dz = loss(z, labels, rng)
        dh, dhead = head_pullback(dz)
        gradients = {"params": encoder_pullback(dh), "head": dhead}
        rate = cosine_rate(share, LEARNING_RATE, WARMUP)
        return {**update(run, gradients, adamw, learning_rate=rate), "state": state}, value

    return step


def judge(descriptors, labels):
    """{measure: mean} of every picture of the test split as a query."""
    queries = np.arange(len(labels))
    grades = (labels[:, None] == labels[None, :]).astype(np.uint8)
    values = means(measure(rank(descriptors, queries)[0], grades, queries, 1))
    return {name: values[name] for name in METRICS}


def train_one(name, seed, split, args, progress):
    """(params, state, seconds) of one training; its seconds before an interruption count."""
    contender, (images, labels, mean, std) = CONTENDERS[name], split
    params, state = cnn_init(widths=WIDTHS, embedding=EMBEDDING, size=(SIZE, SIZE), seed=seed)
    head, through = head_of(contender.behind, [seed, 1])
    draw = drawer(images, labels, args.batch, contender.labelled, mean, std)
    run = train(
        {"params": params, "state": state, "head": head}, make_step(draw, contender.loss, through), seed=seed,
        steps=args.steps, checkpoint=checkpoint(args, f"{name.replace(' ', '-')}-{seed}"),
        about={**about(args), "loss": name, "views": VIEWS, "rate": [LEARNING_RATE, WARMUP], "margin": MARGIN},
        progress=step_printer(progress),
    )  # fmt: skip
    return run.sections["params"], run.sections["state"], run.seconds


def embeddings(params, state, x):
    """(n, EMBEDDING) of pictures that are ready for the encoder."""
    embed = cnn_embedder(fold_batch_norm(params, state))
    return np.concatenate([np.array(embed(x[first : first + 200])) for first in range(0, len(x), 200)])


def baselines(split, test, x, args):
    """{method: {measure: values by seed}} of what is not trained."""
    images, labels, mean, std = split
    draw, at_random = drawer(images, labels, args.batch, True, mean, std), []
    for seed in range(args.seed, args.seed + args.seeds):
        params, state = cnn_init(widths=WIDTHS, embedding=EMBEDDING, size=(SIZE, SIZE), seed=seed)
        state = settled(params, state, lambda rng: draw(rng)[0], seed, encoder=cnn)
        at_random.append(judge(embeddings(params, state, x), test.labels))
    return {
        "raw pixels": by_measure([judge(x.reshape(len(x), -1), test.labels)]),
        "colour histogram": by_measure([judge(colour_histogram(test.images), test.labels)]),
        "random encoder": by_measure(at_random),
    }


def by_measure(judged):
    """{measure: {"mean", "spread", "by seed"}}; the spread is the standard deviation over seeds (n - 1), 0 for one."""
    summary = {}
    for name in METRICS:
        values = [j[name] for j in judged]
        spread = float(np.std(values, ddof=1)) if len(values) > 1 else 0.0
        summary[name] = {"mean": float(np.mean(values)), "spread": spread, "by seed": values}
    return summary


def draw_figure(args, table):
    names = sorted(table, key=lambda name: table[name]["map"]["mean"])
    heights = [table[name]["map"]["mean"] for name in names]
    spreads = [table[name]["map"]["spread"] for name in names]

    def draw(axes):
        colours = ["tab:blue" if name in CONTENDERS else "tab:grey" for name in names]
        axes.barh(names, heights, xerr=spreads, color=colours)
        axes.set(xlabel="mAP on the test split", title=f"{args.steps} steps of {args.batch} pictures; bars: spread")

    save_figure(args, draw)


def print_table(table):
    print(f"\n{'':<28}" + "".join(f"{name:>17}" for name in METRICS))
    for method, summary in table.items():
        cells = (f"{summary[name]['mean']:>9.3f} +- {summary[name]['spread']:.3f}" for name in METRICS)
        print(f"{method:<28}" + " ".join(cells))


def main():
    parser = arguments(__doc__, "clothing_losses", None)
    parser.add_argument("--steps", type=int, default=600, help="of each training (default 600)")
    parser.add_argument("--batch", type=int, default=100, help="pictures in a batch, 20 or more (default 100)")
    parser.add_argument("--seeds", type=int, default=3, help="from --seed on (default 3)")
    parser.add_argument(
        "--losses", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), metavar="NAME",
        help="some of them; the record is then clothing_losses_some.json",
    )  # fmt: skip
    args = parse(parser, steps=1, seeds=1)
    if args.batch < 2 * CLASSES or args.batch % (2 * CLASSES):
        parser.error(f"--batch: expected a multiple of {2 * CLASSES}, got {args.batch}")
    if set(args.losses) < set(CONTENDERS):
        record_of_a_part(parser, args, "clothing_losses_some")
    stages = Stages()
    with one_line_errors(parser):
        with stages.stage("pictures", "pic") as progress:
            found, test = (clothing(split, STORED, mode="letterbox", progress=progress) for split in ("train", "test"))
        mean, std = (np.asarray(value, np.float32) for value in channel_statistics(found.images))
        split = found.images, found.labels, mean, std
        x = preprocess(test.images, SIZE, mean, std)
        table, seconds = baselines(split, test, x, args), {}
        for name in args.losses:
            judged = []
            for seed in range(args.seed, args.seed + args.seeds):
                with stages.stage(f"{name}, seed {seed}", "step") as progress:
                    params, state, took = train_one(name, seed, split, args, progress)
                judged.append(judge(embeddings(params, state, x), test.labels))
                seconds[f"{name}, seed {seed}"] = round(took, 1)
            table[name] = by_measure(judged)
        print_table(table)
        params, _ = cnn_init(widths=WIDTHS, embedding=EMBEDDING, size=(SIZE, SIZE), seed=0)
        results = {
            "test split": table,
            "steps": args.steps,
            "pictures in a batch": args.batch,
            "each training": training_cost(params, SIZE, args.steps * args.batch),
            "seconds": seconds,
        }
        record(args, results)
        draw_figure(args, table)


if __name__ == "__main__":
    main()

"""Omniglot's one-shot test: 20 official runs of 20-way classification, each character seen once, in new alphabets.

    python scripts/omniglot_one_shot.py                      trains twice, 20 minutes each (--minutes)
    python scripts/omniglot_one_shot.py --validate           the error is in alphabets of the other set alone

An encoder is trained on one minimal background set alone (5 alphabets), then on the other. Characters turned by
quarters and mirrored count as further classes: 8 times as many. Batches hold CLASSES characters, DRAWINGS each, every
drawing distorted anew (affine and elastic); the loss is supervised contrastive. In a run a test drawing gets the class
of the training drawing with the largest cosine of projections, the best that any of VIEWS mild distortions of the one
reaches with any of the other. The projection head stays: what it was trained for, the same character by another hand,
is what is asked.

The baseline is the modified Hausdorff distance of the data set's own demo. Choose with --validate: the official
runs are the test. It judges on the three alphabets of the other set that are not in this one; two, Greek and Latin, are
in both, with the same drawings.

Cost: 0.2 GFLOP a drawing and step (34 million multiply-adds forwards, three products, two operations each).
"""

import numpy as np
from arithmetic import training_cost
from command_line import Stages, one_line_errors
from results import about, arguments, checkpoint, figure, parse, record, record_of_a_part, smoothed, step_printer
from scipy.spatial.distance import cdist

from refimpl.data import omniglot, omniglot_runs
from refimpl.data.public import OMNIGLOT_SETS
from refimpl.images import distort
from refimpl.nn import cnn, cnn_embedder, cnn_init, fold_batch_norm, l2_normalize, mlp
from refimpl.training import supervised_contrastive

SIZE, STORED = 32, 52  # pixels: what the encoder sees, what is kept in memory
WIDTHS, EMBEDDING = (64, 128, 128, 256), 256
CLASSES, DRAWINGS = 96, 4
VIEWS = 16
STRONG = {"rotation": 12.0, "scale": 0.25, "shear": 0.25, "shift": 0.1, "elastic": 0.03}
MILD = {"rotation": 5.0, "scale": 0.08, "shear": 0.08, "shift": 0.04, "elastic": 0.01}


def ink(images):
    """(n, h, w) float32, strokes 1 on 0, of (n, h, w, 3) uint8, black on white."""
    return 1 - images[..., 0].astype(np.float32) / 255


def turned_and_mirrored(images, labels):
    """All 8 symmetries of the square of each picture, as classes of their own."""
    turns = [np.rot90(images, k, axes=(1, 2)) for k in range(4)]
    pictures = turns + [turn[:, :, ::-1] for turn in turns]
    return np.concatenate(pictures), np.concatenate([labels + k * (labels.max() + 1) for k in range(8)])


def to_encoder(pictures):
    return (2 * pictures - 0.5)[..., None]


def drawer(pictures, labels):
    """draw(rng) for `supervised_contrastive`: distorted drawings of some classes."""
    members = np.stack([np.flatnonzero(labels == label)[:20] for label in np.unique(labels)])

    def draw(rng):
        classes = rng.choice(len(members), min(CLASSES, len(members)), replace=False)
        rows = np.stack([rng.choice(members[c], DRAWINGS, replace=False) for c in classes])
        return to_encoder(distort(pictures[rows.ravel()], rng, size=SIZE, **STRONG)), np.repeat(classes, DRAWINGS)

    return draw


def projections(embed, head, pictures, views, seed):
    """Unit vectors (n, views, d) of each picture as it is and of views - 1 mild distortions of it."""
    parts = []
    for view in range(views):
        seen = distort(pictures, [seed, view], size=SIZE, **(MILD if view else dict.fromkeys(MILD, 0)))
        z, _ = mlp(head, np.array(embed(to_encoder(seen))))
        parts.append(l2_normalize(z)[0])
    return np.stack(parts, axis=1)


def best_match(asked, known):
    """(n, m): the largest dot product of any view of the one with any view of the other."""
    (n, views, d), m = asked.shape, len(known)
    return (asked.reshape(-1, d) @ known.reshape(-1, d).T).reshape(n, views, m, views).max(axis=(1, 3))


def errors(embed, head, runs, views, seed):
    """Share of wrong answers in each run."""
    wrong = []
    for training, test, labels in runs:
        known, asked = (projections(embed, head, ink(pictures), views, seed) for pictures in (training, test))
        wrong.append(float(np.mean(best_match(asked, known).argmax(axis=1) != labels)))
    return np.array(wrong)


def hausdorff_errors(runs):
    """The demo's baseline: the nearest by modified Hausdorff distance (Dubuisson and Jain 1994) of centred ink pixels.

    max(mean over a of the distance to the nearest b, mean over b of the distance to the nearest a)
    """

    def points(picture):
        places = np.argwhere(picture[..., 0] < 128).astype(float)
        return places - places.mean(axis=0)

    def distance(a, b):
        between = cdist(a, b)
        return max(between.min(axis=1).mean(), between.min(axis=0).mean())

    wrong = []
    for training, test, labels in runs:
        known = [points(picture) for picture in training]
        answers = [np.argmin([distance(points(picture), other) for other in known]) for picture in test]
        wrong.append(float(np.mean(answers != labels)))
    return np.array(wrong)


def alphabets(found):
    """The alphabet of each class of an `ImageSet` of Omniglot."""
    return np.array([name.split("/")[0] for name in found.class_names])


def runs_from(which, rng, count=20, except_alphabets=()):
    """Runs like the official ones, so many of each alphabet of a background set: 20 characters by two drawers.

    An alphabet of fewer characters gives all of them. The drawings of a character lie in the order of the drawers.
    """
    found, runs = omniglot(which, size=STORED), []
    alphabet = alphabets(found)
    for name in sorted({*alphabet} - {*except_alphabets}):
        characters = np.flatnonzero(alphabet == name)
        for _ in range(count):
            classes = rng.choice(characters, min(20, len(characters)), replace=False)
            by_drawer = np.stack([np.flatnonzero(found.labels == c)[:20] for c in classes])
            first, second = rng.choice(by_drawer.shape[1], 2, replace=False)
            order = rng.permutation(len(classes))
            runs.append((found.images[by_drawer[:, first]], found.images[by_drawer[order, second]], order))
    return runs


def validation_runs(background, which, seed):
    """Runs from the other set than `which`, of whose pictures `background` is, and of none of its alphabets."""
    (other,) = set(OMNIGLOT_SETS) - {which}
    return runs_from(other, np.random.default_rng([seed, 9]), except_alphabets=alphabets(background))


def train_and_test(args, which, runs, stages):
    """{measure: value} of an encoder trained on one background set, and its losses."""
    background = omniglot(which, size=STORED)
    images, labels = background.images, background.labels
    if args.validate:
        runs = validation_runs(background, which, args.seed)
    params, state = cnn_init(widths=WIDTHS, embedding=EMBEDDING, size=(SIZE, SIZE), channels=1, seed=args.seed)
    with stages.stage(f"training on {which[11:]}", "step") as progress:
        trained = supervised_contrastive(
            drawer(*turned_and_mirrored(ink(images), labels)), params, state, encoder=cnn, minutes=args.minutes,
            temperature=0.05, learning_rate=3e-3, projection=128, seed=args.seed,
            about={**about(args), "set": which, "views": {**STRONG, "classes": CLASSES, "drawings": DRAWINGS}},
            checkpoint=checkpoint(args, f"{which}{'-validate' * args.validate}"), progress=step_printer(progress),
        )  # fmt: skip
    embed = cnn_embedder(fold_batch_norm(trained.params, trained.state))
    batch = DRAWINGS * min(CLASSES, 8 * len(np.unique(labels)))
    measured = {
        "steps": len(trained.losses),
        "seconds": round(trained.seconds, 1),
        "training": training_cost(params, SIZE, batch * len(trained.losses)),
    }
    for name, views in (("error, one view", 1), ("error", VIEWS)):
        per_run = errors(embed, trained.head, runs, views, args.seed)
        measured |= {name: float(per_run.mean()), f"{name}, by run": per_run.tolist()}
    return measured, trained.losses


def main():
    parser = arguments(__doc__, "omniglot_one_shot", 20)
    parser.add_argument("--validate", action="store_true", help="judge on the other set instead of the test")
    parser.add_argument(
        "--sets", nargs="+", choices=OMNIGLOT_SETS, default=OMNIGLOT_SETS,
        help="one of them; the record is then omniglot_one_shot_SET.json",
    )  # fmt: skip
    args = parse(parser)
    if set(args.sets) < set(OMNIGLOT_SETS):
        record_of_a_part(parser, args, f"omniglot_one_shot_{args.sets[0]}")
    stages, results, lines = Stages(), {}, {}
    with one_line_errors(parser):
        runs = () if args.validate else omniglot_runs(size=STORED)
        if not args.validate:
            results["modified Hausdorff"] = {"error": float(hausdorff_errors(omniglot_runs()).mean())}
        for which in args.sets:
            results[which], losses = train_and_test(args, which, runs, stages)
            lines[which] = smoothed(losses)
        results["mean of the sets"] = {"error": float(np.mean([results[which]["error"] for which in args.sets]))}
        print()
        for name, measured in results.items():
            print(f"{name:<24} error {100 * measured['error']:.2f}%", end="")
            print(f"  (one view {100 * measured['error, one view']:.2f}%)" if "steps" in measured else "")
        if not args.validate:
            record(args, results)
            figure(args, "Omniglot: loss on the background set", "step", "supervised contrastive loss", lines)


if __name__ == "__main__":
    main()

"""Visual search from end to end: make or load pictures, train an encoder without labels, search, measure, report.

    python scripts/quickstart.py                            a synthetic catalogue; no download, under 2 minutes
    python scripts/quickstart.py --data clothing            real photographs, 10 minutes of training
    python scripts/quickstart.py --data my_pictures.zip     SPLIT/CLASS/IMAGE or CLASS/IMAGE, zip or folder

Writes metrics.json, encoder.npz and report.html to --out. With --steps (the default for the synthetic catalogue) the
same seed gives the same figures; with --minutes the clock decides how many steps are taken.
"""

import contextlib
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from command_line import Parser, Stages, check_writable, one_line_errors
from quickstart_report import draw_results, write_report
from retrieval import MEASURES, means, measure, rank

import refimpl
from refimpl import data
from refimpl.files import atomic_write
from refimpl.images import channel_statistics, colour_histogram, preprocess, resize, simclr_views
from refimpl.nn import resnet, resnet_init
from refimpl.serving import Encoder, embed, make_encoder, save_encoder
from refimpl.training import simclr


class Settings(NamedTuple):
    """How a collection is learned.

    Small pictures: at a budget of minutes, many steps on few pixels beat few steps on many. Found by trying on
    other seeds of the catalogue and on a held-out part of clothing's training split, never on a test split. The
    catalogue's encoder is narrow, so that its number of steps can be fixed and still be taken in time on slow cores.
    """

    stored: int  # pixels: the side of the pictures in memory and in the report
    size: int  # pixels: the side of what the encoder sees
    widths: tuple
    batch: int  # pairs
    learning_rate: float
    temperature: float
    views: dict  # of refimpl.images.simclr_views


class Collection(NamedTuple):
    """Pictures to learn from, pictures to search, and what counts as similar."""

    title: str
    train: np.ndarray  # (n, h, w, 3) uint8
    groups: np.ndarray | None  # (n,) pictures of one group show one thing; None: only itself is known to be similar
    test: np.ndarray  # (m, h, w, 3) uint8
    labels: list  # m captions
    grades: object  # function of query rows -> (q, m) uint8
    top_grade: int
    grade_names: tuple  # from 0 upwards
    relevant: int  # the least grade that counts as a hit
    notes: tuple = ()  # lines to print


CATALOGUE = Settings(64, 24, (16, 32, 64), 64, 3e-3, 0.1, {
    "crop_area": (0.5, 1.0), "jitter_strength": 0.25, "grey_probability": 0.0,
})  # fmt: skip
PHOTOGRAPHS = Settings(64, 24, (32, 64, 128), 128, 3e-3, 0.1, {
    "crop_area": (0.35, 1.0), "jitter_strength": 0.5, "grey_probability": 0.2,
})  # fmt: skip
SMALL_PHOTOGRAPHS = PHOTOGRAPHS._replace(stored=32, size=32, batch=256)  # CIFAR-10 as it is
CHARACTERS = Settings(56, 32, (32, 64, 128), 256, 2e-3, 0.2, {
    "crop_area": (0.5, 1.0), "flip_probability": 0.0, "jitter_probability": 0.0, "grey_probability": 0.0,
    "rotation": 15.0,
})  # fmt: skip
SETTINGS = {  # of what --data names; a folder or zip is PHOTOGRAPHS
    "synthetic": CATALOGUE, "clothing": PHOTOGRAPHS, "cifar10": SMALL_PHOTOGRAPHS, "omniglot": CHARACTERS,
}  # fmt: skip
# what a user's folder may call its splits
TRAINING, TESTS = ("train", "training"), ("test", "testing", "val", "valid", "validation", "dev", "eval")
MOST_SEARCHED = 5000  # of a larger test split so many are drawn: to rank raw pixels for mAP is what takes long
MOST_QUERIES = 1000  # of those searched


def synthetic(items, views, seed, progress):
    """The rendered catalogue. A quarter of the items is held out: the encoder never sees them in training."""
    catalogue = data.render_catalogue(items, views, size=CATALOGUE.stored, seed=seed, progress=progress)
    held_out = np.random.default_rng([seed, 1]).permutation(items)[: max(2, items // 4)]
    test = np.flatnonzero(np.isin(catalogue.item, held_out))
    train = np.setdiff1d(np.arange(len(catalogue.item)), test)
    colours, families = catalogue.colour_names, catalogue.family_names
    labels = [f"{colours[catalogue.colour[i]]} {families[catalogue.family[i]]}" for i in test]
    return Collection(
        f"a synthetic catalogue of {items} products",
        catalogue.images[train],
        catalogue.item[train],
        catalogue.images[test],
        labels,
        lambda queries: data.grades(catalogue, test[queries], test),
        3,
        ("something else", "same family", "same family and colour", "same product"),
        3,
    )


def labelled(title, train, test, seed, notes=()):
    """Photographs with class labels: the labels grade the results and are not used in training."""
    # Once each: both lists name what lies outside the layout, or all if both are parts of one.
    notes = [*notes, *(f"skipped {name}: {reason}" for name, reason in dict.fromkeys((*train.skipped, *test.skipped)))]
    if len(test.labels) > MOST_SEARCHED:
        title += f" (drawn from {len(test.labels):,})"
        notes.append(f"{MOST_SEARCHED:,} of the {len(test.labels):,} test pictures are searched")
        rows = np.sort(np.random.default_rng([seed, 4]).permutation(len(test.labels))[:MOST_SEARCHED])
        test = test._replace(images=test.images[rows], labels=test.labels[rows])
    return Collection(
        title,
        train.images,
        None,
        test.images,
        [test.class_names[label] for label in test.labels],
        lambda queries: (test.labels[queries][:, None] == test.labels[None, :]).astype(np.uint8),
        1,
        ("another class", "same class"),
        1,
        tuple(notes),
    )


def folder(path, settings, seed, progress):
    """A folder or zip of the user: its own test split, or a fifth of every class held out, at least two pictures."""
    train, test = (first_split(path, names, settings, progress) for names in (TRAINING, TESTS))
    notes = []
    if train is None or test is None:
        notes.append("no splits called train and test, or val: a part of every class is held out")
        whole = data.load_folder(path, size=settings.stored, mode="letterbox", progress=progress)
        largest = np.bincount(whole.labels).max()  # a query needs a second picture of its class among those searched
        kept, held_out = data.split_by_class(whole.labels, min(0.5, max(0.2, 2 / largest)), seed)
        train, test = (whole._replace(images=whole.images[r], labels=whole.labels[r]) for r in (kept, held_out))
    if len(test.images) < 2 or len(train.images) < 2:
        raise ValueError(f"--data {path}: expected at least two pictures to train on and two to search")
    if np.bincount(test.labels).max() < 2:
        raise ValueError(f"--data {path}: expected two pictures or more of a class among those that are searched")
    return labelled(Path(path).resolve().name, train, test, seed, notes)


def first_split(path, names, settings, progress):
    """The pictures of the first split of one of these names; None if there is none."""
    for split in (form for name in names for form in (name, name.capitalize(), name.upper())):
        try:
            return data.load_folder(path, split=split, size=settings.stored, mode="letterbox", progress=progress)
        except ValueError:  # no such split, or not one readable picture in it
            continue
    return None


def of_new_alphabets(train, test):
    """The part of `test` whose alphabets are not in `train`: the background sets share two, with the same drawings."""
    known = {name.split("/")[0] for name in train.class_names}
    new = np.array([name.split("/")[0] not in known for name in test.class_names])
    rows = np.flatnonzero(new[test.labels])
    names = tuple(test.names[row] for row in rows)
    return test._replace(images=test.images[rows], labels=test.labels[rows], names=names)


def load(source, settings, items, views, seed, progress):
    """The Collection of a --data argument."""
    if source == "synthetic":
        return synthetic(items, views, seed, progress)
    if source == "clothing":
        size = settings.stored
        sets = (data.clothing(split, size, mode="letterbox", progress=progress) for split in ("train", "test"))
        return labelled("clothes", *sets, seed)
    if source == "cifar10":
        sets = (data.cifar10(split, progress=progress) for split in ("train", "test"))
        return labelled("CIFAR-10", *sets, seed)
    if source == "omniglot":
        names = ("background_small1", "background_small2")
        train, test = (data.omniglot(name, size=settings.stored, progress=progress) for name in names)
        return labelled("Omniglot characters", train, of_new_alphabets(train, test), seed)
    return folder(source, settings, seed, progress)


def pair_drawer(images, groups, settings, mean, std):
    """draw_pairs for refimpl.training.simclr: two views of one picture, or of two pictures of one group."""
    names = None if groups is None else np.unique(groups)
    members = None if groups is None else [np.flatnonzero(groups == name) for name in names]
    n = len(images) if groups is None else len(names)
    batch = min(settings.batch, n)

    def draw_pairs(rng):
        chosen = rng.choice(n, batch, replace=False)
        if members is None:
            first = second = chosen
        else:
            pairs = [rng.choice(members[g], 2, replace=len(members[g]) < 2) for g in chosen]
            first, second = np.array(pairs).T
        views = (simclr_views(images[rows], rng, size=settings.size, **settings.views) for rows in (first, second))
        return tuple((view - mean) / std for view in views)

    return draw_pairs


class Training(NamedTuple):
    encoder: Encoder
    random_encoder: Encoder  # the same network before training
    losses: np.ndarray
    seconds: float


def train_encoder(images, groups, settings, *, steps=None, minutes=None, seed, progress):
    """An encoder trained by SimCLR on the pictures (see Collection for groups), and its untrained twin."""
    # z-score statistics of the training split, at the encoder's size
    sample = np.random.default_rng(seed).permutation(len(images))[:2000]
    sample = np.stack([resize(images[i], settings.size) for i in sample])
    mean, std = (np.asarray(value, np.float32) for value in channel_statistics(sample))
    draw_pairs = pair_drawer(images, groups, settings, mean, std)
    params, state = resnet_init(widths=settings.widths, blocks=1, embedding=EMBEDDING, seed=seed)
    # A random encoder whose batch norms have never seen a picture would be judged with statistics that do not fit.
    rng, random_state = np.random.default_rng(seed), state
    for _ in range(20):
        _, _, random_state = resnet(params, random_state, draw_pairs(rng)[0], training=True)
    trained = simclr(
        draw_pairs,
        params,
        state,
        steps=steps,
        minutes=minutes,
        temperature=settings.temperature,
        learning_rate=settings.learning_rate,
        seed=seed,
        progress=lambda share, done, loss: progress(done, max(done, round(done / share)), f"loss {loss:.3f}"),
    )
    encoders = (
        make_encoder(weights, statistics, size=settings.size, mean=mean, std=std, mode="letterbox")
        for weights, statistics in ((trained.params, trained.state), (params, random_state))
    )
    return Training(*encoders, trained.losses, trained.seconds)


def describe(images, training, seed, progress):
    """{method: (n, d) descriptors} of every method that is compared."""
    encoder, n = training.encoder, len(images)
    pixels = preprocess(images, encoder.size, encoder.mean, encoder.std).reshape(n, -1)
    return {
        "random order": np.random.default_rng([seed, 2]).standard_normal((n, 32), dtype=np.float32),
        "raw pixels": pixels,
        "colour histogram": colour_histogram(images),
        "random encoder": embed(training.random_encoder, images, progress=lambda done, _: progress(done, 2 * n)),
        "trained encoder": embed(encoder, images, progress=lambda done, _: progress(n + done, 2 * n)),
    }


@contextlib.contextmanager
def compiling_meanwhile(args, stages):
    """Let two other processes compile into Numba's cache while the body makes or reads the pictures, which needs none.

    A compiled kernel and one from the cache give the same bits, so this saves time only; where it fails, the stages
    compile for themselves. -P: the current folder is not searched for the package, as in this process; the cache goes
    by a file's path.
    """
    few = args.data == "synthetic" and args.items <= FEW_ITEMS
    if few or os.cpu_count() == 1:
        yield
        return
    start = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import quickstart; quickstart."
    nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    calls = [f"{trial}({args.data!r})" for trial in ("try_training", "try_search")]
    trials = [subprocess.Popen([sys.executable, "-P", "-c", start + call], **nowhere) for call in calls]
    try:
        yield
        with stages.stage("compilation, the rest of it"):
            for trial in trials:
                trial.wait()
    finally:
        for trial in trials:
            trial.kill()
            trial.wait()


FEW_ITEMS = 64  # collections of so few products compile as they go


def trial_pictures(settings):
    """(n, h, w, 3) uint8 noise, enough of it for a whole batch."""
    shape = (settings.batch, settings.stored, settings.stored, 3)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def try_training(source):
    """One step of training on noise as --data SOURCE takes it: what it needs is compiled and in the cache."""
    settings = SETTINGS.get(source, PHOTOGRAPHS)
    train_encoder(trial_pictures(settings), None, settings, steps=1, seed=0, progress=lambda *_: None)


def try_search(source):
    """Views, embeddings and rankings of noise, likewise."""
    settings = SETTINGS.get(source, PHOTOGRAPHS)
    pictures = trial_pictures(settings)
    simclr_views(pictures, np.random.default_rng(0), size=settings.size, **settings.views)
    params, state = resnet_init(widths=settings.widths, blocks=1, embedding=EMBEDDING, seed=0)
    encoder = make_encoder(params, state, size=settings.size, mean=(0.5,) * 3, std=(0.25,) * 3, mode="letterbox")
    for descriptors in describe(pictures, Training(encoder, encoder, None, 0.0), 0, lambda *_: None).values():
        rank(descriptors, np.arange(len(pictures)))


class Outcome(NamedTuple):
    """What the report shows."""

    collection: Collection
    settings: Settings
    training: Training
    embeddings: np.ndarray  # of collection.test, by the trained encoder
    queries: np.ndarray  # rows of collection.test
    results: dict  # method -> ids (q, SHOWN), similarities (q, SHOWN), {measure: (q,)}
    metrics: dict  # method -> {measure: mean}


def run(args, stages):
    """All stages but the report."""
    settings = SETTINGS.get(args.data, PHOTOGRAPHS)
    with compiling_meanwhile(args, stages), stages.stage("pictures", "pic") as progress:
        collection = load(args.data, settings, args.items, args.views, args.seed, progress)
    print(*collection.notes, sep="\n", end="\n" if collection.notes else "")
    steps, minutes = args.steps, args.minutes
    if steps is None and minutes is None:
        steps, minutes = (STEPS, None) if args.data == "synthetic" else (None, 10.0)
    with stages.stage("training", "step") as progress:
        how = {"steps": steps, "minutes": minutes, "seed": args.seed, "progress": progress}
        training = train_encoder(collection.train, collection.groups, settings, **how)
    save_encoder(args.out / "encoder.npz", training.encoder)
    with stages.stage("embedding", "pic") as progress:
        descriptors = describe(collection.test, training, args.seed, progress)
    queries = np.random.default_rng([args.seed, 3]).permutation(len(collection.test))[:MOST_QUERIES]
    queries.sort()
    grades, results, metrics = collection.grades(queries), {}, {}
    with stages.stage("search and measures", "method") as progress:
        for done, method in enumerate(descriptors, 1):
            ids, scores = rank(descriptors[method], queries)
            values = measure(ids, grades, queries, collection.relevant)
            results[method] = (ids[:, :SHOWN], scores[:, :SHOWN], values)
            metrics[method] = means(values)
            progress(done, len(descriptors))
    return Outcome(collection, settings, training, descriptors["trained encoder"], queries, results, metrics)


EMBEDDING = 128  # dimensions
STEPS = 320  # of the synthetic catalogue's training: two slow cores take less than a minute
SHOWN = 10  # results a query on the page


def environment(seed):
    """What the figures depend on."""
    import numba
    import PIL
    import scipy

    versions = {m.__name__: m.__version__ for m in (refimpl, np, numba, scipy, PIL)}
    return {
        "command": shlex.join(["python", *sys.argv]),
        "seed": seed,
        "environment": {"python": platform.python_version(), "cores": numba.config.NUMBA_NUM_THREADS, **versions},
    }


def record(path, outcome, seconds, about):
    """The figures with what they depend on, as JSON; beside it, for the synthetic catalogue, a PNG of some results."""
    results = {
        "metrics": outcome.metrics,
        "training": {"steps": len(outcome.training.losses), "seconds": round(outcome.training.seconds, 1)},
        "pictures": {"trained on": len(outcome.collection.train), "searched": len(outcome.collection.test)},
        "seconds": {stage: round(s, 1) for stage, s in seconds.items()},
    }
    with atomic_write(path) as file:
        file.write((json.dumps({**about, "results": results}, indent=2) + "\n").encode())
    if outcome.collection.groups is not None:  # photographs of others never go into a figure
        draw_results(path.with_suffix(".png"), outcome)


def print_table(metrics):
    print(f"\n{'':<18}" + "".join(f"{name:>14}" for name in MEASURES))
    for method, values in metrics.items():
        print(f"{method:<18}" + "".join(f"{values[name]:>14.3f}" for name in MEASURES))
    print()


def arguments():
    parser = Parser(__doc__)
    parser.add_argument("--data", default="synthetic", help="synthetic, clothing, cifar10, omniglot, a folder, a zip")
    parser.add_argument("--minutes", type=float, help="training time (default 10, except for the synthetic catalogue)")
    parser.add_argument("--steps", type=int, help=f"training steps instead of a time (synthetic: {STEPS})")
    parser.add_argument("--items", type=int, default=600, help="products of the synthetic catalogue")
    parser.add_argument("--views", type=int, default=6, help="pictures of each product")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("out"), help="where the results go (default: out)")
    parser.add_argument("--json", type=Path, help="also record the figures and the machine here")
    args = parser.parse_args()
    parser.at_least(args, items=8, views=2, steps=1, seed=0)
    parser.a_time(args)
    if args.data not in SETTINGS and not os.path.exists(args.data):
        parser.error(f"--data: expected {', '.join(SETTINGS)}, a folder or a zip, got {args.data}")
    if args.minutes is not None and args.steps is not None:
        parser.error("--minutes and --steps: expected only one of them")
    return parser, args


def main():
    parser, args = arguments()
    stages = Stages()
    check_writable(parser, "--out", args.out / "report.html")
    if args.json is not None:
        check_writable(parser, "--json", args.json)
    with one_line_errors(parser):
        outcome = run(args, stages)
        with atomic_write(args.out / "metrics.json") as file:
            file.write((json.dumps(outcome.metrics, indent=2) + "\n").encode())
        about = environment(args.seed)
        with stages.stage("report"):
            write_report(args.out / "report.html", outcome, stages.seconds, about)
        if args.json is not None:
            record(args.json, outcome, stages.seconds, about)
    print_table(outcome.metrics)
    print(f"open {args.out / 'report.html'}")


if __name__ == "__main__":
    main()

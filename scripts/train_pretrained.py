"""The encoder that comes with the package (`refimpl.nn.pretrained`): trained here, judged on pictures it never saw.

    python scripts/train_pretrained.py --checkpoint out --weights refimpl/nn/weights/general.npz
    python scripts/train_pretrained.py --without clothing --checkpoint out       how good on a source never seen?

The record is docs/results/train_pretrained.json; with --without clothing, train_pretrained_without_clothing.json.

Three sources: photographs of clothes and of CIFAR-10's things (training splits), and a rendered catalogue in which
the same product is photographed several times. Every batch holds pairs from all of them, so that the batch norms
see in training the mixture whose statistics they keep; the losses compare pictures of one source only, or telling the
sources apart would be all that is learned. Two losses, each behind a projection head of its own:

    instance   nt_xent    two views of one picture, or two photographs of one product
    kind       sup_con    all pictures of one class, or of one family and colour

Both heads are thrown away. The encoder learns from views of 24 x 24 pixels and is used on whole pictures of 32 x 32:
a crop shows things larger than the whole picture does, so the whole needs more pixels for the same size of things.

Judged by retrieval beside raw pixels, a colour histogram and the untrained encoder, on
    pictures never seen    test splits of clothes and CIFAR-10
    kinds never seen       four of the catalogue's sixteen families, left out of training
    a source never seen    Omniglot's characters; with --without, that source
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from arithmetic import training_cost
from cifar import is_jpeg, pictures, shuffled
from command_line import Stages, check_writable, one_line_errors
from random_encoder import settled
from results import about, arguments, checkpoint, figure, parse, record, record_of_a_part, smoothed, step_printer
from retrieval import means, measure, rank

from refimpl.data import FAMILIES, clothing, grades, omniglot, render_catalogue, split_by_class
from refimpl.images import channel_statistics, colour_histogram, preprocess, simclr_views
from refimpl.losses import nt_xent, sup_con
from refimpl.nn import Pretrained, adamw, mlp, mlp_init, pretrained, resnet, resnet_init, save_pretrained
from refimpl.serving import embed, make_encoder
from refimpl.training import train
from refimpl.training.loop import update

WIDTHS, EMBEDDING, PROJECTION = (16, 64, 128, 192), 128, 64
VIEW, SIZE, STORED = 24, 32, 64  # pixels: of a view, of what the encoder is used on, of what is kept in memory
TEMPERATURE = 0.15
PEAK, WARMUP, DECAY = 3e-3, 60, 0.3  # learning rate; steps up to it; share of the steps in which it falls
PHOTOGRAPH = {"crop_area": (0.25, 1.0), "jitter_strength": 0.4, "grey_probability": 0.1}
PRODUCT = {"crop_area": (0.5, 1.0), "jitter_strength": 0.25, "grey_probability": 0.0}
LEFT_OUT = (3, 7, 11, 15)  # families
QUERIES = 1000  # at most, of a test set
SHOWN = ("map", "ndcg@10", "mrr")


class Source(NamedTuple):
    """Pictures of one kind of origin."""

    images: np.ndarray  # (n, size, size, 3) uint8
    instance: np.ndarray  # (n,) pictures with one number show one thing
    kind: np.ndarray  # (n,) pictures with one number are of one kind
    batch: int  # pairs of it in a batch
    views: dict  # of simclr_views


class Judged(NamedTuple):
    """Pictures to search, each graded for each query."""

    images: np.ndarray
    queries: np.ndarray  # (q,) rows
    grades: np.ndarray  # (q, n) uint8
    relevant: int  # the least grade of a hit


def catalogue_part(items, views, seed, left_out):
    """(catalogue, rows) of the families that are left out of training, or of the others."""
    catalogue = render_catalogue(items, views, size=STORED, seed=seed)
    return catalogue, np.flatnonzero(np.isin(catalogue.family, LEFT_OUT) == left_out)


def photographs(images, labels, batch):
    return Source(images, np.arange(len(images)), labels, batch, PHOTOGRAPH)


def sources(args):
    """{name: Source} to train on, and {name: Judged} of training pictures held out, to look at on the way."""
    chosen, held_out = {}, {}
    images, labels = (array[: args.pictures] for array in shuffled(*pictures("train")))
    out = min(1000, len(images) // 5)
    chosen["cifar10"] = photographs(images[out:], labels[out:], 56)
    held_out["cifar10"] = by_class(images[:out], labels[:out], args.seed)
    found = clothing("train", STORED, mode="letterbox")
    kept, out = split_by_class(found.labels, 0.1, args.seed)
    kept = np.random.default_rng(args.seed).permutation(kept)[: args.pictures]
    chosen["clothing"] = photographs(found.images[kept], found.labels[kept], 40)
    held_out["clothing"] = by_class(found.images[out], found.labels[out], args.seed)
    catalogue, rows = catalogue_part(args.items, 4, args.seed, False)
    kind = catalogue.family * len(catalogue.colour_names) + catalogue.colour
    chosen["catalogue"] = Source(catalogue.images[rows], catalogue.item[rows], kind[rows], 32, PRODUCT)
    return {name: source for name, source in chosen.items() if name != args.without}, held_out


def by_class(images, labels, seed):
    """A Judged: relevant is what has the label of the query."""
    queries = np.sort(np.random.default_rng([seed, 3]).permutation(len(images))[:QUERIES])
    return Judged(images, queries, (labels[queries][:, None] == labels[None, :]).astype(np.uint8), 1)


def tests(args):
    """{name: Judged} of pictures that took no part in training."""
    found = clothing("test", STORED, mode="letterbox")
    images, labels = (array[: args.pictures or 4000] for array in shuffled(*pictures("test")))
    catalogue, rows = catalogue_part(max(len(FAMILIES), args.items // 5), 6, args.seed + 1, True)
    characters = omniglot("background_small2", size=STORED)
    some = np.random.default_rng([args.seed, 4]).permutation(len(characters.images))[: args.pictures or 2000]
    every = np.arange(len(rows))
    return {
        "clothing": by_class(found.images, found.labels, args.seed),
        "CIFAR-10": by_class(images, labels, args.seed),
        "catalogue, families left out": Judged(catalogue.images[rows], every, grades(catalogue, rows, rows), 3),
        "Omniglot": by_class(characters.images[some], characters.labels[some], args.seed),
    }


def drawn_from(chosen):
    """{name: value} of what a batch and its loss are, for the checkpoint."""
    batches = {f"views of {name}": {"pairs": source.batch, **source.views} for name, source in chosen.items()}
    return {"pixels": VIEW, "temperature": TEMPERATURE, "rate": [PEAK, WARMUP, DECAY], **batches}


def pair_drawer(chosen, mean, std):
    """draw(rng): of each source (2 b, VIEW, VIEW, 3) views, the second half showing what the first shows, and kinds."""
    members = {}
    for name, source in chosen.items():
        order = np.argsort(source.instance, kind="stable")
        members[name] = np.split(order, np.flatnonzero(np.diff(source.instance[order])) + 1)

    def draw(rng):
        x, kinds = [], []
        for name, source in chosen.items():
            things = rng.choice(len(members[name]), min(source.batch, len(members[name])), replace=False)
            rows = [members[name][thing] for thing in things]
            pairs = np.array([rng.choice(r, 2, replace=len(r) < 2) for r in rows]).T.ravel()
            x.append((simclr_views(source.images[pairs], rng, size=VIEW, **source.views) - mean) / std)
            kinds.append(source.kind[pairs])
        return x, kinds

    return draw


def losses(z_instance, z_kind, kinds):
    """The loss of all sources, each against itself, and the gradients of the two projections."""
    total, d_instance, d_kind, first = 0.0, np.empty_like(z_instance), np.empty_like(z_kind), 0
    for kind in kinds:
        n, rows = len(kind) // 2, slice(first, first + len(kind))
        share = len(kind) / len(z_instance) / 2  # half for each loss
        views = z_instance[rows]
        loss, gradients = nt_xent(views[:n], views[n:], temperature=TEMPERATURE)
        d_instance[rows] = share * np.concatenate(gradients)
        kind_loss, gradient = sup_con(z_kind[rows], kind, temperature=TEMPERATURE)
        d_kind[rows] = share * gradient
        total += share * (loss + kind_loss)
        first += len(kind)
    return total, d_instance, d_kind


def learning_rate(done, steps):
    """After `done` of `steps`: up, level, and down to 0 in the last DECAY of them (Hägele et al. 2024, 2405.18392).

    On the level part it does not depend on `steps`: a training may be made shorter or longer there, bit for bit.
    """
    left = (steps - done) / (DECAY * steps)
    return PEAK * min(1.0, (done + 1) / WARMUP, left)


def make_step(draw, steps):
    """step(run, rng, share) for `refimpl.training.train`."""

    def step(run, rng, share):
        x, kinds = draw(rng)
        h, encoder_pullback, state = resnet(run["params"], run["state"], np.concatenate(x), training=True)
        z_instance, instance_pullback = mlp(run["instance head"], h)
        z_kind, kind_pullback = mlp(run["kind head"], h)
        loss, d_instance, d_kind = losses(z_instance, z_kind, kinds)
        (dh, d_instance_head), (dh_kind, d_kind_head) = instance_pullback(d_instance), kind_pullback(d_kind)
        gradients = {"params": encoder_pullback(dh + dh_kind)}
        gradients |= {"instance head": d_instance_head, "kind head": d_kind_head}
        rate = learning_rate(round(share * steps), steps)
        return {**update(run, gradients, adamw, learning_rate=rate), "state": state}, loss

    return step


def judge(descriptors, judged):
    ids, _ = rank(descriptors, judged.queries)
    return means(measure(ids, judged.grades, judged.queries, judged.relevant))


def describe(untrained, trained):
    """{method: function of pictures that returns their descriptors}."""
    return {
        "raw pixels": lambda x: preprocess(x, SIZE, trained.mean, trained.std).reshape(len(x), -1),
        "colour histogram": colour_histogram,
        "random encoder": lambda x: embed(untrained, x),
        "pretrained encoder": lambda x: embed(trained, x),
    }


def print_table(table):
    for name, methods in table.items():
        print(f"\n{name:<30}" + "".join(f"{measure:>10}" for measure in SHOWN))
        for method, values in methods.items():
            print(f"{method:<30}" + "".join(f"{values[measure]:>10.3f}" for measure in SHOWN))


def statistics(chosen):
    """z-score of the mixture: each source counts as it does in a batch."""
    parts = [(source.batch, *channel_statistics(source.images[:2000])) for source in chosen.values()]
    total = sum(batch for batch, _, _ in parts)
    mean = sum(batch * np.asarray(m) for batch, m, _ in parts) / total
    square = sum(batch * (np.asarray(m) ** 2 + np.asarray(s) ** 2) for batch, m, s in parts) / total
    return mean.astype(np.float32), np.sqrt(square - mean**2).astype(np.float32)


def main():
    parser = arguments(__doc__, "train_pretrained", None)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--items", type=int, default=1600, help="products rendered, a quarter of them left out")
    parser.add_argument("--pictures", type=int, help="at most so many of a source and a test (for a quick look)")
    parser.add_argument(
        "--without", choices=("cifar10", "clothing", "catalogue"), metavar="SOURCE",
        help="leave cifar10, clothing or catalogue out; the record is then train_pretrained_without_SOURCE.json",
    )  # fmt: skip
    parser.add_argument("--weights", type=Path, help="write the encoder here")
    args = parse(parser, steps=1, items=32, pictures=10)
    if args.without:
        record_of_a_part(parser, args, f"train_pretrained_without_{args.without}")
    if args.weights is not None:
        check_writable(parser, "--weights", args.weights)
    stages = Stages()
    with one_line_errors(parser):
        with stages.stage("pictures"):
            chosen, held_out = sources(args)
        mean, std = statistics(chosen)
        draw = pair_drawer(chosen, mean, std)
        params, state = resnet_init(widths=WIDTHS, blocks=1, embedding=EMBEDDING, seed=args.seed)

        def encoder(params, state):
            return make_encoder(params, state, size=SIZE, mean=mean, std=std, mode="letterbox")

        def evaluate(run):
            judge_one = encoder(run["params"], run["state"])
            return float(np.nanmean([judge(embed(judge_one, j.images), j)["map"] for j in held_out.values()]))

        heads = {
            f"{name} head": mlp_init((EMBEDDING, EMBEDDING, PROJECTION), seed=[args.seed, k])
            for k, name in enumerate(("instance", "kind"))
        }
        with stages.stage("training", "step") as progress:
            run = train(
                {"params": params, "state": state, **heads}, make_step(draw, args.steps), seed=args.seed,
                steps=args.steps, about={**about(args), **drawn_from(chosen)}, evaluate=evaluate, evaluations=4,
                progress=step_printer(progress),
                checkpoint=checkpoint(args, f"pretrained{'-without-' * bool(args.without)}{args.without or ''}"),
            )  # fmt: skip
        with stages.stage("judging", "set") as progress:
            judged = tests(args)
            untrained = encoder(params, settled(params, state, lambda rng: np.concatenate(draw(rng)[0]), args.seed))
            trained = Pretrained(run.sections["params"], run.sections["state"], SIZE, mean, std, "letterbox")
            if args.weights is not None:
                save_pretrained(args.weights, trained)
                trained = pretrained(args.weights)  # rounded to float16, as it is used
            descriptors = describe(untrained, make_encoder(**trained._asdict()))
            table = {}
            for done, (name, test) in enumerate(judged.items(), 1):
                table[name] = {method: judge(f(test.images), test) for method, f in descriptors.items()}
                progress(done, len(judged))
        print_table(table)
        results = {
            "retrieval": table,
            "without": args.without,
            "left out": [list(FAMILIES)[i] for i in LEFT_OUT],
            "pictures searched": {name: len(test.images) for name, test in judged.items()},
            "sources": {
                name: {"pictures": len(s.images), "pairs in a batch": s.batch, **s.views} for name, s in chosen.items()
            },
            "steps": len(run.losses),
            "seconds": round(run.seconds, 1),
            "training": training_cost(params, VIEW, 2 * len(run.losses) * sum(s.batch for s in chosen.values())),
            "mAP on the way, held-out training pictures": run.scores.tolist(),
        }
        if is_jpeg():
            results["note"] = "CIFAR-10 from a JPEG copy"
        record(args, results)
        figure(args, "Training the package's encoder", "step", "loss", {"training": smoothed(run.losses)})


if __name__ == "__main__":
    main()

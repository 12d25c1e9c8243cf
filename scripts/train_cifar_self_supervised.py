"""CIFAR-10 without labels: SimCLR and MoCo v2, judged by a linear probe and nearest neighbours on the test split.

    python scripts/train_cifar_self_supervised.py                     both methods, 97 minutes each (--minutes)
    python scripts/train_cifar_self_supervised.py --methods simclr
    python scripts/train_cifar_self_supervised.py --ablations moco --minutes 5      MoCo: momentum, size of the queue
    python scripts/train_cifar_self_supervised.py --ablations rules --minutes 4     SimCLR: AdamW, Muon, their rates

The encoder (`refimpl.nn.whitened`, the network of the supervised script) learns from views of 17 x 17 pixels, 0.27 of
the arithmetic of 32 x 32. It is judged on whole pictures of JUDGED x JUDGED pixels: a view shows 60% of a picture on
average, so in a whole one of 32 everything is larger than the encoder has learnt (Touvron et al. 2019,
arXiv:1906.06423), and the poolings 24, 12, 6, 3 leave out no border. Another probe reads the features of a picture at
both BESIDE sizes, side by side. Accuracy on the way is that of 2,000 training pictures by 10,000 others; the penalties
of the probes are chosen on training pictures. The test split is read once, at the end. A random encoder of the same
widths stands beside.

Budget: a view of 17 pixels costs SimCLR 0.52 GFLOP (87 million multiply-adds, three products, two operations each),
MoCo, to which it is also a key, 0.70. At 530 GFLOP/s, Muon included, as on the record's machine (430 in one large
product), 94 minutes were 6.1 million of SimCLR's views: 31 passes over the 50,000 with four of each. The judgements on
the way come on top, some 10 seconds each, and that at the end, six minutes an encoder.
MoCo's ablations train a narrower network (13 million) on two views, one phase, so that five minutes are some 800 steps:
in much fewer, a momentum of 0.999 leaves the keys' encoder where it started.
"""

import numpy as np
from arithmetic import training_cost
from cifar import is_jpeg, pictures, shuffled, statistics
from command_line import Stages, one_line_errors
from random_encoder import settled
from results import about, arguments, checkpoint, figure, parse, record, record_of_a_part, step_printer

from refimpl.images import resize, simclr_views
from refimpl.nn import adamw, muon, whitened, whitened_init
from refimpl.training import knn_predict, linear_probe, moco, pooled_features, probe_predict, simclr

WIDTHS = {"simclr": (96, 320, 640), "moco": (96, 320, 640)}
NARROW = (32, 64, 128)  # widths for MoCo's ablations
VIEWS = {"crop_area": (0.2, 1.0), "grey_probability": 0.2}
JITTER = {"simclr": 0.8, "moco": 0.8}  # strength of the change of colours
METHODS = ("simclr", "moco")
BATCHES = {"simclr": (128, 4), "moco": (96, 4)}  # pictures, views of each
PHASES = {  # side of the views in pixels, share of the minutes, peak of the learning rate
    "simclr": ((17, 1, 4e-3),),
    "moco": ((17, 1, 4e-3),),
}
JUDGED = 25  # side of a whole picture in pixels, when it is judged
BESIDE = (25, 32)  # the same, of the probe that reads two sizes
RULES = {"adamw": adamw, "muon": muon}
DECAYS = {"adamw": 1e-4, "muon": 1.0}  # Muon's steps do not shrink with the gradient: without decay the weights grow
HEAD = {"hidden": 1024, "projection": 128}
SETTINGS = {  # MoCo's queue and momentum: the published code's for CIFAR-10
    "simclr": {"rule": "muon", "weight_decay": DECAYS["muon"], "temperature": 0.2, **HEAD},
    "moco": {
        "rule": "muon", "weight_decay": DECAYS["muon"], "temperature": 0.2,
        "queue": 4096, "momentum": 0.99, "groups": 2, **HEAD,
    },
}  # fmt: skip
# what MoCo's ablations share
SMALL = {
    "rule": "adamw", "weight_decay": 1e-4, "temperature": 0.2, "momentum": 0.99, "groups": 4, "hidden": NARROW[-1],
}  # fmt: skip
SMALL_BATCH, SMALL_PHASES = (256, 2), ((25, 1, 2e-3),)
ABLATIONS = {
    "moco": {
        **{f"momentum {m:g}": {"momentum": m} for m in (0.0, 0.9, 0.99, 0.999)},
        **{f"queue {k}": {"queue": k} for k in (256, 1024, 4096, 16384)},
    },
    "rules": {f"{rule} {rate:g}": (rule, rate) for rule in RULES for rate in (1e-3, 2e-3, 4e-3, 8e-3)},
}
FOR_WHITENING = 5000  # pictures whose patches give the first layer
KNOWN, QUERIES = 10000, 2000  # training pictures that are neighbours and queries on the way


def view_drawer(images, mean, std, batch, views, size, jitter):
    """draw_views(rng): so many views of each of `batch` pictures."""
    changes = {**VIEWS, "jitter_strength": jitter}

    def draw_views(rng):
        rows = rng.choice(len(images), batch, replace=False)
        return tuple((simclr_views(images[rows], rng, size=size, **changes) - mean) / std for _ in range(views))

    return draw_views


def whole(images, size=JUDGED):
    """Pictures as they are judged, (n, size, size, 3) uint8."""
    return np.stack([resize(image, size) for image in images])


def neighbours_on_the_way(images, labels, mean, std):
    """evaluate(run): accuracy of kNN among training pictures, the queries not among the neighbours."""
    images, labels = whole(images[: KNOWN + QUERIES]), labels[: KNOWN + QUERIES]
    cut = len(images) * KNOWN // (KNOWN + QUERIES)

    def evaluate(run):
        features = pooled_features(run["params"], run["state"], images, mean, std)
        return float(np.mean(knn_predict(features[:cut], labels[:cut], features[cut:]) == labels[cut:]))

    return evaluate


def judge(params, state, train, test, mean, std):
    """{measure: value} on the test split."""
    features = {}  # {size: features of the pictures and of their mirror images, of train and of test}
    for size in {JUDGED, *BESIDE}:
        features[size] = [
            [pooled_features(params, state, x, mean, std) for x in (images, images[:, :, ::-1])]
            for images in (whole(train[0], size), whole(test[0], size))
        ]
    known, queries = features[JUDGED][0][0], features[JUDGED][1][0]
    scores = {"kNN": float(np.mean(knn_predict(known, train[1], queries) == test[1]))}
    for name, sizes in {"linear": (JUDGED,), f"linear, {BESIDE[0]} and {BESIDE[1]} pixels": BESIDE}.items():
        parts = [
            [np.concatenate([features[size][split][mirror] for size in sizes], axis=1) for mirror in (0, 1)]
            for split in (0, 1)
        ]
        scores |= {f"{name}{more}": value for more, value in probe_scores(*parts, train[1], test[1]).items()}
    return scores


def probe_scores(train, test, labels, truth):
    """{measure: value} of a probe on features of pictures and of their mirror images, two arrays of each split.

    It is fitted to both; its penalty is chosen without the latter, since the mirror image of a picture that is held out
    would tell.
    """
    chosen = linear_probe(train[0], labels)
    probe = linear_probe(np.concatenate(train), np.tile(labels, 2), penalties=[chosen.penalty])
    return {
        "": float(np.mean(probe_predict(probe, test[0]) == truth)),
        ", mean with the mirror image": float(np.mean(probe_predict(probe, (test[0] + test[1]) / 2) == truth)),
        ", validation": chosen.validation,
        ", penalty": probe.penalty,
    }


def summary(method, phases, batch, views, n_images):
    """What the record says of a training in phases (pixels, learning rate, Trained), and its scores with all steps
    counted."""
    rows, scores, done = [], [], 0
    for size, rate, trained in phases:
        steps = len(trained.losses)
        learned = steps * batch * (1 if (method, views) == ("moco", 2) else views)  # of two views one is the key
        cost = training_cost(trained.params, size, learned, learned if method == "moco" else 0)
        rows.append({"pixels": size, "learning_rate": rate, "steps": steps, "training": cost})
        scores.append(trained.scores + [done, 0])
        done += steps
    scores = np.concatenate(scores)
    return {
        "steps": done,
        "pictures a step": batch,
        "views of each": views,
        "passes": done * batch / n_images,
        "jitter": JITTER[method],
        "seconds": round(sum(trained.seconds for _, _, trained in phases), 1),
        "phases": rows,
        "training FLOP": sum(row["training"]["training FLOP"] for row in rows),
        "last loss": float(phases[-1][2].losses[-100:].mean()),
        "kNN on the way": scores.tolist(),
    }


def plans(args):
    """{name: (method, (pictures, views of each), phases, settings)} of the trainings to be done."""
    if args.ablations == "moco":
        settings = {**SETTINGS["moco"], **SMALL}
        return {
            name: ("moco", SMALL_BATCH, SMALL_PHASES, settings | changed) for name, changed in ABLATIONS["moco"].items()
        }
    if args.ablations == "rules":
        return {
            name: (
                "simclr",
                BATCHES["simclr"],
                ((17, 1, rate),),
                SETTINGS["simclr"] | {"rule": rule, "weight_decay": DECAYS[rule]},
            )
            for name, (rule, rate) in ABLATIONS["rules"].items()
        }
    return {method: (method, BATCHES[method], PHASES[method], SETTINGS[method]) for method in args.methods}


def main():
    parser = arguments(__doc__, "train_cifar_self_supervised", 97)
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=METHODS,
        help="one of them; the record is then train_cifar_METHOD.json",
    )  # fmt: skip
    parser.add_argument(
        "--ablations", choices=ABLATIONS, metavar="KIND",
        help="variants of moco or of rules at a small budget instead, no test split; the record is then "
        "train_cifar_KIND_ablations.json",
    )  # fmt: skip
    parser.add_argument("--pictures", type=int, help="use so many training and test pictures (for a quick look)")
    args = parse(parser, pictures=2)
    if args.ablations:
        record_of_a_part(parser, args, f"train_cifar_{args.ablations}_ablations")
    elif set(args.methods) < set(METHODS):
        record_of_a_part(parser, args, f"train_cifar_{args.methods[0]}")
    stages, results, lines = Stages(), {}, {}
    with one_line_errors(parser):
        with stages.stage("pictures", "pic") as progress:
            images, labels = (array[: args.pictures] for array in shuffled(*pictures("train", progress)))
        mean, std = statistics(images)
        evaluate = neighbours_on_the_way(images, labels, mean, std)
        some = (images[:FOR_WHITENING] / np.float32(255) - mean) / std
        draw_one = view_drawer(images, mean, std, min(256, len(images)), 1, 25, JITTER["moco"])
        at_random, runs, evaluations = {}, {}, 6 if args.ablations else 12
        for name, (method, (pictures_each, views), phases, settings) in plans(args).items():
            batch, head, done = min(pictures_each, len(images)), None, []
            widths = NARROW if args.ablations == "moco" else WIDTHS[method]
            encoder = params, state = whitened_init(some, widths=widths, seed=args.seed)
            untrained = f"random encoder {'-'.join(map(str, widths))}"
            if untrained not in at_random:
                settled_state = settled(params, state, lambda rng: draw_one(rng)[0], args.seed, encoder=whitened)
                at_random[untrained] = params, settled_state
            for size, share, rate in phases:
                draw_views = view_drawer(images, mean, std, batch, views, size, JITTER[method])
                drawn = {"pixels": size, "batch": batch, "views of each": views, "jitter": JITTER[method]}
                with stages.stage(f"{name}, {size} px", "step") as progress:
                    phase = {"simclr": simclr, "moco": moco}[method](
                        draw_views, *encoder, encoder=whitened, head=head,
                        minutes=share * args.minutes, learning_rate=rate, seed=args.seed, evaluate=evaluate,
                        evaluations=max(1, round(share * evaluations)), progress=step_printer(progress),
                        about={**about(args), **drawn},
                        checkpoint=checkpoint(args, f"{name.replace(' ', '-')}-{size}"),
                        **{**settings, "rule": RULES[settings["rule"]]},
                    )  # fmt: skip
                done.append((size, rate, phase))
                encoder, head = (phase.params, phase.state), phase.head
            runs[name] = encoder
            results[name] = {**summary(method, done, batch, views, len(images)), "widths": widths, **settings}
            lines[name] = np.transpose(results[name]["kNN on the way"])
        for name, encoder in at_random.items():
            results[name] = {"kNN on the way": [[0, evaluate(dict(zip(("params", "state"), encoder)))]]}
        if args.ablations:
            for name, measured in results.items():
                print(f"{name:<30} kNN among training pictures {100 * measured['kNN on the way'][-1][1]:.1f}")
        else:
            test = tuple(array[: args.pictures] for array in shuffled(*pictures("test")))
            judged = at_random | runs
            for name, encoder in judged.items():
                with stages.stage(f"judging {name}"):
                    results[name] |= judge(*encoder, (images, labels), test, mean, std)
            print(f"\n{'test split':<30}{'linear':>8}{'kNN':>8}")
            for name in judged:
                print(f"{name:<30}{100 * results[name]['linear']:>8.1f}{100 * results[name]['kNN']:>8.1f}")
        if is_jpeg():
            results["note"] = "pictures from a JPEG copy of CIFAR-10"
            print(results["note"])
        record(args, results)
        random_score = max(results[name]["kNN on the way"][0][1] for name in at_random)
        title = f"kNN accuracy among training pictures; random encoder {random_score:.3f}"
        figure(args, title, "step", "accuracy", lines)


if __name__ == "__main__":
    main()

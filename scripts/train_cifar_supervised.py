"""CIFAR-10 with labels: the accuracy on the test split after 60 minutes on two cores.

    python scripts/train_cifar_supervised.py                      60 minutes (--minutes)
    python scripts/train_cifar_supervised.py --validate           5,000 training pictures in place of the test split

The network, the training and the augmentation are those of K. Jordan's airbench95 (2024, arXiv:2404.00498): see
`refimpl.nn.whitened` and `refimpl.training.airbench`. Pictures are mirrored in every other pass and moved by up to 2
pixels. Widths, rate and decay are his; beside them a square of CUTOUT pixels in each picture is hidden (DeVries and
Taylor 2017, arXiv:1708.04552), since the passes are more than his 15. At the end a picture's logits are the mean over
itself, moved by a pixel along either end of a diagonal, and the mirror images of these. The test split is read once, at
the end.

Budget: a picture costs 1.81 GFLOP (301 million multiply-adds, three products, two operations each); at 890 GFLOP/s,
which Winograd's products reach on a machine of 470 in one large product, 60 minutes are 1.76 million pictures, 35
passes over the 50,000.
"""

import numpy as np
from arithmetic import training_cost
from cifar import is_jpeg, pictures, shuffled, statistics
from command_line import Stages, one_line_errors
from results import about, arguments, checkpoint, figure, parse, record, smoothed, step_printer

from refimpl.nn import fold_batch_norm, linear, whitened_embedder, whitened_init
from refimpl.training import airbench, passes

WIDTHS, BATCH, MARGIN, CUTOUT = (128, 384, 384), 1024, 2, 8
SETTINGS = {"learning_rate": 1.3, "weight_decay": 1.53e-3, "momentum": 0.85, "label_smoothing": 0.2, "rise": 0.23}
MOVES = {(0, 0): 2, (-1, -1): 1, (1, 1): 1}  # pixels down and right of a judged picture: weight of its logits
FOR_WHITENING = 5000  # pictures whose patches give the first layer


def scaled(images, mean, std):
    return (images * (np.float32(1 / 255) / std) - mean / std).astype(np.float32, copy=False)


def hide_squares(x, corners, side):
    """x (n, h, w, c) with a square of zeros, the mean colour, from corners (2, n) (top, left) on in each. In place."""
    down, right = (np.arange(size) - corner[:, None] for size, corner in zip(x.shape[1:3], corners))
    hidden = ((0 <= down) & (down < side))[:, :, None] & ((0 <= right) & (right < side))[:, None]
    x[hidden] = 0


def drawer(images, labels, mean, std, seed):
    """draw(rng, step) for `airbench`: a part of a pass, mirrored and moved, a square of each picture hidden."""
    size, batch = images.shape[1], min(BATCH, len(images))
    padded = np.pad(images, ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))

    def draw(rng, step):
        rows, mirrored = passes(len(images), batch, step, seed)
        down, right = rng.integers(0, 2 * MARGIN + 1, (2, batch))
        x = windows[rows, down, right].transpose(0, 2, 3, 1)
        x = np.where(mirrored[:, None, None, None], x[:, :, ::-1], x)
        x = np.ascontiguousarray(scaled(x, mean, std))
        hide_squares(x, rng.integers(0, size - CUTOUT + 1, (2, batch)), CUTOUT)
        return x, labels[rows]

    return draw


def predict(params, state, head, images, mean, std):
    """Labels by the weighted mean of the logits of each picture, moved (MOVES) and mirrored."""
    embed = whitened_embedder(fold_batch_norm(params, state))
    size, predicted = images.shape[1], []
    for first in range(0, len(images), 500):
        x = scaled(images[first : first + 500], mean, std)
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
        logits = 0
        for (down, right), weight in MOVES.items():
            moved = padded[:, 1 + down : 1 + down + size, 1 + right : 1 + right + size]
            for view in (moved, moved[:, :, ::-1]):
                h = embed(np.ascontiguousarray(view))
                logits = logits + weight * linear(h, head["weight"], head["bias"])[0]
        predicted.append(logits.argmax(axis=1))
    return np.concatenate(predicted)


def main():
    parser = arguments(__doc__, "train_cifar_supervised", 60)
    parser.add_argument("--validate", action="store_true", help="hold out training pictures; no test split")
    parser.add_argument("--pictures", type=int, help="use so many training and test pictures (for a quick look)")
    args = parse(parser, pictures=2)
    stages = Stages()
    with one_line_errors(parser):
        with stages.stage("pictures", "pic") as progress:
            images, labels = (array[: args.pictures] for array in shuffled(*pictures("train", progress)))
        if args.validate:
            held_out = max(1, len(images) // 10)
            judged = images[:held_out], labels[:held_out]
            images, labels = images[held_out:], labels[held_out:]
        mean, std = statistics(images)
        params, state = whitened_init(scaled(images[:FOR_WHITENING], mean, std), widths=WIDTHS, seed=args.seed)
        with stages.stage("training", "step") as progress:
            trained = airbench(
                drawer(images, labels, mean, std, args.seed), params, state, classes=10, minutes=args.minutes,
                seed=args.seed, checkpoint=checkpoint(args, f"supervised{'-validate' * args.validate}"),
                about={**about(args), "batch": BATCH, "margin": MARGIN, "cutout": CUTOUT},
                progress=step_printer(progress), **SETTINGS,
            )  # fmt: skip
        if not args.validate:
            judged = tuple(array[: args.pictures] for array in shuffled(*pictures("test")))
        with stages.stage("judging"):
            found = predict(trained.params, trained.state, trained.head, judged[0], mean, std)
        seen = len(trained.losses) * min(BATCH, len(images))
        accuracy = float(np.mean(found == judged[1]))
        results = {
            "accuracy": accuracy,
            "split": "held out of training" if args.validate else "test",
            "steps": len(trained.losses),
            "passes": seen / len(images),
            "seconds": round(trained.seconds, 1),
            "training": training_cost(params, images.shape[1], seen),
            "widths": WIDTHS,
            "cutout": CUTOUT,
            **SETTINGS,
        }
        if is_jpeg():
            results["note"] = "pictures from a JPEG copy of CIFAR-10"
        print(f"\naccuracy {100 * accuracy:.2f}% ({results['split']}), {results['passes']:.1f} passes")
        print(results.get("note", ""))
        if not args.validate:
            record(args, results)
            figure(args, "CIFAR-10 with labels", "step", "cross-entropy", {"training": smoothed(trained.losses)})


if __name__ == "__main__":
    main()

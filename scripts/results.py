"""What the scripts of results share: arguments, the record in docs/results, pictures that need decoding only once."""

import json
import platform
import shlex
import sys
from pathlib import Path

import numba
import numpy as np
import PIL
import scipy
from command_line import Parser, check_writable

import refimpl
from refimpl.files import atomic_write

# Options that say where things go, which trainings to do, or what `train` compares by itself.
NOT_ABOUT = {
    "checkpoint", "json", "weights", "steps", "seed", "seeds", "methods", "losses", "claims", "sets",
    "ablations",
}  # fmt: skip


def arguments(description, name, minutes):
    """A Parser with the arguments that all these scripts take; `name` is that of the record, `minutes` may be None."""
    parser = Parser(description)
    if minutes is not None:
        parser.add_argument("--minutes", type=float, default=minutes, help=f"of each training (default {minutes:g})")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--checkpoint", type=Path, metavar="DIR", help="keep checkpoints here, and go on from them")
    place = Path("docs/results") / f"{name}.json"
    parser.add_argument("--json", type=Path, default=place, help=f"where the record goes (default {place})")
    return parser


def parse(parser, **least):
    """The arguments, checked; `least` are the lower bounds of the script's own. What cannot be written is told now."""
    args = parser.parse_args()
    parser.at_least(args, seed=0, **least)
    if hasattr(args, "minutes"):
        parser.a_time(args)
    check_writable(parser, "--json", args.json)
    if args.checkpoint is not None:
        check_writable(parser, "--checkpoint", args.checkpoint / "checkpoint.npz")
    if getattr(args, "pictures", None) is not None:
        record_of_a_part(parser, args, args.json.stem)
    return args


def checkpoint(args, name):
    """The path of one training's checkpoint, or None."""
    return None if args.checkpoint is None else args.checkpoint / f"{name}.npz"


def about(args):
    """{option: value} of what makes each training what it is, for the `about` of `refimpl.training`."""
    return {name: value for name, value in vars(args).items() if name not in NOT_ABOUT}


def record_of_a_part(parser, args, name):
    """Let the record of a run with fewer things go to NAME.json, so that it does not replace that of the whole; with
    --pictures to NAME_of_so_many_pictures.json.

    A path that was given is kept, even if it is the default one.
    """
    if args.json is parser.get_default("json"):
        few = getattr(args, "pictures", None)
        args.json = args.json.with_name(f"{name}{'' if few is None else f'_of_{few}_pictures'}.json")
        parser.set_defaults(json=args.json)  # what is called after this adds to it


def record(args, results):
    """Write what was found with what it depends on."""
    versions = {m.__name__: m.__version__ for m in (refimpl, np, numba, scipy, PIL)}
    about = {
        "command": shlex.join(["python", *sys.argv]),
        "environment": {"python": platform.python_version(), "cores": numba.config.NUMBA_NUM_THREADS, **versions},
        "seed": args.seed,
        "results": results,
    }
    with atomic_write(args.json) as file:
        file.write((json.dumps(about, indent=1) + "\n").encode())
    print(f"written: {args.json}")


def figure(args, title, xlabel, ylabel, lines):
    """A line plot beside the record; lines {label: (x, y)}."""

    def draw(axes):
        for label, (x, y) in lines.items():
            axes.plot(x, y, label=label)
        axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
        axes.legend()

    save_figure(args, draw)


def save_figure(args, *drawings):
    """A picture beside the record: a panel for each function of axes, side by side in rows of two."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows, columns = -(-len(drawings) // 2), min(2, len(drawings))
    plot, axes = plt.subplots(rows, columns, figsize=(7 * columns, 4 * rows), layout="constrained", squeeze=False)
    for panel in axes.flat[len(drawings) :]:
        panel.set_axis_off()
    for draw, panel in zip(drawings, axes.flat):
        draw(panel)
        panel.grid(alpha=0.3)
    with atomic_write(args.json.with_suffix(".png")) as file:
        plot.savefig(file, format="png", dpi=120)
    plt.close(plot)


def step_printer(progress):
    """The progress of `refimpl.training.train` on a bar of command_line.Stages."""
    return lambda share, done, loss: progress(done, round(done / share), f"loss {loss:.3f}")


def smoothed(losses, points=200):
    """(steps, mean loss up to there since the last point), for a plot."""
    parts = np.array_split(np.asarray(losses, float), min(points, len(losses)))
    return np.cumsum([len(part) for part in parts]), [part.mean() for part in parts]

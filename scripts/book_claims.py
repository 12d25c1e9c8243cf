"""The book's claims, tested: for each a measurement, a plot, and one sentence that says whether it held.

    python scripts/book_claims.py --checkpoint out        all of them; what is finished is not done again
    python scripts/book_claims.py --claims focal          the record is docs/results/book_claims_focal.json

    negatives    more negatives a query make a better embedding
    supervision  human labels are better than clicks, and clicks than self-supervision, until they are noisy
    distances    Euclidean distance does badly in many dimensions
    focal        focal loss learns a rare class better than cross-entropy

On rendered products and drawn points, in minutes: enough to see whether an effect is there, not how large it is in a
shop. The sentences are written by rules from the numbers (`verdict` in each claim's file), with the spread over
--seeds of the differences as the measure of noise.
"""

import json

import claim_distances
import claim_focal
import claim_negatives
import claim_supervision
import claim_training
from claims import Options
from command_line import Stages, one_line_errors
from results import arguments, parse, record, record_of_a_part, save_figure

from refimpl.files import atomic_write

CLAIMS = {
    "negatives": claim_negatives,
    "supervision": claim_supervision,
    "distances": claim_distances,
    "focal": claim_focal,
}


def numbers(name, options, stages):
    """What the claim measures: from the folder of checkpoints if it is there, for the same options and constants."""
    about = {"items": options.items, "steps": options.steps, "seed": options.seed, "seeds": options.seeds}
    about = json.loads(json.dumps({**about, "constants": constants(name)}))  # as they come back: tuples are lists
    kept = None if options.folder is None else options.folder / f"claims-{name}.json"
    if kept is not None and kept.exists():
        found = json.loads(kept.read_text(encoding="utf-8"))
        if found["about"] != about:
            raise ValueError(f"{kept}: measured with {found['about']}, now asked for {about}")
        return found["numbers"]
    found = CLAIMS[name].measured(options, stages)
    if kept is not None:
        with atomic_write(kept) as file:
            file.write(json.dumps({"about": about, "numbers": found}).encode())
    return found


def constants(name):
    """{name: value} of what a claim's files measure with."""
    shown = ("TITLE", "XLABEL", "YLABEL")
    modules = [claim_training, CLAIMS[name]] if name in ("negatives", "supervision") else [CLAIMS[name]]
    return {
        key: value for module in modules for key, value in vars(module).items() if key.isupper() and key not in shown
    }


def panel(name, found):
    """A function of axes that draws the claim."""

    def draw(axes):
        claim = CLAIMS[name]
        axes.set(title=claim.TITLE, xlabel=claim.XLABEL, ylabel=claim.YLABEL)
        claim.draw(axes, found)

    return draw


def main():
    parser = arguments(__doc__, "book_claims", None)
    parser.add_argument(
        "--claims", nargs="+", choices=CLAIMS, default=list(CLAIMS), metavar="NAME",
        help="some of them; the record is then book_claims_NAME.json",
    )  # fmt: skip
    parser.add_argument("--items", type=int, default=480, help="products rendered (default 480)")
    parser.add_argument("--steps", type=int, default=150, help="of each training (default 150)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each kind (default 3)")
    args = parse(parser, items=16, steps=1, seeds=2)
    some = [name for name in CLAIMS if name in args.claims]
    if len(some) < len(CLAIMS):
        record_of_a_part(parser, args, "_".join(["book_claims", *some]))
    seeds = tuple(range(args.seed, args.seed + args.seeds))
    options = Options(args.items, args.steps, args.seed, seeds, args.checkpoint)
    stages, results = Stages(), {}
    with one_line_errors(parser):
        for name in some:
            found = numbers(name, options, stages)
            results[name] = {"verdict": CLAIMS[name].verdict(found), "numbers": found}
        print()
        for name, result in results.items():
            print(f"{name}: {result['verdict']}")
        record(args, {**results, "products": args.items, "steps of a training": args.steps, "seeds": args.seeds})
        save_figure(args, *(panel(name, result["numbers"]) for name, result in results.items()))


if __name__ == "__main__":
    main()

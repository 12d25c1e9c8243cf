"""Search a folder of your own pictures with a picture, or with a part of one.

    python scripts/search_folder.py PICTURES --query IMAGE [--crop X,Y,W,H] [-k 10]

The encoder is the one that comes with the package, so nothing is trained. --train learns another, without labels, from
the folder's own pictures together with a synthetic catalogue, for --minutes; it is kept, and used from then on.
--encoder takes one that quickstart.py has written. Embeddings are kept in PICTURES/.refimpl-index (or --index): only
new or changed files are embedded again. Files that cannot be read are listed and skipped; so are folders, and what was
embedded of their pictures is kept. Prints a ranked table and writes the result page (--out).
"""

import html
import os
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
from command_line import Parser, Stages, check_writable, one_line_errors
from quickstart import PHOTOGRAPHS, train_encoder
from report_page import Sheet, picture_card, section, write_page

from refimpl.data import render_catalogue
from refimpl.images import decode, resize
from refimpl.serving import (
    crop,
    empty_table,
    find_pictures,
    fingerprint,
    load_encoder,
    load_table,
    pretrained_encoder,
    save_encoder,
    save_table,
    search,
    update_table,
)

MOST_ON_PAGE = 200  # of the results; the printed table has all
TRAINING_PICTURES = 4000  # at most so many of the folder's pictures are trained on


def train_on(folder, minutes, seed, stages):
    """An encoder for this folder: its own pictures, and a catalogue so that a small folder does not starve it."""
    paths = [path for path in find_pictures(folder) if os.path.isfile(path)]  # to read from a pipe would be to wait
    rng = np.random.default_rng(seed)
    pictures = []
    with stages.stage("pictures to learn from", "pic") as progress:
        for done, i in enumerate(rng.permutation(len(paths))[:TRAINING_PICTURES], 1):
            try:
                pictures.append(resize(decode(paths[i]), PHOTOGRAPHS.stored, mode="letterbox"))
            except (ValueError, OSError):
                pass  # indexing will list it with the reason
            progress(done, min(len(paths), TRAINING_PICTURES))
    if not pictures:
        raise ValueError(f"{folder}: expected at least one readable picture, found none among {len(paths)} files")
    with stages.stage("synthetic catalogue", "pic") as progress:
        catalogue = render_catalogue(320, 2, size=PHOTOGRAPHS.stored, seed=seed, progress=progress)
    train = np.concatenate([np.stack(pictures), catalogue.images])
    with stages.stage("training", "step") as progress:
        return train_encoder(train, None, PHOTOGRAPHS, minutes=minutes, seed=seed, progress=progress).encoder


def stored_encoder(args, stages):
    """The encoder to use: the one named, else one trained for this folder and kept, else the package's."""
    if args.encoder is not None:
        return load_encoder(args.encoder)
    kept = args.index / "encoder.npz"
    if args.train and not kept.exists():
        save_encoder(kept, train_on(args.folder, args.minutes, args.seed, stages))
    return load_encoder(kept) if kept.exists() else pretrained_encoder()


def updated_index(args, encoder, stages):
    """The index of the folder as it is now, written back if anything has changed."""
    path, mark = args.index / "table.npz", fingerprint(encoder)
    table = None
    if path.exists():
        try:
            table = load_table(path)
        except ValueError as error:  # it only saves time
            print(f"{error}; building it anew")
    if table is None or table.encoder != mark:  # embeddings of another encoder are not comparable
        table = empty_table(mark, len(encoder.weights["head/bias"]))
    with stages.stage("indexing", "pic") as progress:
        keep = partial(save_table, path)
        indexed = update_table(table, args.folder, encoder, progress=progress, keep=keep)
    found = len(indexed.table.names)
    # An empty folder is more likely a disk that is not there than the wish to lose what was embedded.
    if found and (indexed.embedded or indexed.removed or not path.exists()):
        save_table(path, indexed.table)
    _, embedded, kept, removed, _ = indexed
    print(f"{found} pictures: {embedded} embedded, {kept} kept, {removed} removed")
    for name, reason in indexed.skipped:
        print(f"skipped {name}: {reason}")
    if not found:
        raise ValueError(f"{args.folder}: expected at least one readable picture, found none")
    return indexed.table


def write_result_page(path, args, query, names, scores, total):
    """The query and what was found, as one self-contained page."""
    sheet = Sheet(cell=240)
    sheet.add(None, query)
    tiles = []
    for rank, (name, score) in enumerate(zip(names[:MOST_ON_PAGE], scores), 1):
        file = PurePosixPath(name)
        notes = [file.name, *([] if file.parent == PurePosixPath() else [str(file.parent)])]
        try:
            picture = decode(args.folder / name)
        except (ValueError, OSError):  # in a folder that cannot be read now, or gone since it was found
            picture = np.full((1, 1, 3), 255, np.uint8)
            notes.append("cannot be read now")
        sheet.add(name, picture)
        tiles.append(picture_card(sheet, name, f"{rank} · {score:.3f}", label=name, notes=notes))
    part = f"the part {args.crop} of " if args.crop else ""
    header = (
        f"<div class=asked>{picture_card(sheet, None, '', label=args.query.name)}<div><h1>Pictures like this</h1>"
        f"<p>The query is {part}{html.escape(args.query.name)}. Searched: {total:,} pictures in "
        f"{html.escape(str(args.folder))}.</p></div></div>"
    )
    lead = f"The {len(tiles)} most similar, best first. The number is the cosine similarity of the embeddings."
    sections = [section("Found", lead, f"<div class=tiles>{''.join(tiles)}</div>")]
    write_page(path, f"Pictures like {args.query.name}", header, sections, sheet, "")


def arguments():
    parser = Parser(__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--query", type=Path, required=True, metavar="IMAGE")
    parser.add_argument("--crop", metavar="X,Y,W,H", help="search with this part of the query, in pixels")
    parser.add_argument("-k", type=int, default=10, help="how many results (default 10)")
    parser.add_argument("--encoder", type=Path, help="an encoder.npz written by quickstart.py")
    parser.add_argument("--train", action="store_true", help="learn an encoder from this folder, unless it has one")
    parser.add_argument("--minutes", type=float, default=2.0, help="training time of --train (default 2)")
    parser.add_argument("--index", type=Path, help="where encoder and embeddings are kept (default DIR/.refimpl-index)")
    parser.add_argument("--out", type=Path, default=Path("out") / "search.html", help="the result page")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.index = args.index or args.folder / ".refimpl-index"
    parser.at_least(args, k=1, seed=0)
    parser.a_time(args)
    if args.train and args.encoder is not None:
        parser.error("--train and --encoder: expected only one of them")
    if not os.path.isdir(args.folder):  # Path's own raises for names that are too long
        parser.error(f"{args.folder}: no such folder")
    if args.crop is not None:
        try:
            args.box = [int(number) for number in args.crop.split(",")]
        except ValueError:
            args.box = []
        if len(args.box) != 4:
            parser.error(f"--crop: expected X,Y,W,H in whole pixels, got {args.crop!r}")
    return parser, args


def main():
    parser, args = arguments()
    with one_line_errors(parser):
        stages = Stages()
        query = decode(args.query)  # before any long work
        if args.crop is not None:
            query = crop(query, args.box)
        check_writable(parser, "--index", args.index / "table.npz")
        check_writable(parser, "--out", args.out)
        encoder = stored_encoder(args, stages)
        table = updated_index(args, encoder, stages)
        rows, scores = search(table, encoder, query, args.k)
        names = table.names[rows].tolist()
        print(f"\n{'rank':>4}  {'cosine':>6}  picture")
        for rank, (name, score) in enumerate(zip(names, scores), 1):
            print(f"{rank:>4}  {score:>6.3f}  {name}")
        write_result_page(args.out, args, query, names, scores, len(table.names))
    print(f"\nopen {args.out}")


if __name__ == "__main__":
    main()

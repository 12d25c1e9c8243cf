"""Draw the synthetic catalogue's contact sheet, docs/results/catalogue.png: every family, and the views of some items.

python scripts/catalogue_sheet.py
"""

from pathlib import Path

import numpy as np
from command_line import Parser, check_writable, one_line_errors
from PIL import Image

from refimpl.data import COLOURS, FAMILIES, render_catalogue
from refimpl.data.catalogue import draw_item
from refimpl.files import atomic_write

PAPER = (238, 236, 232)
TILE = 72  # pixels of a product, and of a view


def product_sheet(rows, seed):
    """A column for each family, `rows` items in each, without background: a Pillow image."""
    sheet = Image.new("RGB", (TILE * len(FAMILIES), TILE * rows), PAPER)
    for family in range(len(FAMILIES)):
        for row in range(rows):
            colour = (family * 3 + row * 2) % len(COLOURS)
            item = draw_item(family, colour, np.random.default_rng([seed, family, row]))
            picture = Image.fromarray(item).resize((TILE, TILE), Image.Resampling.LANCZOS)
            sheet.paste(picture, (family * TILE, row * TILE), picture)
    return sheet


def view_sheet(rows, seed):
    """A row for each of `rows` items, one view of it a column."""
    catalogue = render_catalogue(13 * rows, len(FAMILIES), size=TILE, seed=seed)
    items = catalogue.images.reshape(13 * rows, len(FAMILIES), TILE, TILE, 3)[::13]  # a step that changes the family
    return Image.fromarray(items.transpose(0, 2, 1, 3, 4).reshape(rows * TILE, len(FAMILIES) * TILE, 3))


def draw(path, seed):
    """Both sheets, one above the other, as a PNG."""
    top, bottom = product_sheet(5, seed), view_sheet(5, seed)
    sheet = Image.new("RGB", (top.width, top.height + TILE // 6 + bottom.height), PAPER)
    sheet.paste(top, (0, 0))
    sheet.paste(bottom, (0, top.height + TILE // 6))
    # 256 colours of its own keep the file small; the picture is for people to look at.
    colours = sheet.quantize(256, Image.Quantize.MEDIANCUT)
    with atomic_write(path) as file:
        sheet.quantize(palette=colours, dither=Image.Dither.FLOYDSTEINBERG).save(file, "PNG", optimize=True)
    print(f"{path}: {sheet.width} x {sheet.height}, {path.stat().st_size // 1000} kB")


def main():
    parser = Parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "docs" / "results" / "catalogue.png")
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    parser.at_least(arguments, seed=0)
    check_writable(parser, "--out", arguments.out)
    with one_line_errors(parser):
        draw(arguments.out, arguments.seed)


if __name__ == "__main__":
    main()

"""Building blocks of the result pages: one self-contained HTML file, light and dark, phone and desktop, no network.

All pictures of a page go into one JPEG sheet that the page carries as a data URI; a picture is a cell of the sheet, so
that one shown in ten places costs its bytes once.
"""

import base64
import html
import io
import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

from refimpl.files import atomic_write
from refimpl.images import resize

SPELLED = {"mrr": "MRR", "map": "mAP", "ndcg": "nDCG"}


class Sheet:
    """Pictures by key, laid out on one square sheet."""

    def __init__(self, cell):
        self.cell, self.keys, self.pictures = cell, {}, []

    def add(self, key, picture):
        """Remember a (h, w, 3) uint8 picture under a key."""
        if key not in self.keys:
            self.keys[key] = len(self.pictures)
            self.pictures.append(resize(picture, self.cell, mode="letterbox"))

    def figure(self, key, label, css=""):
        """The picture of a key as an element; its size is its parent's business."""
        return (
            f'<i class="pic {css}" role="img" aria-label="{html.escape(label, quote=True)}" '
            f'data-cell="{self.keys[key]}" data-key="{html.escape(str(key), quote=True)}"></i>'
        )

    def columns(self):
        return max(1, math.ceil(math.sqrt(len(self.pictures))))

    def css(self):
        """The rules that show the sheet, each cell by a rule of its own."""
        columns = self.columns()
        rows = max(1, math.ceil(len(self.pictures) / columns))
        sheet = np.full((rows * self.cell, columns * self.cell, 3), 255, np.uint8)
        for i, picture in enumerate(self.pictures):
            y, x = divmod(i, columns)
            sheet[y * self.cell : (y + 1) * self.cell, x * self.cell : (x + 1) * self.cell] = picture
        file = io.BytesIO()
        Image.fromarray(sheet).save(file, "JPEG", quality=84, optimize=True)
        uri = base64.b64encode(file.getvalue()).decode("ascii")
        rules = [f'.pic{{background-image:url("data:image/jpeg;base64,{uri}");background-size:{columns * 100}% auto}}']
        for i in range(len(self.pictures)):
            y, x = divmod(i, columns)
            left = 100 * x / max(columns - 1, 1)
            top = 100 * y / max(rows - 1, 1)
            rules.append(f'.pic[data-cell="{i}"]{{background-position:{left:.4g}% {top:.4g}%}}')
        return "".join(rules)


def picture_card(sheet, key, caption, *, label, notes=(), grade=None, top_grade=1):
    """A picture with a caption below; `grade` of `top_grade` colours its frame and is shown as dots.

    notes   lines below the caption, cut where they are long
    """
    marks, css = "", "card"
    if grade is not None:
        level = 0 if not grade else 1 + round(2 * (grade - 1) / max(top_grade - 1, 1)) if top_grade > 1 else 3
        css += f" g{level}"
        marks = f'<b title="grade {grade} of {top_grade}">{"●" * grade}{"○" * (top_grade - grade)}</b>'
    lines = "".join(f"<small>{html.escape(note)}</small>" for note in notes)
    caption = f"<figcaption>{html.escape(caption)}{marks}{lines}</figcaption>"
    title = f' title="{html.escape(label, quote=True)}"' if notes else ""
    return f'<figure class="{css}"{title}>{sheet.figure(key, label)}{caption}</figure>'


def measure_table(metrics, best):
    """Methods down, measures across, a bar behind each number; the row `best` stands out."""
    names = list(next(iter(metrics.values())))
    head = ""
    for name in names:
        measure, at, depth = name.partition("@")
        head += f'<th scope="col">{html.escape(SPELLED.get(measure, measure))}<wbr>{at}{depth}</th>'
    rows = []
    for method, values in metrics.items():
        cells = "".join(
            f'<td><span class="bar" style="width:{100 * values[name]:.1f}%"></span><span>{values[name]:.3f}</span></td>'
            for name in names
        )
        row = "<tr class=best>" if method == best else "<tr>"
        rows.append(f'{row}<th scope="row">{html.escape(method)}</th>{cells}</tr>')
    return f'<div class="scroll"><table class="measures"><tr><th></th>{head}</tr>{"".join(rows)}</table></div>'


def time_bars(seconds):
    """Seconds a stage, as horizontal bars."""
    longest = max(seconds.values())
    rows = "".join(
        f"<tr><th scope=row>{html.escape(name)}</th><td><span class=bar style='width:{100 * s / longest:.1f}%'></span>"
        f"<span>{s:.1f} s</span></td></tr>"
        for name, s in seconds.items()
    )
    return f'<table class="measures times">{rows}</table>'


def loss_curve(losses, chance, chance_label):
    """The loss against the step as SVG, every step faint and a running mean strong; `chance` is the collapsed loss."""
    width, height, left, bottom, top = 640, 260, 48, 46, 14
    losses = np.asarray(losses, float)
    window = max(1, len(losses) // 40)
    smooth = np.convolve(losses, np.ones(window) / window, mode="valid")
    y_top = 1.08 * max(losses.max(), chance)

    def place(x, y):
        px = left + (width - left - 12) * x / max(len(losses) - 1, 1)
        return f"{px:.1f},{top + (height - top - bottom) * (1 - y / y_top):.1f}"

    every = max(1, len(losses) // 600)
    faint = " ".join(place(i, losses[i]) for i in range(0, len(losses), every))
    strong = " ".join(place(i + window // 2, smooth[i]) for i in range(0, len(smooth), every))
    chance_from, chance_to = place(0, chance), place(max(len(losses) - 1, 1), chance)
    cx, cy = chance_to.split(",")
    ticks = []
    for i in range(5):
        value = y_top * i / 4
        _, y = place(0, value).split(",")
        ticks.append(f"<line class=grid x1={left} x2={width - 12} y1={y} y2={y} />")
        ticks.append(f"<text x={left - 6} y={y} text-anchor=end dominant-baseline=middle>{value:.1f}</text>")
    for step in sorted({round((len(losses) - 1) * i / 4) for i in range(5)}):
        x, _ = place(step, 0).split(",")
        anchor = "end" if step and step == len(losses) - 1 else "middle"
        ticks.append(f"<text x={x} y={height - bottom + 18} text-anchor={anchor}>{step + 1}</text>")
    dots = ""
    if len(losses) < 12:  # lines of so few points would hardly be seen
        points = (place(i, loss).split(",") for i, loss in enumerate(losses))
        dots = "".join(f"<circle class=dot cx={x} cy={y} r=4 />" for x, y in points)
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="loss against training step">{"".join(ticks)}'
        f"<text x={width / 2} y={height - 6} text-anchor=middle>training step</text>"
        f'<text class=upright transform="translate(11 {height / 2 - 10}) rotate(-90)" text-anchor=middle>'
        "loss (nats)</text>"
        f'<polyline class=chance points="{chance_from} {chance_to}" />'
        f"<text x={cx} y={float(cy) - 6} text-anchor=end>{html.escape(chance_label)}</text>"
        f'<polyline class=faint points="{faint}" /><polyline class=strong points="{strong}" />{dots}</svg>'
    )


def embedding_map(sheet, keys, labels, positions, neighbours):
    """Pictures at their places in the plane. Choosing one shows its nearest neighbours among all pictures.

    positions   (n, 2); neighbours  n lists of (key, caption)
    """
    low, high = positions.min(axis=0), positions.max(axis=0)
    places = 2 + 92 * (positions - low) / np.maximum(high - low, 1e-12)
    pictures = "".join(
        f'<button style="left:{x:.2f}%;top:{y:.2f}%" data-i="{i}" aria-label="{html.escape(labels[i], quote=True)}">'
        f"{sheet.figure(key, labels[i])}</button>"
        for i, (key, (x, y)) in enumerate(zip(keys, places))
    )
    near = [[[sheet.keys[key], caption] for key, caption in row] for row in neighbours]
    near = json.dumps(near).replace("<", "\\u003c")  # a file name must not end the script
    return (
        f'<div class="map-and-panel"><div class="map">{pictures}</div><aside class="panel" aria-live="polite">'
        "<p>Choose a picture on the map to search with it.</p></aside></div>"
        f"<script>const NEAR={near};</script>"
    )


def method_switch(methods):
    """Buttons that choose which method's results all `.strip` elements of the page show; the first is on."""
    buttons = "".join(
        f'<button data-method="{i}" aria-pressed="{"true" if i == 0 else "false"}">{html.escape(name)}</button>'
        for i, name in enumerate(methods)
    )
    return f'<div class="switch" role="group" aria-label="method">{buttons}</div>'


def section(title, lead, *parts):
    """A titled part of a page with a leading sentence."""
    return f"<section><h2>{html.escape(title)}</h2><p class=lead>{lead}</p>{''.join(parts)}</section>"


def write_page(path, title, header, sections, sheet, footer):
    """Assemble and write the page, atomically."""
    style, script = (Path(__file__).with_suffix(kind).read_text(encoding="utf-8") for kind in (".css", ".js"))
    text = (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>{html.escape(title)}</title><style>{style}{sheet.css()}</style></head>"
        f"<body><header>{header}</header><main>{''.join(sections)}</main><footer>{footer}</footer>"
        f"<script>{script}</script></body></html>"
    )
    with atomic_write(path) as file:
        file.write(text.encode("utf-8", errors="backslashreplace"))  # names of files need not be text

"""Building blocks of the result pages: one self-contained HTML file, light and dark, phone and desktop, no network.

All pictures of a page go into one JPEG sheet that the page carries as a data URI; a picture is a cell of the sheet, so
that one shown in ten places costs its bytes once.
"""

import base64
import html
import io
import json
import math

import numpy as np
from PIL import Image

from refimpl.files import atomic_write
from refimpl.images import resize


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


def picture_card(sheet, key, caption, *, label, grade=None, top_grade=1):
    """A picture with a caption below; `grade` of `top_grade` colours its frame and is shown as dots."""
    marks, css = "", "card"
    if grade is not None:
        level = 0 if not grade else 1 + round(2 * (grade - 1) / max(top_grade - 1, 1)) if top_grade > 1 else 3
        css += f" g{level}"
        marks = f'<b title="grade {grade} of {top_grade}">{"●" * grade}{"○" * (top_grade - grade)}</b>'
    return f'<figure class="{css}">{sheet.figure(key, label)}<figcaption>{html.escape(caption)}{marks}</figcaption></figure>'


def measure_table(metrics, best):
    """Methods down, measures across, a bar behind each number; the row `best` stands out."""
    names = list(next(iter(metrics.values())))
    head = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in names)
    rows = []
    for method, values in metrics.items():
        cells = "".join(
            f'<td><span class="bar" style="width:{100 * values[name]:.1f}%"></span><span>{values[name]:.3f}</span></td>'
            for name in names
        )
        rows.append(f'<tr{" class=best" if method == best else ""}><th scope="row">{html.escape(method)}</th>{cells}</tr>')
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
    width, height, left, bottom, top = 640, 260, 48, 40, 14
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
        ticks.append(f'<line class=grid x1={left} x2={width - 12} y1={y} y2={y} />')
        ticks.append(f'<text x={left - 6} y={y} text-anchor=end dominant-baseline=middle>{value:.1f}</text>')
        step = round((len(losses) - 1) * i / 4)
        x, _ = place(step, 0).split(",")
        ticks.append(f'<text x={x} y={height - bottom + 16} text-anchor={"end" if i == 4 else "middle"}>{step}</text>')
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="loss against training step">{"".join(ticks)}'
        f'<text x={width / 2} y={height - 6} text-anchor=middle>training step</text>'
        f'<text transform="translate(11 {height / 2 - 10}) rotate(-90)" text-anchor=middle>loss (nats)</text>'
        f'<polyline class=chance points="{chance_from} {chance_to}" />'
        f"<text x={cx} y={float(cy) - 6} text-anchor=end>{html.escape(chance_label)}</text>"
        f'<polyline class=faint points="{faint}" /><polyline class=strong points="{strong}" /></svg>'
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
        f"<script>const NEAR={near};{_MAP_SCRIPT}</script>"
    )


def method_switch(methods):
    """Buttons that choose which method's results all `.strip` elements of the page show; the first is on."""
    buttons = "".join(
        f'<button data-method="{i}" aria-pressed="{"true" if i == 0 else "false"}">{html.escape(name)}</button>'
        for i, name in enumerate(methods)
    )
    return f'<div class="switch" role="group" aria-label="method">{buttons}</div><script>{_SWITCH_SCRIPT}</script>'


def section(title, lead, *parts):
    """A titled part of a page with a leading sentence."""
    return f"<section><h2>{html.escape(title)}</h2><p class=lead>{lead}</p>{''.join(parts)}</section>"


def write_page(path, title, header, sections, sheet, footer):
    """Assemble and write the page, atomically."""
    text = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<title>{html.escape(title)}</title><style>{_CSS}{sheet.css()}</style></head>"
        f"<body><header>{header}</header><main>{''.join(sections)}</main><footer>{footer}</footer></body></html>"
    )
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


_CSS = """
:root{--bg:#f6f5f2;--paper:#fff;--ink:#1d2129;--soft:#646b78;--line:#e3e1db;--accent:#2457d6;--bar:#dbe5ff;
--g0:#c9ccd3;--g1:#d9a404;--g2:#3b8fd4;--g3:#15935c;--shadow:0 1px 2px #0001,0 6px 24px #0000000d}
@media(prefers-color-scheme:dark){:root{--bg:#13151a;--paper:#1c1f27;--ink:#e9ebf0;--soft:#9aa2b1;--line:#2d323d;
--accent:#86a8ff;--bar:#2a3a66;--g0:#444a57;--g1:#e4b83a;--g2:#5fb0f0;--g3:#3cc68a;--shadow:none}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
header,main,footer{max-width:1120px;margin:0 auto;padding:0 20px}
header{padding-top:52px}h1{font-size:clamp(1.8rem,4.6vw,2.9rem);line-height:1.1;letter-spacing:-.02em;margin:0 0 12px}
header p{max-width:64ch;color:var(--soft);margin:0 0 8px;font-size:1.05rem}
.facts{display:flex;flex-wrap:wrap;gap:10px 34px;margin:26px 0 4px}
.facts div{min-width:110px}.facts b{display:block;font-size:1.9rem;line-height:1.15;letter-spacing:-.02em;color:var(--accent)}
.facts span{color:var(--soft);font-size:.88rem}
section{background:var(--paper);border:1px solid var(--line);border-radius:16px;box-shadow:var(--shadow);
padding:24px;margin:26px 0}
h2{font-size:1.3rem;letter-spacing:-.01em;margin:0 0 4px}h3{font-size:1rem;margin:22px 0 8px}
.lead{color:var(--soft);margin:0 0 16px;max-width:76ch}
.scroll{overflow-x:auto}
table.measures{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
.measures th{text-align:left;font-weight:500;padding:7px 14px 7px 0;white-space:nowrap}
.measures tr:first-child th[scope=col]{color:var(--soft);font-size:.86rem;padding-left:10px}
.measures td{position:relative;padding:7px 10px;min-width:96px;border-left:4px solid transparent}
.measures td span{position:relative}.measures .bar{position:absolute;left:0;top:4px;bottom:4px;background:var(--bar);border-radius:5px}
.measures .best th,.measures .best td{font-weight:700}.times th{width:1%}
.pic{display:block;width:100%;aspect-ratio:1;border-radius:8px;background-color:#fff;background-repeat:no-repeat}
.row{display:grid;grid-template-columns:118px 1fr;gap:18px;padding:16px 0;border-top:1px solid var(--line);align-items:start}
.row:first-of-type{border-top:0}
.query figcaption{color:var(--soft)}
.strip{display:grid;grid-template-columns:repeat(10,1fr);gap:8px}.strip[hidden]{display:none}
figure{margin:0}.card figcaption{font-size:.72rem;line-height:1.3;margin-top:4px;color:var(--soft);
font-variant-numeric:tabular-nums;overflow-wrap:anywhere}.card b{display:block;letter-spacing:.08em;font-weight:400}
.card .pic{outline:3px solid transparent;outline-offset:-3px}
.g0 .pic{opacity:.82;outline-color:var(--g0)}.g1 .pic{outline-color:var(--g1)}.g2 .pic{outline-color:var(--g2)}
.g3 .pic{outline-color:var(--g3)}.g1 b{color:var(--g1)}.g2 b{color:var(--g2)}.g3 b{color:var(--g3)}
.query .pic{border-radius:12px}
.legend{display:flex;flex-wrap:wrap;gap:6px 20px;font-size:.86rem;color:var(--soft);margin:0 0 6px}
.legend i{display:inline-block;width:12px;height:12px;border-radius:4px;margin-right:7px;vertical-align:-1px}
.switch{display:inline-flex;flex-wrap:wrap;gap:4px;background:var(--bg);border:1px solid var(--line);border-radius:12px;padding:4px;
margin:0 0 12px}.switch button{font:inherit;font-size:.9rem;border:0;border-radius:9px;padding:6px 14px;background:none;color:var(--soft);
cursor:pointer}.switch button[aria-pressed=true]{background:var(--paper);color:var(--ink);box-shadow:0 1px 3px #0002;font-weight:600}
.map-and-panel{display:grid;grid-template-columns:1fr 210px;gap:20px;align-items:start}
.map{position:relative;width:100%;aspect-ratio:1;background:var(--bg);border-radius:12px;overflow:hidden}
.map button{position:absolute;width:4%;padding:0;border:0;background:none;cursor:pointer;transition:transform .12s}
.map .pic{border-radius:4px;box-shadow:0 0 0 1px #0002}
.map button:hover,.map button:focus-visible{transform:scale(2.4);z-index:2}.map button[aria-pressed=true]{transform:scale(2.4);z-index:3}
.map button[aria-pressed=true] .pic{box-shadow:0 0 0 2px var(--accent)}
.panel{position:sticky;top:14px}.panel p{color:var(--soft);margin:0 0 10px;font-size:.9rem}
.panel div{display:grid;grid-template-columns:repeat(2,1fr);gap:8px}
svg{width:100%;max-width:760px;height:auto;display:block}svg text{fill:var(--soft);font-size:12px}
.grid{stroke:var(--line)}polyline{fill:none}.faint{stroke:var(--accent);opacity:.25}.strong{stroke:var(--accent);stroke-width:2.5}
.chance{stroke:var(--soft);stroke-dasharray:5 5}
table.list{border-collapse:collapse;width:100%;font-size:.92rem}.list td,.list th{text-align:left;padding:6px 12px 6px 0;
border-top:1px solid var(--line);overflow-wrap:anywhere}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:14px}
footer{color:var(--soft);font-size:.86rem;padding-bottom:60px}code{font-size:.92em;overflow-wrap:anywhere}
@media(max-width:720px){header{padding-top:32px}section{padding:18px 16px;border-radius:12px}.row{grid-template-columns:1fr;gap:10px}
.query{display:grid;grid-template-columns:84px 1fr;gap:12px;align-items:center}.strip{grid-template-columns:repeat(5,1fr)}
.map-and-panel{grid-template-columns:1fr}.map button{width:6%}.panel{position:static}.panel div{grid-template-columns:repeat(4,1fr)}
.tiles{grid-template-columns:repeat(2,1fr)}}
"""

_SWITCH_SCRIPT = """
document.querySelectorAll('.switch button').forEach(b=>b.onclick=()=>{
document.querySelectorAll('.switch button').forEach(o=>o.setAttribute('aria-pressed',o===b));
document.querySelectorAll('.strip[data-method]').forEach(s=>s.hidden=s.dataset.method!==b.dataset.method)});
"""

_MAP_SCRIPT = """
const panel=document.querySelector('.panel');
document.querySelectorAll('.map button').forEach(b=>b.onclick=()=>{
document.querySelectorAll('.map button').forEach(o=>o.setAttribute('aria-pressed',o===b));
panel.replaceChildren();const p=document.createElement('p');p.textContent=b.getAttribute('aria-label')+': its nearest neighbours';
const d=document.createElement('div');
for(const [cell,caption] of NEAR[b.dataset.i]){const f=document.createElement('figure');f.className='card';
const i=document.createElement('i');i.className='pic';i.dataset.cell=cell;i.setAttribute('role','img');i.setAttribute('aria-label',caption);
const c=document.createElement('figcaption');c.textContent=caption;f.append(i,c);d.append(f)}
panel.append(p,d)});
"""

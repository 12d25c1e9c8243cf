"""Drawings of sixteen families of products, each with four shape parameters: the stock of the synthetic catalogue.

A product is a list of parts, painted in order. A part is an outline in the unit square (x to the right, y down) and a
material: the parts of material "body" carry the item's colour and pattern, "trim" its second colour, and the rest are
what they are named after. A family is a function from four numbers in [0, 1] (a, b, c: proportions; d: which kind of
handle, collar, legs ...) to such a list: equal parameters give the same product, near ones a similar product.

    FAMILIES   name -> function(a, b, c, d) -> [Part, ...]

Outlines are polygons of points; round ones come from `ellipse`, `smooth` (Catmull-Rom spline through points),
`mirrored` (a right half and its mirror image) and `tapered` (a cylinder seen from slightly above).
"""

from typing import NamedTuple

import numpy as np


class Part(NamedTuple):
    """One shape of a product; a product is a list of them, painted in order."""

    outline: np.ndarray  # (k, 2) points (x, y) in the unit square
    material: str  # "body", "trim", or a key of rendering.MATERIALS
    width: float = 0.0  # 0: the outline is filled; else it is a line of this width with round ends


def points(*pairs):
    """Pairs (x, y) as an outline, (k, 2) float64."""
    return np.array(pairs, np.float64)


def ellipse(x, y, rx, ry=None, start=0.0, stop=360.0):
    """Points of an ellipse, or of its arc from `start` to `stop` degrees (0 is right, 90 is down)."""
    angle = np.deg2rad(np.linspace(start, stop, 48))
    return np.stack([x + rx * np.cos(angle), y + (rx if ry is None else ry) * np.sin(angle)], axis=1)


def box(left, top, right, bottom, radius=0.0):
    """A rectangle with corners rounded by `radius`."""
    radius = min(radius, (right - left) / 2, (bottom - top) / 2)
    corners = [
        ellipse(right - radius, bottom - radius, radius, None, 0, 90),
        ellipse(left + radius, bottom - radius, radius, None, 90, 180),
        ellipse(left + radius, top + radius, radius, None, 180, 270),
        ellipse(right - radius, top + radius, radius, None, 270, 360),
    ]
    return np.concatenate(corners)


def smooth(outline, closed=True):
    """A Catmull-Rom spline through the points of `outline`: piecewise cubic, tangent (next - previous) / 2."""
    p = np.asarray(outline, np.float64)
    p = np.concatenate([p[-1:], p, p[:2]]) if closed else np.concatenate([p[:1], p, p[-1:]])
    t = np.linspace(0, 1, 12, endpoint=False)[:, None]
    before, start, end, after = p[:-3, None], p[1:-2, None], p[2:-1, None], p[3:, None]
    cubic = start + t / 2 * (end - before + t * (2 * before - 5 * start + 4 * end - after))
    cubic = cubic + t**3 / 2 * (3 * (start - end) + after - before)
    curve = cubic.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, p[-1:]])


def mirrored(half, x=0.5):
    """The closed outline whose right half is `half`, points (distance from the axis, y) from top to bottom."""
    half = np.asarray(half, np.float64)
    right = half * (1, 1) + (x, 0)
    left = half[::-1] * (-1, 1) + (x, 0)
    return np.concatenate([right, left])


def turned(half, x=0.5):
    """`mirrored` with a smooth profile: what comes off a potter's wheel."""
    return mirrored(smooth(half, closed=False), x)


def tapered(x, top, bottom, top_radius, bottom_radius, depth):
    """A cup or drum, `depth` the half height of the ellipses that a round edge makes when seen from above."""
    foot = ellipse(x, bottom, bottom_radius, depth * bottom_radius / top_radius, 0, 180)
    return np.concatenate([points((x - top_radius, top), (x + top_radius, top)), foot])


# fmt: off
# An outline reads as rows of points.


def mug(a, b, c, d):
    """a: radius; b: height; c: width of the foot; d: a round, square or drawn-out handle."""
    radius, height, foot = 0.2 + 0.09 * a, 0.44 + 0.22 * b, 0.72 + 0.3 * c
    x, top, bottom = 0.43, 0.5 - height / 2, 0.48 + height / 2
    edge = x + radius * (1 + foot) / 2
    if d < 0.35:
        handle = ellipse(edge - 0.02, 0.5, 0.17, 0.28 * height, -90, 90)
    elif d < 0.7:
        handle = points((edge - 0.03, top + 0.1), (edge + 0.16, top + 0.1), (edge + 0.16, bottom - 0.13),
                        (edge - 0.03, bottom - 0.13))
    else:
        handle = smooth(points((edge - 0.03, top + 0.08), (edge + 0.17, top + 0.06), (edge + 0.12, 0.55),
                               (edge - 0.03, bottom - 0.1)), closed=False)
    return [
        Part(handle, "trim" if 0.25 < d < 0.5 else "body", 0.055),
        Part(tapered(x, top, bottom, radius, radius * foot, 0.055), "body"),
        Part(ellipse(x, top, radius, 0.06), "body"),
        Part(ellipse(x, top + 0.004, radius - 0.025, 0.045), "cream"),
        Part(ellipse(x, top + 0.016, radius - 0.045, 0.031), "coffee"),
    ]


def shirt(a, b, c, d):
    """a: width; b: length of the sleeves; c: neck, flare of the hem; d: a round neck or a V, and its depth."""
    half, sleeve, neck = 0.19 + 0.06 * a, 0.14 + 0.25 * b, 0.08 + 0.03 * c
    bottom, hem = 0.86, half * (0.95 + 0.2 * c)
    shoulder = half + 0.07
    tip = points((0.11, 0.02), (0.02, 0.14)) * (sleeve / 0.2) ** 0.5
    outer = (shoulder + 0.12 + tip[0, 0] * 0.4, 0.22 + sleeve)
    inner = (half + 0.07 + tip[1, 0] * 0.4, 0.27 + sleeve)
    outline = mirrored([(neck, 0.13), (shoulder, 0.18), outer, inner, (half, 0.36), (hem, bottom), (0, bottom)])
    if d < 0.4:
        collar = ellipse(0.5, 0.13, neck, 0.03 + 0.08 * d, 0, 180)
    else:
        collar = points((0.5 - neck, 0.13), (0.5, 0.16 + 0.14 * d), (0.5 + neck, 0.13))
    parts = [
        Part(outline, "body"),
        Part(collar, "shade"),
        Part(collar, "trim", 0.03),
        Part(points((0.5 - hem, bottom - 0.012), (0.5 + hem, bottom - 0.012)), "trim", 0.022),
    ]
    for side in (-1, 1):
        cuff = points(outer, inner) * (side, 1) + (0.5, 0)
        parts.append(Part(cuff, "trim", 0.022))
    return parts


def shoe(a, b, c, d):
    """a: height of the ankle, laces; b: height of the toe; c: sole; d: a wave, stripes or a disc."""
    ankle, toe, sole = 0.42 - 0.2 * a, 0.62 - 0.06 * b, 0.04 + 0.05 * c
    ground = 0.74
    upper = smooth(points((0.1, ground - 0.02), (0.1, ankle + 0.16), (0.13, ankle), (0.34, ankle + 0.01),
                          (0.42, ankle + 0.14 * (1 - 0.3 * a)), (0.66, toe - 0.04), (0.87, toe + 0.03),
                          (0.91, ground - 0.02)))
    parts = [
        Part(upper, "body"),
        Part(smooth(points((0.76, toe - 0.025), (0.88, toe + 0.025), (0.92, ground), (0.72, ground))),
             "cream" if d < 0.6 else "trim"),
        Part(box(0.075, ground - 0.03, 0.93, ground + sole, 0.04), "cream"),
        Part(points((0.1, ground + sole - 0.012), (0.9, ground + sole - 0.012)), "trim", 0.02),
        Part(ellipse(0.235, ankle + 0.005, 0.1, 0.025), "dark"),
    ]
    if d < 0.35:
        wave = smooth(points((0.2, 0.6), (0.3, 0.68), (0.42, 0.62), (0.58, 0.55)), closed=False)
        parts.append(Part(wave, "trim", 0.04))
    elif d < 0.7:
        parts += [Part(points((x, 0.7), (x + 0.07, 0.53)), "trim", 0.03) for x in (0.28, 0.37, 0.46)]
    else:
        parts.append(Part(ellipse(0.25, 0.56, 0.075), "trim"))
    for t in np.linspace(0.1, 0.95, 3 + int(2 * a)):
        x, y = 0.4 + 0.25 * t, (ankle + 0.1) * (1 - t) + (toe - 0.05) * t
        parts.append(Part(points((x - 0.025, y + 0.05), (x + 0.03, y + 0.012)), "white", 0.022))
    return parts


def chair(a, b, c, d):
    """a: width; b: height of the back; c: splay of the legs; d: a back of slats, a panel or a shell; wood or metal."""
    half, top, seat = 0.18 + 0.07 * a, 0.2 - 0.12 * b, 0.55
    splay, legs = 0.02 + 0.07 * c, "wood" if d < 0.5 else "metal"
    parts = [
        Part(points((0.5 + s * (half - 0.04), seat), (0.5 + s * (half - 0.03 + splay / 2), 0.84)), legs, 0.03)
        for s in (-1, 1)
    ]
    if d < 0.3:
        parts += [Part(points((0.5 + s * half * 0.9, top), (0.5 + s * half * 0.9, seat)), legs, 0.04) for s in (-1, 1)]
        parts += [Part(box(0.5 - half, y, 0.5 + half, y + 0.07, 0.03), "body") for y in (top, top + 0.12)]
    elif d < 0.65:
        parts.append(Part(box(0.5 - half * 0.95, top, 0.5 + half * 0.95, seat - 0.06, 0.05 + 0.1 * c), "body"))
        parts += [Part(points((0.5 + s * half * 0.6, seat - 0.07), (0.5 + s * half * 0.6, seat)), legs, 0.035)
                  for s in (-1, 1)]
    else:
        back = turned([(0.0, top), (half * 0.8, top + 0.06), (half * 1.1, 0.38), (half * 0.7, seat)])
        parts.append(Part(back, "body"))
    front = half + 0.045
    parts += [
        Part(points((0.5 + s * (front - 0.05), seat + 0.06), (0.5 + s * (front - 0.03 + splay), 0.93)), legs, 0.036)
        for s in (-1, 1)
    ]
    cushion = mirrored([(half, seat - 0.03), (front, seat + 0.07)])
    parts.append(Part(box(0.5 - front, seat + 0.03, 0.5 + front, seat + 0.1, 0.035), "trim"))
    parts.append(Part(cushion, "body"))
    return parts


def lamp(a, b, c, d):
    """a, b: lower and upper width of the shade; c: its length; d: a jar, a stem or a tripod."""
    wide, narrow, bottom = 0.22 + 0.1 * a, 0.08 + 0.12 * b, 0.36 + 0.14 * c
    top = 0.09
    parts = []
    if d < 0.35:  # a jar
        parts.append(Part(turned([(0.03, bottom), (0.03, bottom + 0.05), (0.15 + 0.05 * a, 0.72), (0.1, 0.9)]), "trim"))
    elif d < 0.7:  # a stem on a disc
        parts.append(Part(points((0.5, bottom), (0.5, 0.88)), "metal", 0.035))
        parts.append(Part(tapered(0.5, 0.88, 0.905, 0.17, 0.17, 0.04), "trim"))
        parts.append(Part(ellipse(0.5, 0.88, 0.17, 0.04), "trim"))
    else:  # a tripod
        parts += [Part(points((0.5, bottom), (x, 0.91)), "wood", 0.034) for x in (0.5, 0.29, 0.71)]
        parts.append(Part(points((0.4, 0.7), (0.6, 0.7)), "wood", 0.02))
    parts.append(Part(ellipse(0.5, bottom + 0.015, wide * 0.9, 0.045), "glow"))
    parts.append(Part(tapered(0.5, top, bottom, narrow, wide, 0.035 * narrow / wide + 0.02), "body"))
    parts.append(Part(ellipse(0.5, top, narrow, 0.022), "glow"))
    return parts


def bottle(a, b, c, d):
    """a: radius; b: width of the neck, length of the cap; c: height of the shoulder; d: size of the label, a waist."""
    radius, neck, shoulder = 0.12 + 0.08 * a, 0.04 + 0.025 * b, 0.32 + 0.16 * c
    top = 0.09
    profile = [(neck, top), (neck, shoulder - 0.13), (neck * 1.15, shoulder - 0.08), (radius, shoulder + 0.06)]
    profile += [(radius, 0.6), (radius, 0.86), (radius * 0.85, 0.91)]
    if d > 0.66:
        profile[4] = (radius * 0.8, 0.62)
    label = (0.55, 0.76) if d < 0.5 else (0.6, 0.7)
    inset = 0.8 if d > 0.66 else 1.0
    parts = [
        Part(turned(profile), "body"),
        Part(box(0.5 - radius * inset, label[0], 0.5 + radius * inset, label[1], 0.01), "cream"),
        Part(points((0.5 - radius * 0.5, np.mean(label)), (0.5 + radius * 0.5, np.mean(label))), "trim", 0.035),
        Part(box(0.5 - neck - 0.014, top - 0.03, 0.5 + neck + 0.014, top + 0.05 + 0.06 * b, 0.012), "trim"),
        Part(points((0.5 - radius * 0.66, shoulder + 0.12), (0.5 - radius * 0.66, 0.5)), "shine", 0.025),
    ]
    return parts


def handbag(a, b, c, d):
    """a, b: width below and above; c: height, reach of the grip; d: a flap, a pocket or a band; width of the grip."""
    bottom_half, top_half, top = 0.3 + 0.08 * a, 0.2 + 0.12 * b, 0.46 - 0.08 * c
    bottom = 0.86
    body = smooth(points((0.5 - top_half, top), (0.5, top - 0.012), (0.5 + top_half, top),
                         (0.5 + bottom_half, bottom - 0.06), (0.5 + bottom_half - 0.04, bottom), (0.5, bottom + 0.008),
                         (0.5 - bottom_half + 0.04, bottom),
                         (0.5 - bottom_half, bottom - 0.06)))
    grip = top_half * (0.5 + 0.35 * d)
    parts = [
        Part(ellipse(0.5, top + 0.02, grip, 0.16 + 0.14 * c, 180, 360), "trim", 0.04),
        Part(body, "body"),
    ]
    if d < 0.4:
        parts.append(Part(ellipse(0.5, top, top_half * 0.98, 0.26, 0, 180), "trim"))
        parts.append(Part(box(0.465, top + 0.19, 0.535, top + 0.28, 0.015), "gold"))
    elif d < 0.7:
        parts.append(Part(box(0.5 - bottom_half + 0.05, 0.65, 0.5 + bottom_half - 0.05, 0.83, 0.03), "trim"))
        parts.append(Part(points((0.5 - bottom_half * 0.6, 0.68), (0.5 + bottom_half * 0.6, 0.68)), "gold", 0.02))
    else:
        parts.append(Part(points((0.5 - top_half, top + 0.06), (0.5 + top_half, top + 0.06)), "trim", 0.05))
        parts.append(Part(ellipse(0.5, top + 0.07, 0.035), "gold"))
    parts += [Part(ellipse(0.5 + s * grip, top + 0.035, 0.025), "gold") for s in (-1, 1)]
    return parts


def hat(a, b, c, d):
    """a: brim; b: width of the crown; c: its height; d: a dent, a feather, width of the band."""
    brim, crown, height = 0.32 + 0.12 * a, 0.17 + 0.06 * b, 0.24 + 0.16 * c
    base, sag = 0.66, 0.05 + 0.05 * a
    top = base - height
    dent = 0.05 * (d > 0.35)
    shape = smooth(points((0.5 - crown, base + 0.02), (0.5 - crown * 0.98, top + 0.1), (0.5 - crown * 0.7, top),
                          (0.5, top + dent), (0.5 + crown * 0.7, top), (0.5 + crown * 0.98, top + 0.1),
                          (0.5 + crown, base + 0.02), (0.5, base + 0.07)))
    band = np.concatenate([ellipse(0.5, base - 0.005, crown * 1.04, 0.055, 0, 180),
                           ellipse(0.5, base - 0.06 - 0.05 * d, crown * 1.02, 0.05, 180, 0)])
    parts = [
        Part(ellipse(0.5, base + 0.02, brim, sag + 0.03), "body"),
        Part(ellipse(0.5, base + 0.015, crown * 1.25, sag * 0.8), "shade"),
        Part(shape, "body"),
        Part(band, "trim"),
    ]
    if d > 0.7:
        feather = smooth(points((0.5 + crown * 0.8, base - 0.02), (0.5 + crown * 1.1, base - 0.2),
                                (0.5 + crown * 1.5, base - 0.34), (0.5 + crown * 1.25, base - 0.16)))
        parts.append(Part(feather, "cream"))
    return parts


def watch(a, b, c, d):
    """a: radius; b: width of the strap, steel or gold; c: light or dark dial; d: 12 or 4 marks, round or square."""
    radius, strap = 0.19 + 0.06 * a, 0.1 + 0.04 * b
    case = box(0.5 - radius, 0.5 - radius, 0.5 + radius, 0.5 + radius, 0.06) if d > 0.6 else ellipse(0.5, 0.5, radius)
    inner = radius - 0.035
    dial = box(0.5 - inner, 0.5 - inner, 0.5 + inner, 0.5 + inner, 0.04) if d > 0.6 else ellipse(0.5, 0.5, inner)
    face, ink = ("cream", "dark") if c < 0.5 else ("dark", "cream")
    half = points((strap, 0.5), (strap * 0.8, 0.07), (0, 0.05))
    parts = [
        Part(mirrored(half[::-1]), "body"),
        Part(mirrored(points((strap, 0.5), (strap * 0.8, 0.9), (strap * 0.4, 0.95))), "body"),
        Part(points((0.5 - strap * 0.7, 0.16), (0.5 + strap * 0.7, 0.16)), "trim", 0.025),
        Part(points((0.5 - strap * 0.7, 0.84), (0.5 + strap * 0.7, 0.84)), "trim", 0.025),
        Part(box(0.5 + radius - 0.01, 0.47, 0.5 + radius + 0.045, 0.53, 0.012), "metal"),
        Part(case, "gold" if b > 0.5 else "metal"),
        Part(dial, face),
    ]
    for hour in range(0, 12, 1 if d < 0.5 else 3):
        way = points((np.cos(hour * np.pi / 6), np.sin(hour * np.pi / 6)))
        parts.append(Part(0.5 + np.concatenate([way * inner * 0.82, way * inner * 0.92]), ink, 0.016))
    parts.append(Part(points((0.5, 0.5), (0.5 - inner * 0.4, 0.5 - inner * 0.35)), ink, 0.024))
    parts.append(Part(points((0.5, 0.5), (0.5 + inner * 0.3, 0.5 - inner * 0.65)), "trim", 0.018))
    return parts


def sofa(a, b, c, d):
    """a: width; b: height of the back; c: arms, roundness; d: 2 or 3 seats, height of the arms, a pillow."""
    half, top, arm = 0.36 + 0.07 * a, 0.36 - 0.1 * b, 0.08 + 0.04 * c
    feet = [points((0.5 + s * (half - 0.06), 0.76), (0.5 + s * (half - 0.05), 0.84)) for s in (-1, 1)]
    parts = [Part(foot, "wood", 0.04) for foot in feet]
    back = 2 + int(2 * d) % 2
    width = 2 * (half - arm * 0.6) / back
    for i in range(back):
        left = 0.5 - half + arm * 0.6 + i * width
        parts.append(Part(box(left, top, left + width, 0.64, 0.03 + 0.05 * c), "body"))
    parts.append(Part(box(0.5 - half + 0.02, 0.62, 0.5 + half - 0.02, 0.78, 0.03), "body"))
    for i in range(back):
        left = 0.5 - half + arm * 0.6 + i * width
        parts.append(Part(box(left + 0.006, 0.55, left + width - 0.006, 0.66, 0.035), "body"))
    for s in (-1, 1):
        x = 0.5 + s * (half - arm / 2 + 0.01)
        parts.append(Part(box(x - arm / 2, 0.47 - 0.05 * d, x + arm / 2, 0.79, 0.03 + 0.03 * c), "body"))
    if d > 0.3:
        tilted = points((0.02, -0.09), (0.1, 0.0), (0.0, 0.1), (-0.09, 0.01)) + (0.5 - half + arm + 0.1, 0.5)
        parts.append(Part(smooth(tilted), "trim"))
    return parts


def vase(a, b, c, d):
    """a: belly; b: neck; c: lip and foot; d: height of the widest place; a ring round the neck or two handles."""
    belly, neck, lip = 0.15 + 0.13 * a, 0.05 + 0.07 * b, 0.08 + 0.08 * c
    widest = 0.5 + 0.15 * d
    profile = [(lip, 0.12), (neck, 0.26), (belly, widest), (0.09 + 0.04 * c, 0.86), (0.1 + 0.04 * c, 0.9)]
    parts = []
    if d > 0.6:
        for s in (-1, 1):
            handle = points((s * neck, 0.22), (s * (neck + 0.16), 0.24), (s * belly * 0.85, 0.45)) + (0.5, 0)
            parts.append(Part(smooth(handle, closed=False), "trim", 0.035))
    parts += [
        Part(turned(profile), "body"),
        Part(ellipse(0.5, 0.125, lip, 0.03), "trim"),
        Part(ellipse(0.5, 0.13, lip * 0.75, 0.02), "dark"),
    ]
    if d < 0.35:
        parts.append(Part(points((0.5 - neck, 0.27), (0.5 + neck, 0.27)), "trim", 0.035))
    return parts


def glasses(a, b, c, d):
    """a: width of the lenses, dark or blue; b: their height; c: gap, frame; d: round, square or winged."""
    rx, ry, gap = 0.15 + 0.03 * a, 0.1 + 0.06 * b, 0.025 + 0.02 * c
    thick, y = 0.03 + 0.025 * c, 0.52
    lens = "smoke" if a < 0.6 else "sky"
    parts = []
    for s in (-1, 1):
        x = 0.5 + s * (rx + gap)
        if d < 0.35:
            outline = ellipse(x, y, rx, ry)
        elif d < 0.7:
            outline = box(x - rx, y - ry, x + rx, y + ry, 0.05)
        else:
            outline = smooth(points((x - s * rx * 0.9, y - ry * 0.6), (x + s * rx * 1.1, y - ry * 1.15),
                                    (x + s * rx * 0.9, y + ry * 0.4), (x, y + ry), (x - s * rx * 0.9, y + ry * 0.4)))
        outer = 0.5 + s * (2 * rx + gap)
        arm = points((outer, y - ry * 0.5), (outer + s * 0.05, y - ry * 0.7), (outer + s * 0.03, y - ry * 0.7 - 0.16))
        parts.append(Part(smooth(arm, closed=False), "trim", thick * 0.9))
        parts.append(Part(outline, lens))
        parts.append(Part(np.concatenate([outline, outline[:2]]), "body", thick))
        parts.append(Part(points((x - rx * 0.45, y + ry * 0.25), (x - rx * 0.1, y - ry * 0.4)), "shine", 0.028))
    bridge = ellipse(0.5, y - ry * 0.1, gap + 0.02, 0.05, 200, 340)
    return [Part(bridge, "body", thick), *parts]


def guitar(a, b, c, d):
    """a, b: lower and upper half of the body; c: waist; d: acoustic or electric."""
    lower, upper, waist = 0.2 + 0.05 * a, 0.15 + 0.04 * b, 0.11 + 0.04 * c
    parts = [
        Part(points((0.5, 0.12), (0.5, 0.6)), "coffee", 0.058),
        Part(mirrored(points((0.05, 0.04), (0.035, 0.15))), "trim"),
    ]
    if d < 0.6:  # acoustic
        body = turned([(0.0, 0.43), (upper, 0.5), (waist, 0.63), (lower, 0.79), (0.0, 0.94)])
        parts += [
            Part(body, "body"),
            Part(np.concatenate([body, body[:2]]), "trim", 0.014),
            Part(ellipse(0.5, 0.63, 0.062), "dark"),
            Part(ellipse(0.5, 0.63, 0.072), "cream", 0.012),
        ]
    else:  # electric
        body = smooth(points((0.53, 0.53), (0.5 + upper, 0.44), (0.52 + waist, 0.62), (0.5 + lower, 0.8), (0.5, 0.94),
                             (0.5 - lower, 0.82), (0.48 - waist, 0.63), (0.46 - upper, 0.42), (0.45, 0.53)))
        parts += [
            Part(body, "body"),
            Part(box(0.44, 0.62, 0.56, 0.655, 0.01), "dark"),
            Part(box(0.44, 0.71, 0.56, 0.745, 0.01), "dark"),
            Part(ellipse(0.5 + lower * 0.6, 0.84, 0.022), "gold"),
        ]
    parts.append(Part(points((0.5, 0.13), (0.5, 0.55)), "coffee", 0.05))
    parts.append(Part(points((0.43, 0.81), (0.57, 0.81)), "coffee", 0.026))
    parts += [Part(points((0.5 + t, 0.06), (0.5 + t, 0.81)), "cream", 0.006) for t in (-0.015, 0, 0.015)]
    parts += [Part(ellipse(0.5 + s * 0.062, y, 0.014), "gold") for s in (-1, 1) for y in (0.06, 0.095, 0.13)]
    return parts


def teapot(a, b, c, d):
    """a: width; b: height of the body; c: tip of the spout, lid and its knob; d: a handle at the side or above."""
    rx, ry, y = 0.2 + 0.06 * a, 0.16 + 0.09 * b, 0.58
    x, tip = 0.5, 0.4 + 0.1 * c
    spout = smooth(points((x - rx * 0.7, y - 0.03), (x - rx - 0.08, y - 0.04), (x - rx - 0.14, tip),
                          (x - rx - 0.2, tip - 0.01), (x - rx - 0.12, y + 0.08), (x - rx * 0.7, y + 0.12)))
    if d < 0.6:
        handle = ellipse(x + rx - 0.03, y - 0.01, 0.17, ry * 0.75, -95, 95)
    else:
        handle = ellipse(x, y - ry * 0.6, rx * 0.85, 0.3, 185, 355)
    lid = np.concatenate([ellipse(x, y - ry * 0.86, rx * 0.55, 0.05 + 0.05 * c, 180, 360),
                          ellipse(x, y - ry * 0.86, rx * 0.55, 0.03, 0, 180)])
    return [
        Part(handle, "trim" if d > 0.3 else "body", 0.045),
        Part(spout, "body"),
        Part(box(x - rx * 0.55, y + ry * 0.8, x + rx * 0.55, y + ry + 0.03, 0.02), "trim"),
        Part(ellipse(x, y, rx, ry), "body"),
        Part(lid, "trim"),
        Part(ellipse(x, y - ry * 0.86 - 0.06 - 0.05 * c, 0.032), "gold" if c > 0.5 else "body"),
    ]


def clock(a, b, c, d):
    """a: radius; b: width of the ring; c: 12 or 4 marks; d: with bells, without, or for the wall, round or square."""
    radius, ring, y = 0.27 + 0.05 * a, 0.04 + 0.03 * b, 0.54
    parts = []
    if d < 0.6:  # an alarm clock: feet and bells
        for s in (-1, 1):
            foot = points((0.5 + s * radius * 0.6, y + radius * 0.7), (0.5 + s * radius * 0.85, y + radius + 0.05))
            parts.append(Part(foot, "metal", 0.05))
            if d < 0.35:
                bell = np.array([s * 0.5 * radius * 1.25, -radius * 0.95]) + (0.5, y)
                parts.append(Part(ellipse(*bell, 0.1, 0.085), "trim"))
        if d < 0.35:
            parts.append(Part(ellipse(0.5, y - radius, 0.08, 0.09, 180, 360), "metal", 0.025))
    square = d > 0.8
    inner = radius - ring
    case = box(0.5 - radius, y - radius, 0.5 + radius, y + radius, 0.07) if square else ellipse(0.5, y, radius)
    parts += [Part(case, "body"), Part(ellipse(0.5, y, inner), "cream")]
    for hour in range(0, 12, 1 if c < 0.6 else 3):
        way = points((np.cos(hour * np.pi / 6), np.sin(hour * np.pi / 6)))
        ticks = np.concatenate([way * inner * (0.78 if hour % 3 else 0.7), way * inner * 0.88]) + (0.5, y)
        parts.append(Part(ticks, "dark", 0.02))
    parts += [
        Part(points((0.5, y), (0.5 - inner * 0.42, y - inner * 0.22)), "dark", 0.035),
        Part(points((0.5, y), (0.5 + inner * 0.24, y - inner * 0.68)), "dark", 0.026),
        Part(points((0.5, y), (0.5 + inner * 0.1, y + inner * 0.6)), "trim", 0.014),
        Part(ellipse(0.5, y, 0.025), "trim"),
    ]
    return parts


def umbrella(a, b, c, d):
    """a: half the width; b: height of the canopy; c: 4 to 6 panels; d: a hook or a straight handle."""
    half, height, scallops = 0.36 + 0.07 * a, 0.3 + 0.12 * b, 4 + int(2.99 * c)
    base = 0.52
    top = base - height
    edge = np.linspace(0.5 + half, 0.5 - half, scallops + 1)
    hem = [ellipse((r + l) / 2, base, (r - l) / 2, 0.045, 0, -180) for r, l in zip(edge[:-1], edge[1:])]
    canopy = np.concatenate([ellipse(0.5, base, half, height, 180, 360), *hem])
    if d < 0.5:
        handle = np.concatenate([points((0.5, base - 0.05), (0.5, 0.85)), ellipse(0.56, 0.85, 0.06, 0.06, 180, 0)])
    else:
        handle = points((0.5, base - 0.05), (0.5, 0.93))
    parts = [Part(points((0.5, top - 0.05), (0.5, base)), "metal", 0.024), Part(handle, "wood", 0.036)]
    if d >= 0.5:
        parts.append(Part(points((0.5, 0.82), (0.5, 0.93)), "trim", 0.06))
    parts.append(Part(canopy, "body"))
    for x in edge[1:-1]:
        rib = smooth(points((0.5, top), (0.5 + (x - 0.5) * 0.75, top + height * 0.4), (x, base - 0.005)), closed=False)
        parts.append(Part(rib, "trim" if d > 0.3 else "shade", 0.014))
    return parts


# fmt: on

FAMILIES = {
    "mug": mug,
    "shirt": shirt,
    "shoe": shoe,
    "chair": chair,
    "lamp": lamp,
    "bottle": bottle,
    "handbag": handbag,
    "hat": hat,
    "watch": watch,
    "sofa": sofa,
    "vase": vase,
    "glasses": glasses,
    "guitar": guitar,
    "teapot": teapot,
    "clock": clock,
    "umbrella": umbrella,
}

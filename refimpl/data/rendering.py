"""Painting the catalogue: a product from its parts, and a photograph of it from a view.

A product is painted once, large and with transparency, part by part:

    mask     the outline, drawn twice as large and halved (antialiasing)
    colour   of the material; on the body a pattern decides between the item's two colours
    form     brightness 1 + g (0.5 - u) + r (m(x + s) - m(x - s)): a gradient from left to right across the part, and a
             relief, where the mask blurred to m rises towards the light (upper left) or falls away from it

A photograph then maps the product by a projective transformation onto a background, and light falls on it:

    photo = background, darkened by the product's shadow; over it the product, lit; over it whatever stands in front;
            all times gain, cast and a gradient of light; noise

Everything random about a view is drawn from one generator, in one function, `photograph`.
"""

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

CANVAS = 160  # pixels of a painted product; views are at most about as large
MARGIN = 0.04  # of the canvas, so that a turned product keeps its antialiased edge

# (red, green, blue, opacity) of everything that does not take the item's own colours
MATERIALS = {
    "cream": (245, 240, 226, 255),
    "white": (252, 252, 250, 255),
    "dark": (44, 41, 48, 255),
    "coffee": (88, 58, 42, 255),
    "wood": (181, 132, 84, 255),
    "metal": (176, 183, 192, 255),
    "gold": (222, 178, 78, 255),
    "glow": (255, 240, 190, 255),
    "smoke": (52, 56, 70, 225),
    "sky": (150, 205, 232, 190),
    "shade": (20, 16, 30, 80),
    "shine": (255, 255, 255, 130),
}
PATTERNS = ("plain", "stripes", "columns", "diagonal", "zigzag", "check", "dots", "rings")  # all over
PATTERNS += ("two-tone", "band", "star", "heart")  # one figure


def pattern(kind, scale, phase, centre, size=CANVAS):
    """(size, size) float32 in [0, 1]: 1 where the body takes the second colour.

    kind     one of PATTERNS
    scale    number of repetitions across the canvas; a single figure is the smaller, the larger it is
    phase    shift, in repetitions
    centre   (x, y) of the body in the unit square, where single figures sit
    """
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size
    x, y = grid[None, :], grid[:, None]
    soft = size / (1.5 * scale)  # a step from 0 to 1 takes about one and a half pixels

    def wave(t):  # 1 on half of each period
        return np.clip(0.5 + soft * (0.25 - np.abs((t * scale + phase) % 1 - 0.5)), 0, 1)

    def inside(field):  # field: distance to the border in unit lengths, positive inside
        return np.clip(0.5 + field * size / 1.5, 0, 1)

    zoom = 1 + scale / 8
    u, v = (x - centre[0]) * zoom, (y - centre[1]) * zoom
    if kind == "stripes":
        mask = wave(y)
    elif kind == "columns":
        mask = wave(x)
    elif kind == "diagonal":
        mask = wave((x + y) / 1.4)
    elif kind == "zigzag":
        mask = wave(y + 0.35 / scale * np.abs((x * scale) % 1 * 2 - 1))
    elif kind == "check":
        mask = np.abs(wave(x) - wave(y))
    elif kind == "dots":
        du, dv = (x * scale + phase) % 1 - 0.5, (y * scale) % 1 - 0.5
        mask = inside((0.3 - np.hypot(du, dv)) / scale)
    elif kind == "two-tone":
        mask = inside(y - centre[1] + 0.2 * (phase - 0.5))
    elif kind == "band":
        mask = inside(0.07 + 0.1 / scale - np.abs(y - centre[1]))
    elif kind == "rings":
        mask = wave(np.hypot(x - centre[0], y - centre[1]))
    elif kind == "star":
        # Five straight sides, each from a tip (radius 0.28) to a notch: the same side over and over, by symmetry.
        angle = np.abs((np.arctan2(u, -v) + 0.2 * np.pi) % (0.4 * np.pi) - 0.2 * np.pi)
        along, away = np.hypot(u, v) * np.cos(angle), np.hypot(u, v) * np.sin(angle)
        mask = inside((0.28 - along - away * np.tan(0.4 * np.pi)) * np.cos(0.4 * np.pi) / zoom)
    elif kind == "heart":
        # A square on its corner, and a disc on each of its upper sides.
        half, side = np.abs(u), 0.3
        offset = side / 8**0.5
        square = (side / 2**0.5 - half - np.abs(v)) / 2**0.5
        disc = side / 2 - np.hypot(half - offset, v + offset)
        mask = inside(np.maximum(square, disc) / zoom)
    else:
        mask = np.zeros((size, size))
    return np.broadcast_to(mask, (size, size)).astype(np.float32)


def paint(parts, body, trim, motif, scale, phase):
    """The product as (CANVAS, CANVAS, 4) uint8 RGBA on a transparent ground.

    parts        list of products.Part
    body, trim   (r, g, b) of the item's two colours
    motif        one of PATTERNS, with its `scale` and `phase`
    """
    picture = np.zeros((CANVAS, CANVAS, 4), np.float32)  # colour times opacity, opacity
    cloth = _cloth(parts, body, trim, motif, scale, phase)
    for part in parts:
        mask, (left, top, right, bottom) = _mask(part)
        if right <= left or bottom <= top:
            continue
        window = (slice(top, bottom), slice(left, right))
        colour = cloth[window] if part.material == "body" else np.array(MATERIALS.get(part.material, (*trim, 255))[:3])
        opacity = MATERIALS.get(part.material, (0, 0, 0, 255))[3] / 255
        mask = mask.crop((left, top, right, bottom))
        lit = np.clip(colour * _form(mask)[..., None], 0, 255)
        alpha = np.asarray(mask, np.float32)[..., None] / 255 * opacity
        picture[window] *= 1 - alpha
        picture[window][..., :3] += lit * alpha
        picture[window][..., 3:] += 255 * alpha
    picture[..., :3] *= 255 / np.maximum(picture[..., 3:], 1)
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)


def _cloth(parts, body, trim, motif, scale, phase):
    """(CANVAS, CANVAS, 3) float32: the colours of the body, over the whole canvas."""
    outlines = [part.outline for part in parts if part.material == "body" and part.width == 0]
    areas = [np.prod(np.ptp(outline, axis=0)) for outline in outlines] or [0]
    centre = outlines[int(np.argmax(areas))] if outlines else np.array([[0.5, 0.5]])
    centre = MARGIN + (1 - 2 * MARGIN) * (centre.min(0) + centre.max(0)) / 2
    second = pattern(motif, scale, phase, centre)[..., None]
    return (1 - second) * np.array(body, np.float32) + second * np.array(trim, np.float32)


def _mask(part):
    """The part's coverage as a Pillow "L" image, and its bounding box (left, top, right, bottom)."""
    big = 2 * CANVAS
    image = Image.new("L", (big, big))
    draw = ImageDraw.Draw(image)
    outline = big * (MARGIN + (1 - 2 * MARGIN) * part.outline)
    corners = [(float(x), float(y)) for x, y in outline]
    reach = 0.0
    if part.width == 0:
        draw.polygon(corners, fill=255)
    else:
        width = big * (1 - 2 * MARGIN) * part.width
        reach = width / 2
        draw.line(corners, fill=255, width=max(1, round(width)), joint="curve")
        for x, y in (corners[0], corners[-1]):
            draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=255)
    low, high = (outline.min(0) - reach) / 2, (outline.max(0) + reach) / 2
    left, top = np.maximum(np.floor(low).astype(int) - 1, 0)
    right, bottom = np.minimum(np.ceil(high).astype(int) + 2, CANVAS)
    return image.reduce(2), (int(left), int(top), int(right), int(bottom))


def _form(mask):
    """Brightness over a part: a gradient across, and light on the edges that face the upper left."""
    width, height = mask.size
    soft = np.asarray(mask.filter(ImageFilter.BoxBlur(2.5)), np.float32) / 255
    padded = np.pad(soft, 2)
    relief = padded[4:, 4:] - padded[:-4, :-4]
    across = 0.5 - np.linspace(0, 1, width, dtype=np.float32)[None, :]
    down = 0.5 - np.linspace(0, 1, height, dtype=np.float32)[:, None]
    span = min(1.0, max(width, height) / 60)  # small parts are nearly flat
    return 1.0 + span * (0.26 * across + 0.12 * down) + 0.24 * relief


def projective(source, target):
    """The eight coefficients with which Pillow maps pixels of the target to the source, from four corner pairs.

    x_s = (a x + b y + c) / (g x + h y + 1), y_s = (d x + e y + f) / (g x + h y + 1): eight linear equations.
    """
    rows, values = [], []
    for (xs, ys), (x, y) in zip(source, target):
        rows.append([x, y, 1, 0, 0, 0, -xs * x, -xs * y])
        rows.append([0, 0, 0, x, y, 1, -ys * x, -ys * y])
        values += [xs, ys]
    return np.linalg.solve(np.array(rows, np.float64), np.array(values, np.float64))


def photograph(product, size, rng, palette):
    """One view of a painted product: ((size, size, 3) uint8, {parameter: value}).

    product   (CANVAS, CANVAS, 4) uint8 from `paint`
    rng       numpy.random.Generator, from which all of the view is drawn
    palette   (m, 3) uint8, colours for backgrounds and things in front: those of the products, so that the colours of
              a picture say little about the product in it
    """
    pose = {
        "angle": rng.uniform(-28, 28),  # degrees
        "scale": rng.uniform(0.62, 1.0),  # side of the canvas over side of the view
        "mirrored": rng.random() < 0.5,
        "shear": rng.uniform(-0.12, 0.12),
        "tilt": rng.uniform(-0.12, 0.12, 2),  # how much shorter the far side is
        "shift": rng.uniform(-0.5, 0.5, 2),  # of the free room
    }
    light = {
        "gain": rng.uniform(0.62, 1.22),
        "cast": rng.normal(0, 0.07, 3),
        "slope": rng.normal(0, 0.2, 2),  # change of the light across the view
        "noise": rng.uniform(0, 5),
    }
    ground = make_background(size, rng, palette)
    layer = _place(product, size, pose)
    alpha = np.asarray(layer.getchannel("A"), np.float32)[..., None] / 255
    colour = np.asarray(layer, np.float32)[..., :3]

    shadow = layer.getchannel("A").filter(ImageFilter.BoxBlur(size / 24))
    offset = np.round(rng.uniform((-0.09, 0.02), (0.09, 0.1)) * size).astype(int)
    shadow = np.roll(np.asarray(shadow, np.float32), (offset[1], offset[0]), (0, 1))[..., None] / 255
    photo = ground * (1 - rng.uniform(0.15, 0.55) * shadow)
    photo = photo * (1 - alpha) + colour * alpha

    occluded = rng.random() < 0.35
    if occluded:
        photo = _put_in_front(photo, size, rng, palette)
    ramp = (np.arange(size, dtype=np.float32) + 0.5) / size - 0.5
    field = light["gain"] * (1 + light["slope"][0] * ramp[:, None] + light["slope"][1] * ramp[None, :])
    photo = photo * field[..., None] * (1 + light["cast"]).astype(np.float32)
    photo += light["noise"] * rng.standard_normal((size, size, 3), dtype=np.float32)
    view = {name: pose[name] for name in ("angle", "scale", "mirrored")} | {"gain": light["gain"], "occluded": occluded}
    return np.clip(photo + 0.5, 0, 255).astype(np.uint8), view


def _place(product, size, pose):
    """The product in its pose, as a Pillow RGBA image of the view: sampled at twice the size, then halved."""
    side = 2 * size * pose["scale"]
    far_x, far_y = pose["tilt"]
    corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    # Perspective: a side that is farther away is shorter.
    corners[:, 0] *= 1 + far_y * np.sign(corners[:, 1])
    corners[:, 1] *= 1 + far_x * np.array([-1, 1, 1, -1])
    corners[:, 0] += pose["shear"] * corners[:, 1]
    turn = np.deg2rad(pose["angle"])
    corners = corners @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    if pose["mirrored"]:
        corners[:, 0] *= -1
    room = 2 * size - side
    target = size + side * corners + room * np.asarray(pose["shift"])
    source = [(0, 0), (CANVAS, 0), (CANVAS, CANVAS), (0, CANVAS)]
    coefficients = projective(source, target)
    image = Image.fromarray(product)
    large = image.transform((2 * size, 2 * size), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR)
    return large.convert("RGBa").reduce(2).convert("RGBA")


def make_background(size, rng, palette):
    """(size, size, 3) float32: a wall, a gradient, a floor and a wall, boards, tiles, soft spots, or clutter."""
    kind = rng.integers(7)
    first, second = (_muted(palette[rng.integers(len(palette))], rng) for _ in range(2))
    ramp = (np.arange(size, dtype=np.float32) + 0.5) / size
    if kind == 0:
        weight = np.zeros((size, size), np.float32)
    elif kind == 1:
        angle = rng.uniform(0, 2 * np.pi)
        weight = 0.5 + np.cos(angle) * (ramp[:, None] - 0.5) + np.sin(angle) * (ramp[None, :] - 0.5)
    elif kind == 2:
        horizon = rng.uniform(0.5, 0.85)
        weight = np.clip((ramp[:, None] - horizon) * size, 0, 1) * np.ones(size, np.float32)
    elif kind in (3, 4):
        angle, count = rng.uniform(0, np.pi), rng.uniform(2.5, 9)
        along = np.cos(angle) * ramp[:, None] + np.sin(angle) * ramp[None, :]
        weight = 0.5 + 0.5 * np.sin(2 * np.pi * count * along)
        if kind == 4:
            across = np.cos(angle) * ramp[None, :] - np.sin(angle) * ramp[:, None]
            weight = np.abs(weight - (0.5 + 0.5 * np.sin(2 * np.pi * count * across)))
        weight = np.clip(0.5 + 3 * (weight - 0.5), 0, 1) * rng.uniform(0.25, 0.8)
    else:  # soft spots, or hard-edged clutter behind the product
        spots = rng.integers(0, 256, (5, 5)).astype(np.uint8)
        weight = np.asarray(Image.fromarray(spots).resize((size, size), Image.Resampling.BICUBIC), np.float32) / 255
    ground = first * (1 - weight[..., None]) + second * weight[..., None]
    if kind == 6:
        image = Image.fromarray(ground.astype(np.uint8)).resize((2 * size, 2 * size))
        draw = ImageDraw.Draw(image)
        for _ in range(rng.integers(3, 8)):
            colour = _muted(palette[rng.integers(len(palette))], rng)
            _random_shape(draw, 2 * size, rng, rng.uniform(0.08, 0.24), colour)
        ground = np.asarray(image.reduce(2), np.float32)
    return ground


def _put_in_front(photo, size, rng, palette):
    """Something near and out of the way: one shape that comes in from the border."""
    image = Image.fromarray(np.clip(photo, 0, 255).astype(np.uint8)).resize((2 * size, 2 * size))
    draw = ImageDraw.Draw(image)
    angle = rng.uniform(0, 2 * np.pi)
    centre = (0.5 + 0.52 * np.cos(angle), 0.5 + 0.52 * np.sin(angle))
    _random_shape(draw, 2 * size, rng, rng.uniform(0.14, 0.26), palette[rng.integers(len(palette))], centre)
    return np.asarray(image.reduce(2), np.float32)


def _random_shape(draw, size, rng, radius, colour, centre=None):
    """A disc, or a polygon of three to five corners, about `radius` large."""
    x, y = rng.uniform(0, 1, 2) if centre is None else centre
    fill = tuple(int(value) for value in colour)
    corners = int(rng.integers(2, 6))
    angle = rng.uniform(0, 2 * np.pi) + np.arange(corners) * 2 * np.pi / corners
    if corners == 2:
        draw.ellipse(tuple(float(size * v) for v in (x - radius, y - radius, x + radius, y + radius)), fill=fill)
    else:
        stretch = rng.uniform(0.7, 1.3)
        outline = np.stack([x + radius * stretch * np.cos(angle), y + radius / stretch * np.sin(angle)], axis=1) * size
        draw.polygon([(float(px), float(py)) for px, py in outline], fill=fill)


def _muted(colour, rng):
    """A colour of the palette as walls and tables have it: lighter or darker, and greyer."""
    grey = rng.uniform(60, 245)
    keep = rng.uniform(0.15, 0.75)
    return (keep * np.asarray(colour, np.float32) + (1 - keep) * grey).astype(np.float32)

"""The public data sets' layouts with a few pictures each, so that the scripts of results run whole in a second."""

import numpy as np
from PIL import Image

from refimpl.data.public import CIFAR_CLASSES


def write_public_data(folder):
    """clothing, CIFAR-10 and Omniglot below `folder`, which is then a REFIMPL_DATA."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 15), ("test", 3)):
        for k in range(10):
            for i in range(count):
                picture = rng.integers(0, 256, (40, 30, 3), dtype=np.uint8)
                picture[:, :, k % 3] //= 1 + k // 3
                save(folder / "clothing" / split / f"clothes{k}" / f"{i}.png", picture)
        for name in CIFAR_CLASSES:
            for i in range(6):
                picture = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                save(folder / "cifar10" / split / name / f"{i}.png", picture)
    drawings = [[drawing(rng) for _ in range(5)] for _ in range(6)]
    for which, characters in (("small1", range(4)), ("small2", range(2, 6))):  # alphabet1 is in both, as two really are
        place = folder / "omniglot" / f"images_background_{which}.zip"  # folders will do for archives
        for k in characters:
            for i, picture in enumerate(drawings[k]):
                save(place / f"alphabet{k // 2}" / f"character{k}" / f"{i}.png", picture)
    run = folder / "omniglot" / "all_runs.zip" / "run01"
    for k in range(3):
        save(run / "training" / f"class{k}.png", drawing(rng))
        save(run / "test" / f"item{k}.png", drawing(rng))
    lines = [f"run01/test/item{k}.png run01/training/class{2 - k}.png\n" for k in range(3)]
    (run / "class_labels.txt").write_text("".join(lines))


def save(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture).save(path)


def drawing(rng):
    """(52, 52, 3), a few black strokes on white."""
    picture = np.full((52, 52, 3), 255, np.uint8)
    for _ in range(3):
        row, column = rng.integers(0, 40, 2)
        picture[row : row + 12, column] = 0
        picture[row, column : column + 12] = 0
    return picture

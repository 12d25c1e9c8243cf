"""CIFAR-10 for the scripts: pictures decoded once, and z-score statistics."""

import numpy as np

from refimpl.data import cache_folder, cifar10, locate
from refimpl.data.folder import FileTree
from refimpl.files import atomic_write
from refimpl.images import channel_statistics


def pictures(split, progress=None):
    """(images (n, 32, 32, 3) uint8, labels (n,)): decoded once, then kept in the cache folder.

    Of the original archive here, in a file named after the archive's name, size and time; of a zip or a folder by
    `load_folder`, which looks at every picture's: a folder's own time does not tell that a picture in it was replaced.
    """
    source = locate("cifar10")
    if not _is_the_original(source):
        found = cifar10(split, progress=progress)
        return found.images, found.labels
    about = source.stat()
    kept = cache_folder() / f"cifar10-{split}-{source.stem}-{about.st_size}-{int(about.st_mtime)}.npz"
    if not kept.exists():
        found = cifar10(split, progress=progress)
        with atomic_write(kept) as file:
            np.savez(file, images=found.images, labels=found.labels)
    with np.load(kept, allow_pickle=False) as file:
        return file["images"], file["labels"]


def shuffled(images, labels):
    """In an order that is always the same: the files lie sorted by class."""
    order = np.random.default_rng(0).permutation(len(images))
    return images[order], labels[order]


def is_jpeg():
    """Whether the source is a JPEG copy: lossy, to be said beside published figures. The pictures' names tell."""
    source = locate("cifar10")
    if _is_the_original(source):
        return False
    with FileTree(source) as files:
        return any(name.lower().endswith((".jpg", ".jpeg")) for name in files.names)


def _is_the_original(source):
    """Whether it is the binary version of the University of Toronto, lossless and in one file."""
    return source.name.endswith(".tar.gz")


def statistics(images):
    """(mean, std) of the channels, (3,) float32 in units of [0, 1]."""
    mean, std = channel_statistics(images[:10000])
    return np.asarray(mean, np.float32), np.asarray(std, np.float32)

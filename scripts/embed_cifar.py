"""CIFAR-10's pictures as vectors to search: the package's encoder, one vector a picture or many.

    python scripts/embed_cifar.py --out out/cifar.npy                    60,000 vectors of unit length
    python scripts/embed_cifar.py --views 17 --out out/million.npy       1,020,000: each picture, and 16 views of it
    python scripts/benchmark_ann.py --peers --data out/cifar.npy --json docs/results/benchmark_ann_cifar.json

Views are crops of half the area or more, mirrored, in other light: near each other in the space of the encoder, as the
pictures of one thing in a catalogue are. Rows are the pictures of the training split, then of the test split, then all
of them again for each view.
"""

import argparse
from pathlib import Path

import numpy as np
from cifar import pictures
from command_line import Parser, Stages, check_writable, one_line_errors

from refimpl.files import atomic_write
from refimpl.images import simclr_views
from refimpl.nn import l2_normalize, resnet_embedder
from refimpl.serving import embed, pretrained_encoder

BATCH = 500
VIEWS = {"crop_area": (0.5, 1.0), "jitter_strength": 0.25, "grey_probability": 0.1}


def embed_views(encoder, images, rng, progress):
    """Embeddings (n, d) of one random view of each picture."""
    network, parts = resnet_embedder(encoder.weights), []
    for first in range(0, len(images), BATCH):
        x = simclr_views(images[first : first + BATCH], rng, size=encoder.size, **VIEWS)
        parts.append(l2_normalize(np.array(network(((x - encoder.mean) / encoder.std).astype(np.float32))))[0])
        progress(min(first + BATCH, len(images)), len(images))
    return np.concatenate(parts)


def main():
    parser = Parser(__doc__)
    parser.add_argument("--out", type=Path, required=True, metavar="FILE.npy")
    parser.add_argument("--views", type=int, default=1, help="vectors of each picture, the picture itself first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=int, help=argparse.SUPPRESS)  # of each split, for the tests
    args = parser.parse_args()
    parser.at_least(args, views=1, seed=0)
    check_writable(parser, "--out", args.out)
    stages, rng = Stages(), np.random.default_rng(args.seed)
    with one_line_errors(parser):
        encoder = pretrained_encoder()
        with stages.stage("pictures", "pic") as progress:
            splits = [pictures(split, progress)[0][: args.pictures] for split in ("train", "test")]
        images = np.concatenate(splits)
        with stages.stage("pictures themselves", "pic") as progress:
            parts = [embed(encoder, images, progress=progress)]
        for view in range(1, args.views):
            with stages.stage(f"view {view} of {args.views - 1}", "pic") as progress:
                parts.append(embed_views(encoder, images, rng, progress))
        vectors = np.concatenate(parts)
        with atomic_write(args.out) as file:
            np.save(file, vectors)
    print(f"{len(vectors):,} vectors of {vectors.shape[1]} dimensions in {args.out}")


if __name__ == "__main__":
    main()

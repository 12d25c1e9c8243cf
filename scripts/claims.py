"""What the claims share: their options, and the arithmetic of their verdicts.

A claim is a module with TITLE, XLABEL, YLABEL and

    measured(options, stages)    numbers as JSON has them
    verdict(numbers)             one sentence
    draw(axes, numbers)

so that a verdict depends on the recorded numbers alone.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np


class Options(NamedTuple):
    items: int  # products of the catalogue
    steps: int  # of each training
    seed: int  # of the catalogue
    seeds: tuple  # of the trainings
    folder: Path | None  # of checkpoints

    def checkpoint(self, name):
        return None if self.folder is None else self.folder / f"claims-{name}.npz"

    def about(self):
        """The shop, for the `about` of `refimpl.training.train`."""
        return {"products": self.items, "seed of the catalogue": self.seed}


def mean_and_spread(table):
    """Mean and standard deviation (n - 1) of each row of a table with a column a seed, of which there are two or
    more."""
    table = np.asarray(table, float)
    return table.mean(axis=1), table.std(axis=1, ddof=1)


def beats(better, worse):
    """Whether the mean of one row of values by seed is above another's by more than the seeds' noise.

    The measure of noise is twice the standard deviation of the differences, seed by seed: what a seed draws - start,
    batches, points - is the same for both. Of three seeds and no effect, chance alone says yes in 4 cases of 100.
    """
    gain, noise = gain_and_noise(better, worse)
    return gain > noise


def gain_and_noise(better, worse):
    """Mean of the differences by seed, and twice their standard deviation."""
    (mean,), (spread,) = mean_and_spread([np.subtract(better, worse)])
    return float(mean), 2 * float(spread)


def share_of_gain(means, middle):
    """How much of the way from the first to the last mean is done at `middle`."""
    return (means[middle] - means[0]) / (means[-1] - means[0])

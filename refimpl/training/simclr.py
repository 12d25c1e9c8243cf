"""SimCLR: learn what "similar" means from pairs of views alone.

Two views of one picture (two random augmentations, or two photographs of one product) are encoded by one encoder;
each must be more similar to the other than to every other view in the batch:

    x1, x2 -> encoder -> h1, h2 -> projection head -> z1, z2 -> nt_xent

After training the head is thrown away and h is the embedding: the head may forget what the loss punishes (colour, say),
the layer before it keeps more. Source: Chen et al. 2020, algorithm 1 and section 4.2.
"""

import time
from typing import NamedTuple

import numpy as np

from ..losses import nt_xent
from ..nn import adamw, cosine_schedule, mlp, mlp_init, resnet
from ..validation import check_integer, check_number

SHARES = 100_000  # the schedule counts in these parts of the training, whether steps or minutes bound it


class Trained(NamedTuple):
    """An encoder and how it came about."""

    params: dict  # of the encoder, without the projection head
    state: dict  # running statistics of its batch norms
    losses: np.ndarray  # (steps,) float32, the loss of each step before its update
    seconds: float


def simclr_step(params, head, state, x1, x2, *, temperature):
    """Loss and gradients of one batch of pairs; x1, x2 (n, h, w, c).

    Returns loss, dparams, dhead, state (with updated running statistics).
    """
    n = len(x1)
    h, encoder_pullback, state = resnet(params, state, np.concatenate([x1, x2]), training=True)
    z, head_pullback = mlp(head, h)
    loss, (dz1, dz2) = nt_xent(z[:n], z[n:], temperature=temperature)
    dh, dhead = head_pullback(np.concatenate([dz1, dz2]))
    return loss, encoder_pullback(dh), dhead, state


def simclr(
    draw_pairs,
    params,
    state,
    *,
    steps=None,
    minutes=None,
    temperature=0.2,
    learning_rate=2e-3,
    weight_decay=1e-4,
    warmup=0.05,
    projection=64,
    seed=0,
    progress=None,
):
    """Train an encoder on pairs of views for a number of steps, or for a time.

    draw_pairs     function of a numpy Generator that returns x1, x2, each (n, h, w, c) float32, ready for the encoder:
                   row i of both shows the same thing
    params, state  of `refimpl.nn.resnet_init`
    steps          the same seed gives the same bits; or
    minutes        the learning rate follows the clock, so that a slower machine takes fewer steps of the same schedule
    learning_rate  peak of AdamW's, reached after the share `warmup` of the training, then a cosine down to 0
    projection     width of the projection head's output
    progress       called as progress(share of the training done, steps done, last loss) after each step
    Returns Trained. Raises ValueError for wrong arguments, FloatingPointError if the loss stops being finite.
    """
    if (steps is None) == (minutes is None):
        raise ValueError(f"steps, minutes: expected exactly one of them, got {steps} and {minutes}")
    steps = None if steps is None else check_integer(steps, "steps", minimum=1)
    minutes = None if minutes is None else check_number(minutes, "minutes", above=0)
    check_number(learning_rate, "learning_rate", above=0)
    rng = np.random.default_rng(seed)
    embedding = params["head/weight"].shape[1]
    head = mlp_init((embedding, embedding, projection), seed=seed)
    optimizer, head_optimizer, losses = {}, {}, []
    start, share = time.perf_counter(), 0.0
    while share < 1:
        x1, x2 = draw_pairs(rng)
        loss, dparams, dhead, state = simclr_step(params, head, state, x1, x2, temperature=temperature)
        if not np.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss} at step {len(losses)}; try a smaller learning_rate")
        rate = cosine_schedule(round(share * SHARES), SHARES, learning_rate, warmup=round(warmup * SHARES))
        params, optimizer = adamw(params, dparams, optimizer, learning_rate=rate, weight_decay=weight_decay)
        head, head_optimizer = adamw(head, dhead, head_optimizer, learning_rate=rate, weight_decay=weight_decay)
        losses.append(loss)
        share = len(losses) / steps if steps else (time.perf_counter() - start) / (60 * minutes)
        if progress is not None:
            progress(min(share, 1.0), len(losses), loss)
    return Trained(params, state, np.array(losses, np.float32), time.perf_counter() - start)

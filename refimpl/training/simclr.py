"""SimCLR: learn what "similar" means from pairs of views alone.

Two views of one picture (two random augmentations, or two photographs of one product) are encoded by one encoder;
each must be more similar to the other than to every other view in the batch:

    x1, x2 -> encoder -> h1, h2 -> projection head -> z1, z2 -> nt_xent

With more than two views of each picture, every one is a positive of every other: a mean over the positives of the same
logarithms, which is `sup_con` with the picture as the class.

After training the head is thrown away and h is the embedding: the head may forget what the loss punishes (colour, say),
the layer before it keeps more. Sources: Chen et al. 2020, algorithm 1 and section 4.2; for more views, Shidani et al.
2024 (arXiv:2403.05490).
"""

from typing import NamedTuple

import numpy as np

from ..losses import nt_xent, sup_con
from ..nn import adamw, embedding_size, mlp, mlp_init, resnet
from ..validation import check_integer, check_number
from .loop import cosine_rate, train, update


class Trained(NamedTuple):
    """An encoder and how it came about."""

    params: dict  # of the encoder, without the projection head
    state: dict  # running statistics of its batch norms
    losses: np.ndarray  # (steps,) float32, the loss of each step before its update
    seconds: float
    scores: np.ndarray  # (evaluations, 2): steps done, score; see `loop.train`
    head: dict  # of the projection head or classifier


def simclr_step(params, head, state, *views, temperature, encoder=resnet):
    """Loss and gradients of one batch; views: two or more (n, h, w, c), row i of all shows the same thing.

    Returns loss, dparams, dhead, state (with updated running statistics). Raises ValueError for a single view.
    """
    if len(views) < 2:
        raise ValueError(f"views: expected two or more of each picture, got {len(views)}")
    n = len(views[0])
    h, encoder_pullback, state = encoder(params, state, np.concatenate(views), training=True)
    z, head_pullback = mlp(head, h)
    if len(views) == 2:
        loss, gradients = nt_xent(z[:n], z[n:], temperature=temperature)
        dz = np.concatenate(gradients)
    else:
        loss, dz = sup_con(z, np.tile(np.arange(n), len(views)), temperature=temperature)
    dh, dhead = head_pullback(dz)
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
    hidden=None,
    projection=64,
    encoder=resnet,
    rule=adamw,
    head=None,
    about=None,
    seed=0,
    progress=None,
    **loop,
):
    """Train an encoder on pairs of views for a number of steps, or for a time.

    draw_pairs     function of a numpy Generator that returns x1, x2 or more, each (n, h, w, c) float32, ready for the
                   encoder: row i of all shows the same thing
    params, state  to start from, as `refimpl.nn.resnet_init`, `cnn_init` or `whitened_init` returns them
    encoder        resnet, cnn or whitened of `refimpl.nn`: the one that params and state are of
    steps          how many: with it the same seed gives the same bits. Or
    minutes        a budget, for as many steps as fit: a slower machine takes fewer of the same schedule
    rule           the optimizer: adamw, muon or another of `refimpl.nn` that takes learning_rate and weight_decay
    learning_rate  its peak, reached after the share `warmup` of the training, then a cosine down to 0
    hidden         width of the projection head's hidden layer; None: that of the embedding
    projection     width of the head's output
    head           to continue an earlier training (on smaller pictures, say): the `head` of its Trained, together with
                   its params and state; `hidden` and `projection` are then not used. None: a new head
    about          what identifies the data, see `loop.train`; the settings above are added
    progress       called as progress(share of the training done, steps done, last loss) after each step
    loop           evaluate, evaluations, checkpoint, save_seconds of `loop.train`
    Returns Trained. Raises ValueError for wrong arguments, FloatingPointError if the loss stops being finite.
    """
    check_number(learning_rate, "learning_rate", above=0)
    embedding = embedding_size(params)
    hidden = embedding if hidden is None else check_integer(hidden, "hidden", minimum=1)
    head = mlp_init((embedding, hidden, projection), seed=seed) if head is None else head

    def step(run, rng, share):
        loss, dparams, dhead, state = simclr_step(
            run["params"], run["head"], run["state"], *draw_pairs(rng), temperature=temperature, encoder=encoder
        )
        rate = cosine_rate(share, learning_rate, warmup)
        run = update(run, {"params": dparams, "head": dhead}, rule, learning_rate=rate, weight_decay=weight_decay)
        return {**run, "state": state}, loss

    first = {"params": params, "state": state, "head": head}
    about = {
        "method": "simclr", "temperature": temperature, "learning_rate": learning_rate, "weight_decay": weight_decay,
        "warmup": warmup, "encoder": encoder, "rule": rule, **(about or {}),
    }  # fmt: skip
    return trained(train(first, step, seed=seed, steps=steps, minutes=minutes, about=about, progress=progress, **loop))


def trained(run):
    """The Trained of a `loop.Run` with sections params, state and head."""
    sections = run.sections
    return Trained(sections["params"], sections["state"], run.losses, run.seconds, run.scores, sections["head"])

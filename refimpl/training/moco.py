"""MoCo: contrastive learning whose negatives wait in a queue, encoded by a slowly moving copy of the encoder.

SimCLR's negatives are the rest of the batch, so many negatives need a large batch. Here a query is compared with the
keys of many past batches, which were encoded by earlier and so slightly different encoders. To keep them comparable,
keys come from an encoder of their own, which gets no gradient: its weights are a moving average of the trained one's:

    key <- m key + (1 - m) query                  1  the keys' encoder, a step behind
    k = f_key(x_key), q = f_query(x_query)        2  no gradient through k
    loss = info_nce(q, k, queue)                  3  logits [q.k, q.queue] / temperature, the label is 0
    queue <- [queue, k] without its oldest        4  after the loss: k is not its own negative

Batch norm leaks: q_i and k_i are normalised with the statistics of the same pictures, the queue's keys with those of
older batches, so the encoder could tell the positive by its statistics. Multi-GPU code therefore shuffles keys between
devices. Here batch norm sees the pictures of a batch in `groups`, formed in another order for the keys: of the pictures
normalised together with q_i, only about one in `groups` is also normalised together with k_i.

With more than two views of each picture every view is a query, whose positives are the keys of the other views: a mean
of the same losses. A key costs a third of a query's operations, as it takes no gradient, and serves all other views.

v1 has a linear head and temperature 0.07; v2 a head with a hidden layer, stronger views (blur) and a cosine schedule.
Sources: He et al. 2020 (arXiv:1911.05722), algorithm 1 and section 3.3, in the order of the published code (step 1
first instead of last: the same sequence); Chen, Fan, Girshick and He 2020 (arXiv:2003.04297) for v2.
"""

import numpy as np

from ..losses import info_nce
from ..nn import adamw, embedding_size, l2_normalize, mlp, mlp_init, resnet
from ..validation import check_integer, check_number
from .loop import cosine_rate, train, update
from .simclr import trained


def moco_step(run, views, shuffle, *, momentum, temperature, groups=1, encoder=resnet):
    """Loss and gradients of one batch, and what changes without a gradient.

    run      params, head, state; "key params", "key head", "key state"; queue {"keys": (k, d), oldest first}
    views    each (n, h, w, c), row i of all shows the same thing. Two: queries and keys. More: each view is both
    shuffle  a permutation of the n pictures, in whose order they are put into groups to encode their keys
    Returns loss, {"params": dparams, "head": dhead}, run with the new keys' encoder, statistics and queue.
    Raises ValueError for a single view.
    """
    if len(views) < 2:
        raise ValueError(f"views: expected two or more of each picture, got {len(views)}")
    x_query, x_key = [x[:, None] for x in views] if len(views) == 2 else [np.stack(views, axis=1)] * 2
    key_params = momentum_update(run["key params"], run["params"], momentum)
    key_head = momentum_update(run["key head"], run["head"], momentum)
    shuffled, _, key_state = encode(encoder, key_params, key_head, run["key state"], x_key[shuffle], groups)
    k = np.empty_like(shuffled)
    k[shuffle] = shuffled
    q, pullback, state = encode(encoder, run["params"], run["head"], run["state"], x_query, groups)
    positives = [k] if len(views) == 2 else [np.roll(k, i, axis=1) for i in range(1, len(views))]
    losses, gradients = zip(
        *[info_nce(rows(q), rows(p), run["queue"]["keys"], temperature=temperature) for p in positives]
    )
    loss, dq = sum(losses) / len(losses), sum(dq for dq, _, _ in gradients) / q.dtype.type(len(gradients))
    dparams, dhead = pullback(dq.reshape(q.shape))
    queue = {"keys": enqueue(run["queue"]["keys"], rows(k))}
    moved = {"key params": key_params, "key head": key_head, "key state": key_state, "state": state, "queue": queue}
    return loss, {"params": dparams, "head": dhead}, {**run, **moved}


def momentum_update(key, query, momentum):
    """momentum key + (1 - momentum) query, for each array."""
    return {name: p.dtype.type(momentum) * key[name] + p.dtype.type(1 - momentum) * p for name, p in query.items()}


def enqueue(queue, keys):
    """The queue with the keys behind it, without as many of its oldest."""
    return np.concatenate([queue, keys])[-len(queue) :]


def rows(views):
    """(n, views of each, ...) as (n views, ...)."""
    return views.reshape(-1, *views.shape[2:])


def encode(encoder, params, head, state, x, groups):
    """Unit vectors z (n, views, d) of x (n, views, h, w, c); pullback(dz) -> dparams, dhead; the new state.

    The pictures are in `groups`, all views of one in the same; batch norm sees a group at a time.
    """
    parts, pullbacks = [], []
    for group in np.array_split(x, groups):
        h, encoder_pullback, state = encoder(params, state, rows(group), training=True)
        z, head_pullback = mlp(head, h)
        z, unnormalise = l2_normalize(z)
        parts.append(z)
        pullbacks.append((encoder_pullback, head_pullback, unnormalise))

    def pullback(dz):
        dparams, dhead = None, None
        for (encoder_pullback, head_pullback, unnormalise), d in zip(pullbacks, np.array_split(dz, groups)):
            dh, dhead_part = head_pullback(unnormalise(rows(d)))
            dparams, dhead = _sum(dparams, encoder_pullback(dh)), _sum(dhead, dhead_part)
        return dparams, dhead

    return np.concatenate(parts).reshape(*x.shape[:2], -1), pullback, state


def moco(
    draw_pairs, params, state, *, steps=None, minutes=None, queue=4096, momentum=0.99, temperature=0.2,
    learning_rate=2e-3, weight_decay=1e-4, warmup=0.05, hidden=None, projection=64, hidden_layers=1, groups=4,
    encoder=resnet, rule=adamw, head=None, about=None, seed=0, progress=None, **loop,
):  # fmt: skip
    """Train an encoder with a queue of negatives; arguments that are not listed here are those of `simclr`.

    queue          how many keys it holds; they start as random unit vectors
    momentum       m of the keys' encoder, 0 (a copy of the queries') to 1 (never moves). The published 0.999 is for
                   some 10^6 steps
    hidden_layers  how many the projection head has: 1 in v2, 0 in v1
    groups         how many groups the pictures of a batch are split into for batch norm, see above
    Returns Trained: the queries' encoder. Raises as `simclr`.
    """
    check_number(learning_rate, "learning_rate", above=0)
    momentum = check_number(momentum, "momentum", minimum=0, maximum=1)
    queue, groups = check_integer(queue, "queue", minimum=1), check_integer(groups, "groups", minimum=1)
    hidden_layers = check_integer(hidden_layers, "hidden_layers", minimum=0)
    embedding = embedding_size(params)
    hidden = embedding if hidden is None else check_integer(hidden, "hidden", minimum=1)
    head = mlp_init((embedding, *[hidden] * hidden_layers, projection), seed=seed) if head is None else head
    width = mlp(head, np.zeros((1, embedding), np.float32))[0].shape[1]
    keys = np.random.default_rng([seed, 1]).standard_normal((queue, width)).astype(np.float32)

    def step(run, rng, share):
        views = draw_pairs(rng)
        shuffle = rng.permutation(len(views[0]))
        loss, gradients, run = moco_step(
            run, views, shuffle, momentum=momentum, temperature=temperature, groups=groups, encoder=encoder
        )
        rate = cosine_rate(share, learning_rate, warmup)
        return update(run, gradients, rule, learning_rate=rate, weight_decay=weight_decay), loss

    first = {
        "params": params, "head": head, "state": state, "key params": params, "key head": head, "key state": state,
        "queue": {"keys": l2_normalize(keys)[0]},
    }  # fmt: skip
    about = {
        "method": "moco", "momentum": momentum, "temperature": temperature, "learning_rate": learning_rate,
        "weight_decay": weight_decay, "warmup": warmup, "groups": groups, "encoder": encoder, "rule": rule,
        **(about or {}),
    }  # fmt: skip
    return trained(train(first, step, seed=seed, steps=steps, minutes=minutes, about=about, progress=progress, **loop))


def _sum(total, part):
    return part if total is None else {name: total[name] + array for name, array in part.items()}

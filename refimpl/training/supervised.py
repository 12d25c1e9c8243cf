"""Learning from labels: three ways to say "the same class is similar", one loop each.

    supervised_contrastive    each picture must find all others of its class in the batch          (sup_con)
    triplet                   its farthest of the class must be nearer than its nearest of another (mined_triplet_loss)
    classification            a linear layer must name the class                                   (cross-entropy)

All take `draw`, a function of a numpy Generator that returns x (n, h, w, c) float32, ready for the encoder, and labels
(n,) integers. The first two need batches with at least two pictures of a class.
"""

import numpy as np

from ..losses import batch_hard, mined_triplet_loss, softmax_cross_entropy, sup_con
from ..nn import adamw, embedding_size, l2_normalize, linear, mlp, mlp_init, one_cycle_schedule, resnet, sgd
from ..validation import check_integer, check_number
from .loop import SHARES, cosine_rate, train, update
from .moco import momentum_update
from .simclr import trained


def supervised_contrastive_step(params, head, state, x, labels, *, temperature, encoder=resnet):
    """Loss, dparams, dhead, state of one batch. Khosla et al. 2020 (arXiv:2004.11362), figure 2c, stage 1."""
    h, encoder_pullback, state = encoder(params, state, x, training=True)
    z, head_pullback = mlp(head, h)
    loss, dz = sup_con(z, labels, temperature=temperature)
    dh, dhead = head_pullback(dz)
    return loss, encoder_pullback(dh), dhead, state


def triplet_step(params, state, x, labels, *, margin):
    """Loss, dparams, state of one batch, its triplets mined batch-hard. Hermans et al. 2017, equation 5."""
    h, encoder_pullback, state = resnet(params, state, x, training=True)
    z, unnormalise = l2_normalize(h)
    loss, dz = mined_triplet_loss(z, batch_hard(z, labels), margin=margin)
    return loss, encoder_pullback(unnormalise(dz)), state


def classification_step(params, head, state, x, labels, *, label_smoothing):
    """Loss, dparams, dhead, state of one batch."""
    h, encoder_pullback, state = resnet(params, state, x, training=True)
    logits, head_pullback = linear(h, head["weight"], head["bias"])
    loss, dlogits = softmax_cross_entropy(logits, labels, label_smoothing=label_smoothing)
    dh, dweight, dbias = head_pullback(dlogits)
    return loss, encoder_pullback(dh), {"weight": dweight, "bias": dbias}, state


def supervised_contrastive(
    draw, params, state, *, steps=None, minutes=None, temperature=0.1, learning_rate=2e-3, weight_decay=1e-4,
    warmup=0.05, projection=64, encoder=resnet, rule=adamw, about=None, seed=0, **loop,
):  # fmt: skip
    """Train an encoder with `sup_con` behind a projection head; arguments and result as of `simclr`.

    encoder  resnet, cnn or whitened of `refimpl.nn`, whose parameters `params` are
    rule     adamw, muon or another optimizer of `refimpl.nn` with learning_rate and weight_decay

    For the paper's batches let `draw` return two views of each picture, with its label twice.
    """
    check_number(learning_rate, "learning_rate", above=0)
    embedding = embedding_size(params)
    head = mlp_init((embedding, embedding, projection), seed=seed)

    def step(run, rng, share):
        x, labels = draw(rng)
        loss, dparams, dhead, state = supervised_contrastive_step(
            run["params"], run["head"], run["state"], x, labels, temperature=temperature, encoder=encoder
        )
        rate = cosine_rate(share, learning_rate, warmup)
        run = update(run, {"params": dparams, "head": dhead}, rule, learning_rate=rate, weight_decay=weight_decay)
        return {**run, "state": state}, loss

    first = {"params": params, "state": state, "head": head}
    about = {
        "method": "supervised_contrastive", "temperature": temperature, "learning_rate": learning_rate,
        "weight_decay": weight_decay, "warmup": warmup, "encoder": encoder, "rule": rule, **(about or {}),
    }  # fmt: skip
    return trained(train(first, step, seed=seed, steps=steps, minutes=minutes, about=about, **loop))


def triplet(
    draw, params, state, *, steps=None, minutes=None, margin=0.2, learning_rate=1e-3, weight_decay=1e-4, warmup=0.05,
    about=None, seed=0, **loop,
):  # fmt: skip
    """Train an encoder with batch-hard triplets of its unit vectors; arguments and result as of `simclr`, no head."""
    check_number(learning_rate, "learning_rate", above=0)

    def step(run, rng, share):
        x, labels = draw(rng)
        loss, dparams, state = triplet_step(run["params"], run["state"], x, labels, margin=margin)
        rate = cosine_rate(share, learning_rate, warmup)
        run = update(run, {"params": dparams}, adamw, learning_rate=rate, weight_decay=weight_decay)
        return {**run, "state": state}, loss

    first = {"params": params, "state": state, "head": {}}
    about = {
        "method": "triplet", "margin": margin, "learning_rate": learning_rate, "weight_decay": weight_decay,
        "warmup": warmup, **(about or {}),
    }  # fmt: skip
    return trained(train(first, step, seed=seed, steps=steps, minutes=minutes, about=about, **loop))


def classification(
    draw, params, state, *, classes, steps=None, minutes=None, learning_rate=0.1, weight_decay=5e-4, momentum=0.9,
    label_smoothing=0.1, rise=0.2, average=0.99, about=None, seed=0, **loop,
):  # fmt: skip
    """Train an encoder and a linear classifier with Nesterov SGD and a one-cycle schedule.

    draw           see above; labels in [0, classes)
    learning_rate  peak, reached after the share `rise`
    average        decay of the moving average of parameters and statistics that is returned in place of the last ones;
                   0 returns the last ones
    Returns Trained, whose head is {"weight" (d, classes), "bias" (classes,)}. Raises as `simclr`.
    """
    check_number(learning_rate, "learning_rate", above=0)
    average = check_number(average, "average", minimum=0, below=1)
    classes = check_integer(classes, "classes", minimum=2)
    embedding = embedding_size(params)
    weight = np.random.default_rng(seed).standard_normal((embedding, classes)) / np.sqrt(embedding)
    head = {"weight": weight.astype(np.float32), "bias": np.zeros(classes, np.float32)}
    averaged = ("params", "head", "state")

    def step(run, rng, share):
        x, labels = draw(rng)
        loss, dparams, dhead, state = classification_step(
            run["params"], run["head"], run["state"], x, labels, label_smoothing=label_smoothing
        )
        rate = one_cycle_schedule(round(share * SHARES), SHARES, learning_rate, rise=rise)
        rule = {"learning_rate": rate, "momentum": momentum, "nesterov": momentum > 0, "weight_decay": weight_decay}
        run = update(run, {"params": dparams, "head": dhead}, sgd, **rule)
        run["state"] = state
        for name in averaged:
            run[f"average {name}"] = momentum_update(run[f"average {name}"], run[name], average)
        return run, loss

    first = {"params": params, "head": head, "state": state}
    first |= {f"average {name}": first[name] for name in averaged}
    about = {
        "method": "classification", "learning_rate": learning_rate, "weight_decay": weight_decay, "rise": rise,
        "momentum": momentum, "label_smoothing": label_smoothing, "average": average, **(about or {}),
    }  # fmt: skip
    run = train(first, step, seed=seed, steps=steps, minutes=minutes, about=about, **loop)
    return trained(run._replace(sections={name: run.sections[f"average {name}"] for name in averaged}))

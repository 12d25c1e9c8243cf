"""A classifier in few passes over its pictures: the training of K. Jordan's airbench94 (2024, arXiv:2404.00498).

`refimpl.nn.whitened` is the network. What else makes ten passes enough:

- Nesterov SGD with large steps. The learning rate of biases (the norms' betas) is BIAS_RATE times that of weights, and
  their weight decay is smaller by the same factor; the norms' gammas stay 1, since the next convolution can scale as
  well.
- The rate rises linearly to its peak in the first part `rise` of the training, then falls linearly almost to 0.
- Lookahead (Zhang et al. 2019, arXiv:1907.08610): SGD trains a fast copy of all arrays. Every PACE steps a slow copy
  moves part of the way to the fast one, which then starts again from there. The slow copy moves all of the way at
  first, when the fast one knows best, and a quarter of it at the end, when the fast one only circles:

      slow <- slow + (1 - keep) (fast - slow);  fast <- slow         keep = 0.95^PACE share^3

- Logits are scaled by SCALE, so that the first ones are near 0; label smoothing.
- Passes without repeats, each picture mirrored in every other pass: in two passes a network sees both of it, where a
  coin shows half of the pictures twice alike. That is the business of `draw`; `passes` gives its order.
"""

import numpy as np

from ..losses import softmax_cross_entropy
from ..nn import embedding_size, linear, sgd, whitened
from ..validation import check_integer, check_number
from .loop import train
from .simclr import trained

BIAS_RATE, SCALE, PACE = 64, 1 / 9, 5
START, END = 0.2, 0.07  # of the peak learning rate: the first and the last
SECTIONS = ("params", "head", "state")


def airbench_step(params, head, state, x, labels, *, label_smoothing):
    """Loss, dparams, dhead, state of one batch."""
    h, encoder_pullback, state = whitened(params, state, x, training=True)
    logits, head_pullback = linear(h, head["weight"] * x.dtype.type(SCALE), head["bias"])
    loss, dlogits = softmax_cross_entropy(logits, labels, label_smoothing=label_smoothing)
    dh, dscaled, _ = head_pullback(dlogits)
    return loss, encoder_pullback(dh), {"weight": dscaled * x.dtype.type(SCALE)}, state


def airbench(
    draw, params, state, *, classes, steps=None, minutes=None, learning_rate=1.5, weight_decay=1.33e-3, momentum=0.85,
    label_smoothing=0.2, rise=0.23, about=None, seed=0, **loop,
):  # fmt: skip
    """Train a network of `refimpl.nn.whitened_init` and a linear classifier behind it.

    draw           function of a numpy Generator and the number of the step that returns x (n, h, w, c) float32 and
                   labels (n,) in [0, classes)
    learning_rate  peak, for the mean loss of 1,024 pictures; in proportion for batches of another size
    weight_decay   of the weights, as of `sgd`
    rise           the part of the training in which the rate rises
    about          of the data, as of `loop.train`; the settings above are added
    loop           evaluate, evaluations, checkpoint, save_seconds, progress of `loop.train`
    Returns Trained with the slow copies, whose head is {"weight" (d, classes), "bias" (classes,)}, the scale in it.
    Raises ValueError for wrong arguments, FloatingPointError if the loss stops being finite.
    """
    check_number(learning_rate, "learning_rate", above=0)
    rise = check_number(rise, "rise", minimum=0, below=1)
    classes = check_integer(classes, "classes", minimum=2)
    width = embedding_size(params)
    bound = 1 / np.sqrt(width)
    weight = np.random.default_rng(seed).uniform(-bound, bound, (width, classes)).astype(np.float32)
    head = {"weight": weight, "bias": np.zeros(classes, np.float32)}  # the bias stays 0

    def step(run, rng, share):
        number = int(run["clock"]["step"])
        x, labels = draw(rng, number)
        loss, dparams, dhead, state = airbench_step(
            run["params"], run["head"], run["state"], x, labels, label_smoothing=label_smoothing
        )
        run = {**run, "state": state, "clock": {"step": np.int64(number + 1)}}
        rate = learning_rate * len(x) / 1024 * triangle(share, rise)
        values = run["params"] | {"head/weight": run["head"]["weight"]}
        gradients = dparams | {"head/weight": dhead["weight"]}
        for kind, factor in (("weight", 1), ("beta", BIAS_RATE)):
            of_kind = {name: gradient for name, gradient in gradients.items() if name.endswith(kind)}
            new, run[f"{kind} optimizer"] = sgd(
                {name: values[name] for name in of_kind}, of_kind, run.get(f"{kind} optimizer", {}),
                learning_rate=rate * factor, weight_decay=weight_decay / factor, momentum=momentum,
                nesterov=momentum > 0,
            )  # fmt: skip
            values |= new
        run["head"] = run["head"] | {"weight": values.pop("head/weight")}
        run["params"] = values
        if (number + 1) % PACE == 0:
            for name in SECTIONS:
                run[name] = run[f"slow {name}"] = lookahead(run[f"slow {name}"], run[name], share)
        return run, loss

    first = {"params": params, "head": head, "state": state, "clock": {"step": np.int64(0)}}
    first |= {f"slow {name}": first[name] for name in SECTIONS}
    about = {
        "method": "airbench", "learning_rate": learning_rate, "weight_decay": weight_decay, "momentum": momentum,
        "label_smoothing": label_smoothing, "rise": rise, **(about or {}),
    }  # fmt: skip
    run = train(first, step, seed=seed, steps=steps, minutes=minutes, about=about, **loop)
    slow = {name: run.sections[f"slow {name}"] for name in SECTIONS}
    slow["head"] = slow["head"] | {"weight": slow["head"]["weight"] * np.float32(SCALE)}
    return trained(run._replace(sections=slow))


def triangle(share, rise):
    """The part of the peak learning rate after `share` of the training: START to 1 within `rise`, then down to END."""
    return START + (1 - START) * share / rise if share < rise else 1 + (END - 1) * (share - rise) / (1 - rise)


def lookahead(slow, fast, share):
    """The slow copy moved towards the fast one, after `share` of the training; equal arrays stay as they are."""
    moved = 1 - 0.95**PACE * share**3
    return {name: slow[name] + p.dtype.type(moved) * (p - slow[name]) for name, p in fast.items()}


def passes(n, batch, step, seed):
    """Which of n pictures are in the batch of a step, and which of these are mirrored.

    n      pictures in all
    batch  pictures in a batch, 1 <= batch <= n
    step   number of the step, from 0; n // batch steps are a pass
    seed   an integer >= 0
    Within a pass no picture comes twice. A picture is mirrored in every other pass: about half of them in the first
    pass, the others in the second. A pass leaves out n % batch pictures, drawn anew each time.
    Returns rows (batch,) int64 and mirrored (batch,) bool. Raises ValueError for a batch outside [1, n].
    """
    if not 1 <= batch <= n:
        raise ValueError(f"batch: expected a number in [1, {n}], got {batch}")
    done, place = divmod(step, n // batch)
    rows = np.random.default_rng([seed, done]).permutation(n)[place * batch : (place + 1) * batch]
    first = np.random.default_rng(seed).random(n) < 0.5
    return rows, first[rows] ^ (done % 2 == 1)

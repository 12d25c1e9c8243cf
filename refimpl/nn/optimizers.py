"""Optimizers: pure functions from parameters, gradients and an optimizer state to new parameters and a new state.

    params, opt_state = sgd(params, gradients, opt_state, learning_rate=0.1)

All are flat dicts of arrays; opt_state is {} at the start and holds what the rule remembers under
"what/name-of-parameter". Nothing is written to, so an old state can be kept, and a checkpoint is a dict. The formulas
below are for one parameter p with gradient g, at learning rate lr; weight decay wd adds wd * p to g ("L2", SGD, Adam,
LARS, RMSProp, AdaGrad) or takes lr * wd * p from p ("decoupled", AdamW).
"""

import numpy as np

from ..validation import check_array, check_number


def sgd(params, gradients, opt_state, *, learning_rate, momentum=0.0, nesterov=False, weight_decay=0.0):
    """v <- momentum v + g;  p <- p - lr v, or with Nesterov's look-ahead p <- p - lr (g + momentum v).

    Source: Sutskever et al. 2013, in the form of torch.optim.SGD, whose v starts as the first gradient.
    """
    lr = check_number(learning_rate, "learning_rate", minimum=0)
    momentum = check_number(momentum, "momentum", minimum=0, below=1)
    decay = check_number(weight_decay, "weight_decay", minimum=0)
    if nesterov and momentum == 0:
        raise ValueError("nesterov: expected a momentum above 0, got momentum 0")
    new, state = {}, {}
    for name, p, g in _pairs(params, gradients):
        if decay:
            g = g + _like(decay, p) * p
        if momentum:
            v = opt_state.get(f"velocity/{name}")
            v = g if v is None else _like(momentum, p) * v + g
            state[f"velocity/{name}"] = v
            g = g + _like(momentum, p) * v if nesterov else v
        new[name] = p - _like(lr, p) * g
    return new, state


def adam(params, gradients, opt_state, *, learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    """m <- b1 m + (1 - b1) g;  s <- b2 s + (1 - b2) g^2;  p <- p - lr mhat / (sqrt(shat) + eps), L2 weight decay.

    mhat = m / (1 - b1^t) and shat = s / (1 - b2^t) undo the start at zero. Source: Kingma and Ba 2014, arXiv:1412.6980.
    """
    decay = check_number(weight_decay, "weight_decay", minimum=0)
    if decay:
        gradients = {name: g + _like(decay, p) * p for name, p, g in _pairs(params, gradients)}
    return _adam_step(params, gradients, opt_state, learning_rate, betas, eps, 0.0)


def adamw(params, gradients, opt_state, *, learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    """Adam with decoupled weight decay, p <- (1 - lr wd) p before the step.

    Loshchilov and Hutter 2017, arXiv:1711.05101.
    """
    decay = check_number(weight_decay, "weight_decay", minimum=0)
    return _adam_step(params, gradients, opt_state, learning_rate, betas, eps, decay)


def _adam_step(params, gradients, opt_state, learning_rate, betas, eps, decoupled_decay):
    lr = check_number(learning_rate, "learning_rate", minimum=0)
    b1, b2 = (check_number(b, "betas", minimum=0, below=1) for b in betas)
    eps = check_number(eps, "eps", above=0)
    t = int(opt_state.get("step", 0)) + 1
    new, state = {}, {"step": np.int64(t)}
    for name, p, g in _pairs(params, gradients):
        m = opt_state.get(f"mean/{name}", np.zeros_like(p))
        s = opt_state.get(f"square/{name}", np.zeros_like(p))
        m = _like(b1, p) * m + _like(1 - b1, p) * g
        s = _like(b2, p) * s + _like(1 - b2, p) * g * g
        state[f"mean/{name}"], state[f"square/{name}"] = m, s
        divisor = np.sqrt(s) / _like(np.sqrt(1 - b2**t), p) + _like(eps, p)
        kept = p * _like(1 - lr * decoupled_decay, p) if decoupled_decay else p
        new[name] = kept - _like(lr / (1 - b1**t), p) * m / divisor
    return new, state


def _pairs(params, gradients):
    """(name, parameter, gradient), checked: same names, shapes and dtypes, all gradients finite."""
    if set(params) != set(gradients):
        different = sorted(set(params) ^ set(gradients))
        raise ValueError(f"gradients: expected the names of params, got a difference in {different[:4]}")
    for name, p in params.items():
        g = gradients[name]
        yield name, p, check_array(g, f"gradients[{name!r}]", shape=p.shape, dtypes=(p.dtype,), finite=True)


def _like(number, array):
    """A Python float in the dtype of `array`, so that float32 stays float32 under NumPy 1.26's promotion as well."""
    return array.dtype.type(number)

"""Optimizers: pure functions from parameters, gradients and an optimizer state to new parameters and a new state.

    params, opt_state = sgd(params, gradients, opt_state, learning_rate=0.1)

All are flat dicts of arrays; opt_state is {} at the start and holds what the rule remembers under
"what/name-of-parameter". Nothing is written to, so an old state can be kept, and a checkpoint is a dict. The formulas
below are for one parameter p with gradient g, at learning rate lr; weight decay wd adds wd * p to g ("L2", SGD, Adam,
LARS, RMSProp, AdaGrad) or takes lr * wd * p from p ("decoupled", AdamW).

All raise ValueError for parameters that are not float32 or float64, gradients of other names, shapes or dtypes or that
are not finite, and a state of other shapes or dtypes than the parameters'.
"""

import numpy as np
from numba import njit, prange

from ..validation import FLOATS, check_array, check_integer, check_number
from .memory import empty


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
        v = _remembered(opt_state, f"velocity/{name}", p)
        v = np.empty(0, p.dtype) if v is None else v
        new[name], velocity = empty(p.shape, p.dtype), empty(p.shape, p.dtype)
        rates = (_like(lr, p), _like(momentum, p), _like(decay, p))
        flat = (np.ascontiguousarray(a).reshape(-1) for a in (p, g, v))
        _sgd_step(*flat, *rates, nesterov, new[name].reshape(-1), velocity.reshape(-1))
        if momentum:
            state[f"velocity/{name}"] = velocity
    return new, state


@njit(cache=True, parallel=True)
def _sgd_step(p, g, v, lr, momentum, decay, nesterov, new, velocity):
    """The rule of `sgd`, one pass over memory; v is empty at the first step."""
    for i in prange(p.size):
        slope = g[i] + decay * p[i]
        velocity[i] = momentum * v[i] + slope if v.size > 0 else slope
        new[i] = p[i] - lr * (slope + momentum * velocity[i] if nesterov else velocity[i])


def adam(params, gradients, opt_state, *, learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
    """m <- b1 m + (1 - b1) g;  s <- b2 s + (1 - b2) g^2;  p <- p - lr mhat / (sqrt(shat) + eps), L2 weight decay.

    mhat = m / (1 - b1^t) and shat = s / (1 - b2^t) undo the start at zero. Source: Kingma and Ba 2014, arXiv:1412.6980.
    """
    decay = check_number(weight_decay, "weight_decay", minimum=0)
    if decay:
        gradients = {name: g + _like(decay, p) * p for name, p, g in _pairs(params, gradients)}
    return _adam_step(params, gradients, opt_state, learning_rate, betas, eps, 0.0)


def adamw(params, gradients, opt_state, *, learning_rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
    """Adam with decoupled weight decay: p <- p - (lr mhat / (sqrt(shat) + eps) + lr wd p).

    Loshchilov and Hutter 2017, arXiv:1711.05101. Not as (1 - lr wd) p: float32 has no numbers between 1 - 6e-8 and 1.
    """
    decay = check_number(weight_decay, "weight_decay", minimum=0)
    return _adam_step(params, gradients, opt_state, learning_rate, betas, eps, decay)


def lars(params, gradients, opt_state, *, learning_rate, momentum=0.9, weight_decay=0.0, trust=1e-3, nesterov=False):
    """SGD whose step for each weight is scaled to that weight's length:

        g' = g + wd p        ratio = trust |p| / (|g| + wd |p|)        v <- momentum v + ratio g';  p <- p - lr v

    Biases and the parameters of norms (fewer than 2 dimensions) take plain steps: no decay, ratio 1. A weight with |p|
    or |g| = 0 has ratio 1 too, but decays. Source: You et al. 2017, arXiv:1708.03888; the exclusions are SimCLR's.
    """
    decay = check_number(weight_decay, "weight_decay", minimum=0)
    trust = check_number(trust, "trust", above=0)
    scaled = {}
    for name, p, g in _pairs(params, gradients):
        if p.ndim >= 2:
            length, slope = sum_of_squares(p) ** 0.5, sum_of_squares(g) ** 0.5
            ratio = trust * length / (slope + decay * length) if length > 0 and slope > 0 else 1.0
            g = _like(ratio, p) * (g + _like(decay, p) * p)
        scaled[name] = g
    return sgd(params, scaled, opt_state, learning_rate=learning_rate, momentum=momentum, nesterov=nesterov)


def rmsprop(params, gradients, opt_state, *, learning_rate, decay=0.99, eps=1e-8, weight_decay=0.0):
    """s <- decay s + (1 - decay) g^2;  p <- p - lr g / (sqrt(s) + eps). Tieleman and Hinton 2012, lecture 6.5."""
    decay = check_number(decay, "decay", minimum=0, below=1)
    return _by_square(params, gradients, opt_state, decay, 1 - decay, learning_rate, eps, weight_decay)


def adagrad(params, gradients, opt_state, *, learning_rate, eps=1e-10, weight_decay=0.0):
    """s <- s + g^2;  p <- p - lr g / (sqrt(s) + eps). Source: Duchi et al. 2011, equation 1, diagonal."""
    return _by_square(params, gradients, opt_state, 1.0, 1.0, learning_rate, eps, weight_decay)


def _by_square(params, gradients, opt_state, keep, take, learning_rate, eps, weight_decay):
    """s <- keep s + take g^2;  p <- p - lr g / (sqrt(s) + eps): RMSProp and AdaGrad."""
    lr = check_number(learning_rate, "learning_rate", minimum=0)
    eps = check_number(eps, "eps", above=0)
    decay = check_number(weight_decay, "weight_decay", minimum=0)
    new, state = {}, {}
    for name, p, g in _pairs(params, gradients):
        g = g + _like(decay, p) * p
        s = _remembered(opt_state, f"square/{name}", p)
        s = _like(keep, p) * (np.zeros_like(p) if s is None else s) + _like(take, p) * g * g
        state[f"square/{name}"] = s
        new[name] = p - _like(lr, p) * g / (np.sqrt(s) + _like(eps, p))
    return new, state


def clip_gradients(gradients, max_norm):
    """Gradients times min(1, max_norm / norm), and the norm: the length of all of them as one vector.

    Source: Pascanu et al. 2012, arXiv:1211.5063, section 3.2. Raises ValueError for gradients that are not float32 or
    float64, or not finite, and for max_norm <= 0.
    """
    max_norm = check_number(max_norm, "max_norm", above=0)
    gradients = {
        name: check_array(g, f"gradients[{name!r}]", dtypes=FLOATS, finite=True) for name, g in gradients.items()
    }
    norm = sum(map(sum_of_squares, gradients.values())) ** 0.5
    if norm <= max_norm:
        return gradients, norm
    return {name: g * _like(max_norm / norm, g) for name, g in gradients.items()}, norm


def sum_of_squares(array):
    """In float64, and not by BLAS (np.linalg.norm), whose sums of long arrays depend on the number of threads."""
    return float(np.square(array, dtype=np.float64).sum())


def _adam_step(params, gradients, opt_state, learning_rate, betas, eps, decoupled_decay):
    """The rule of `adam` after L2 decay, and of `adamw` with its own."""
    lr = check_number(learning_rate, "learning_rate", minimum=0)
    b1, b2 = (check_number(b, "betas", minimum=0, below=1) for b in betas)
    eps = check_number(eps, "eps", above=0)
    t = check_integer(opt_state.get("step", 0), "opt_state['step']", minimum=0) + 1
    new, state = {}, {"step": np.int64(t)}
    for name, p, g in _pairs(params, gradients):
        m, s = (_remembered(opt_state, f"{what}/{name}", p) for what in ("mean", "square"))
        m, s = (np.zeros_like(p) if value is None else value for value in (m, s))
        m = _like(b1, p) * m + _like(1 - b1, p) * g
        s = _like(b2, p) * s + _like(1 - b2, p) * g * g
        state[f"mean/{name}"], state[f"square/{name}"] = m, s
        divisor = np.sqrt(s) / _like(np.sqrt(1 - b2**t), p) + _like(eps, p)
        step = _like(-lr / (1 - b1**t), p) * m / divisor
        if decoupled_decay:
            step -= _like(lr * decoupled_decay, p) * p
        step += p  # in place: fresh memory for as many numbers takes longer than the sum
        new[name] = step
    return new, state


def _pairs(params, gradients):
    """(name, parameter, gradient), checked: same names, shapes and dtypes, float32 or float64, all gradients finite."""
    if set(params) != set(gradients):
        different = sorted(set(params) ^ set(gradients))
        raise ValueError(f"gradients: expected the names of params, got a difference in {different[:4]}")
    for name, p in params.items():
        p, g = check_array(p, f"params[{name!r}]", dtypes=FLOATS), gradients[name]
        yield name, p, check_array(g, f"gradients[{name!r}]", shape=p.shape, dtypes=(p.dtype,), finite=True)


def _remembered(opt_state, name, p):
    """What the state holds under `name`, checked to be of the shape and dtype of the parameter; None for nothing."""
    value = opt_state.get(name)
    return None if value is None else check_array(value, f"opt_state[{name!r}]", shape=p.shape, dtypes=(p.dtype,))


def _like(number, array):
    """A Python float in the dtype of `array`, so that float32 stays float32 under NumPy 1.26's promotion as well."""
    return array.dtype.type(number)

"""Learning rates as functions of the step: step 0 is the first update, `total` the number of updates."""

import math

from ..validation import check_integer


def cosine_schedule(step, total, peak, *, warmup=0, floor=0.0):
    """Linear warmup to `peak` over `warmup` steps, then half a cosine down to `floor` at step `total`.

        step < warmup:  peak (step + 1) / warmup
        else:           floor + (peak - floor) (1 + cos(pi (step - warmup) / (total - warmup))) / 2

    Source: Loshchilov and Hutter 2016, arXiv:1608.03983, without restarts; warmup after Goyal et al. 2017,
    arXiv:1706.02677.
    """
    step, total, warmup = _check(step, total, warmup)
    if step < warmup:
        return peak * (step + 1) / warmup
    return floor + (peak - floor) * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))) / 2


def _check(step, total, warmup):
    total = check_integer(total, "total", minimum=1)
    warmup = check_integer(warmup, "warmup", minimum=0, maximum=total)
    return check_integer(step, "step", minimum=0, maximum=total), total, warmup

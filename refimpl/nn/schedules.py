"""Learning rates as functions of the step: step 0 is the first update, `total` the number of updates."""

import math

from ..validation import check_integer, check_number


def warmup_schedule(step, warmup, peak):
    """peak (step + 1) / warmup up to step `warmup`, then peak. Source: Goyal et al. 2017, arXiv:1706.02677."""
    step, warmup = check_integer(step, "step", minimum=0), check_integer(warmup, "warmup", minimum=0)
    peak = check_number(peak, "peak", minimum=0)
    return peak * (step + 1) / warmup if step < warmup else peak


def cosine_schedule(step, total, peak, *, warmup=0, floor=0.0):
    """Linear warmup to `peak` over `warmup` steps, then half a cosine down to `floor` at step `total`.

        step < warmup:  peak (step + 1) / warmup
        else:           floor + (peak - floor) (1 + cos(pi (step - warmup) / (total - warmup))) / 2

    Source: Loshchilov and Hutter 2016, arXiv:1608.03983, without restarts.
    """
    step, total = _check(step, total)
    warmup = check_integer(warmup, "warmup", minimum=0, maximum=total)
    if step < warmup:
        return warmup_schedule(step, warmup, peak)
    return _half_cosine(peak, floor, (step - warmup) / max(1, total - warmup))


def one_cycle_schedule(step, total, peak, *, rise=0.3, start_divisor=25.0, end_divisor=1e4):
    """Half a cosine up from peak / start_divisor during the fraction `rise`, then one down to start / end_divisor.

    Source: Smith and Topin 2017, arXiv:1708.07120, in the two-phase form of torch's OneCycleLR.
    """
    step, total = _check(step, total)
    peak = check_number(peak, "peak", minimum=0)
    rise = check_number(rise, "rise", above=0, below=1)
    start = peak / check_number(start_divisor, "start_divisor", above=0)
    end = start / check_number(end_divisor, "end_divisor", above=0)
    top, last = rise * total - 1, total - 1
    if step <= top:
        return _half_cosine(start, peak, step / top if top > 0 else 1.0)
    return _half_cosine(peak, end, min(1.0, (step - top) / (last - top)))


def step_schedule(step, milestones, peak, *, factor=0.1):
    """peak * factor^(number of milestones reached): lower at each of the steps in `milestones`."""
    step, peak = check_integer(step, "step", minimum=0), check_number(peak, "peak", minimum=0)
    factor = check_number(factor, "factor", above=0)
    return peak * factor ** sum(step >= check_integer(m, "milestones", minimum=0) for m in milestones)


def _half_cosine(start, end, progress):
    start, end = check_number(start, "peak", minimum=0), check_number(end, "floor", minimum=0)
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def _check(step, total):
    total = check_integer(total, "total", minimum=1)
    return check_integer(step, "step", minimum=0, maximum=total), total

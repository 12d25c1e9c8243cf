"""What all training loops share: progress, a budget in minutes, scores on the way, checkpoints, and when to stop.

A training is one pure function, called again and again:

    run, loss = step(run, rng, share)

    run     named sections, each a flat dict of arrays: parameters, statistics, what the optimizer remembers, ...
    rng     the only source of randomness: it draws the batches
    share   of the training that is done, 0 <= share < 1: schedules are functions of it
    loss    a float, of the batch before its update

Because `step` writes to nothing, everything that the next step depends on is in `run`, `rng` and the number of steps:
a checkpoint is these, and a training that was interrupted goes on to the same bits as one that was not.

A budget in minutes is turned into a number of steps before the training starts: a few steps are taken as a rehearsal,
timed and thrown away, and as many as fit into the rest are planned. The plan is in the checkpoint. So the schedule
does not depend on the clock, and neither does the result, once the number of steps is known: `steps` with the number
that `minutes` came to gives the same bits.
"""

import functools
import json
import os
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..nn import cosine_schedule, load_checkpoint, save_checkpoint
from ..validation import NotFinite, check_integer, check_number

SHARES = 100_000  # schedules count in these parts of the training
REHEARSAL = 0.02  # of a budget in minutes goes into finding out how long a step takes
LOOP = "loop"  # the section of a checkpoint that holds the plan, the losses and the scores
PLAN = ("seed", "about", "steps planned", "steps done", "seconds")


class Run(NamedTuple):
    """What a training came to."""

    sections: dict  # as `step` left them
    losses: np.ndarray  # (steps,) float32, the loss of each step before its update
    scores: np.ndarray  # (evaluations, 2) float64: steps done, score
    seconds: float  # without the rehearsal; those before an interruption included


def train(
    sections, step, *, seed, steps=None, minutes=None, about=None, evaluate=None, evaluations=10, checkpoint=None,
    save_seconds=60.0, progress=None,
):  # fmt: skip
    """Call `step` (see above) a number of times, given as `steps` or planned from a budget in `minutes`.

    sections      the first `run`, {name: flat dict of arrays}; no section may be called "loop"
    seed          of the generator that `step` draws from, an integer in [0, 2^63)
    steps         how many; or
    minutes       a budget, turned into a number of steps by a rehearsal. Evaluations come on top
    about         {name: value}, plain values or functions: what else identifies this training, such as the settings of
                  the step and which pictures are drawn. A checkpoint in which these differ, or the seed, the steps, or
                  the names and shapes of the arrays, is one of another training and is refused
    evaluate      function of run that returns a number, the accuracy of nearest neighbours, say; it must draw nothing
    evaluations   how often, evenly spread, the last one at the end
    checkpoint    path of an .npz file: written every `save_seconds` and at the end; if it exists, the training goes on
                  from there
    progress      called as progress(share of the training done, steps done, last loss) after each step

    Returns Run. Raises ValueError for wrong arguments or a checkpoint of another training, FloatingPointError if the
    loss, or anything that `step` or `evaluate` checks, stops being finite: the checkpoint is then the last good one.
    """
    seed = check_integer(seed, "seed", minimum=0, maximum=2**63 - 1)  # what a checkpoint can hold
    if (steps is None) == (minutes is None):
        raise ValueError(f"steps, minutes: expected exactly one of them, got {steps} and {minutes}")
    steps = None if steps is None else check_integer(steps, "steps", minimum=1)
    minutes = None if minutes is None else check_number(minutes, "minutes", above=0)
    evaluations, about = check_integer(evaluations, "evaluations", minimum=1), _text(about or {})
    if LOOP in sections:
        raise ValueError(f"sections: expected none of the name {LOOP!r}, which is the checkpoint's own")
    if checkpoint is not None and Path(checkpoint).exists():
        sections, rng, losses, scores, steps, before = _resume(checkpoint, sections, seed, about, steps)
    else:
        steps = steps or rehearse(sections, step, seed, minutes)
        rng, losses, scores, before = np.random.default_rng(seed), [], [], 0.0
    start = saved = time.perf_counter()
    marks = {steps * (i + 1) // evaluations for i in range(evaluations)}
    while len(losses) < steps:
        sections, loss = _finite_step(step, sections, rng, len(losses), len(losses) / steps)
        losses.append(loss)
        done, now = len(losses), time.perf_counter()
        if evaluate is not None and done in marks:
            scores.append((done, _finite_score(evaluate, sections, done)))
        if checkpoint is not None and (done == steps or now - saved >= save_seconds):
            _save(checkpoint, sections, rng, losses, scores, (seed, about, steps, done, before + now - start))
            saved = now
        if progress is not None:
            progress(done / steps, done, loss)
    scores = np.array(scores, np.float64).reshape(-1, 2)
    return Run(sections, np.array(losses, np.float32), scores, before + time.perf_counter() - start)


def _finite_step(step, sections, rng, done, share):
    """What `step` gives. Numbers that are not finite are the caller's own in the first step, and divergence later:
    they show in the embeddings or the gradients as soon as in the loss."""
    try:
        new, loss = step(sections, rng, share)
    except NotFinite as error:
        if done == 0:
            raise
        raise FloatingPointError(f"at step {done}: {error}; try a smaller learning_rate") from error
    if not np.isfinite(loss):
        raise FloatingPointError(f"the loss is {loss} at step {done}; try a smaller learning_rate")
    return new, loss


def _finite_score(evaluate, sections, done):
    """What `evaluate` gives. The loss of a step can be the last finite one: then its result shows here first."""
    try:
        return evaluate(sections)
    except NotFinite as error:
        raise FloatingPointError(f"after step {done - 1}: {error}; try a smaller learning_rate") from error


def rehearse(sections, step, seed, minutes):
    """How many steps fit into the minutes, judged by some that are thrown away. The first compiles: it is not counted,
    but its time is gone."""
    rng, start = np.random.default_rng(seed), time.perf_counter()
    sections, _ = _finite_step(step, sections, rng, 0, 0.0)
    first, taken = time.perf_counter(), 0
    while taken < 3 or time.perf_counter() - first < REHEARSAL * 60 * minutes:
        taken += 1
        sections, _ = _finite_step(step, sections, rng, taken, 0.0)
    now = time.perf_counter()
    return max(1, int((60 * minutes - (now - start)) / ((now - first) / taken)))


def update(run, gradients, rule, **settings):
    """`run` after one step of an optimizer.

    gradients  {section: gradients of its parameters}; what the rule remembers is kept in "SECTION optimizer"
    rule       of `refimpl.nn`: sgd, adamw, ...; `settings` are its arguments
    """
    run = dict(run)
    for name, gradient in gradients.items():
        memory = f"{name} optimizer"
        run[name], run[memory] = rule(run[name], gradient, run.get(memory, {}), **settings)
    return run


def cosine_rate(share, peak, warmup):
    """The learning rate after `share` of the training: up to `peak` in the first part `warmup`, then a cosine to 0."""
    return cosine_schedule(round(share * SHARES), SHARES, peak, warmup=round(warmup * SHARES))


def _save(path, sections, rng, losses, scores, plan):
    """A loss can be the last finite one of parameters that no longer are: those do not replace a good checkpoint."""
    for section, values in sections.items():
        for name, value in values.items():
            if not np.isfinite(value).all():
                raise FloatingPointError(f"{section}: {name} is not finite after step {len(losses) - 1}")
    history = {"losses": np.array(losses, np.float64), "scores": np.array(scores, np.float64).reshape(-1, 2)}
    save_checkpoint(path, {**sections, LOOP: {**dict(zip(PLAN, plan)), **history}}, rng)


def _text(about):
    """`about` as JSON; of functions the names, of partial ones with what they are given."""

    def plain(value):
        if isinstance(value, (np.generic, np.ndarray)):
            return value.tolist()
        if isinstance(value, functools.partial):
            return [value.func, value.args, value.keywords]
        if isinstance(value, os.PathLike):
            return os.fspath(value)
        if not hasattr(value, "__name__"):
            raise ValueError(f"about: expected plain values and functions, got {value!r}")
        return value.__name__

    return json.dumps(about, sort_keys=True, default=plain)


def _resume(path, sections, seed, about, steps):
    """What `_save` wrote, if it belongs to this training."""
    found, rng = load_checkpoint(path)
    loop = found.pop(LOOP, {})
    if rng is None or not set(PLAN) <= set(loop):
        raise ValueError(f"checkpoint: expected one of a training, with all of {', '.join(PLAN)}, got {path}")
    if loop["seed"] != seed or steps not in (None, loop["steps planned"]):
        raise ValueError(
            f"checkpoint: expected seed {seed} and {steps or 'any number of'} steps, "
            f"got {loop['seed']} and {loop['steps planned']} in {path}"
        )
    ours, theirs = json.loads(about), json.loads(str(loop["about"]))
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            raise ValueError(
                f"checkpoint: expected one of a training with {name} {ours.get(name)}, got {theirs.get(name)} in {path}"
            )
    for name, values in sections.items():
        shapes, there = ({key: np.shape(v) for key, v in d.items()} for d in (values, found.get(name, {})))
        if shapes.items() - there.items():
            raise ValueError(f"checkpoint: expected the arrays of this training's {name!r}, got others in {path}")
    losses, scores = loop["losses"].tolist(), [tuple(row) for row in loop["scores"].tolist()]
    return found, rng, losses, scores, int(loop["steps planned"]), float(loop["seconds"])

"""Checkpoints: everything that a training run needs to go on as if it had never stopped, in one .npz file.

A checkpoint is a set of named sections (params, state, opt_state, ...), each a flat dict of arrays or numbers, and
the state of a random generator. Nothing is pickled: the arrays are stored as they are, the generator's state as JSON.
The file is written to a temporary name and renamed, so that an interrupted save leaves the last good one in place.

    save_checkpoint("run.npz", {"params": params, "state": state, "opt_state": opt_state, "schedule": {"step": 7}}, rng)
    sections, rng = load_checkpoint("run.npz")
"""

import json
from pathlib import Path

import numpy as np

from ..files import atomic_write

KINDS = {  # of generators, by the name that their state has
    kind.__name__: kind
    for kind in (np.random.MT19937, np.random.PCG64, np.random.PCG64DXSM, np.random.Philox, np.random.SFC64)
}
SEPARATOR = "::"  # between the names of a section and of an array in it


def save_checkpoint(path, sections, rng=None):
    """Write `sections`, a dict of dicts of arrays or numbers, and the state of a numpy Generator, to `path`.

    A name is any text that is not empty, except what the file could not give back: no name may contain NUL, that of a
    section may not contain "::" or end in ":", and that of an array may not end in ".npy". Raises ValueError for such
    names, for values that are neither numbers nor text, and for an rng that is neither a Generator nor None.
    """
    arrays = {}
    for section, values in sections.items():
        if not _is_name(section) or SEPARATOR in section or section.endswith(":") or not isinstance(values, dict):
            raise ValueError(
                f"sections: expected named dicts, names without {SEPARATOR!r} or ':' at the end, got {section!r}"
            )
        arrays[section + SEPARATOR] = np.array(0)  # so that an empty section comes back
        for name, value in values.items():
            if not _is_name(name) or name.endswith(".npy"):
                raise ValueError(f"sections[{section!r}]: expected names that do not end in '.npy', got {name!r}")
            array = np.asarray(value)
            if array.dtype.kind not in "biufSU":
                raise ValueError(f"sections[{section!r}][{name!r}]: expected numbers or text, got dtype {array.dtype}")
            arrays[section + SEPARATOR + name] = array
    if rng is not None:
        if not isinstance(rng, np.random.Generator):
            raise ValueError(f"rng: expected a numpy.random.Generator, got {rng!r}")
        seeds = getattr(rng.bit_generator.seed_seq, "state", None)  # what rng.spawn goes by
        state = {**rng.bit_generator.state, "seeds": seeds}
        arrays[SEPARATOR + "rng"] = np.array(json.dumps(state, default=lambda value: value.tolist()))
    with atomic_write(path) as file:
        np.savez(file, **arrays)


def load_checkpoint(path):
    """The sections of `path`, and its random generator (None if it holds none).

    Raises ValueError if the file is no checkpoint or is damaged, OSError if it cannot be opened.
    """
    with Path(path).open("rb") as file:
        try:
            with np.load(file, allow_pickle=False) as archive:
                return _read(archive)
        except Exception as error:  # zipfile, zlib, json and NumPy all have their own for a damaged file
            raise ValueError(f"path: expected a checkpoint, got {path} ({error})") from error


def _read(archive):
    """The sections and the generator of an open archive."""
    sections, rng = {}, None
    for key in archive.files:
        section, separator, name = key.partition(SEPARATOR)
        if not separator:
            raise ValueError(f"an archive with {key!r}")
        if key == SEPARATOR + "rng":
            rng = _generator(json.loads(str(archive[key])))
        elif not name:
            sections.setdefault(section, {})
        else:
            value = archive[key]
            sections.setdefault(section, {})[name] = value if value.ndim else value[()]
    return sections, rng


def _is_name(name):
    """Whether an archive can have a member of this name."""
    return isinstance(name, str) and name != "" and "\0" not in name


def _generator(state):
    """The generator whose state was saved, of one of the kinds that NumPy has."""
    if state["bit_generator"] not in KINDS:
        raise ValueError(f"rng: expected one of {', '.join(KINDS)}, got {state['bit_generator']}")
    seeds = state.pop("seeds", None)  # older files have none: their generators go on, but spawn others
    bits = KINDS[state["bit_generator"]](None if seeds is None else np.random.SeedSequence(**seeds))
    bits.state = state
    return np.random.Generator(bits)

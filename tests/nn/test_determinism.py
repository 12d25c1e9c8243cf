"""Same seed, same bits, with one thread and with two."""

import hashlib
import os
import subprocess
import sys

import pytest

CODE = """
import hashlib, sys
import numba
numba.set_num_threads(int(sys.argv[1]))
import numpy as np
from refimpl import nn
digest = hashlib.sha256()
def see(*arrays):
    for a in arrays:
        digest.update(np.ascontiguousarray(a).tobytes())
x = np.random.default_rng(0).standard_normal((20, 16, 16, 3)).astype(np.float32)
for init, encoder, inference in (
    (nn.resnet_init, nn.resnet, nn.resnet_inference), (nn.cnn_init, nn.cnn, nn.cnn_inference),
):
    size = {} if init is nn.resnet_init else {"size": (16, 16)}
    params, state = init(widths=(16, 40), embedding=8, seed=1, **size)
    opt_state = {}
    for _ in range(3):
        y, pullback, state = encoder(params, state, x, training=True)
        gradients = pullback(y)
        params, opt_state = nn.sgd(params, gradients, opt_state, learning_rate=0.01, momentum=0.9)
    see(y, *params.values(), *state.values(), inference(nn.fold_batch_norm(params, state), x))
long = {"w": np.random.default_rng(2).standard_normal((300, 500))}  # BLAS would sum the squares of so many in threads
for rule in (nn.adamw, nn.lars, nn.muon):
    see(rule(long, {"w": long["w"][::-1].copy()}, {}, learning_rate=0.1)[0]["w"])
see(nn.clip_gradients(long, 1.0)[0]["w"])
print(digest.hexdigest())
"""


def digest(threads):
    environment = {**os.environ, "NUMBA_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": str(threads)}
    run = subprocess.run(
        [sys.executable, "-c", CODE, str(threads)], env=environment, capture_output=True, text=True, check=True
    )
    return run.stdout.strip()


def test_bits_do_not_depend_on_the_number_of_threads():
    one = digest(1)
    assert len(one) == hashlib.sha256().digest_size * 2
    assert one == digest(2) == digest(2)


def test_arrays_reuse_memory_only_when_nobody_holds_it():
    import numpy as np

    from refimpl.nn.memory import SMALLEST, empty

    shape = (SMALLEST, 3)
    held = empty(shape, np.float32)
    held[:] = 7
    view = held[5:9].T
    where = held.ctypes.data
    del held
    other = empty(shape, np.float32)
    assert other.ctypes.data != where  # the view still reads it
    other[:] = 1
    assert (view == 7).all()
    del view
    assert empty(shape, np.float32).ctypes.data == where
    assert empty((2, 3), np.float64).flags.c_contiguous
    for shape in ((2, 3), (1,), (SMALLEST,), (SMALLEST + 1,)):
        assert empty(shape, np.float64).ctypes.data % 64 == 0  # a cache line
    with pytest.raises(ValueError):
        empty((-1, 5), np.float32)

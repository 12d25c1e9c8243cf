"""Same seed, same bits, with one thread and with two."""

import hashlib
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
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
def whitened_init(**options):
    return nn.whitened_init(x, **options)
for init, encoder, inference in (
    (nn.resnet_init, nn.resnet, nn.resnet_inference), (nn.cnn_init, nn.cnn, nn.cnn_inference),
    (whitened_init, nn.whitened, lambda folded, x: nn.whitened_embedder(folded)(x)),
):
    options = {
        nn.resnet_init: {"embedding": 8}, nn.cnn_init: {"embedding": 8, "size": (16, 16)}, whitened_init: {},
    }[init]
    params, state = init(widths=(16, 40), seed=1, **options)
    see(*params.values(), *state.values())
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
# in float64, since rounding to float32 hides a difference in the last bit
see(nn.patch_whitening(np.random.default_rng(3).standard_normal((400, 32, 32, 3))))
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


def test_sizes_that_are_no_longer_asked_for_make_room(monkeypatch):
    from refimpl.nn import memory

    size = memory.SMALLEST
    for name, value in {"_free": {}, "_asked": {}, "_kept": 0, "KEEP": 20 * size}.items():
        monkeypatch.setattr(memory, name, value)

    def ask(more):
        return memory.empty((size + more,), np.uint8)

    def waiting():
        return {length - size for length, blocks in memory._free.items() if blocks}

    for more in range(64):  # in all three times what may wait
        ask(more)
    assert set(range(48, 64)) <= waiting() and memory._kept == sum(size + more for more in waiting()) <= memory.KEEP
    for more in (50, *range(64, 74)):
        ask(more)
    assert {50, *range(64, 74)} <= waiting()  # the last of them, not the first
    before = waiting()
    ask(20 * size)
    assert waiting() == before  # it may never wait, and drives nothing out
    held = [ask(more) for more in range(100, 140)]
    ask(200)
    held.clear()  # from the last to the first, which was asked for before all that waits and drives nothing out
    assert {125, 139, 200} <= waiting() and memory._kept <= memory.KEEP and min(waiting()) > 100


def test_what_waits_is_given_back_where_memory_is_short(monkeypatch):
    from refimpl.nn import memory

    memory.empty((memory.SMALLEST,), np.uint8)
    assert memory._kept > 0
    real, calls = np.empty, []

    def short(*args, **kwargs):
        calls.append(args)
        if memory._kept > 0:
            raise MemoryError
        return real(*args, **kwargs)

    with monkeypatch.context() as context:
        context.setattr(memory.np, "empty", short)
        array = memory.empty((3 * memory.SMALLEST + 1,), np.uint8)
    assert len(calls) == 2 and len(array) == 3 * memory.SMALLEST + 1
    assert memory._kept == 0 and not any(memory._free.values())
    with monkeypatch.context() as context:  # nothing is left to give
        context.setattr(memory.np, "empty", lambda *args: (_ for _ in ()).throw(MemoryError))
        with pytest.raises(MemoryError):
            memory.empty((3 * memory.SMALLEST + 2,), np.uint8)


def test_blocks_come_and_go_in_several_threads():
    """No array is handed out twice at once, and what is counted as waiting is what waits."""
    from refimpl.nn import memory

    def work(number):
        rng = np.random.default_rng(number)
        for _ in range(300):
            arrays = [memory.empty((memory.SMALLEST + int(rng.integers(4)),), np.uint8) for _ in range(3)]
            for i, array in enumerate(arrays):
                array[:] = 16 * number + i
            assert all((array == 16 * number + i).all() for i, array in enumerate(arrays))
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(4)))
    assert memory._kept == sum(size * len(blocks) for size, blocks in memory._free.items())

"""A range shared out among threads: all of it, once, in few enough pieces. And what compiling one does."""

import gc
import threading
import time

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numba import njit
from numba.core.errors import NumbaError
from numba.extending import overload

from refimpl.ann.index import thread_count
from refimpl.kernels import in_threads, kernel

MOST = numba.config.NUMBA_NUM_THREADS


@given(st.integers(0, 60), st.integers(1, 20), st.integers(1, MOST))
def test_every_turn_belongs_to_one_thread(n, at_least, threads):
    calls = []
    with thread_count(threads):
        in_threads(n, lambda first, last, own: calls.append((first, last, own)), "own", at_least=at_least)
    calls.sort()
    assert [turn for first, last, _ in calls for turn in range(first, last)] == list(range(n))
    assert all(own == "own" for _, _, own in calls)
    assert len(calls) <= threads
    assert len(calls) == 1 or all(last - first >= at_least for first, last, _ in calls)


@given(st.integers(0, 60), st.integers(1, MOST))
def test_every_call_has_room_of_its_own(n, threads):
    rooms = []
    with thread_count(threads):
        in_threads(n, lambda first, last, own, room: rooms.append((own, room)), "own", at_least=1, room=lambda: ([],))
    assert all(own == "own" and room == ([],) for own, room in rooms)
    assert len({id(room[0]) for _, room in rooms}) == len(rooms)


def test_a_kernel_that_would_make_an_array_does_not_compile():
    """As it cannot be freed without counting references: where Numba counts, loops that take rows out are slow."""

    @kernel
    def doubled(n):
        return 2 * np.empty(n)

    with pytest.raises(NumbaError, match="empty"):
        doubled(3)


def watched(module, body):
    """(a kernel as if of that module, a list): compiling it appends whether Python's collector was on meanwhile."""
    seen = []

    def outer(n):
        return body(n)

    outer.__module__ = module
    outer = njit(outer)

    @overload(body)
    def typed(n):
        seen.append(gc.isenabled())
        return body

    return outer, seen


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("module, rests", [("refimpl.ann.some", True), ("refimplicit", False), ("someone.else", False)])
def test_the_collector_rests_while_a_kernel_of_ours_compiles(module, rests, on):
    outer, seen = watched(module, lambda n: 2 * n)
    was = gc.isenabled()
    try:
        gc.enable() if on else gc.disable()
        assert outer(3) == 6
        assert gc.isenabled() == on
    finally:
        gc.enable() if was else gc.disable()
    assert seen and all(now == (on and not rests) for now in seen)


def test_a_kernel_that_fails_to_compile_leaves_the_collector_on():
    @kernel
    def wrong(n):
        return n.nothing_like_this

    wrong.py_func.__module__ = "refimpl.wrong"
    assert gc.isenabled()
    with pytest.raises(NumbaError, match="nothing_like_this"):
        wrong(3)
    assert gc.isenabled()


@pytest.mark.skipif(MOST < 2, reason="there is one thread")
def test_two_parts_run_at_the_same_time():
    both = threading.Barrier(2)
    with thread_count(2):
        in_threads(2, lambda first, last: both.wait(timeout=60), at_least=1)


@pytest.mark.parametrize("failing", range(MOST))
def test_a_failure_in_any_thread_is_raised_after_all_have_ended(failing):
    ended = []

    def kernel(first, last):
        if first == failing:
            raise MemoryError("no room")
        time.sleep(0.05)  # whoever does not wait for this thread misses it
        ended.append(first)

    with pytest.raises(MemoryError, match="no room"):
        in_threads(MOST, kernel, at_least=1)
    assert sorted(ended) == [i for i in range(MOST) if i != failing]


def test_what_was_made_by_exec_is_compiled_too():
    """Such functions have no module; Numba makes them for a jitclass."""
    namespace = {}
    exec("def double(x):\n    return 2 * x\n", {}, namespace)  # no __name__ among these globals
    assert namespace["double"].__module__ is None
    assert njit(namespace["double"])(4) == 8


def test_no_thread_starts_where_there_is_no_room_for_all():
    made, ran = [], []

    def room():
        made.append(1)
        if len(made) == 2:
            raise MemoryError
        return np.empty(1)

    with pytest.raises(MemoryError), thread_count(2):
        in_threads(10, lambda *arguments: ran.append(arguments), at_least=1, room=room)
    assert ran == []

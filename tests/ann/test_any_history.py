"""Any sequence of add, remove, fit, save and load: every index is held against a dictionary of what is in it."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from refimpl.ann.index import thread_count

from .indexes import KINDS, METRICS, TABLE, assert_sound, distances_by_definition, small


class Life(RuleBasedStateMachine):
    """One index, and `vectors`: {id: vector} of what it holds. `kind` is given by a subclass."""

    @initialize(metric=st.sampled_from(METRICS), full=st.booleans(), seed=st.integers(0, 99), n=st.integers(0, 60))
    def start(self, metric, full, seed, n):
        self.metric, self.full = metric, full or TABLE[self.kind].full is None
        self.exact = full and TABLE[self.kind].full is not None
        self.rng, self.last = np.random.default_rng(seed), -1
        self.index = small(self.kind, metric, full)
        self.fit(n)

    def draw_vectors(self, n):
        return self.rng.standard_normal((n, 3)).astype(np.float32)

    def fit(self, n):
        vectors = self.draw_vectors(n)
        self.index.fit(vectors)
        self.vectors = dict(enumerate(vectors))

    @rule(n=st.integers(0, 30))
    def fit_anew(self, n):
        self.fit(n)

    @rule(n=st.integers(0, 30), norm=st.sampled_from([1, 1, 3]))
    def add(self, n, norm):
        vectors, fresh = norm * self.draw_vectors(n), int(max(self.vectors, default=-1)) + 5 + self.rng.permutation(n)
        self.index.add(vectors, fresh)
        self.vectors.update(zip(fresh.tolist(), vectors))

    @rule()
    def add_a_copy(self):
        if self.vectors:
            id = int(self.rng.choice(list(self.vectors)))
            self.index.add(self.vectors[id][None])
            self.vectors[max(self.vectors) + 1] = self.vectors[id]

    @rule(share=st.floats(0, 1))
    def remove(self, share):
        gone = [id for id in self.vectors if self.rng.random() < share]
        self.index.remove(np.array(gone, np.int64))
        for id in gone:
            del self.vectors[id]

    @rule()
    def put_back_under_the_same_id(self):
        if self.vectors:
            id = int(self.rng.choice(list(self.vectors)))
            self.index.remove([id])
            self.vectors[id] = self.draw_vectors(1)[0]
            self.index.add(self.vectors[id][None], [id])

    @rule()
    def save_and_load(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "index"
            self.index.save(path)
            before = self.index.search(np.eye(3), 4)
            self.index = self.kind.load(path)
            self.index._scan_limit = lambda: 0
            after = self.index.search(np.eye(3), 4)
        np.testing.assert_array_equal(before.ids, after.ids)
        np.testing.assert_array_equal(before.distances, after.distances)

    @rule(share=st.sampled_from([0.05, 0.5, 1.0]), k=st.integers(1, 9))
    def search_among_some(self, share, k):
        allowed = np.array([id for id in self.vectors if self.rng.random() < share], np.int64)
        self.check(self.draw_vectors(3), k, allowed)

    def check(self, queries, k, allowed=None):
        """Sound; and with the full budget of an index that can be exact, as near as a sort finds."""
        ids, distances = assert_sound(self.index, self.vectors, queries, k, self.metric, allowed)
        among = list(self.vectors) if allowed is None else allowed.tolist()
        if self.exact and among:
            vectors = np.array([self.vectors[id] for id in among])
            expected = np.sort(distances_by_definition(vectors, queries, self.metric), 1)[:, :k]
            np.testing.assert_allclose(distances[:, : expected.shape[1]], expected, rtol=1e-5, atol=2e-6)
        return ids, distances

    @invariant()
    def every_vector_finds_itself(self):
        if not hasattr(self, "index"):
            return
        assert len(self.index) == len(self.vectors)
        assert sorted(self.index.ids.tolist()) == sorted(self.vectors)
        if not self.vectors:
            return
        ids = list(self.vectors)[-15:]
        queries = np.array([self.vectors[id] for id in ids])
        found, distances = self.check(queries, 8)
        if self.full and self.metric != "ip":  # the largest inner product may be with another vector
            assert (distances[:, 0] == 0).all()
            if self.metric == "l2":
                copies = [{i for i, v in self.vectors.items() if (v == q).all()} for q in queries]
                assert all(set(row[: len(same)]) == same for row, same in zip(found, copies) if len(same) <= 8)
            else:  # parallel vectors are at distance 0 too
                assert all(id in row[near == 0] or near[-1] == 0 for id, row, near in zip(ids, found, distances))


@pytest.mark.parametrize("kind", KINDS)
def test_any_history(kind):
    life = type(f"LifeOf{kind.__name__}", (Life,), {"kind": kind})
    with thread_count(1):  # on some dozens of vectors, waking a second thread takes longer than the work
        run_state_machine_as_test(life, settings=settings(max_examples=8, stateful_step_count=10, deadline=None))

"""Index files: what is saved is what is loaded, mapped and never written to; what is damaged is refused."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refimpl.ann import IVFIndex, KDTreeIndex
from refimpl.ann.storage import read_arrays, write_arrays

from .indexes import CASES, KINDS, normal, small


@functools.cache
def saved(kind):
    """The bytes of a small index, with removed rows and a tail."""
    index = small(kind).fit(normal(60, 4, 0))
    index.add(normal(9, 4, 1))
    index.remove(np.arange(0, 40, 4))
    with tempfile.TemporaryDirectory() as folder:
        index.save(Path(folder) / "index")
        return (Path(folder) / "index").read_bytes()


def assert_refused(kind, content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        path.write_bytes(content)
        with pytest.raises(ValueError, match="^path: expected"):
            kind.load(path)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(data=st.data())
def test_a_file_with_one_altered_bit_or_cut_short_or_made_longer_is_refused(kind, data):
    whole = saved(kind)
    header = whole.index(b"\n", whole.index(b"\n", 16) + 1)
    places = st.integers(0, len(whole) - 1) | st.integers(0, header + 64)  # the header, and the zeros behind it
    at, bit = data.draw(places), data.draw(st.integers(0, 7))
    altered = bytearray(whole)
    altered[at] ^= 1 << bit
    damaged = data.draw(st.sampled_from(["bit", "cut", "gap", "longer"]))
    content = {
        "bit": bytes(altered),
        "cut": whole[:at],
        "gap": whole[:at] + whole[at + 1 :],
        "longer": whole + whole[:1],
    }
    assert_refused(kind, content[damaged])


def test_other_files_are_refused(tmp_path):
    for content in (b"", b"refimpl index 2\n", b"refimpl index 3\n", b"other\n" * 99, bytes(1000)):
        assert_refused(KDTreeIndex, content)
    for kind in KINDS:
        assert_refused(next(other for other in KINDS if other is not kind), saved(kind))
    with pytest.raises(FileNotFoundError):
        KDTreeIndex.load(tmp_path / "nothing")


@pytest.mark.parametrize("kind, metric", CASES)
def test_a_loaded_index_is_the_saved_one_mapped_and_the_file_never_changes(kind, metric, tmp_path):
    index, path, queries = small(kind, metric).fit(normal(300, 4, 0)), tmp_path / "deep" / "index", normal(9, 4, 2)
    index.remove(np.arange(0, 50))
    index.save(path)
    written = path.read_bytes()
    again = kind.load(path)
    again._scan_limit = lambda: 0
    assert type(again) is kind and again._settings == index._settings
    for name in ("_vectors", "_ids", "_live", *kind._STRUCTURE):
        mine, theirs = getattr(index, name), getattr(again, name)
        np.testing.assert_array_equal(mine, theirs)
        assert mine.dtype == theirs.dtype and mine.shape == theirs.shape
        base = theirs
        while base.base is not None and not isinstance(base, np.memmap):
            base = base.base
        assert isinstance(base, np.memmap) and theirs.ctypes.data % 64 == 0
    for _ in range(2):
        expected, found = index.search(queries, 5), again.search(queries, 5)
        np.testing.assert_array_equal(found.ids, expected.ids)
        np.testing.assert_array_equal(found.distances, expected.distances)
        for one in (index, again):
            one.add(normal(20, 4, 3))
            one.remove(one.ids[5:99:7])
    kind.load(path)._vectors[:] = 0
    assert path.read_bytes() == written


def test_settings_may_be_numpy_numbers(tmp_path):
    index = IVFIndex(lists=np.int64(4), probes=np.int32(2)).fit(normal(50, 3, 0))
    index.save(tmp_path / "index")
    assert IVFIndex.load(tmp_path / "index").lists == 4


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.text(max_size=5), st.tuples(st.lists(st.integers(0, 4), max_size=3), st.sampled_from("?bBhHiIqQfd")),
        max_size=4,
    ),
    st.integers(0, 99),
)  # fmt: skip
def test_arrays_come_back_whatever_their_shape_and_type(plan, seed):
    rng = np.random.default_rng(seed)
    arrays = {name: (99 * rng.random(shape)).astype(dtype) for name, (shape, dtype) in plan.items()}
    if seed % 2:  # in whatever order of memory
        arrays = {name: array.T for name, array in arrays.items()}
    with tempfile.TemporaryDirectory() as folder:
        write_arrays(Path(folder) / "file", {"text": "line\nbreak", "number": np.float64(0.5)}, arrays)
        about, found = read_arrays(Path(folder) / "file")
        assert about == {"text": "line\nbreak", "number": 0.5} and list(found) == list(arrays)
        for name, array in arrays.items():
            assert found[name].dtype == array.dtype and found[name].shape == array.shape
            np.testing.assert_array_equal(found[name], array)


def test_an_index_that_is_replaced_while_it_is_read_is_the_one_before(tmp_path, monkeypatch):
    """The digest and what it is of must come from one file, whatever has its name meanwhile."""
    path, other = tmp_path / "index", tmp_path / "other"
    KDTreeIndex().fit(normal(30, 3, 0)).save(path)
    KDTreeIndex().fit(normal(40, 3, 1)).save(other)
    memmap = np.memmap

    def replacing(*arguments, **options):
        if other.exists():
            try:
                other.replace(path)
            except PermissionError:  # of Windows, for a file that is open: nothing can come between
                pytest.skip("files that are open cannot be replaced here")
        return memmap(*arguments, **options)

    monkeypatch.setattr(np, "memmap", replacing)
    assert len(KDTreeIndex.load(path)) == 30 and len(KDTreeIndex.load(path)) == 40

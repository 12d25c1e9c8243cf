"""The tables of docs/ann-*.md: rows come from the records, and nothing else on a page changes."""

import importlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from refimpl.ann import HNSWIndex, RPForestIndex

ROOT = Path(__file__).parents[2]
SCRIPTS = ROOT / "scripts"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module


def test_tables_are_replaced_and_the_rest_stays(script):
    replace = script("ann_tables").replace_table
    page = "# Title\n\n| a | b |\n| --- | --- |\n| old | 1 |\n| old | 2 |\n\ntext\n| a | c |\n"
    assert replace(page, "| a | b |", ["| new | 3 |"]) == page.replace("| old | 1 |\n| old | 2 |", "| new | 3 |")
    assert replace(replace(page, "| a | b |", []), "| a | b |", ["| old | 1 |", "| old | 2 |"]) == page
    with pytest.raises(ValueError, match="header"):
        replace(page, "| x |", [])


def test_tables_of_the_pages_come_from_the_records(script, tmp_path, monkeypatch):
    module = script("ann_tables")
    docs = tmp_path / "docs"
    shutil.copytree(ROOT / "docs", docs, ignore=shutil.ignore_patterns("*.png"))
    path = docs / "results" / "benchmark_ann.json"
    record = json.loads(path.read_text())
    contender = next(c for c in record["contenders"] if c["name"] == "ScaNNIndex")
    contender["points"] = [{"setting": 1, "recall": 0.97, "rate": 123456.0}]
    path.write_text(json.dumps(record))
    monkeypatch.setattr(sys, "argv", ["ann_tables.py", "--docs", str(docs)])
    module.main()
    for page in ("ann-scann.md", "ann-comparison.md"):
        line = next(
            line for line in (docs / page).read_text().splitlines() if "ScaNNIndex" in line and "123,456" in line
        )
        assert "not reached" in line
    before = {page: page.read_text() for page in docs.glob("*.md")}
    module.main()
    assert before == {page: page.read_text() for page in docs.glob("*.md")}


def test_a_goal_is_judged_by_its_least_ratio(script):
    module = script("ann_tables")
    rows = [{"work": name, "ratio": goal} for name, goal, _ in module.ASKED]
    assert all(line.endswith("reached |") for line in module.goal_rows(rows))
    name = module.ASKED[0][0]
    rows += [{"work": f"{name}, isotropic", "ratio": 0.1}, {"work": name, "ratio": None}]
    assert "reached" in module.goal_rows(rows)[0]
    assert "missed" in module.goal_rows([*rows, {"work": name, "ratio": 1.3}])[0]
    assert "below" in module.goal_rows([*rows, {"work": name, "ratio": 1.1}])[0]


def test_a_walk_in_python_finds_what_the_search_finds(script):
    rng = np.random.default_rng(0)
    points, queries = rng.standard_normal((2, 400, 6)).astype(np.float32)
    index = HNSWIndex(links=4, ef_build=20).fit(points)
    for ef in (10, 20):
        index.ef = ef
        found = index.search(queries[:20], 10).ids
        for query, ids in zip(queries, found):
            walk = script("ann_pictures").walk(index, query, ef)
            assert index._rows[index._starts[walk.kept[:10]]].tolist() == ids.tolist()
            assert set(walk.kept) <= walk.measured


def test_the_leaves_met_hold_what_the_search_finds(script):
    rng = np.random.default_rng(0)
    points, queries = rng.standard_normal((2, 2000, 6)).astype(np.float32)
    index = RPForestIndex(trees=3, leaf_size=16, max_leaves=8).fit(points)
    for query, ids in zip(queries[:20], index.search(queries[:20], 10).ids):
        met = script("ann_floors").leaves_met(index, query, 8)
        assert set(ids.tolist()) <= met and len(met) <= 8 * 16
        nearest = sorted(met, key=lambda row: float(((points[row] - query) ** 2).sum()))
        assert nearest[:10] == ids.tolist()


def test_a_page_is_drawn_from_the_records(script, tmp_path, monkeypatch):
    for name in ("benchmark_ann.json", "benchmark_ann_trees.json"):
        shutil.copy(ROOT / "docs" / "results" / name, tmp_path)
    monkeypatch.setattr(sys, "argv", ["plot_ann_pages.py", "--results", str(tmp_path), "--only", "hamming"])
    script("plot_ann_pages").main()
    for name in ("ann_hamming.png", "ann_hamming_curve.png"):
        assert 1000 < (tmp_path / name).stat().st_size < 150_000
    shown = json.loads((tmp_path / "ann_pages.json").read_text())["results"]["hamming"]
    assert 0 < shown["deviation in bits"] < shown["binomial"]


def test_what_a_filter_costs(script, tmp_path, monkeypatch):
    module, tables = script("benchmark_filtered"), script("ann_tables")
    monkeypatch.setattr(module, "VECTORS", 1000)
    monkeypatch.setattr(module, "QUERIES", 5)
    monkeypatch.setattr(module, "INDEXES", ("IVFIndex",))
    path = tmp_path / "filtered.json"
    monkeypatch.setattr(sys, "argv", ["benchmark_filtered.py", "--repeats", "1", "--json", str(path)])
    module.main()
    record = json.loads(path.read_text())
    assert {"command", "environment", "seed"} <= record.keys()
    contenders = record["contenders"]
    assert len(contenders) == 2 * (1 + 2 * 4) and all(one["rate"] > 0 for one in contenders)
    assert all(one["recall"] == 1 for one in contenders if one["index"] == "ExactIndex")
    assert [row["ours"] for row in record["rows"]] == [one["rate"] for one in contenders]
    theirs = [{**one, "ours": False, "rate": one["rate"] / (1 + i % 2)} for i, one in enumerate(contenders)]
    theirs += [{**one, "rate": 1e9, "recall": module.TARGET - 0.01} for one in theirs]  # fast, and not good enough
    for row, one in zip(module.beside_faiss(contenders + theirs), contenders):
        others = [c["rate"] for c in theirs if c["filter"] == one["filter"] and c["recall"] >= module.TARGET]
        assert row["theirs"] == max(others) and row["ratio"] == one["rate"] / row["theirs"]
    lines = tables.filtered_rows(contenders, "one side")
    assert [line.count("|") for line in lines] == [7, 7] and "**ExactIndex**" in lines[0]


def test_filters_allow_what_they_say(script):
    module = script("benchmark_filtered")
    vectors = np.random.default_rng(0).standard_normal((2000, 6)).astype(np.float32)
    masks = module.filters(vectors, 1)
    assert masks.pop("none").all()
    for name, mask in masks.items():
        kind, share = name.rsplit(" ", 1)
        assert mask.sum() == round(2000 * float(share[:-1]) / 100)
        along = vectors @ np.random.default_rng(1).standard_normal(6)
        assert (along[mask].min() >= along[~mask].max()) == (kind == "one side")
    for kind in ("random", "one side"):  # each within the one before
        nested = [masks[f"{kind} {share}%"] for share in ("50", "10", "1", "0.1")]
        assert all((small <= large).all() for large, small in zip(nested, nested[1:]))


def test_the_best_index_beside_others(script, tmp_path, monkeypatch):
    """The contenders that are not skipped, with as many lists as there are on so many vectors."""
    contenders = script("ann_contenders")
    assert contenders.with_lists("faiss IVF1024,Flat", 999_999) == "faiss IVF4096,Flat"
    assert contenders.with_lists("faiss IVF1024,Flat", 1500) == "faiss IVF1024,Flat"
    data, path = tmp_path / "vectors.npy", tmp_path / "best.json"
    np.save(data, np.random.default_rng(0).standard_normal((1500, 6)))
    skip = [name for name in contenders.OURS if name not in ("RPForestIndex", "HammingIndex")]
    arguments = ["--only", "best", "--repeats", "1", "--data", str(data), "--json", str(path), "--skip", *skip]
    monkeypatch.setattr(sys, "argv", ["benchmark_ann.py", *arguments])
    script("benchmark_ann").main()
    record = json.loads(path.read_text())
    assert [contender["name"] for contender in record["contenders"]] == ["RPForestIndex", "HammingIndex"]
    points = [point for contender in record["contenders"] for point in contender["points"]]
    assert all(0 <= point["recall"] <= 1 and point["rate"] > 0 for point in points)
    rows = [row["work"].split(":")[0] for row in record["rows"]]
    assert rows == [f"best index at recall >= {target}" for target in (0.95, 0.99)][: len(rows)] != []
    assert record["parts"].keys() == {"best"} and "'IVFPQIndex, 4 bits'" in record["parts"]["best"]["command"]
    assert record["parts"]["best"]["environment"]["threads"] >= 1


def test_rows_of_other_parts_keep_what_is_known_of_them(script, tmp_path):
    """A part that is measured again, on another machine say, says nothing of the others."""
    write, path = script("benchmarking").write_rows, tmp_path / "rows.json"
    order = ("first", "second", "third")
    write(
        path, [{"part": "second", "work": "a"}, {"part": "first", "work": "b"}], ["second", "first"], order, extra=[1]
    )
    record = json.loads(path.read_text())
    assert record["environment"] == record["parts"]["first"]["environment"]
    assert [row["part"] for row in record["rows"]] == ["first", "second"] and record["extra"] == [1]
    record["parts"]["second"]["environment"]["cpu"] = "another"
    path.write_text(json.dumps(record))
    rows = [{"part": "third", "work": "c"}, {"part": "first", "work": "d"}]
    write(path, rows, ["first", "third"], order, extra=None)
    after = json.loads(path.read_text())
    assert [row["work"] for row in after["rows"]] == ["d", "a", "c"] and after["extra"] == [1]
    assert list(after["parts"]) == list(order) and after["parts"]["second"] == record["parts"]["second"]
    assert after["parts"]["first"]["environment"]["cpu"] != "another"


RECORDS = sorted(path.stem for path in (ROOT / "docs" / "results").glob("benchmark_*.json"))


@pytest.mark.parametrize("name", RECORDS)
def test_records_of_benchmarks_have_the_columns_that_others_read(name):
    record = json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text())
    assert isinstance(record["environment"], dict) and record["environment"] and record["rows"]
    assert all(set(row) >= {"work", "ours", "unit", "peer", "theirs", "ratio"} for row in record["rows"])


@pytest.mark.parametrize("content", ["", "junk", "[1]", '{"results": 3}', '{"rows": 3}', '{"rows": [{"work": "a"}]}'])
@pytest.mark.parametrize("name", ["benchmark_ann", "benchmark_ann_trees"])
def test_a_file_that_is_no_record_is_told_before_the_work(script, tmp_path, monkeypatch, capsys, name, content):
    path = tmp_path / "a.json"
    path.write_text(content)
    monkeypatch.setattr(sys, "argv", [f"{name}.py", "--json", str(path)])
    with pytest.raises(SystemExit) as ended:
        script(name).main()
    assert ended.value.code == 2 and "is no record of this script" in capsys.readouterr().err
    assert path.read_text() == content


def test_rows_are_written_even_if_they_cannot_be_drawn(script, tmp_path, monkeypatch):
    module, written = script("benchmark_ann"), tmp_path / "a.json"
    monkeypatch.setattr(module, "embeddings", lambda n, queries, seed: (np.eye(20, 4, dtype=np.float32),) * 2)

    def benchmark(table, *_, skip=()):
        table.rows.append({"work": "nothing", "ours": 1.0, "unit": "s", "peer": None, "theirs": None, "ratio": None})
        table.contenders = [{"name": "a", "ours": True, "points": []}]

    def cannot(*_):
        raise ValueError("no such format")

    monkeypatch.setattr(module, "benchmark_best", benchmark)
    monkeypatch.setattr(module, "plot_curves", cannot)
    arguments = ["--only", "best", "--json", str(written), "--plot", str(tmp_path / "a.txt")]
    monkeypatch.setattr(sys, "argv", ["benchmark_ann.py", *arguments])
    with pytest.raises(ValueError, match="no such format"):
        module.main()
    assert [row["work"] for row in json.loads(written.read_text())["rows"]] == ["nothing"]


def test_the_number_of_threads_is_set_before_the_libraries_are_loaded():
    """Numba and the BLAS libraries read it when they are imported, and never again."""
    scripts = [path.stem for path in SCRIPTS.glob("*.py") if "benchmarking import" in path.read_text()]
    assert {"benchmark_ann", "benchmark_filtered", "ann_contenders"} <= set(scripts)
    program = """
import importlib, os, sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in ("numba", "numpy", "scipy", "faiss"):
            assert [os.environ.get(f"{library}_NUM_THREADS") for library in ("NUMBA", "OMP")] == ["2", "2"], name
sys.meta_path.insert(0, Watch())
importlib.import_module(sys.argv[1])
"""
    names = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment["PYTHONPATH"] = os.pathsep.join([str(SCRIPTS), str(ROOT)])
    for name in scripts:
        subprocess.run([sys.executable, "-c", program, name], env=environment, check=True)

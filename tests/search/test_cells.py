"""Search beyond a million rows, made small: what it finds, its file, and what is said without the
package."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handglass.errors import MismatchError, UsageError
from handglass.runtime.bundle.tensor_writer import TensorWriter
from handglass.runtime.search import cells as cells_module
from handglass.runtime.search.cells import Cells, make_cells, open_cells
from handglass.runtime.search.index_file import FORMAT, About, Entry, Index
from handglass.runtime.search.nearest import best, nearest
from handglass.runtime.search.rows_file import FORMAT as ROWS_FORMAT
from handglass.runtime.search.rows_file import TEXT, Input, open_index, write_rows

N, WIDTH, GROUPS = 3000, 16, 40


class Means:
    """k-means as faiss has it, in numpy."""

    def __init__(self, width: int, count: int, **options: Any) -> None:
        self.count, self.rounds = count, options["niter"]

    def train(self, rows: np.ndarray) -> None:
        rng = np.random.default_rng(3)
        self.centroids = rows[rng.choice(len(rows), self.count, replace=False)].copy()
        for _ in range(self.rounds):
            of = (rows @ self.centroids.T).argmax(1)
            for number in range(self.count):
                if (of == number).any():
                    self.centroids[number] = unit(rows[of == number].mean(0))


class FakeFaiss:
    Kmeans = Means


def package() -> Any:
    try:
        import faiss
    except ImportError:
        return FakeFaiss
    return faiss


def unit(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True), np.float32)


def made(seed: int = 0, manifest: str = "0" * 64) -> Index:
    """Rows around some directions, as pictures are."""
    rng = np.random.default_rng(seed)
    groups = rng.standard_normal((GROUPS, WIDTH))
    rows = groups[rng.integers(0, GROUPS, N)] + 0.3 * rng.standard_normal((N, WIDTH))
    entries = [Entry(f"{i}.png", 0, 0, i.to_bytes(32, "big")) for i in range(N)]
    return Index(About(FORMAT, "/bundle", manifest, "/pictures"), entries, unit(rows))


def silent(phase: str, done: int, total: int) -> None:
    """Progress that nobody sees."""


@pytest.fixture(scope="module")
def cells() -> Cells:
    return make_cells(made(), package(), silent)


def test_each_row_is_in_one_cell(cells: Cells) -> None:
    np.testing.assert_array_equal(np.sort(cells.order), np.arange(N))
    assert (cells.starts[0], cells.starts[-1]) == (0, N) and (np.diff(cells.starts) >= 0).all()


def test_recall(cells: Cells) -> None:
    """Nearly all of what the exact search finds, and with the cosines of the exact search."""
    index, hits = made(), 0
    queries = unit(np.random.default_rng(9).standard_normal((50, WIDTH)) * 0.3 + index.rows[:50])
    for query in queries:
        exact = {one.name: one.cosine for one in nearest(index, query, 10)}
        found = cells.nearest(index, query, 10)
        assert [one.cosine for one in found] == sorted((o.cosine for o in found), reverse=True)
        hits += sum(one.name in exact for one in found)
        for one in found:
            assert one.name not in exact or abs(one.cosine - exact[one.name]) < 1e-6
    assert hits / 500 > 0.9
    with pytest.raises(MismatchError):
        cells.nearest(index, queries[0, :3], 1)


def test_the_file_is_made_once_and_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cells_module, "_faiss", lambda *_: package())
    index, path = made(), tmp_path / "index"
    first = open_cells(path, index, silent)

    def refuse(*_: Any) -> Any:
        raise AssertionError("the cells were known")

    monkeypatch.setattr(cells_module, "make_cells", refuse)
    again = open_cells(path, index, silent)
    np.testing.assert_array_equal(first.order, again.order)
    for other in (made(manifest="1" * 64), Index(index.about, index.entries[:9], index.rows[:9])):
        assert Cells.read(tmp_path / "index.cells", other) is None


DAMAGED: dict[str, tuple[str, Any]] = {
    "a row that is not there": ("order", lambda a: np.where(a == 5, N, a).astype(np.int32)),
    "a negative row": ("order", lambda a: np.where(a == 5, -1, a).astype(np.int32)),
    "fewer rows": ("order", lambda a: a[:-1]),
    "beyond the rows": ("starts", lambda a: np.where(np.arange(len(a)) == 3, N + 9, a)),
    "backwards": ("starts", lambda a: a[::-1].copy()),
    "another end": ("starts", lambda a: np.append(a[:-1], N - 1)),
    "other cells": ("middles", lambda a: a[:-1]),
    "another width": ("middles", lambda a: np.ascontiguousarray(a[:, :-1])),
    "no numbers": ("middles", lambda a: np.full_like(a, np.nan)),
    "a long middle": ("middles", lambda a: 9 * a),
    "no matrix": ("middles", lambda a: a[0]),
    "nothing": ("middles", lambda a: a[:0]),
    "another key": ("key", lambda a: a[::-1].copy()),
    "a long key": ("key", lambda a: np.append(a, a)),
    "another type": ("order", lambda a: a.astype(np.int64)),
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_foreign_file_is_not_used(what: str, cells: Cells, tmp_path: Path) -> None:
    name, change = DAMAGED[what]
    arrays = {**cells.arrays(), name: change(cells.arrays()[name])}
    path = tmp_path / "index.cells"
    with TensorWriter(path, [(n, a.shape, a.dtype.name) for n, a in arrays.items()]) as writer:
        for key, array in arrays.items():
            writer.write(key, np.ascontiguousarray(array))
    assert Cells.read(path, made()) is None


def test_a_file_of_other_bytes_is_not_used(tmp_path: Path) -> None:
    for content in (b"", b"IHNf" + bytes(100), b"\xff" * 4096):
        (tmp_path / "index.cells").write_bytes(content)
        assert Cells.read(tmp_path / "index.cells", made()) is None


def test_beside_an_index_that_is_only_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cells_module, "_faiss", lambda *_: FakeFaiss)
    assert len(open_cells(tmp_path / "gone" / "index", made(), silent).order) == N
    assert "the next search finds the cells again" in caplog.text


def test_rows_without_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `embed` writes says nothing of files: its cells belong to the rows themselves."""
    monkeypatch.setattr(cells_module, "_faiss", lambda *_: package())
    about = About(ROWS_FORMAT, "/bundle", "0" * 64, "")
    inputs = [Input(TEXT, f"text {i}") for i in range(N)]
    paths = [tmp_path / f"{seed}.safetensors" for seed in range(2)]
    for seed, path in enumerate(paths):
        write_rows(path, about, inputs, made(seed).rows)
    index, other = (open_index(path) for path in paths)
    found = open_cells(paths[0], index, silent).nearest(index, index.rows[5], 2)
    assert found[0].name == "text 5" and found[0].cosine > 0.9999
    assert Cells.read(tmp_path / "0.safetensors.cells", index) is not None
    assert Cells.read(tmp_path / "0.safetensors.cells", other) is None
    assert [one.name for one in index.entries[3:5]] == ["text 3", "text 4"]


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UsageError, match=r"has 3000 rows; .*handglass\[search-large\].*--exact"):
        open_cells(tmp_path / "index", made(), silent)
    assert not list(tmp_path.iterdir())


def test_the_best_of_equal_ones_are_the_first() -> None:
    rng = np.random.default_rng(1)
    for n in (0, 1, 7, 50):
        cosines = rng.integers(0, 4, n).astype(np.float32)
        order = sorted(range(n), key=lambda i: (-cosines[i], i))
        for count in (1, 5, 60):
            assert best(cosines, count).tolist() == order[:count]

"""Search beyond a million rows: the rows are sorted into cells by their direction, and only the
cells nearest to the query are read.

The cells are found once by k-means, with the package faiss, and kept beside the index in
`INDEX.cells`: their middles, and which rows each has. That file is data like the index, a
safetensors file of which every number has a bound; nothing of faiss is read back. Cosines are those
of the rows themselves, so that what is found is exact, but something nearer may be missed.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handglass.errors import DeviceError, InputError, UsageError

from ..bundle.tensor_writer import TensorWriter
from ..bundle.tensors import TensorFile
from .index_file import Index, is_short, parts
from .nearest import Found, best, check_width

EXACT = 1_000_000
"""The most rows that are all read for a search."""
READ = 0.1
"""The share of the cells that a search reads."""
PER_ROOT = 4
"""Cells for each root of the number of rows: finding the nearest ones then takes less time than
reading what they have."""
MOST_CELLS = 1 << 14
TRAINED_ON = 64
"""Rows for each cell that k-means looks at."""
ROUNDS = 10
INSTALL = "pip install 'handglass[search-large]'"
log = logging.getLogger(__name__)
Progress = Callable[[str, int, int], object]


@dataclass(frozen=True, eq=False)
class Cells:
    """`order[starts[i] : starts[i + 1]]` are the rows of cell i."""

    key: np.ndarray  # (32,) uint8: whose cells they are
    middles: np.ndarray  # (cells, width) float32, each of length 1
    order: np.ndarray  # (n,) int32
    starts: np.ndarray  # (cells + 1,) int64

    @classmethod
    def read(cls, path: Path, index: Index) -> Cells | None:
        """The cells of an index; None if the file is missing, damaged or of other rows."""
        try:
            file = TensorFile.open(path)
            cells = cls(*(file.array(name) for name in ("key", "middles", "order", "starts")))
        except InputError:
            return None
        return cells if cells._belongs_to(index) else None

    def _belongs_to(self, index: Index) -> bool:
        n, (count, *_) = len(index.rows), (*self.middles.shape, 0)
        expected = [
            ("uint8", (32,)),
            ("float32", (count, index.rows.shape[1])),
            ("int32", (n,)),
            ("int64", (count + 1,)),
        ]
        if not n or not count:
            return False
        return (
            [(array.dtype.name, array.shape) for array in self.arrays().values()] == expected
            and np.array_equal(self.key, key_of(index))
            and is_short(self.middles)
            and int(self.order.min()) >= 0
            and int(self.order.max()) < n
            and (int(self.starts[0]), int(self.starts[-1])) == (0, n)
            and bool((np.diff(self.starts) >= 0).all())
        )

    def arrays(self) -> dict[str, np.ndarray]:
        return {
            "key": self.key,
            "middles": self.middles,
            "order": self.order,
            "starts": self.starts,
        }

    def write(self, path: Path) -> None:
        """Raises DeviceError if it cannot be written."""
        part, arrays = path.with_name(f"{path.name}.part"), self.arrays()
        with TensorWriter(part, [(n, a.shape, a.dtype.name) for n, a in arrays.items()]) as writer:
            for name, array in arrays.items():
                writer.write(name, array)
        try:
            part.replace(path)
        except OSError as error:
            raise DeviceError(f"{path}: cannot write: {error.strerror}") from error

    def nearest(self, index: Index, query: np.ndarray, count: int) -> list[Found]:
        """As nearest.nearest, of the rows in the nearest cells."""
        check_width(index, query)
        chosen = best(self.middles @ query, max(1, round(READ * len(self.middles))))
        rows = np.sort(np.concatenate([self._rows_of(cell) for cell in chosen]))
        products = [index.taken(rows[part]) @ query for part in parts(len(rows))]
        cosines = np.concatenate([*products, np.empty(0, np.float32)])
        return [
            Found(index.entries[int(rows[i])].name, float(cosines[i])) for i in best(cosines, count)
        ]

    def _rows_of(self, cell: int) -> np.ndarray:
        return self.order[self.starts[cell] : self.starts[cell + 1]]


def key_of(index: Index) -> np.ndarray:
    """A hash (32,) uint8 of the bundle and of the content of an index."""
    digest = hashlib.sha256(f"{index.about.manifest_sha256} {index.rows.shape}".encode())
    for content in index.content():
        digest.update(content)
    return np.frombuffer(digest.digest(), np.uint8)


def open_cells(path: Path, index: Index, progress: Progress) -> Cells:
    """The cells of the index at `path`, from the file beside it or made now (minutes).

    Raises UsageError without faiss, InputError for a damaged index. A file that cannot be written
    is warned of.
    """
    beside = path.with_name(f"{path.name}.cells")
    if (known := Cells.read(beside, index)) is not None:
        return known
    cells = make_cells(index, _faiss(path, index), progress)
    try:
        cells.write(beside)
    except DeviceError as error:
        log.warning("%s; the next search finds the cells again", error)
    return cells


def _faiss(path: Path, index: Index) -> Any:
    try:
        import faiss
    except ImportError:
        raise UsageError(
            f"{path}: has {len(index.rows)} rows; to search more than {EXACT} without reading "
            f"all rows needs the package faiss: {INSTALL}, or pass --exact"
        ) from None
    return faiss


def make_cells(index: Index, faiss: Any, progress: Progress) -> Cells:
    """k-means of a sample of the rows; then each row goes to the cell of the nearest middle."""
    n, width = index.rows.shape
    count = min(MOST_CELLS, n, max(1, round(PER_ROOT * n**0.5)))
    sample = np.random.default_rng(0).choice(n, min(n, TRAINED_ON * count), replace=False)
    progress("find cells", 0, n)
    means = faiss.Kmeans(
        width, count, niter=ROUNDS, spherical=True, seed=0, min_points_per_centroid=1
    )
    means.train(index.taken(np.sort(sample)))
    cell_of = np.empty(n, np.int32)
    for part in parts(n):
        progress("find cells", part.start, n)
        cell_of[part] = (index.taken(part) @ means.centroids.T).argmax(1)
    progress("find cells", n, n)
    order = np.argsort(cell_of, kind="stable").astype(np.int32)
    starts = np.searchsorted(cell_of[order], np.arange(count + 1)).astype(np.int64)
    middles = np.ascontiguousarray(means.centroids, np.float32)
    return Cells(key_of(index), middles, order, starts)

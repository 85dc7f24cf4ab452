"""What the search beyond a million rows finds of what the exact one does, on random directions.

    python benchmarks/search_recall.py --rows 1000000 --width 32

Random directions have no clusters, which is the worst case: those of a model have.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from handglass.runtime.search.cells import Cells, make_cells
from handglass.runtime.search.index_file import FORMAT, About, Entry, Index
from handglass.runtime.search.nearest import Found, nearest

QUERIES, FOUND = 100, 10


def unit_rows(rng: np.random.Generator, count: int, width: int) -> np.ndarray:
    rows = rng.standard_normal((count, width), np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def index_of(rows: np.ndarray) -> Index:
    about = About(FORMAT, "/bundle", "0" * 64, "/pictures")
    entries = [Entry(f"{i}.png", 0, 0, i.to_bytes(32, "big")) for i in range(len(rows))]
    return Index(about, entries, rows)


def timed(search: Callable[[np.ndarray], list[Found]], queries: np.ndarray) -> tuple[list, float]:
    found, seconds = [], []
    for query in queries:
        start = time.perf_counter()
        found.append([one.name for one in search(query)])
        seconds.append(time.perf_counter() - start)
    return found, 1000 * statistics.median(seconds)


def compare(index: Index, cells: Cells, queries: np.ndarray) -> str:
    exact, exact_ms = timed(lambda query: nearest(index, query, FOUND), queries)
    near, near_ms = timed(lambda query: cells.nearest(index, query, FOUND), queries)
    pairs = list(zip(exact, near, strict=True))
    recall = statistics.mean(len({*a} & {*b}) / FOUND for a, b in pairs)
    first = statistics.mean(a[0] == b[0] for a, b in pairs)
    return (
        f"recall@{FOUND} {recall:.3f}, the first is found in {first:.0%}; "
        f"{near_ms:.1f} ms, exactly {exact_ms:.1f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="recall of the search beyond a million rows")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--index", type=Path, help="the rows of this index instead")
    args = parser.parse_args()
    import faiss

    rng = np.random.default_rng(1)
    if args.index:
        index = Index.read(args.index)
        queries = index.rows[rng.choice(len(index.rows), QUERIES, replace=False)]
    else:
        index = index_of(unit_rows(rng, args.rows, args.width))
        queries = unit_rows(rng, QUERIES, args.width)
    start = time.perf_counter()
    cells = make_cells(index, faiss, lambda *_: None)
    print(
        f"{len(cells.middles)} cells of {len(index.rows)} rows: {time.perf_counter() - start:.0f} s"
    )
    print(compare(index, cells, queries))


if __name__ == "__main__":
    main()

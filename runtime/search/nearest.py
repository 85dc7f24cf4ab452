"""Exact search: the rows of an index that are nearest to a row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from handglass.errors import MismatchError

from .index_file import Index, parts


@dataclass(frozen=True)
class Found:
    """A picture, by its name in the folder, and the cosine of its direction and the query's."""

    name: str
    cosine: float


def nearest(index: Index, query: np.ndarray, count: int) -> list[Found]:
    """The `count` best pictures for a row (width,) of length 1, best first; of equal ones, in the
    order of the index. Raises MismatchError for a row of another width, InputError for a damaged
    index."""
    check_width(index, query)
    products = [index.taken(part) @ query for part in parts(len(index.rows))]
    cosines = np.concatenate([*products, np.empty(0, np.float32)])
    return [Found(index.entries[i].name, float(cosines[i])) for i in best(cosines, count)]


def check_width(index: Index, query: np.ndarray) -> None:
    if index.rows.shape[1:] != query.shape:
        raise MismatchError(
            f"the rows of the index have {index.rows.shape[1]} columns, that of the query has "
            f"{len(query)}"
        )


def best(cosines: np.ndarray, count: int) -> np.ndarray:
    """Where the `count` largest are, best first; of equal ones, the first ones."""
    among, left = np.arange(len(cosines)), len(cosines) - count
    if left > 0:  # sort only those that may be among them
        among = np.flatnonzero(cosines >= np.partition(cosines, left)[left])
    return among[np.lexsort((among, -cosines[among]))][:count]

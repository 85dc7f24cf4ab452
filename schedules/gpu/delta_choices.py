"""The choices of the delta rule on a GPU: one by one or in chunks, and the shape of a workgroup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import tvm
from tvm.s_tir import Schedule

from ..choices import Choices
from ..delta_operands import Operands
from ..replace_nest import replace_nests, root_of
from ..tiling import is_one
from .attention_workgroup import Bounds
from .delta_chunk_shape import Chunks
from .delta_nest import write_delta
from .delta_share import Share
from .threads import pick

ONE_BY_ONE, IN_PRODUCTS = 0, 1
OFFERS: Mapping[str, tuple[int, ...]] = {
    "products": (ONE_BY_ONE, IN_PRODUCTS),
    "chunk": (1, 2, 4, 8, 16),
    "columns": (4, 8, 16, 32, 64),
    "threads": (32, 64, 128, 256),
    "parts": (1, 2, 4),
}
"""Whether the positions of a chunk go one by one or through matrix products; positions of a chunk,
whose operands are in shared memory; columns of the state, and threads, of a workgroup; for
products, the parts of the keys that are summed by different threads.

No option depends on another choice. A chunk that exceeds the target's memory becomes the largest
one that does not, then with the most parts for which it does not.
"""
LEAST_CHUNK = 8
"""Products are offered, and are the default, if a chunk of so many positions fits into memory."""
PARTS = 2
"""By default: more parts load less and exchange more (docs/kernels.md)."""


def choose_delta(sch: Schedule, block, target: tvm.target.Target, choices: Choices) -> None:
    """Replace the operator's nest, position by position, if another one is chosen."""
    nest, bounds = sch.get(block), Bounds.of(target)
    operands = Operands.of(nest)
    own = Share.of(*operands.sizes[1:], bounds)
    shape = _pick(sch, own, operands, bounds, choices)
    if shape != own:
        sources = [operands.state, operands.unit, operands.mixed, operands.gate, operands.out]
        replace_nests(sch, [nest], [], root_of(sources, lambda: write_delta(shape, operands)))


def _pick(
    sch: Schedule, own: Share, operands: Operands, bounds: Bounds, choices: Choices
) -> Share | Chunks:
    """The chosen shape; by default products, or the operator's own."""
    one, value_dim = is_one(operands.length), operands.sizes[2]
    products = not one and _fits(Chunks, own, LEAST_CHUNK, bounds)
    options = _options(own, value_dim, bounds, one, products)
    values = _defaults(own, bounds, products)
    picked = {name: pick(sch, choices, name, ns, values[name]) for name, ns in options.items()}
    nearest = {name: max(n for n in ns if n <= values[name]) for name, ns in options.items()}
    unchanged = not products and picked == nearest
    return own if unchanged else _shape(own, values | picked, bounds)


def _fits(kind: type[Share] | type[Chunks], own: Share, positions: int, bounds: Bounds) -> bool:
    """Whether a chunk fits into memory with the operator's own columns."""
    shape = kind.sized(own.key_dim, own.columns, own.threads, positions)
    return shape.shared_bytes <= bounds.bytes


def _divides(columns: int, own: Share, value_dim: int, bounds: Bounds) -> bool:
    """Whether so many columns are whole workgroups: parts of the operator's own, or two of them."""
    wider = columns == 2 * own.columns and value_dim % columns == 0 and columns <= bounds.threads
    return wider or own.columns % columns == 0


def _options(
    own: Share, value_dim: int, bounds: Bounds, one: bool, products: bool
) -> dict[str, Sequence[int]]:
    """What the function is offered. One position has no chunks."""
    chunks = [n for n in OFFERS["chunk"] if _fits(Share, own, n, bounds)]
    threads = [n for n in OFFERS["threads"] if n <= bounds.threads]
    columns = [n for n in OFFERS["columns"] if _divides(n, own, value_dim, bounds)]
    options: dict[str, Sequence[int]] = {
        "chunk": [] if one else chunks,
        "columns": columns if own.columns in columns else [],
        "threads": threads if own.threads >= OFFERS["threads"][0] else [],
        "products": OFFERS["products"] if products else [],
        "parts": OFFERS["parts"] if products else [],
    }
    return {name: offered for name, offered in options.items() if len(offered) > 1}


def _defaults(own: Share, bounds: Bounds, products: bool) -> dict[str, int]:
    """Products in the largest chunk that fits; otherwise the operator's own shape."""
    chunks = [n for n in OFFERS["chunk"] if products and _fits(Chunks, own, n, bounds)]
    return {
        "products": IN_PRODUCTS if products else ONE_BY_ONE,
        "chunk": max(chunks, default=own.positions),
        "columns": own.columns,
        "threads": own.threads,
        "parts": PARTS,
    }


def _shape(own: Share, chosen: Mapping[str, int], bounds: Bounds) -> Share | Chunks:
    """The chosen shape with the largest chunk that the target's memory holds."""
    numbers = own.key_dim, chosen["columns"], chosen["threads"]
    for positions in reversed([n for n in OFFERS["chunk"] if n <= chosen["chunk"]]):
        for parts in reversed([n for n in OFFERS["parts"] if n <= chosen["parts"]]):
            if chosen["products"]:
                shape: Share | Chunks = Chunks.sized(*numbers, positions, parts)
            else:
                shape = Share.sized(*numbers, positions)
            if shape.shared_bytes <= bounds.bytes:
                return shape
    return own

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
    "columns": (4, 8, 16, 32),
    "threads": (32, 64, 128, 256),
}
"""Whether the positions of a chunk go one by one or through matrix products; positions of a chunk,
whose operands are in shared memory; columns of the state, and threads, of a workgroup.

No option depends on another choice. A chunk that exceeds the target's memory becomes the largest
one that does not.
"""
LEAST_CHUNK = 8
"""Products are offered if a chunk of so many positions fits into memory."""


def choose_delta(sch: Schedule, block, target: tvm.target.Target, choices: Choices) -> None:
    """Replace the operator's nest if its workgroups should have another shape."""
    nest, bounds = sch.get(block), Bounds.of(target)
    operands = Operands.of(nest)
    own = Share.of(*operands.sizes[1:], bounds)
    one = is_one(operands.length)
    options = _options(own, bounds, one)
    if not one and _fits(Chunks, own, LEAST_CHUNK, bounds):
        options["products"] = OFFERS["products"]
    shape = _pick(sch, own, options, bounds, choices)
    if shape != own:
        sources = [operands.state, operands.unit, operands.mixed, operands.gate, operands.out]
        replace_nests(sch, [nest], [], root_of(sources, lambda: write_delta(shape, operands)))


def _fits(kind: type[Share] | type[Chunks], own: Share, positions: int, bounds: Bounds) -> bool:
    """Whether a chunk fits into memory with the operator's own columns."""
    shape = kind.sized(own.key_dim, own.columns, own.threads, positions)
    return shape.shared_bytes <= bounds.bytes


def _options(own: Share, bounds: Bounds, one: bool) -> dict[str, Sequence[int]]:
    """What the function is offered, apart from products. One position has no chunks."""
    chunks = [n for n in OFFERS["chunk"] if _fits(Share, own, n, bounds)]
    columns = [n for n in OFFERS["columns"] if own.columns % n == 0]
    threads = [n for n in OFFERS["threads"] if n <= bounds.threads]
    options: dict[str, Sequence[int]] = {
        "chunk": [] if one else chunks,
        "columns": columns if own.columns in columns else [],
        "threads": threads if own.threads >= OFFERS["threads"][0] else [],
    }
    return {name: offered for name, offered in options.items() if len(offered) > 1}


def _pick(
    sch: Schedule,
    own: Share,
    options: Mapping[str, Sequence[int]],
    bounds: Bounds,
    choices: Choices,
) -> Share | Chunks:
    """The chosen shape; by default, the operator's own."""
    values = {
        "products": ONE_BY_ONE,
        "chunk": own.positions,
        "columns": own.columns,
        "threads": own.threads,
    }
    picked = {name: pick(sch, choices, name, ns, values[name]) for name, ns in options.items()}
    nearest = {name: max(n for n in ns if n <= values[name]) for name, ns in options.items()}
    return own if picked == nearest else _shape(own, values | picked, bounds)


def _shape(own: Share, chosen: Mapping[str, int], bounds: Bounds) -> Share | Chunks:
    """The chosen shape with the largest chunk that the target's memory holds."""
    sized = Chunks.sized if chosen["products"] else Share.sized
    numbers = own.key_dim, chosen["columns"], chosen["threads"]
    shapes = (sized(*numbers, n) for n in reversed(OFFERS["chunk"]) if n <= chosen["chunk"])
    return next((shape for shape in shapes if shape.shared_bytes <= bounds.bytes), own)

"""The weights of the experts of a layer, stacked, and their product with the rows of tokens.

A checkpoint has two matrices of each expert, or for all experts one tensor with three dimensions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from tvm import te
from tvm.relax.frontend import nn

from handglass.schedules.isa.register_tiles import LANES

from ..checkpoints.checkpoint import Checkpoint
from ..ops.expert_matmul import ExpertShape, expert_matmul
from ..schemes.panels import panel_count
from ..schemes.scheme import Scheme
from .config import ExpertConfig, LanguageConfig
from .family import HasHead
from .layers import opaque
from .leaves import Leaf, Part, Rows
from .weights import as_function, below_another

GATE_UP, DOWN = "gate_up_proj", "down_proj"
"""The tensors of all experts, (experts, rows, columns)."""


@dataclass(frozen=True)
class Matrix:
    """Rows `start` to `stop` of the matrix that `source` is without its dimensions of one."""

    source: Rows
    start: int
    stop: int

    def read(self, checkpoint: Checkpoint) -> np.ndarray:
        values = self.source.read(checkpoint)
        return values.reshape(-1, values.shape[-1])[self.start : self.stop]


Expert = Sequence[Matrix]
"""The matrices of one expert whose panels are one below the other."""


def as_stored(config: LanguageConfig, checkpoint: HasHead, prefix: str) -> LanguageConfig:
    """The configuration with the way in which this checkpoint stores experts."""
    if config.experts is None:
        return config
    is_stacked = f"{prefix}.layers.0.mlp.experts.{GATE_UP}" in checkpoint
    return replace(config, experts=replace(config.experts, are_stacked=is_stacked))


def gate_up_of(config: ExpertConfig, prefix: str, d: int) -> list[Expert]:
    """The gate and the up projection of each expert, (intermediate_size, d) each."""
    f = config.intermediate_size
    if config.are_stacked:
        whole = (config.count, 2 * f, d)
        slabs = (Rows(f"{prefix}.{GATE_UP}", whole, e, e + 1) for e in range(config.count))
        return [(Matrix(slab, 0, f), Matrix(slab, f, 2 * f)) for slab in slabs]
    both = lambda e: (f"{prefix}.{e}.{part}_proj.weight" for part in ("gate", "up"))  # noqa: E731
    return [
        tuple(Matrix(Rows(name, (f, d)), 0, f) for name in both(e)) for e in range(config.count)
    ]


def down_of(config: ExpertConfig, prefix: str, d: int) -> list[Expert]:
    """The down projection of each expert, (d, intermediate_size)."""
    f, count = config.intermediate_size, config.count
    if config.are_stacked:
        rows = [Rows(f"{prefix}.{DOWN}", (count, d, f), e, e + 1) for e in range(count)]
    else:
        rows = [Rows(f"{prefix}.{e}.{DOWN}.weight", (d, f)) for e in range(count)]
    return [(Matrix(source, 0, d),) for source in rows]


class Experts(Leaf):
    """The packed panels of one matrix of all experts; each of its parts begins a new panel."""

    def __init__(
        self, scheme: Scheme, experts: Sequence[Expert], width: int, chosen: int, is_first: bool
    ) -> None:
        """`width`: the columns of each matrix; `chosen`, `is_first`: see ExpertShape."""
        super().__init__()
        self.scheme, self.experts = scheme, experts
        self.sources = tuple(matrix.source for expert in experts for matrix in expert)
        heights = [panel_count(matrix.stop - matrix.start) for matrix in experts[0]]
        self.shape = ExpertShape(len(experts), sum(heights), width, chosen, is_first)
        self.parts = scheme.shapes(len(experts) * sum(heights) * LANES, width)
        for name, (shape, dtype) in self.parts.items():
            setattr(self, name, nn.Parameter(shape, dtype))

    def stream(self, checkpoint: Checkpoint) -> Iterator[Part]:
        return below_another(map(self.scheme.pack, self._matrices(checkpoint)))

    def _matrices(self, checkpoint: Checkpoint) -> Iterator[np.ndarray]:
        for expert in self.experts:
            for matrix in expert:
                yield matrix.read(checkpoint)

    def forward(self, x: nn.Tensor, order: nn.Tensor, starts: nn.Tensor) -> nn.Tensor:
        """The rows of tokens times the weights of their experts: see expert_matmul."""

        def compute(x: te.Tensor, order: te.Tensor, starts: te.Tensor, *parts: te.Tensor):
            read = lambda buffers: as_function(self.scheme.read(buffers))  # noqa: E731
            return expert_matmul(x, order, starts, parts, read, self.shape)

        weights = [getattr(self, name) for name in self.parts]
        return opaque(compute, "expert_matmul", x, order, starts, *weights)

"""The leaves of every model: parameters that know which checkpoint tensors they come from.

A leaf has `load(checkpoint)`, which returns the arrays of its parameters by name; nothing is read
before. What a layer computes is in `compiler/ops`, how it is stored in `compiler/quantize.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tvm import te, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op

from handglass.schedules.dot import LANES

from ..checkpoint import Checkpoint
from ..ops import matmul as matmul_op
from ..ops import norm as norm_op
from ..ops.integer_matmul import Quantized, integer_matmul
from ..ops.quantize_rows import quantize_rows
from ..ops.shared_matmul import shared_matmul
from ..ops.tile_matmul import bfloat16_matmul
from ..schemes.scheme import Scheme

CHUNK = 1 << 22
"""Weights that are packed at a time."""

OUT_ELEMENTWISE, OPAQUE = 4, 8
"""Relax's operator kinds: takes an element-wise epilogue; is never fused."""


@dataclass(frozen=True)
class Rows:
    """Rows `start` to `stop` of the checkpoint tensor `name` of this shape, all by default."""

    name: str
    shape: tuple[int, ...]
    start: int = 0
    stop: int | None = None

    def read(self, checkpoint: Checkpoint) -> np.ndarray:
        if self.stop is None:
            return checkpoint.read(self.name, self.shape)
        checkpoint.expect(self.name, self.shape)
        return checkpoint.read_rows(self.name, self.start, self.stop)

    def chunks(self, checkpoint: Checkpoint, size: int) -> Iterator[np.ndarray]:
        """The rows as matrices of at most `size` rows, in order."""
        checkpoint.expect(self.name, self.shape)
        end = self.start + self.count
        for start in range(self.start, end, size):
            stop = min(start + size, end)
            yield checkpoint.read_rows(self.name, start, stop).reshape(stop - start, -1)

    @property
    def count(self) -> int:
        return (self.shape[0] if self.stop is None else self.stop) - self.start


class Leaf(nn.Module):
    """A module with parameters of its own."""

    def load(self, checkpoint: Checkpoint) -> Mapping[str, np.ndarray]:
        """The arrays of this leaf's parameters, by attribute name."""
        raise AssertionError("every leaf loads its own parameters")


class Stored(Leaf):
    """One float32 tensor that `read` computes from the checkpoint or the configuration alone."""

    def __init__(self, shape: Sequence[int], read: Callable[[Checkpoint], np.ndarray]) -> None:
        super().__init__()
        self.value = nn.Parameter(tuple(shape), "float32")
        self._read = read

    def load(self, checkpoint: Checkpoint) -> Mapping[str, np.ndarray]:
        return {"value": np.ascontiguousarray(self._read(checkpoint), np.float32)}


def vector(*sources: Rows) -> Stored:
    """One-dimensional tensors of the checkpoint end to end, e.g. the biases of q, k and v."""
    length = sum(source.count for source in sources)
    return Stored((length,), lambda ckpt: np.concatenate([s.read(ckpt) for s in sources]))


class Panels(Leaf):
    """A weight matrix (out, in) in a scheme's packing; several tensors may be stacked as rows."""

    def __init__(self, scheme: Scheme, sources: Sequence[Rows], transpose: bool = False) -> None:
        super().__init__()
        self.scheme, self.sources, self.transpose = scheme, tuple(sources), transpose
        count, width = sum(s.count for s in sources), int(np.prod(sources[0].shape[1:]))
        self.out_features, self.in_features = (width, count) if transpose else (count, width)
        parts = scheme.shapes(self.out_features, self.in_features)
        self.parts = tuple(parts)
        for name, (shape, dtype) in parts.items():
            setattr(self, name, nn.Parameter(shape, dtype))

    def load(self, checkpoint: Checkpoint) -> Mapping[str, np.ndarray]:
        packed = [self.scheme.pack(matrix) for matrix in self._matrices(checkpoint)]
        return {name: np.concatenate([part[name] for part in packed]) for name in self.parts}

    def _matrices(self, checkpoint: Checkpoint) -> Iterator[np.ndarray]:
        """The rows in pieces of whole panels, so that a large table never stands in float32."""
        if self.transpose:
            (source,) = self.sources
            yield source.read(checkpoint).T
        elif any(source.count % LANES for source in self.sources[:-1]):
            yield np.concatenate([s.read(checkpoint).reshape(s.count, -1) for s in self.sources])
        else:
            size = max(CHUNK // self.in_features // LANES, 1) * LANES
            for source in self.sources:
                yield from source.chunks(checkpoint, size)

    def tensors(self) -> list[nn.Tensor]:
        return [getattr(self, name) for name in self.parts]


@dataclass(frozen=True)
class Source:
    """Rows (m, d) that are not computed yet: a matmul on integers has its input computed and
    quantised in one kernel, one on floats as a kernel of its own."""

    name: str
    compute: Callable[..., te.Tensor]
    args: tuple[nn.Tensor, ...]
    last: bool = False
    """Whether it is one row, however many the arguments have."""

    def computed(self) -> nn.Tensor:
        return opaque(self.compute, self.name, *self.args)

    def quantized(self, scheme: Scheme, depth: int) -> list[nn.Tensor]:
        """Codes, scale and, where the weights have a zero point, offset: see `Quantized`."""
        codes = scheme.codes
        assert codes is not None, scheme.name
        return list(
            opaque(
                lambda *args: quantize_rows(self.compute(*args), codes, depth),
                f"{self.name}_quantize",
                *self.args,
            )
        )


def is_one_row(x: nn.Tensor | Source) -> bool:
    """Whether x has one row in every call: a step of decoding, or what the head reads."""
    rows = (x.args[0] if isinstance(x, Source) else x).shape[0]
    return (isinstance(x, Source) and x.last) or (isinstance(rows, int) and rows == 1)


def as_source(x: nn.Tensor) -> Source:
    """Rows that are there already."""
    return Source("rows", lambda x: x, (x,))


class Linear(nn.Module):
    """y = x W^T + b, x (m, in) -> (m, out)."""

    def __init__(
        self,
        scheme: Scheme,
        weight: Sequence[Rows],
        bias: Sequence[Rows] = (),
        transpose: bool = False,
    ) -> None:
        super().__init__()
        self.panels = Panels(scheme, weight, transpose)
        self.bias = vector(*bias) if bias else None

    def forward(self, x: nn.Tensor | Source) -> nn.Tensor:
        y = multiply(x, self.panels)
        return y if self.bias is None else op.add(y, self.bias.value)


def multiply(x: nn.Tensor | Source, panels: Panels) -> nn.Tensor:
    """x (m, in) times packed weights -> (m, out)."""
    scheme, depth = panels.scheme, panels.scheme.depth(panels.in_features)
    tiles = scheme.bfloat16_rows and not is_one_row(x)
    if scheme.codes is None or tiles:
        rows = [x.computed() if isinstance(x, Source) else x]
        compute = _tile_matmul(panels) if tiles else _float_matmul(panels, depth)
    else:
        source = x if isinstance(x, Source) else as_source(x)
        rows = source.quantized(scheme, depth)
        compute = _integer_matmul(panels, len(rows))
    return op.tensor_expr_op(
        compute, "matmul", [*rows, *panels.tensors()], attrs={"op_pattern": OUT_ELEMENTWISE}
    )


def _float_matmul(panels: Panels, depth: int) -> Callable[..., te.Tensor]:
    scheme, n = panels.scheme, panels.out_features
    shared = scheme.dot.shared
    if shared is not None:
        half = shared.half and scheme.half
        return lambda x, *parts: shared_matmul(x, n, depth, scheme.read(parts), shared, half)
    return lambda x, *parts: matmul_op.matmul(x, n, depth, scheme.read(parts), scheme.dot.floats)


def _tile_matmul(panels: Panels) -> Callable[..., te.Tensor]:
    return lambda x, *parts: bfloat16_matmul(x, panels.out_features, panels.scheme.words(parts))


def _integer_matmul(panels: Panels, inputs: int) -> Callable[..., te.Tensor]:
    codes = panels.scheme.codes
    assert codes is not None, panels.scheme.name

    def compute(*tensors: te.Tensor) -> te.Tensor:
        values, scale, *offset = tensors[:inputs]
        x = Quantized(values, scale, offset[0] if offset else None)
        return integer_matmul(x, panels.out_features, codes, *tensors[inputs:])

    return compute


def opaque(function: Callable, name: str, *args: nn.Tensor | tirx.Var | int):
    """A tensor expression as a kernel of its own; a tuple of tensors where it returns several."""
    return op.tensor_expr_op(function, name, list(args), attrs={"op_pattern": OPAQUE})


class RMSNorm(nn.Module):
    """x (m, d) -> (m, d)."""

    def __init__(self, name: str, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = vector(Rows(f"{name}.weight", (hidden_size,))), eps

    def forward(self, x: nn.Tensor) -> Source:
        return Source(
            "rms_norm", lambda x, w: norm_op.rms_norm(x, w, self.eps), (x, self.weight.value)
        )


class LayerNorm(nn.Module):
    """x (m, d) -> (m, d)."""

    def __init__(self, name: str, hidden_size: int, eps: float) -> None:
        super().__init__()
        self.weight = vector(Rows(f"{name}.weight", (hidden_size,)))
        self.bias = vector(Rows(f"{name}.bias", (hidden_size,)))
        self.eps = eps

    def forward(self, x: nn.Tensor) -> Source:
        return Source(
            "layer_norm",
            lambda x, w, b: norm_op.layer_norm(x, w, b, self.eps),
            (x, self.weight.value, self.bias.value),
        )


def leaves(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, Leaf]]:
    """Every leaf below `module` with its dotted path, in the order of its attributes."""
    if isinstance(module, Leaf):
        yield prefix.rstrip("."), module
        return
    children = enumerate(module) if isinstance(module, nn.ModuleList) else vars(module).items()
    for name, child in children:
        if isinstance(child, nn.Module):
            yield from leaves(child, f"{prefix}{name}.")

"""Linear attention of Qwen3.5: a causal convolution, then the gated delta rule.

The state of a layer has a constant size: the last inputs of the convolution, and a matrix per head.
"""

from __future__ import annotations

import numpy as np
from tvm import tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op

from ..checkpoints.checkpoint import Checkpoint
from ..ops import causal_conv, delta_rule, gpu_causal_conv, gpu_delta_rule
from ..ops.delta_rule import Heads
from ..ops.exponential import LOG2_E
from ..ops.scope import on_gpu
from ..schemes.scheme import Scheme
from .config import DeltaConfig, LanguageConfig
from .layers import Linear, Source, is_one_row, opaque
from .leaves import Rows, Stored, vector


class DeltaNet(nn.Module):
    """x (s, d) -> (s, d); advances the state [tail, matrices] by s positions."""

    def __init__(
        self, config: LanguageConfig, scheme: Scheme, gate_scheme: Scheme, prefix: str
    ) -> None:
        """`gate_scheme` stores the few rows that decide how fast the state decays."""
        super().__init__()
        assert config.delta is not None
        delta, d, self.prefix = config.delta, config.hidden_size, prefix
        self.heads, self.taps = heads_of(delta), delta.conv_kernel_dim
        width, out, h = self.heads.width, self.heads.out, self.heads.values
        rows = lambda name, count: Rows(f"{prefix}.{name}.weight", (count, d))  # noqa: E731
        self.in_proj = Linear(scheme, [rows("in_proj_qkv", width), rows("in_proj_z", out)])
        self.in_proj_ba = Linear(gate_scheme, [rows("in_proj_b", h), rows("in_proj_a", h)])
        self.conv = self._conv_weight()
        self.rate, self.dt_bias = self._rate(), vector(Rows(f"{prefix}.dt_bias", (h,)))
        self.norm = vector(Rows(f"{prefix}.norm.weight", (self.heads.value_dim,)))
        self.eps = config.rms_norm_eps
        self.out_proj = Linear(scheme, [Rows(f"{prefix}.out_proj.weight", (d, out))])

    def forward(self, x: nn.Tensor | Source, state: list[nn.Tensor]) -> nn.Tensor:
        tail, matrices = state
        projected = self.in_proj(x)  # (s, width + out): rows of the convolution, then the gate z
        mixed = self._convolve(projected, tail)
        unit = opaque(lambda mixed: delta_rule.unit_heads(mixed, self.heads), "unit_heads", mixed)
        weights = self.in_proj_ba(x), self.rate.value, self.dt_bias.value
        gates = opaque(delta_rule.gates, "delta_gates", *weights)
        func = self._delta_writer(is_one_row(x))
        o = _in_place(func, "delta_rule", matrices, [unit, mixed, gates], self.heads.out)
        normed = Source("gated_norm", self._normed, (o, projected, self.norm.value))
        # A GPU kernel has one level of groups: it does not quantise what it normalises by heads.
        return self.out_proj(normed.computed() if on_gpu() else normed)

    def _delta_writer(self, one_row: bool) -> tirx.PrimFunc:
        """Decode has a kernel of its own: many rows are scheduled and tuned in chunks."""
        ops = gpu_delta_rule if on_gpu() else delta_rule
        return (ops.delta_step if one_row else ops.delta_writer)(self.heads)

    def _normed(self, o, projected, weight):
        return delta_rule.gated_norm(o, projected, weight, self.heads.width, self.eps)

    def _convolve(self, projected: nn.Tensor, tail: nn.Tensor) -> nn.Tensor:
        width = self.heads.width
        written = gpu_causal_conv if on_gpu() else causal_conv
        func = written.conv_writer(width + self.heads.out, width, self.taps)
        return _in_place(func, "causal_conv", tail, [projected, self.conv.value], width)

    def _conv_weight(self) -> Stored:
        """(channels, 1, taps) -> (taps, channels)"""
        source = Rows(f"{self.prefix}.conv1d.weight", (self.heads.width, 1, self.taps))
        shape = self.taps, self.heads.width
        return Stored(shape, lambda ckpt: source.read(ckpt)[:, 0].T, [source])

    def _rate(self) -> Stored:
        """The exponent of the decay, for a power of two."""
        source = Rows(f"{self.prefix}.A_log", (self.heads.values,))

        def read(checkpoint: Checkpoint) -> np.ndarray:
            return -np.exp(source.read(checkpoint)) * np.float32(LOG2_E)

        return Stored((self.heads.values,), read, [source])


def heads_of(delta: DeltaConfig) -> Heads:
    return Heads(
        delta.num_key_heads, delta.num_value_heads, delta.key_head_dim, delta.value_head_dim
    )


def state_shapes(delta: DeltaConfig) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of the state of one layer, in its order."""
    heads = heads_of(delta)
    return {
        "conv_tail": ((delta.conv_kernel_dim - 1, heads.width), "float32"),
        "delta_state": ((heads.values, heads.key_dim, heads.value_dim), "float32"),
    }


def _in_place(
    func: tirx.PrimFunc, name: str, state: nn.Tensor, inputs: list[nn.Tensor], width: int
) -> nn.Tensor:
    """Call `func`, which advances `state` in place, and return its result (s, width)."""
    rows = inputs[0].shape[0]
    out = [
        nn.Tensor.placeholder(state.shape, state.dtype),
        nn.Tensor.placeholder([rows, width], "float32"),
    ]
    return op.tensor_ir_inplace_op(func, name, [state, *inputs], [0, -1], out)[1]

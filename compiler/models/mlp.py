"""The gated MLP of a decoder's layer."""

from __future__ import annotations

from tvm.relax.frontend import nn

from ..schemes.scheme import Scheme
from .layers import Linear, Source, silu_gated
from .leaves import Rows


class Mlp(nn.Module):
    """x (s, d) -> (s, d), through f hidden columns: down(silu(gate(x)) * up(x))."""

    def __init__(self, scheme: Scheme, prefix: str, d: int, f: int) -> None:
        super().__init__()
        rows = lambda name: Rows(f"{prefix}.{name}.weight", (f, d))  # noqa: E731
        self.gate_up_proj = Linear(scheme, [rows("gate_proj"), rows("up_proj")])
        self.down_proj = Linear(scheme, [Rows(f"{prefix}.down_proj.weight", (d, f))])

    def forward(self, x: nn.Tensor | Source) -> nn.Tensor:
        return self.down_proj(silu_gated(x, self.gate_up_proj))

"""The MLP of a layer: one that all tokens pass through, or a mixture of experts.

In a mixture, each token passes through the few experts that a router chooses, and through one more
that all tokens share. The router's logits and the gate of the shared expert are in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op

from handglass.errors import UsageError
from handglass.schedules.isa.register_tiles import LANES

from ..ops import routing
from ..schemes.panels import panel_count
from ..schemes.scheme import Scheme
from .config import ExpertConfig, LanguageConfig
from .experts import Experts, down_of, gate_up_of
from .layers import Linear, Source, opaque
from .leaves import Rows
from .mlp import Mlp

EXPERTS = ".experts_"
"""In the names of all parameters that hold the weights of experts."""


@dataclass(frozen=True)
class Schemes:
    """The storage of a layer's weights, of gates and routers, and of experts."""

    weights: Scheme
    gates: Scheme
    experts: Scheme


def mlp_of(config: LanguageConfig, schemes: Schemes, prefix: str) -> Mlp | Mixture:
    """The MLP of a layer whose tensors begin with `prefix`."""
    d, f = config.hidden_size, config.intermediate_size
    if config.experts is None:
        return Mlp(schemes.weights, prefix, d, f)
    shared = Mlp(schemes.weights, f"{prefix}.shared_expert", d, f)
    return Mixture(config.experts, schemes, prefix, shared, d)


class Mixture(nn.Module):
    """x (s, d) -> (s, d). Raises UsageError for a GPU."""

    def __init__(
        self, config: ExpertConfig, schemes: Schemes, prefix: str, shared: Mlp, d: int
    ) -> None:
        super().__init__()
        if schemes.experts.units.gpu is not None:
            raise UsageError(
                f"--target: a mixture of {config.count} experts has no GPU kernels yet; choose a "
                "target without a GPU"
            )
        self.config = config
        rows = [("gate", config.count), ("shared_expert_gate", 1)]
        gates = [Rows(f"{prefix}.{name}.weight", (count, d)) for name, count in rows]
        self.gates = Linear(schemes.gates, gates)
        self.shared_expert = shared
        prefix, scheme, chosen = f"{prefix}.experts", schemes.experts, config.chosen
        first, last = gate_up_of(config, prefix, d), down_of(config, prefix, d)
        self.experts_gate_up = Experts(scheme, first, d, chosen, True)
        self.experts_down = Experts(scheme, last, config.intermediate_size, chosen, False)

    def forward(self, x: nn.Tensor | Source) -> nn.Tensor:
        config, rows = self.config, x.computed() if isinstance(x, Source) else x
        logits = self.gates(rows)  # (s, experts + 1)
        choose = routing.chooser(config.count, config.count + 1, config.chosen)
        choices = [
            ((rows.shape[0], config.chosen), "int32"),
            ((rows.shape[0], config.chosen), "float32"),
        ]
        ids, shares = _call(choose, "choose_experts", logits, choices)
        sort = routing.sorter(config.count, config.chosen)
        order, starts = _call(
            sort, "sort_choices", ids, [choices[0], ((config.count + 1,), "int32")]
        )
        gate_up = self.experts_gate_up(rows, order, starts)
        width = panel_count(config.intermediate_size) * LANES
        hidden = opaque(lambda x: routing.silu_gates(x, width), "silu_gates", gate_up)
        results = self.experts_down(hidden, order, starts)
        shared = self.shared_expert(rows)
        return opaque(routing.combine, "combine_experts", results, shares, shared, logits)


def _call(
    func: tirx.PrimFunc, name: str, x: nn.Tensor, results: Sequence[tuple[tuple, str]]
) -> list[nn.Tensor]:
    """The results of `func` of x, by their shapes and types."""
    out = [nn.Tensor.placeholder(list(shape), dtype) for shape, dtype in results]
    return list(op.tensor_ir_op(func, name, [x], out))

"""The vision side of MiniCPM-V 4.6 and later: SigLIP whose rows are merged by windows of 2 x 2.

Patches arrive in the order of windows (`window_levels` of the manifest): four consecutive rows are
a window, and so are four consecutive results. Merging a window is then a view of the same memory.
Attention over a whole tile does not depend on the order. Names are those of the checkpoint.

Kernels of the window merger have `m` rows, those of the final merger `r`; kernels of the encoder
have `n`, also after the window merger (lowering/workload.py).
"""

from __future__ import annotations

from tvm import te, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op

from ..ops import exponential
from ..ops.window_attention import window_attention
from ..schemes.scheme import Scheme
from .config import VisionConfig
from .layers import LayerNorm, grouped, opaque, view
from .merger_config import WINDOW, MergerConfig
from .vision import VisionTower, linear

FINAL_EPS = 1e-6
"""Epsilon of the final merger's norm, which is not configurable."""


class MergedVisionTower(nn.Module):
    """pixels (3, p, p * n), position_ids (n,) -> (n / 16 or n / 4, hidden size of the language)."""

    def __init__(
        self,
        config: VisionConfig,
        merger: MergerConfig,
        scheme: Scheme,
        vision_prefix: str = "model.vision_tower",
        merger_prefix: str = "model.merger",
    ) -> None:
        super().__init__()
        self.tower = VisionTower(config, scheme, vision_prefix)
        self.insert_layer_id = merger.insert_layer_id
        self.vit_merger = (
            WindowMerger(config, scheme, f"{vision_prefix}.vit_merger")
            if merger.levels == 2
            else None
        )
        self.merger = FinalMerger(config.hidden_size, merger.hidden_size, scheme, merger_prefix)

    def forward(self, pixels: nn.Tensor, position_ids: nn.Tensor) -> nn.Tensor:
        return self.merger(self.encode(pixels, position_ids))

    def encode(self, pixels: nn.Tensor, position_ids: nn.Tensor) -> nn.Tensor:
        """The features before the final merger: (n / 4 or n, d)."""
        x = self.tower.embed(pixels, position_ids)  # (n, d)
        for number, layer in enumerate(self.tower.layers):
            x = layer(x)
            if self.vit_merger is not None and number == self.insert_layer_id:
                x = self.vit_merger(x)  # (n / 4, d)
        return self.tower.post_layernorm(x).computed()


class WindowMerger(nn.Module):
    """Attention within each window, then one row per window; x (n, d) -> (n / 4, d)."""

    def __init__(self, config: VisionConfig, scheme: Scheme, prefix: str) -> None:
        super().__init__()
        d, eps, attention = config.hidden_size, config.layer_norm_eps, f"{prefix}.self_attn"
        wide, hidden = WINDOW * d, WINDOW * config.intermediate_size
        self.heads = config.num_attention_heads
        self.layer_norm1 = LayerNorm(f"{prefix}.layer_norm1", d, eps)
        self.qkv_proj = linear(scheme, attention, (d, d), "q_proj", "k_proj", "v_proj")
        self.out_proj = linear(scheme, attention, (d, d), "out_proj")
        self.pre_norm = LayerNorm(f"{prefix}.pre_norm", wide, eps)
        self.linear_1 = linear(scheme, prefix, (hidden, wide), "linear_1")
        self.linear_2 = linear(scheme, prefix, (d, hidden), "linear_2")

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        x = op.add(x, self._attend(x))
        joined = grouped(x, WINDOW, "m")  # (n / 4, 4 d)
        hidden = self.linear_1(self.pre_norm(joined))  # (n / 4, 4 f)
        hidden = op.tensor_expr_op(exponential.gelu_tanh, "gelu_tanh", [hidden])
        return op.add(self.linear_2(hidden), opaque(_mean, "window_mean", joined))

    def _attend(self, x: nn.Tensor) -> nn.Tensor:
        qkv = self.qkv_proj(self.layer_norm1(x))  # (n, 3 d)
        windows = grouped(qkv, WINDOW, "m", apart=True)  # (n / 4, 4, 3 d)
        mixed = opaque(lambda qkv: window_attention(qkv, self.heads), "window_attention", windows)
        return self.out_proj(view(mixed, *x.shape))


class FinalMerger(nn.Module):
    """An MLP on joined windows; x (m, d) -> (m / 4, hidden size of the language)."""

    def __init__(self, d: int, hidden_size: int, scheme: Scheme, prefix: str) -> None:
        super().__init__()
        wide, prefix = WINDOW * d, f"{prefix}.mlp.0"
        self.pre_norm = LayerNorm(f"{prefix}.pre_norm", wide, FINAL_EPS)
        self.linear_1 = linear(scheme, prefix, (wide, wide), "linear_1")
        self.linear_2 = linear(scheme, prefix, (hidden_size, wide), "linear_2")

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        hidden = self.linear_1(self.pre_norm(grouped(x, WINDOW, "r")))  # (m / 4, 4 d)
        # Exact here, although the encoder and the other merger use the approximation.
        return self.linear_2(op.tensor_expr_op(exponential.gelu, "gelu", [hidden]))


def _mean(joined: te.Tensor) -> te.Tensor:
    """(m, 4 d), a window per row -> (m, d)."""
    m, d = joined.shape[0], int(joined.shape[1]) // WINDOW
    share = tirx.const(1 / WINDOW, "float32")

    def value(i, j):
        first, second, third, fourth = (joined[i, row * d + j] for row in range(WINDOW))
        return share * (first + second + third + fourth)

    return te.compute((m, d), value, name="window_mean")

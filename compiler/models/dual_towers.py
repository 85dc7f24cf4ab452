"""The towers of a dual encoder, from pixels and from token ids to one row each.

CLIP (Radford et al. 2021, https://arxiv.org/abs/2103.00020) takes the class token of the picture
and the last token of the text. SigLIP (Zhai et al. 2023, https://arxiv.org/abs/2303.15343) lets a
learned query, the probe, attend to all patches. Rows are not normalized to length 1 here. Names are
those of the checkpoint.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from tvm import te
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op

from ..checkpoints.checkpoint import Checkpoint
from ..ops import attention as attention_op
from ..ops.embedding import lookup
from ..schemes.scheme import Scheme
from .config import VisionConfig
from .dual_config import DualConfig
from .layers import LayerNorm, Linear, opaque
from .leaves import Rows, Stored
from .row_pooling import FIRST, LAST, row_of
from .vision import GELU, EncoderLayer, VisionTower, linear
from .weights import Panels

VISION, TEXT = "vision_model", "text_model"


class PictureTower(nn.Module):
    """pixels (3, p, p * n), position_ids (n,) -> (1, width)."""

    def __init__(self, config: DualConfig, scheme: Scheme) -> None:
        super().__init__()
        vision = config.vision
        self.tower = VisionTower(vision, scheme, VISION)
        has_class = bool(vision.names.class_token)
        self.head = None if has_class else ProbeHead(vision, scheme, f"{VISION}.head")
        shape = (config.width, vision.hidden_size)
        projection = [Rows("visual_projection.weight", shape)]
        self.projection = Linear(scheme, projection) if has_class else None

    def forward(self, pixels: nn.Tensor, position_ids: nn.Tensor) -> nn.Tensor:
        x = self.tower.encode(pixels, position_ids)
        if self.head is not None:
            return self.head(self.tower.post_layernorm(x).computed())
        assert self.projection is not None
        return self.projection(row_of(x, FIRST, self.tower.post_layernorm))


class ProbeHead(nn.Module):
    """y = attention(probe, x), then y + mlp(LN(y)); x (n, d) -> (1, d).

    The query does not depend on the picture, so that it is projected once, at packing time.
    """

    def __init__(self, config: VisionConfig, scheme: Scheme, prefix: str) -> None:
        super().__init__()
        d, f, self.heads = config.hidden_size, config.intermediate_size, config.num_attention_heads
        self.probe, attention = Rows(f"{prefix}.probe", (1, 1, d)), f"{prefix}.attention"
        self.weights = f"{attention}.in_proj_weight", (3 * d, d)
        self.biases = f"{attention}.in_proj_bias", (3 * d,)
        first = Rows(*self.weights, 0, d), Rows(*self.biases, 0, d)
        self.query = Stored((1, d), self._project, [self.probe, *first])
        keys_and_values = [Rows(*self.weights, d, 3 * d)], [Rows(*self.biases, d, 3 * d)]
        self.kv_proj = Linear(scheme, *keys_and_values)
        self.out_proj = linear(scheme, attention, (d, d), "out_proj")
        self.layernorm = LayerNorm(f"{prefix}.layernorm", d, config.layer_norm_eps)
        self.fc1 = linear(scheme, prefix, (f, d), "mlp.fc1")
        self.fc2 = linear(scheme, prefix, (d, f), "mlp.fc2")
        self.gelu = GELU[config.hidden_act]

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        attend = partial(_probe_attention, heads=self.heads)
        mixed = opaque(attend, "probe_attention", self.query.value, self.kv_proj(x))
        y = self.out_proj(mixed)  # (1, d)
        hidden = self.fc1(self.layernorm(y))
        hidden = op.tensor_expr_op(self.gelu, self.gelu.__name__, [hidden])
        return op.add(y, self.fc2(hidden))

    def _project(self, checkpoint: Checkpoint) -> np.ndarray:
        sources = self.query.sources
        probe, weight, bias = (part.read(checkpoint).astype(np.float64) for part in sources)
        return np.asarray(probe[0] @ weight.T + bias)


class TextTower(nn.Module):
    """ids (s,), the last of which ends the text -> (1, width).

    A tower that is not causal takes all its positions, filled with padding.
    """

    def __init__(self, config: DualConfig, scheme: Scheme) -> None:
        super().__init__()
        text, has_bias = config.text, not config.kind.is_causal
        d, self.width = text.hidden_size, text.hidden_size
        embeddings = f"{TEXT}.embeddings"
        table = Rows(f"{embeddings}.token_embedding.weight", (text.vocab_size, d))
        self.token_embedding = Panels(scheme, [table])
        positions = Rows(
            f"{embeddings}.position_embedding.weight", (text.max_position_embeddings, d)
        )
        self.positions = Stored(positions.shape, positions.read, [positions])
        self.layers = nn.ModuleList(
            [
                EncoderLayer(text, scheme, f"{TEXT}.encoder.layers.{i}", config.kind.is_causal)
                for i in range(text.num_hidden_layers)
            ]
        )
        self.final_layer_norm = LayerNorm(f"{TEXT}.final_layer_norm", d, text.layer_norm_eps)
        name = f"{TEXT}.head" if has_bias else "text_projection"
        bias = [Rows(f"{name}.bias", (config.width,))] if has_bias else []
        self.projection = Linear(scheme, [Rows(f"{name}.weight", (config.width, d))], bias)

    def forward(self, ids: nn.Tensor) -> nn.Tensor:
        x = embedded(ids, self.token_embedding, self.positions, self.width)
        for layer in self.layers:
            x = layer(x)
        return self.projection(row_of(x, LAST, self.final_layer_norm))


def embedded(ids: nn.Tensor, table: Panels, positions: Stored, width: int) -> nn.Tensor:
    """ids (s,) -> (s, width): the row of each token and that of its place."""
    tensors = [tensor for piece in table.pieces for tensor in piece.tensors]
    tokens = opaque(
        lambda ids, *parts: lookup(ids, table.reader(parts), width, 1.0), "embed", ids, *tensors
    )
    return opaque(_placed, "text_positions", tokens, positions.value)


def _placed(tokens: te.Tensor, positions: te.Tensor) -> te.Tensor:
    """(s, d), (positions, d) -> (s, d): each row and that of its place."""
    return te.compute(
        tokens.shape, lambda i, j: tokens[i, j] + positions[i, j], name="text_positions"
    )


def _probe_attention(q: te.Tensor, kv: te.Tensor, heads: int) -> te.Tensor:
    """q (1, d), kv (n, 2 d) -> (1, d)."""
    d = int(q.shape[1])
    head_dim = d // heads
    queries = attention_op.heads_of(q, heads, head_dim)
    keys, values = (attention_op.heads_of(kv, heads, head_dim, first) for first in (0, d))
    return attention_op.attention_over_all(queries, keys, values, head_dim**-0.5)

"""The resampler: learned queries attend to the features of all patches; one output row per query.

Keys receive the 2D sine-cosine position of their patch, values do not. There is no residual. The
queries do not depend on the image, so they are normalized and projected once, at packing time.

The patches of several video frames can be resampled together (`has_times`). Their keys receive the
1D sine-cosine position of the time of their frame as well.
"""

from __future__ import annotations

import numpy as np
from tvm import te, tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op

from ..checkpoints.checkpoint import Checkpoint
from ..ops import attention as attention_op
from ..schemes.scheme import Scheme
from .config import ResamplerConfig
from .layers import LayerNorm, Linear, opaque
from .leaves import Rows, Stored

EPS = 1e-6
TURN_HIGH = 6.28125
TURN_LOW = 2 * np.pi - TURN_HIGH
"""2 pi in two parts: a whole number of turns, up to 2**14, times the first is exact in float32."""


class Resampler(nn.Module):
    """features (n, vision_hidden_size), grid (n, 2), times (n,) -> (query_num, hidden_size)."""

    def __init__(self, config: ResamplerConfig, scheme: Scheme, prefix: str = "resampler") -> None:
        super().__init__()
        d, self.prefix, self.config = config.hidden_size, prefix, config
        self.heads = config.num_attention_heads
        self.query = Rows(f"{prefix}.query", (config.query_num, d))
        self.ln_q = [Rows(f"{prefix}.ln_q.{part}", (d,)) for part in ("weight", "bias")]
        (weight,), (bias,) = self._rows(0)
        self.projected_query = Stored(
            self.query.shape, self._project_query, [self.query, *self.ln_q, weight, bias]
        )
        self.frequencies = Stored((d // 4,), lambda _: _frequencies(d // 4))
        if config.has_times:
            self.time_frequencies = Stored((d // 2,), lambda _: _frequencies(d // 2))
        self.kv_proj = Linear(
            scheme, [Rows(f"{prefix}.kv_proj.weight", (d, config.vision_hidden_size))]
        )
        self.ln_kv = LayerNorm(f"{prefix}.ln_kv", d, EPS)
        self.k_proj = self._in_proj(scheme, 1)
        self.v_proj = self._in_proj(scheme, 2)
        self.out_proj = Linear(
            scheme,
            [Rows(f"{prefix}.attn.out_proj.weight", (d, d))],
            [Rows(f"{prefix}.attn.out_proj.bias", (d,))],
        )
        self.ln_post = LayerNorm(f"{prefix}.ln_post", d, EPS)
        self.proj = Linear(scheme, [Rows(f"{prefix}.proj", (d, d))], transpose=True)

    def forward(
        self, features: nn.Tensor, grid: nn.Tensor, times: nn.Tensor | None = None
    ) -> nn.Tensor:
        kv = self.ln_kv(self.kv_proj(features)).computed()  # (n, d)
        keyed = op.add(kv, opaque(_positions, "grid_positions", grid, self.frequencies.value))
        if times is not None:
            when = opaque(_times, "time_positions", times, self.time_frequencies.value)
            keyed = op.add(keyed, when)
        k, v = self.k_proj(keyed), self.v_proj(kv)
        mixed = opaque(
            lambda q, k, v: _cross_attention(q, k, v, self.heads),
            "resampler_attention",
            self.projected_query.value,
            k,
            v,
        )
        return self.proj(self.ln_post(self.out_proj(mixed)))

    def _rows(self, part: int) -> tuple[list[Rows], list[Rows]]:
        """Weight and bias of q (0), k (1) or v (2): a third of one stored tensor each."""
        d = self.config.hidden_size
        place = (part * d, (part + 1) * d)
        name = f"{self.prefix}.attn.in_proj"
        weight = Rows(f"{name}_weight", (3 * d, d), *place)
        return [weight], [Rows(f"{name}_bias", (3 * d,), *place)]

    def _in_proj(self, scheme: Scheme, part: int) -> Linear:
        return Linear(scheme, *self._rows(part))

    def _project_query(self, checkpoint: Checkpoint) -> np.ndarray:
        query = self.query.read(checkpoint).astype(np.float64)
        centred = query - query.mean(-1, keepdims=True)
        query = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPS)
        scale, shift = (source.read(checkpoint) for source in self.ln_q)
        query = query * scale + shift
        (weight,), (bias,) = self._rows(0)
        return query @ weight.read(checkpoint).T.astype(np.float64) + bias.read(checkpoint)


def _frequencies(count: int) -> np.ndarray:
    return (1.0 / 10000.0 ** (np.arange(count, dtype=np.float64) / count)).astype(np.float32)


def _positions(grid: te.Tensor, frequencies: te.Tensor) -> te.Tensor:
    """grid (n, 2) of (row, column) -> (n, d): sin, cos of the column, then sin, cos of the row."""
    quarter = int(frequencies.shape[0])

    def value(i, c):
        coordinate = tirx.Select(c < 2 * quarter, grid[i, 1], grid[i, 0]).astype("float32")
        angle = coordinate * frequencies[c % quarter]
        return tirx.if_then_else(c // quarter % 2 == 0, tirx.sin(angle), tirx.cos(angle))

    return te.compute((grid.shape[0], 4 * quarter), value, name="grid_positions")


def _times(times: te.Tensor, frequencies: te.Tensor) -> te.Tensor:
    """times (n,) -> (n, d): sin, cos of the time; zeros for a time below 0.

    Whole turns are removed first: angles are large, and GPUs compute the sine of small ones only.
    """
    half = int(frequencies.shape[0])

    def value(i, c):
        angle = times[i].astype("float32") * frequencies[c % half]
        turns = tirx.round(angle * np.float32(0.5 / np.pi))
        angle = angle - turns * np.float32(TURN_HIGH) - turns * np.float32(TURN_LOW)
        wave = tirx.if_then_else(c < half, tirx.sin(angle), tirx.cos(angle))
        return tirx.if_then_else(times[i] < 0, np.float32(0), wave)

    return te.compute((times.shape[0], 2 * half), value, name="time_positions")


def _cross_attention(q: te.Tensor, k: te.Tensor, v: te.Tensor, heads: int) -> te.Tensor:
    """q (queries, d), k and v (n, d) -> (queries, d)."""
    n, d = k.shape
    head_dim = int(d) // heads
    split = lambda x: attention_op.heads_of(x, heads, head_dim)  # noqa: E731 (three times)
    keys = attention_op.key_panels(split(k))
    values = attention_op.head_major(split(v))
    return attention_op.attention(split(q), keys, values, head_dim**-0.5, lambda i: n)

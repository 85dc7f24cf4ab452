"""A MiniCPM-V in PyTorch, small enough to train on a laptop: SigLIP, resampler, MiniCPM text tower.

Parameter names are those of the released checkpoints, so the state dict is the checkpoint.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CONFIG: dict[str, Any] = {
    "architectures": ["MiniCPMV"],
    "model_type": "minicpmv",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 620,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "max_position_embeddings": 1024,
    "hidden_act": "silu",
    "scale_emb": 12,
    "scale_depth": 1.4,
    "dim_model_base": 128,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "query_num": 64,
    "image_size": 112,
    "patch_size": 14,
    "drop_vision_last_layer": False,
    "torch_dtype": "float16",
    "vision_config": {
        "model_type": "siglip_vision_model",
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "image_size": 112,
        "patch_size": 14,
        "hidden_act": "gelu_pytorch_tanh",
        "layer_norm_eps": 1e-6,
    },
}


@dataclass(frozen=True)
class Context:
    """The inputs of every text layer besides the hidden state."""

    cos: Tensor
    sin: Tensor
    mask: Tensor


def _heads(x: Tensor, count: int) -> Tensor:
    return x.unflatten(-1, (count, -1)).transpose(-3, -2)


def _merge(x: Tensor) -> Tensor:
    return x.transpose(-3, -2).flatten(-2)


# --- vision tower ---


class VisionAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (
            nn.Linear(width, width) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (_heads(p(x), self.heads) for p in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(_merge(F.scaled_dot_product_attention(q, k, v)))


class VisionMLP(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, inner), nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class VisionLayer(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width, eps = config["hidden_size"], config["layer_norm_eps"]
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.self_attn = VisionAttention(width, config["num_attention_heads"])
        self.mlp = VisionMLP(width, config["intermediate_size"])

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class VisionEmbeddings(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width, patch = config["hidden_size"], config["patch_size"]
        self.grid = config["image_size"] // patch
        self.patch_embedding = nn.Conv2d(3, width, patch, patch)
        self.position_embedding = nn.Embedding(self.grid**2, width)

    def forward(self, pixels: Tensor) -> Tensor:
        """Patches do not overlap, so the convolution is computed as a matmul, which is faster."""
        g, conv = self.grid, self.patch_embedding
        patches = pixels.unflatten(2, (g, -1)).unflatten(4, (g, -1))  # N C gy py gx px
        patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(len(pixels), g * g, -1)
        return F.linear(patches, conv.weight.flatten(1), conv.bias) + self.position_embedding.weight


class VisionTower(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.embeddings = VisionEmbeddings(config)
        self.encoder = nn.Module()
        self.encoder.layers = nn.ModuleList(
            VisionLayer(config) for _ in range(config["num_hidden_layers"])
        )
        self.post_layernorm = nn.LayerNorm(config["hidden_size"], config["layer_norm_eps"])

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.embeddings(pixels)
        for layer in self.encoder.layers:
            x = layer(x)
        return self.post_layernorm(x)


# --- resampler ---


def positions_2d(grid: int, width: int) -> Tensor:
    """[grid * grid, width]: sine and cosine of the column, then of the row, a quarter each."""
    quarter = width // 4
    speed = 10000.0 ** (-torch.arange(quarter) / quarter)
    angle = torch.arange(grid)[:, None] * speed
    line = torch.cat([angle.sin(), angle.cos()], 1)
    columns, rows = line.expand(grid, grid, -1), line[:, None].expand(grid, grid, -1)
    return torch.cat([columns, rows], -1).flatten(0, 1)


class ResamplerAttention(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        parts = zip(self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3), strict=True)
        heads = q.shape[-1] // 128
        q, k, v = (
            _heads(F.linear(x, w, b), heads) for x, (w, b) in zip((q, k, v), parts, strict=True)
        )
        q = q.expand(k.shape[0], -1, -1, -1)
        return self.out_proj(_merge(F.scaled_dot_product_attention(q, k, v)))


class Resampler(nn.Module):
    """64 learned queries attend to the patches; only the keys carry positions."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        width, vision = config["hidden_size"], config["vision_config"]
        self.query = nn.Parameter(torch.empty(config["query_num"], width))
        self.kv_proj = nn.Linear(vision["hidden_size"], width, bias=False)
        self.attn = ResamplerAttention(width)
        self.ln_q, self.ln_kv, self.ln_post = (nn.LayerNorm(width, 1e-6) for _ in range(3))
        self.proj = nn.Parameter(torch.empty(width, width))
        grid = vision["image_size"] // vision["patch_size"]
        self.register_buffer("keys_at", positions_2d(grid, width), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        kv = self.ln_kv(self.kv_proj(x))
        seen = self.attn(self.ln_q(self.query)[None], kv + self.keys_at, kv)
        return self.ln_post(seen) @ self.proj


# --- text tower ---


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], -1)


class TextAttention(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width = config["hidden_size"]
        self.heads, self.kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        inner = width // self.heads * self.kv_heads
        self.q_proj, self.o_proj = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.k_proj, self.v_proj = (nn.Linear(width, inner, bias=False) for _ in range(2))

    def forward(self, x: Tensor, at: Context) -> Tensor:
        q = rotate(_heads(self.q_proj(x), self.heads), at.cos, at.sin)
        k = rotate(_heads(self.k_proj(x), self.kv_heads), at.cos, at.sin)
        v = _heads(self.v_proj(x), self.kv_heads)
        k, v = (t.repeat_interleave(self.heads // self.kv_heads, 1) for t in (k, v))
        return self.o_proj(_merge(F.scaled_dot_product_attention(q, k, v, at.mask)))


class TextMLP(nn.Module):
    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.down_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class TextLayer(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        width, eps = config["hidden_size"], config["rms_norm_eps"]
        self.residual = config["scale_depth"] / math.sqrt(config["num_hidden_layers"])
        self.input_layernorm = nn.RMSNorm(width, eps)
        self.post_attention_layernorm = nn.RMSNorm(width, eps)
        self.self_attn = TextAttention(config)
        self.mlp = TextMLP(width, config["intermediate_size"])

    def forward(self, x: Tensor, at: Context) -> Tensor:
        x = x + self.residual * self.self_attn(self.input_layernorm(x), at)
        return x + self.residual * self.mlp(self.post_attention_layernorm(x))


class TextModel(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.layers = nn.ModuleList(TextLayer(config) for _ in range(config["num_hidden_layers"]))
        self.norm = nn.RMSNorm(config["hidden_size"], config["rms_norm_eps"])


class DemoModel(nn.Module):
    def __init__(self, config: dict) -> None:
        super().__init__()
        self.config = config
        self.vpm = VisionTower(config["vision_config"])
        self.resampler = Resampler(config)
        self.llm = nn.Module()
        self.llm.model = TextModel(config)
        self.head_width = config["hidden_size"] // config["num_attention_heads"]

    def encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """The features of the vision tower, and the picture tokens of the resampler."""
        features = self.vpm(pixels)
        return features, self.resampler(features)

    def rope(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines [B, 1, T, head / 2]."""
        half = self.head_width // 2
        speed = self.config["rope_theta"] ** (-torch.arange(half) / half)
        angle = (positions[..., None] * speed)[:, None]
        return angle.cos(), angle.sin()

    def text(
        self, ids: Tensor, picture_tokens: Tensor, places: Tensor, positions: Tensor, mask: Tensor
    ) -> Tensor:
        """Hidden states [B, T, D] after the final norm. `places` are the flat indices of the
        picture tokens; these are not multiplied by scale_emb."""
        model = self.llm.model
        x = model.embed_tokens(ids) * self.config["scale_emb"]
        x = x.flatten(0, 1).index_copy(0, places, picture_tokens.flatten(0, 1)).view_as(x)
        at = Context(*self.rope(positions), mask)
        for layer in model.layers:
            x = layer(x, at)
        return model.norm(x)

    def logits(self, hidden: Tensor) -> Tensor:
        divisor = self.config["hidden_size"] / self.config["dim_model_base"]
        return F.linear(hidden / divisor, self.llm.model.embed_tokens.weight)


# --- initialization ---


@torch.no_grad()
def initialise(model: DemoModel, seed: int = 0) -> None:
    torch.manual_seed(seed)
    for name, p in model.named_parameters():
        if p.dim() < 2:
            continue  # norms and biases
        p.normal_(0, 1 / math.sqrt(p[0].numel()))
        if name.endswith(("o_proj.weight", "out_proj.weight", "down_proj.weight", "fc2.weight")):
            p.mul_(0.5)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d) and module.bias is not None:
            module.bias.zero_()
    model.llm.model.embed_tokens.weight.normal_(0, 0.1)
    vision = model.vpm.embeddings
    vision.position_embedding.weight.copy_(
        0.5 * positions_2d(vision.grid, vision.position_embedding.weight.shape[1])
    )
    _queries_start_at_their_cell(model.resampler)


def _queries_start_at_their_cell(resampler: Resampler) -> None:
    """Initialize query i with the position of cell i, and compare queries and keys on the fast half
    of the position frequencies only. Each picture token then attends to one place from the start;
    with random values this order would have to be learned first."""
    width = resampler.query.shape[1]
    quarter = width // 4
    resampler.query.copy_(resampler.keys_at)
    fast = torch.cat([torch.arange(quarter // 2) + quarter * k for k in range(4)])
    select = torch.zeros(width // 2, width)
    select[torch.arange(width // 2), fast] = 4.0
    # One head attends along the columns, the other along the rows, unless both see both.
    both = torch.cat([select, select])
    resampler.attn.in_proj_weight[:width] = both
    resampler.attn.in_proj_weight[width : 2 * width] = both
    resampler.ln_kv.weight[fast] = 0.1  # content would mask the positions in these channels


# --- checkpoint folder ---


def save_checkpoint(model: DemoModel, folder: Path, tokenizer: Path) -> None:
    from safetensors.torch import save

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().half().contiguous() for k, v in model.state_dict().items()}
    (folder / "model.safetensors").write_bytes(save(tensors, metadata={"format": "pt"}))
    generation = {"bos_token_id": 1, "eos_token_id": 2, "do_sample": False}
    for name, value in (("config.json", model.config), ("generation_config.json", generation)):
        (folder / name).write_text(json.dumps(value, indent=2) + "\n")
    (folder / "tokenizer.model").write_bytes(tokenizer.read_bytes())


def load_checkpoint(folder: Path) -> DemoModel:
    """Load the model in float32, whatever the dtype of the file."""
    from safetensors.torch import load_file

    model = DemoModel(json.loads((folder / "config.json").read_text()))
    tensors = load_file(folder / "model.safetensors")
    model.load_state_dict({name: t.float() for name, t in tensors.items()})
    return model.eval()

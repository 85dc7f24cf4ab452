"""MiniCPM-V in plain PyTorch: the reference for all compiled code.

It follows the description of the model: no cache, no fusion, one picture and one token sequence at
a time. It reads a checkpoint folder with the safetensors package and shares no code with the
product, so both cannot have the same error.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import sentencepiece
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file

# Matrices in tests are small; more threads would only wait for each other and for TVM's.
torch.set_num_threads(1)

Config = dict[str, Any]
Weights = dict[str, torch.Tensor]


def load(folder: Path) -> tuple[Config, Weights]:
    """Read config.json and all tensors, in float32."""
    config = json.loads((folder / "config.json").read_text("utf-8"))
    weights: Weights = {}
    for path in sorted(folder.glob("*.safetensors")):
        weights.update({name: tensor.float() for name, tensor in load_file(path).items()})
    return config, weights


def part(weights: Weights, prefix: str) -> Weights:
    """The tensors under a prefix, with names relative to it."""
    return {name[len(prefix) :]: w for name, w in weights.items() if name.startswith(prefix)}


def linear(w: Weights, name: str, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, w[f"{name}.weight"], w.get(f"{name}.bias"))


def layer_norm(w: Weights, name: str, x: torch.Tensor, eps: float = 1e-6) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"], eps)


def attention(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Softmax attention on heads (h, s, d)."""
    scores = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, float("-inf"))
    return scores.softmax(-1) @ v


def split_heads(x: torch.Tensor, heads: int) -> torch.Tensor:
    return x.view(x.shape[0], heads, -1).transpose(0, 1)  # (h, s, d)


def join_heads(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(0, 1).reshape(x.shape[1], -1)  # (s, h * d)


# --- pictures ---


def pixels(image: Image.Image, config: Config) -> tuple[torch.Tensor, int, int]:
    """The strip of patches (3, p, p * n) of the picture resized to a square, and its grid."""
    size, p = config["image_size"], config["vision_config"]["patch_size"]
    square = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC)
    x = (torch.from_numpy(np.array(square)).float() / 255 - 0.5) / 0.5  # (height, width, 3)
    side = size // p
    x = x.permute(2, 0, 1).reshape(3, side, p, side, p)  # channel, row, y, column, x
    return x.permute(0, 2, 1, 3, 4).reshape(3, p, -1), side, side


def position_ids(rows: int, cols: int, side: int) -> torch.Tensor:
    """Position ids by the bucket rule, with the operations used in training."""
    boundaries = torch.arange(1 / side, 1.0, 1 / side)

    def bucket(n: int) -> torch.Tensor:
        steps = torch.arange(0, 1 - 1e-6, 1 / torch.tensor(n))
        return torch.bucketize(steps, boundaries, right=True)

    return (bucket(rows)[:, None] * side + bucket(cols)).flatten()


def encode_vision(
    w: Weights, config: Config, strip: torch.Tensor, ids: torch.Tensor
) -> torch.Tensor:
    """SigLIP on a strip of patches (3, p, p * n) -> (n, hidden)."""
    heads, p = config["num_attention_heads"], config["patch_size"]
    weight = w["embeddings.patch_embedding.weight"]
    x = F.conv2d(strip[None], weight, w["embeddings.patch_embedding.bias"], stride=p)
    x = x[0, :, 0].T + w["embeddings.position_embedding.weight"][ids]  # (n, hidden)
    for number in range(config["num_hidden_layers"]):
        layer = part(w, f"encoder.layers.{number}.")
        y = layer_norm(layer, "layer_norm1", x)
        q, k, v = (split_heads(linear(layer, f"self_attn.{n}_proj", y), heads) for n in "qkv")
        x = x + linear(layer, "self_attn.out_proj", join_heads(attention(q, k, v)))
        y = linear(layer, "mlp.fc1", layer_norm(layer, "layer_norm2", x))
        x = x + linear(layer, "mlp.fc2", F.gelu(y, approximate="tanh"))
    return layer_norm(w, "post_layernorm", x)


def sincos(rows: int, cols: int, size: int) -> torch.Tensor:
    """Sine and cosine of the column, then of the row: (rows * cols, size)."""
    omega = 10000 ** -(torch.arange(size // 4) / (size / 4))
    r, c = torch.meshgrid(torch.arange(rows), torch.arange(cols), indexing="ij")
    column, row = c.reshape(-1, 1) * omega, r.reshape(-1, 1) * omega
    return torch.cat([column.sin(), column.cos(), row.sin(), row.cos()], dim=1)


def sincos_of_time(time: int, size: int) -> torch.Tensor:
    """Sine and cosine of a time, in double precision: (size,). A picture without one has -1."""
    if time < 0:
        return torch.zeros(size)
    angle = time * 10000 ** -(torch.arange(size // 2, dtype=torch.float64) / (size / 2))
    return torch.cat([angle.sin(), angle.cos()]).float()


def resample(w: Weights, features: torch.Tensor, rows: int, cols: int, heads: int) -> torch.Tensor:
    """Resample patches (n, vision hidden) to one embedding per query (query_num, D)."""
    return resample_frames(w, [features], [(rows, cols)], [-1], heads)


def resample_frames(
    w: Weights,
    features: list[torch.Tensor],
    grids: list[tuple[int, int]],
    times: list[int],
    heads: int,
) -> torch.Tensor:
    """Resample the patches of all frames together to one embedding per query (query_num, D)."""
    size = w["query"].shape[1]
    places = [
        sincos(*grid, size) + sincos_of_time(time, size)
        for grid, time in zip(grids, times, strict=True)
    ]
    return resample_at(w, torch.cat(features), torch.cat(places), heads)


def resample_at(
    w: Weights,
    features: torch.Tensor,
    places: torch.Tensor,
    heads: int,
    query_positions: torch.Tensor | float = 0.0,
) -> torch.Tensor:
    """Resample patches whose keys have the positions `places` (n, D)."""
    kv = layer_norm(w, "ln_kv", linear(w, "kv_proj", features))
    y, _ = F.multi_head_attention_forward(
        query=layer_norm(w, "ln_q", w["query"]) + query_positions,
        key=kv + places,
        value=kv,
        embed_dim_to_check=kv.shape[1],
        num_heads=heads,
        in_proj_weight=w["attn.in_proj_weight"],
        in_proj_bias=w["attn.in_proj_bias"],
        bias_k=None,
        bias_v=None,
        add_zero_attn=False,
        dropout_p=0.0,
        out_proj_weight=w["attn.out_proj.weight"],
        out_proj_bias=w["attn.out_proj.bias"],
        training=False,
        need_weights=False,
    )
    return layer_norm(w, "ln_post", y) @ w["proj"]


def encode_image(w: Weights, config: Config, image: Image.Image) -> torch.Tensor:
    """The embeddings (query_num, D) of a picture."""
    vision = config["vision_config"]
    strip, rows, cols = pixels(image, config)
    ids = position_ids(rows, cols, vision["image_size"] // vision["patch_size"])
    features = encode_vision(part(w, "vpm."), vision, strip, ids)
    return resample(part(w, "resampler."), features, rows, cols, config["hidden_size"] // 128)


# --- text ---


def rms_norm(w: Weights, name: str, x: torch.Tensor, eps: float) -> torch.Tensor:
    return x * (x.pow(2).mean(-1, keepdim=True) + eps).rsqrt() * w[f"{name}.weight"]


def rotate(x: torch.Tensor, theta: float) -> torch.Tensor:
    """Rotary embedding of (h, s, d): element j of the first half pairs with j of the second."""
    half = x.shape[-1] // 2
    angle = torch.arange(x.shape[1])[:, None] * theta ** -(torch.arange(half) / half)
    a, b = x.split(half, dim=-1)
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


def embed(w: Weights, config: Config, ids: list[int]) -> torch.Tensor:
    """Scaled token embeddings (s, D)."""
    return w["model.embed_tokens.weight"][torch.tensor(ids)] * config["scale_emb"]


def logits(
    w: Weights, config: Config, x: torch.Tensor, kept: torch.dtype = torch.float32
) -> torch.Tensor:
    """MiniCPM on embeddings (s, D): the logits (s, V) after every position.

    `kept` is the storage type of keys and values in a cache.
    """
    heads = config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    layers, eps = config["num_hidden_layers"], config["rms_norm_eps"]
    theta = config.get("rope_theta") or 10000.0
    residual = config["scale_depth"] / layers**0.5
    causal = torch.ones(len(x), len(x), dtype=torch.bool).tril()
    for number in range(layers):
        layer = part(w, f"model.layers.{number}.")
        y = rms_norm(layer, "input_layernorm", x, eps)
        q = rotate(split_heads(linear(layer, "self_attn.q_proj", y), heads), theta)
        k = rotate(split_heads(linear(layer, "self_attn.k_proj", y), kv_heads), theta)
        v = split_heads(linear(layer, "self_attn.v_proj", y), kv_heads)
        k, v = (each.to(kept).float() for each in (k, v))
        k, v = (each.repeat_interleave(heads // kv_heads, dim=0) for each in (k, v))
        x = x + residual * linear(layer, "self_attn.o_proj", join_heads(attention(q, k, v, causal)))
        y = rms_norm(layer, "post_attention_layernorm", x, eps)
        y = F.silu(linear(layer, "mlp.gate_proj", y)) * linear(layer, "mlp.up_proj", y)
        x = x + residual * linear(layer, "mlp.down_proj", y)
    x = rms_norm(w, "model.norm", x, eps) / (config["hidden_size"] / config["dim_model_base"])
    return F.linear(x, w.get("lm_head.weight", w["model.embed_tokens.weight"]))


def prompt_ids(folder: Path, config: Config, question: str, pictures: int) -> list[int]:
    """One user turn in the released layout: pictures, question, and the assistant tag."""
    tokenizer = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
    one = tokenizer.piece_to_id
    picture = [one("<image>"), *[tokenizer.unk_id()] * config["query_num"], one("</image>")]
    user = [one("<用户>"), *picture * pictures, *tokenizer.encode(question)]
    return [tokenizer.bos_id(), *user, one("<AI>")]


def splice(x: torch.Tensor, ids: list[int], pictures: list[torch.Tensor]) -> torch.Tensor:
    """Insert the unscaled picture embeddings at the positions of the unknown tokens (id 0)."""
    x = x.clone()
    if pictures:
        x[torch.tensor(ids) == 0] = torch.cat(pictures)
    return x


def greedy(
    w: Weights,
    config: Config,
    ids: list[int],
    pictures: list[torch.Tensor],
    count: int,
    kept: torch.dtype = torch.float32,
) -> list[int]:
    """The next `count` tokens, without a stop token."""
    llm = part(w, "llm.")
    x = splice(embed(llm, config, ids), ids, pictures)
    tokens: list[int] = []
    for _ in range(count):
        tokens.append(int(logits(llm, config, x, kept)[-1].argmax()))
        x = torch.cat([x, embed(llm, config, tokens[-1:])])
    return tokens

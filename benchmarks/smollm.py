"""A real model from a GGUF file: SmolLM2-135M-Instruct, a short chat and its perplexity.

    python benchmarks/smollm.py [FILE.gguf]

`make smollm` installs the file first. The perplexity of perplexity.txt is computed by bundles in
several schemes, one token at a time, and by PyTorch: transformers' LlamaForCausalLM, whose weights
the `gguf` package reads and dequantizes, without code of handglass. f32 must agree with it to
0.1 %. Of a scheme that rounds, the perplexity of so short a text is a matter of luck, to 2 or 3 %
(docs/accuracy.md); the divergence is not: the mean Kullback-Leibler divergence of its distributions
from PyTorch's, in nats per token.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from gguf.quants import dequantize
from transformers import LlamaConfig, LlamaForCausalLM

import handglass
from handglass.compiler.build import compile_model
from handglass.runtime.answer.model import Model

FOLDER = Path("build/smollm")
TEXT = Path(__file__).with_name("perplexity.txt")
SCHEMES: dict[str, dict[str, Any]] = {
    "f32": {"quantization": "f32"},
    "w8a8": {"quantization": "w8a8"},
    "w4a8": {"quantization": "w4a8"},
    "w4a8, head w8a8": {"quantization": "w4a8", "head_quantization": "w8a8"},
}
"""Name -> options of `compile_model`."""
LIMIT = 1e-3
"""Largest relative difference of f32 and PyTorch."""
QUESTIONS = ("What is the capital of France?", "And which river flows through it?")
TOKENS = 80
LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def reference(path: Path) -> Any:
    """The model in PyTorch, float32."""
    reader = gguf.GGUFReader(path)

    def field(key: str) -> Any:
        return reader.fields[f"llama.{key}"].contents()

    heads, kv_heads = field("attention.head_count"), field("attention.head_count_kv")
    config = LlamaConfig(
        vocab_size=field("vocab_size"),
        hidden_size=field("embedding_length"),
        intermediate_size=field("feed_forward_length"),
        num_hidden_layers=field("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        max_position_embeddings=field("context_length"),
        rms_norm_eps=field("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": field("rope.freq_base")},
        tie_word_embeddings=True,
    )
    weights = {}
    for tensor in reader.tensors:
        value = torch.from_numpy(np.array(dequantize(tensor.data, tensor.tensor_type)))
        first, *rest = tensor.name.split(".")
        if first == "blk":
            count = {"attn_q": heads, "attn_k": kv_heads}.get(rest[1])
            if count:  # pairs of neighbours -> halves
                rows, width = value.shape
                value = value.view(count, rows // count // 2, 2, width)
                value = value.transpose(1, 2).reshape(rows, width)
            weights[f"model.layers.{rest[0]}.{LAYER[rest[1]]}.weight"] = value
        elif first == "token_embd":
            weights["model.embed_tokens.weight"] = weights["lm_head.weight"] = value
        else:
            assert first == "output_norm", tensor.name
            weights["model.norm.weight"] = value
    model = LlamaForCausalLM(config).eval()
    model.load_state_dict(weights)
    return model


def perplexity(logits: np.ndarray, ids: list[int]) -> float:
    """`logits`: those after each token but the last."""
    scores = torch.from_numpy(logits).double().log_softmax(-1)
    return math.exp(-float(scores[range(len(ids) - 1), ids[1:]].mean()))


def divergence(logits: np.ndarray, exact: np.ndarray) -> float:
    found, truth = (torch.from_numpy(x).double().log_softmax(-1) for x in (logits, exact))
    return float((truth.exp() * (truth - found)).sum(-1).mean())


def logits_of(model: Model, ids: list[int]) -> np.ndarray:
    rows = [model.session.decode(token, pos).copy() for pos, token in enumerate(ids[:-1])]
    whole = model.session.prefill(model.session.embed(ids[:-1]), 0)
    difference = float(np.abs(whole - rows[-1]).max() / np.abs(whole).max())
    print(f"prefill and decode differ by {difference:.1e} of the largest logit")
    return np.stack(rows)


def chat(model: Model) -> None:
    messages: list[dict[str, str]] = []
    for question in QUESTIONS:
        messages.append({"role": "user", "content": question})
        answer = model.chat(messages, max_tokens=TOKENS, temp=0)
        messages.append({"role": "assistant", "content": answer.text})
        print(f"> {question}\n{answer.text}")


def bundle(path: Path, scheme: str) -> Path:
    folder = FOLDER / scheme.replace(", ", "-").replace(" ", "-")
    start = time.monotonic()
    compile_model(path, folder, **SCHEMES[scheme], overwrite=True)
    print(f"{scheme}: compiled in {time.monotonic() - start:.1f} s", flush=True)
    return folder


def installed() -> Path:
    found = sorted((FOLDER / "package").rglob("*.gguf"))
    if len(found) != 1:
        raise SystemExit(f"{len(found)} GGUF files in {FOLDER / 'package'}: use 'make smollm'")
    return found[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path, nargs="?")
    path = parser.parse_args().file or installed()
    text, found, ids = TEXT.read_text("utf-8"), {}, []
    for scheme in SCHEMES:
        model = handglass.load(bundle(path, scheme))
        ids = model.tokenizer.encode(text)
        chat(model)
        logits = logits_of(model, ids)
        found[scheme] = perplexity(logits, ids), logits
    with torch.no_grad():
        exact = reference(path)(torch.tensor([ids[:-1]])).logits[0].numpy()
    truth = perplexity(exact, ids)
    head = "perplexity | beside PyTorch | divergence | largest logit error | same choice"
    print(f"\n{len(ids)} tokens | {head}")
    print(f"PyTorch f32 | {truth:.4f}")
    for scheme, (value, logits) in found.items():
        error = float(np.abs(logits - exact).max() / np.abs(exact).max())
        same = int((logits.argmax(-1) == exact.argmax(-1)).sum())
        apart = divergence(logits, exact)
        row = f"{value / truth - 1:+.4%} | {apart:.4f} | {error:.1e} | {same}"
        print(f"{scheme} | {value:.4f} | {row}")
    return 0 if abs(found["f32"][0] / truth - 1) <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())

"""GGUF files of Qwen3.5 with experts: both layouts, quantized rows, and tensors that contradict
each other. test_gguf.py compares the answers of a whole model."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize
from gguf_files import add_expert_sizes, add_hybrid_sizes, finish
from test_gguf_qwen35 import CONFIG, HIDDEN, random_rows

from handglass.compiler.checkpoints.checkpoint import Checkpoint
from handglass.compiler.checkpoints.opening import open_checkpoint
from handglass.errors import InputError

COUNT, WIDTH = 5, 64
SIZES = {"num_experts": COUNT, "num_experts_per_tok": 2}
SIZES |= {"moe_intermediate_size": WIDTH, "shared_expert_intermediate_size": 96}
MLP = "model.layers.0.mlp"


def opened(path: Path, tensors: dict[str, np.ndarray], **changes: int) -> Checkpoint:
    """`tensors`: in Q8_0; `changes`: metadata that replaces what the sizes require."""
    writer = GGUFWriter(str(path), "qwen35moe")
    writer.add_block_count(4)
    writer.add_embedding_length(HIDDEN)
    writer.add_head_count(4)
    writer.add_key_length(32)
    add_hybrid_sizes(writer, CONFIG)
    add_expert_sizes(writer, SIZES)
    for key, value in changes.items():
        writer.kv_data[0].pop(f"qwen35moe.{key}", None)
        writer.add_uint32(f"qwen35moe.{key}", value)
    writer.add_tensor("token_embd.weight", np.ones((4, HIDDEN), np.float32))
    for name, rows in tensors.items():
        kind = GGMLQuantizationType.Q8_0 if rows.ndim == 3 else GGMLQuantizationType.F32
        writer.add_tensor(f"blk.0.{name}.weight", quantize(rows, kind), raw_dtype=kind)
    finish(writer)
    return open_checkpoint(path)


def test_gate_and_up_in_one_or_two_tensors(tmp_path: Path) -> None:
    both = random_rows(COUNT, 2 * WIDTH, HIDDEN)
    gate, up = (np.ascontiguousarray(half) for half in np.split(both, 2, axis=1))
    apart = opened(tmp_path / "a.gguf", {"ffn_gate_exps": gate, "ffn_up_exps": up})
    fused = opened(tmp_path / "b.gguf", {"ffn_gate_up_exps": both})
    for checkpoint in (apart, fused):
        assert checkpoint.unused(()) == ["model.embed_tokens.weight", f"{MLP}.experts.gate_up_proj"]
        for start, stop in ((0, COUNT), (1, 3), (4, 5), (2, 2)):
            rows = checkpoint.read_rows(f"{MLP}.experts.gate_up_proj", start, stop)
            assert (rows == both[start:stop]).all()


@pytest.mark.parametrize("shape", [(HIDDEN,), (1, HIDDEN)])
def test_the_gate_of_the_shared_expert(shape: tuple[int, ...], tmp_path: Path) -> None:
    """Files have it as a row, or as a matrix of one row."""
    gate = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    checkpoint = opened(tmp_path / "a.gguf", {"ffn_gate_inp_shexp": gate})
    assert (checkpoint.read(f"{MLP}.shared_expert_gate.weight", (1, HIDDEN)) == gate).all()


def test_sizes(tmp_path: Path) -> None:
    config = opened(tmp_path / "a.gguf", {}, feed_forward_length=77, expert_weights_norm=1).config
    assert config["architectures"] == ["Qwen3_5MoeForCausalLM"]
    assert SIZES.items() <= config.items() and "intermediate_size" not in config


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"expert_count": 0}, "qwen35moe.expert_count is 0, not a size"),
        ({"expert_used_count": 1 << 30}, "expert_used_count is 1073741824, not a size"),
        ({"expert_gating_func": 2}, "qwen35moe.expert_gating_func is 2: not supported yet"),
    ],
)
def test_contradictory_sizes(changes: dict[str, int], reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=reason):
        opened(tmp_path / "a.gguf", {}, **changes)


def test_halves_that_do_not_fit(tmp_path: Path) -> None:
    gate = random_rows(COUNT, WIDTH, HIDDEN)
    with pytest.raises(InputError, match=r"experts\.gate has no up beside it"):
        opened(tmp_path / "a.gguf", {"ffn_gate_exps": gate})
    with pytest.raises(InputError, match=r"gate and up are \(5, 64, 32\) and \(4, 64, 32\)"):
        opened(tmp_path / "b.gguf", {"ffn_gate_exps": gate, "ffn_up_exps": gate[:4]})

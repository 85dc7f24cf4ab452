"""GGUF files of Qwen3.5: three value heads per key head, quantized rows, blocks that draft tokens,
and sizes that contradict each other. test_gguf.py compares the answers of a whole model."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf.quants import dequantize, quantize
from gguf_files import add_hybrid_sizes, finish
from gguf_names import in_turn
from test_gguf import tokenizer_of
from tokenizers import Regex, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Library
from vocabularies import byte_level_json

from handglass.compiler.checkpoints.opening import open_checkpoint
from handglass.errors import InputError
from handglass.runtime.prompt.tokenizer import parse_tokenizer

CONFIG: dict[str, Any] = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 6,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
    "head_dim": 32,
    "rope_parameters": {"partial_rotary_factor": 0.25},
}
HIDDEN, MIXED, INNER = 32, 2 * 2 * 8, 6 * 16
PREFIX = "model.layers.0.linear_attn."


def write(path: Path, tensors: dict[str, np.ndarray], **changes: int) -> Path:
    """`tensors`: in Q8_0; `changes`: metadata that replaces what the sizes require."""
    writer = gguf.GGUFWriter(str(path), "qwen35")
    writer.add_block_count(4)
    writer.add_embedding_length(HIDDEN)
    writer.add_head_count(4)
    writer.add_key_length(32)
    add_hybrid_sizes(writer, CONFIG)
    for key, value in changes.items():
        entries = writer.kv_data[0]
        entries.pop(f"qwen35.{key}", None)
        writer.add_uint32(f"qwen35.{key}", value)
    writer.add_tensor("token_embd.weight", np.ones((4, HIDDEN), np.float32))
    for name, rows in tensors.items():
        kind = gguf.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, quantize(rows, kind), raw_dtype=kind)
    finish(writer)
    return path


def random_rows(*shape: int) -> np.ndarray:
    """Values that Q8_0 stores as they are."""
    kind = gguf.GGMLQuantizationType.Q8_0
    rows = np.random.default_rng(4).standard_normal(shape).astype(np.float32)
    return dequantize(quantize(rows, kind), kind)


def test_quantized_rows_of_three_value_heads_per_key_head(tmp_path: Path) -> None:
    rows = random_rows(MIXED + INNER, HIDDEN)
    turned = np.concatenate([rows[:MIXED], in_turn(rows[MIXED:], 2, 16)])
    assert not (turned == rows).all()
    checkpoint = open_checkpoint(write(tmp_path / "a.gguf", {"blk.0.attn_qkv.weight": turned}))
    name = f"{PREFIX}in_proj_qkv.weight"
    for start, stop in ((0, len(rows)), (30, 77), (127, 128), (5, 5)):
        assert (checkpoint.read_rows(name, start, stop) == rows[start:stop]).all()


def test_columns_in_quantized_blocks(tmp_path: Path) -> None:
    """A block of 32 columns has two value heads, which move apart."""
    stored = random_rows(HIDDEN, INNER)
    checkpoint = open_checkpoint(write(tmp_path / "a.gguf", {"blk.0.ssm_out.weight": stored}))
    found = checkpoint.read(f"{PREFIX}out_proj.weight", stored.shape)
    assert (stored == in_turn(found.T, 2, 16).T).all() and not (found == stored).all()


def test_blocks_that_draft_tokens(tmp_path: Path) -> None:
    tensors = {f"blk.{n}.ffn_up.weight": random_rows(8, HIDDEN) for n in (2, 3)}
    checkpoint = open_checkpoint(write(tmp_path / "a.gguf", tensors, nextn_predict_layers=1))
    assert checkpoint.config["num_hidden_layers"] == 3
    assert "model.layers.2.mlp.up_proj.weight" in checkpoint
    assert "mtp.blk.3.ffn_up.weight" in checkpoint
    assert "model.layers.3.mlp.up_proj.weight" not in checkpoint


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("ssm.group_count", 0, "ssm.group_count is 0, not a size"),
        ("ssm.state_size", 1 << 31, "ssm.state_size is 2147483648, not a size"),
        ("ssm.group_count", 4, "ssm.time_step_rank is 6, not a multiple of 4"),
        ("ssm.inner_size", 100, "ssm.inner_size is 100, not a multiple of 6"),
        ("nextn_predict_layers", 4, "nextn_predict_layers is 4 of 4 blocks"),
        ("expert_count", 8, "expert_count is 8: not supported yet"),
    ],
)
def test_contradictory_sizes(key: str, value: int, reason: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=reason):
        open_checkpoint(write(tmp_path / "a.gguf", {}, **{key: value}))


def test_rows_that_are_not_the_heads(tmp_path: Path) -> None:
    tensors = {"blk.0.attn_gate.weight": random_rows(INNER - 1, HIDDEN)}
    checkpoint = open_checkpoint(write(tmp_path / "a.gguf", tensors))
    with pytest.raises(InputError, match="95 .*6 .*16"):
        checkpoint.read_rows(f"{PREFIX}in_proj_z.weight", 0, 3)


def test_marks_are_part_of_a_word(tmp_path: Path) -> None:
    """Unlike in Qwen2. The expression is that of the original tokenizer.json."""
    words = (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}|"
        r" ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
    library = Library.from_str(byte_level_json().decode())
    library.no_padding()
    library.no_truncation()
    library.normalizer = normalizers.NFC()
    library.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    ours = parse_tokenizer(
        "tokenizers", tokenizer_of(tmp_path, byte_level_json(), "qwen35"), tmp_path
    )
    for text in ("What is हिन्दी, 123 it's\n\n x\u0323\u0301y?", "你好 🙂 is is", " \u0301a  b", ""):
        assert ours.encode(text) == library.encode(text, add_special_tokens=False).ids

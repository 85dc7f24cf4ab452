"""GGUF files that are damaged, cut off, or of a kind that is not read."""

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from gguf_files import small_file

from handglass.compiler.checkpoints.gguf_config import MOST_ITEMS, plain
from handglass.compiler.checkpoints.gguf_header import read_header
from handglass.compiler.checkpoints.opening import open_checkpoint
from handglass.errors import InputError


def text(value: str) -> bytes:
    return struct.pack("<Q", len(value)) + value.encode()


def pair(key: str, code: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", code) + value


def tensor(name: str, shape: tuple[int, ...], code: int = 0, offset: int = 0) -> bytes:
    sizes = struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
    return text(name) + sizes + struct.pack("<IQ", code, offset)


LLAMA = pair("general.architecture", 8, text("llama"))
EMBEDDING = tensor("token_embd.weight", (8, 4))


def file_of(
    pairs: tuple[bytes, ...] = (LLAMA,),
    tensors: tuple[bytes, ...] = (EMBEDDING,),
    version: int = 3,
    counts: tuple[int, int] | None = None,
    data: int = 128,
    magic: bytes = b"GGUF",
) -> bytes:
    counts = counts or (len(tensors), len(pairs))
    head = magic + struct.pack("<IQQ", version, *counts) + b"".join((*pairs, *tensors))
    return head + bytes(-len(head) % 32) + bytes(data)


def string_array(count: int, *items: str) -> bytes:
    return struct.pack("<IQ", 8, count) + b"".join(map(text, items))


DAMAGED = {
    "not a GGUF": lambda: file_of(magic=b"GGML"),
    "version 1 ": lambda: file_of(version=1),
    "little-endian": lambda: file_of(version=3 << 24),
    "tensors at byte": lambda: file_of(counts=(1 << 63, 1)),
    "keys at byte": lambda: file_of(counts=(1, 1 << 40)),
    "truncated": lambda: file_of(counts=(1, 4000)),
    "bytes in a key": lambda: file_of((struct.pack("<Q", 1 << 62) + b"abc",)),
    "bytes in the value": lambda: file_of((pair("a", 8, struct.pack("<Q", 1 << 30)),)),
    "strings up to": lambda: file_of((pair("a", 9, string_array(1 << 50)),)),
    "more than the file": lambda: file_of((pair("a", 9, string_array(1 << 20)),)),
    "items in": lambda: file_of((pair("a", 9, struct.pack("<IQ", 10, 1 << 60)),)),
    "unknown type 9": lambda: file_of((pair("a", 9, struct.pack("<IQ", 9, 1)),)),
    "unknown type 77": lambda: file_of((pair("a", 77, b""),)),
    "not UTF-8": lambda: file_of((pair("a", 8, struct.pack("<Q", 1) + b"\xff"),)),
    "occurs twice": lambda: file_of((LLAMA, LLAMA)),
    "neither true": lambda: file_of((pair("a", 7, b"\x02"),)),
    "general.alignment is 'x'": lambda: file_of((LLAMA, pair("general.alignment", 8, text("x")))),
    "power of two": lambda: file_of((LLAMA, pair("general.alignment", 4, b"\x0c\0\0\0"))),
    "0 dimensions": lambda: file_of(tensors=(tensor("a", ()),)),
    "9 dimensions": lambda: file_of(tensors=(tensor("a", (1,) * 9),)),
    "type 19": lambda: file_of(tensors=(tensor("a", (256, 4), 19),)),
    "the shape": lambda: file_of(tensors=(tensor("a", (1 << 40, 1 << 40)),)),
    "the shape of": lambda: file_of(tensors=(tensor("a", (0, 1 << 62)),)),
    "blocks of Q8_0": lambda: file_of(tensors=(tensor("a", (40, 4), 8),)),
    "expected": lambda: file_of(tensors=(tensor("a", (8, 4), 0, 32),)),
    "begins at": lambda: file_of(tensors=(EMBEDDING, tensor("a", (8, 4), 0, 0))),
    "ends at": lambda: file_of(tensors=(tensor("a", (8, 4000)),)),
    "the tensors end": lambda: file_of(data=4096),
    "tensor 'a' occurs twice": lambda: file_of(
        tensors=(tensor("a", (8, 4)), tensor("a", (8, 4), 0, 128)), data=256
    ),
    "general.architecture is None": lambda: file_of(()),
    "general.architecture is 'gemma'": lambda: file_of(
        (pair("general.architecture", 8, text("gemma")),)
    ),
    "one part of several": lambda: file_of((LLAMA, pair("split.count", 2, b"\x02\0"))),
    "token_embd.weight is missing": lambda: file_of(tensors=(tensor("a", (8, 4)),)),
    "llama.expert_count is 8": lambda: file_of(
        (LLAMA, pair("llama.expert_count", 4, b"\x08\0\0\0"))
    ),
    "minicpm.embedding_scale is None": lambda: file_of(
        (pair("general.architecture", 8, text("minicpm")),)
    ),
    "minicpm.embedding_scale is 0.0": lambda: file_of(
        (pair("general.architecture", 8, text("minicpm")),
         pair("minicpm.embedding_scale", 6, struct.pack("<f", 0)))
    ),
    "llama.logit_scale is 4.0": lambda: file_of(
        (LLAMA, pair("llama.logit_scale", 6, struct.pack("<f", 4)))
    ),
    "eos_token_id is array": lambda: file_of(
        (LLAMA, pair("tokenizer.ggml.eos_token_id", 9, struct.pack("<IQI", 4, 1, 2)))
    ),
    "rope.scaling.type is 'yarn'": lambda: file_of(
        (LLAMA, pair("llama.rope.scaling.type", 8, text("yarn")))
    ),
    "'yarn' beside rope_factors_long.weight": lambda: file_of(
        (LLAMA, pair("llama.rope.scaling.type", 8, text("yarn"))),
        (EMBEDDING, tensor("rope_factors_long.weight", (8,), 0, 128)), data=160
    ),
    "rope_factors_short.weight is missing": lambda: file_of(
        tensors=(EMBEDDING, tensor("rope_factors_long.weight", (8,), 0, 128)), data=160
    ),
    "rope_freqs.weight is F32": lambda: file_of(
        tensors=(EMBEDDING, tensor("rope_freqs.weight", (8, 1), 0, 128)), data=160
    ),
}  # fmt: skip


@pytest.mark.parametrize("reason", DAMAGED)
def test_damaged(reason: str, tmp_path: Path) -> None:
    make: Callable[[], bytes] = DAMAGED[reason]
    (tmp_path / "a.gguf").write_bytes(make())
    with pytest.raises(InputError) as error:
        open_checkpoint(tmp_path / "a.gguf")
    assert reason in str(error.value)


def test_undamaged(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(file_of())
    assert open_checkpoint(tmp_path / "a.gguf").shape("model.embed_tokens.weight") == (4, 8)


def cuts(data: bytes, start: int) -> Iterator[int]:
    yield from range(4, min(start, 600))
    yield from range(600, len(data) - 32, 997)
    yield len(data) - 32  # the padding at the end, up to 31 bytes, may be missing


def test_truncated(tmp_path: Path) -> None:
    path = small_file(tmp_path / "a.gguf")
    data, start = path.read_bytes(), min(p.start for p in read_header(path).places.values())
    for size in cuts(data, start):
        (tmp_path / "b.gguf").write_bytes(data[:size])
        with pytest.raises(InputError, match=r"b\.gguf"):
            open_checkpoint(tmp_path / "b.gguf")


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("tokenizer.ggml.model", text("t5"), "model is 't5'"),
        ("tokenizer.ggml.pre", text("default"), "pre is 'default'"),
    ],
)
def test_an_unknown_tokenizer(key: str, value: bytes, reason: str, tmp_path: Path) -> None:
    given = {"tokenizer.ggml.model": text("gpt2"), "tokenizer.ggml.pre": text("gpt-2")}
    pairs = tuple(pair(name, 8, content) for name, content in (given | {key: value}).items())
    (tmp_path / "a.gguf").write_bytes(file_of((LLAMA, *pairs)))
    checkpoint = open_checkpoint(tmp_path / "a.gguf")
    with pytest.raises(InputError, match=reason):
        checkpoint.tokenizer("tokenizer.json")


def test_not_a_number(tmp_path: Path) -> None:
    data = file_of()[:-4] + b"\0\0\xc0\x7f"
    (tmp_path / "a.gguf").write_bytes(data)
    with pytest.raises(InputError, match=r"embed_tokens\.weight: contains NaN"):
        open_checkpoint(tmp_path / "a.gguf").read("model.embed_tokens.weight", (4, 8))


def test_long_arrays_of_the_metadata_are_cut() -> None:
    """As lists of Python's numbers they would take ten times the memory of the file."""
    assert plain(np.arange(1 << 20)) == [*range(MOST_ITEMS)]

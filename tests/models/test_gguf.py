"""GGUF files as checkpoints: the same model as the folder that transformers wrote."""

import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import sentencepiece
import torch
import torch_minicpmv
from gguf.quants import dequantize
from gguf_files import (
    add_tokenizer,
    finish,
    interleaved,
    small_file,
    write_gguf,
    write_kinds,
)
from gguf_names import stacked
from safetensors.numpy import load_file
from test_text_only import (
    HYBRIDS,
    KINDS,
    LLAMA3_ROPE,
    QUESTION,
    SIZES,
    Kind,
    check_answer,
    minicpm_tensors,
    rendered,
    tokenizer,
    write,
)
from tokenizers import Tokenizer as Library
from tokenizers import pre_tokenizers
from vocabularies import byte_level_json, sentencepiece_model

import handglass
from handglass.compiler.build import compile_model
from handglass.compiler.checkpoints.gguf_header import KINDS as TYPES
from handglass.compiler.checkpoints.opening import open_checkpoint
from handglass.compiler.models import find_family, read_config
from handglass.errors import InputError
from handglass.runtime.prompt.chat_template import Tokens, build_prompt
from handglass.runtime.prompt.tokenizer import parse_tokenizer

ROUNDED = ("A_log", "layernorm.weight", "q_norm.weight", "k_norm.weight", "model.norm.weight")
"""What the file stores of Qwen3.5 is not exactly invertible: exponentials, and one more."""
ALL_TYPES = tuple(kind.name for kind in TYPES.values())


def convert(folder: Path, kind: Kind) -> Path:
    """The GGUF file of a folder."""
    config = dict(open_checkpoint(folder).config)
    rope = config.get("rope_parameters") or {}
    config["rope_theta"] = rope.get("rope_theta", config.get("rope_theta"))
    if not kind.name.startswith("Qwen3"):
        config.pop("head_dim", None)
    tensors = load_file(folder / "model.safetensors")
    if rope.get("rope_type") == "llama3":
        tensors["rope_freqs.weight"] = llama3_divisors(16)
    data = tokenizer()[0]
    pre = "qwen35" if kind.name in HYBRIDS else "qwen2" if "Qwen" in kind.name else "llama-bpe"
    texts: dict[str, Any] = {"template": kind.template.replace("\\n", "\n"), "bos": kind.bos}
    path, name = folder.with_suffix(".gguf"), kind.name.lower().replace("3_5", "35")
    return write_gguf(path, name, config, stacked(tensors), data, pre, **texts)


def in_one(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The experts of each layer in two tensors, as Qwen3.5 stores them."""
    fused = stacked(tensors, is_fused=True)
    return {k.removesuffix(".weight") if ".experts." in k else k: v for k, v in fused.items()}


def llama3_divisors(head_dim: int) -> np.ndarray:
    """As llama.cpp's converter computes them (generate_extra_tensors of LlamaModel)."""
    rope: dict[str, Any] = LLAMA3_ROPE
    base, factor, old = rope["rope_theta"], rope["factor"], rope["original_max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    divisors = []
    for j in range(0, head_dim, 2):
        wavelength = 2 * np.pi * base ** (j / head_dim)
        smooth = (old / wavelength - low) / (high - low)
        if wavelength < old / high:
            divisors.append(1.0)
        elif wavelength > old / low:
            divisors.append(factor)
        else:
            divisors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(divisors, np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [KINDS[0], *(pytest.param(kind, marks=pytest.mark.large) for kind in KINDS[-2:])],
    ids=lambda kind: kind.name,
)
def test_answer(kind: Kind, tmp_path: Path) -> None:
    """Of three kinds; the tests below show that all are the model of the folder."""
    reference = write(tmp_path / "checkpoint", kind)
    path = convert(tmp_path / "checkpoint", kind)
    compile_model(path, tmp_path / "bundle", quantization="f32")
    check_answer(reference, tmp_path / "bundle", kind)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.name}-{len(kind.options)}")
def test_tensors_and_prompt_are_those_of_the_folder(kind: Kind, tmp_path: Path) -> None:
    write(tmp_path / "checkpoint", kind)
    path = convert(tmp_path / "checkpoint", kind)
    exact, ours = open_checkpoint(tmp_path / "checkpoint"), open_checkpoint(path)
    for name, array in in_one(load_file(tmp_path / "checkpoint" / "model.safetensors")).items():
        found = ours.read(name, array.shape)
        if name in exact:  # the folder has each expert's tensors
            assert (exact.read(name, array.shape) == array).all()
        if kind.name in HYBRIDS and name.endswith(ROUNDED):
            assert np.abs(found - array).max() < 4e-7, name
        else:
            assert (found == array).all(), name
    content = ours.tokenizer("tokenizer.json")
    assert isinstance(content, bytes)
    family, config = read_config(ours.config)
    prompt = family.prompt(config, ours.template())
    tokens = parse_tokenizer("tokenizers", content, path)
    (segment,) = build_prompt(QUESTION, [], tokens, prompt, lambda _: ()).segments
    assert isinstance(segment, Tokens) and list(segment.ids) == rendered(kind)


@pytest.mark.large
def test_minicpm(tmp_path: Path) -> None:
    """With muP scales and SentencePiece, against the plain reference."""
    model = sentencepiece_model()
    library = sentencepiece.SentencePieceProcessor(model_proto=model)
    config = SIZES | {"scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 24, "head_dim": 16}
    config |= {"architectures": ["MiniCPMForCausalLM"], "vocab_size": library.get_piece_size()}
    config |= {"rope_theta": 1e4}
    arrays = minicpm_tensors(config)
    path = write_gguf(tmp_path / "a.gguf", "minicpm", config, arrays, model=model)
    ours = open_checkpoint(path)
    for name, array in arrays.items():
        assert (ours.read(name, array.shape) == array).all(), name
    compile_model(path, tmp_path / "bundle", quantization="f32")
    answer = handglass.load(tmp_path / "bundle").chat(QUESTION, max_tokens=64, temp=0)
    marks = [library.piece_to_id(piece) for piece in ("<s>", "<用户>", "<AI>")]
    ids = [*marks[:2], *library.encode(QUESTION), marks[2], *answer.tokens]
    weights = {name: torch.from_numpy(array) for name, array in arrays.items()}
    x = torch_minicpmv.embed(weights, config, ids)
    truth = torch_minicpmv.logits(weights, config, x)[len(ids) - len(answer.tokens) - 1 :]
    assert list(answer.tokens) == truth.argmax(-1).tolist()[:-1]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind.name}-{len(kind.options)}")
def test_the_configuration_is_that_of_the_folder(kind: Kind, tmp_path: Path) -> None:
    write(tmp_path / "checkpoint", kind)
    of_folder, of_file = (
        find_family(config).configure(config).language
        for config in (
            open_checkpoint(path).config
            for path in (tmp_path / "checkpoint", convert(tmp_path / "checkpoint", kind))
        )
    )
    for name, value in vars(of_folder).items():
        if name == "rope_divisors":  # float32 in the file
            assert of_file.rope_divisors == pytest.approx(value, rel=1e-6)
        elif name not in ("bos_token_id", "eos_token_ids"):  # by the tokenizer
            assert getattr(of_file, name) == value, name


def test_every_type(tmp_path: Path) -> None:
    path = write_kinds(tmp_path / "a.gguf", ALL_TYPES)
    checkpoint = open_checkpoint(path)
    for tensor in gguf.GGUFReader(path).tensors:
        if not tensor.name.startswith("test."):
            continue
        expected = dequantize(tensor.data, tensor.tensor_type)
        assert checkpoint.shape(tensor.name) == expected.shape == (40, 256)
        assert (checkpoint.read(tensor.name, (40, 256)) == expected).all()
        assert (checkpoint.read_rows(tensor.name, 7, 30) == expected[7:30]).all()


def test_rows_of_an_interleaved_matrix(tmp_path: Path) -> None:
    """The file is in quantized blocks, as these are of rows, which move as a whole."""
    random = np.random.default_rng(5)
    name = "model.layers.0.self_attn.k_proj.weight"
    rows = random.standard_normal((32, 96)).astype(np.float32)
    sizes = SIZES | {"rope_theta": 1e4}
    tensors = {"model.embed_tokens.weight": np.ones((4, 96), np.float32), name: rows}
    checkpoint = open_checkpoint(write_gguf(tmp_path / "a.gguf", "llama", sizes, tensors))
    assert not (interleaved(rows, 2) == rows).all()
    for start, stop in ((0, 32), (3, 21), (31, 32), (5, 5)):
        assert (checkpoint.read_rows(name, start, stop) == rows[start:stop]).all()


@pytest.mark.parametrize(
    ("pre", "steps"),
    [
        ("gpt-2", [pre_tokenizers.ByteLevel(add_prefix_space=False)]),
        (
            "smollm",
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ],
        ),
    ],
)
def test_the_tokenizer_is_that_of_the_original(pre: str, steps: list[Any], tmp_path: Path) -> None:
    data = byte_level_json()
    library = Library.from_str(data.decode())
    library.no_padding()
    library.no_truncation()
    library.pre_tokenizer = pre_tokenizers.Sequence(steps)
    ours = parse_tokenizer("tokenizers", tokenizer_of(tmp_path, data, pre), tmp_path)
    for text in ("What is this  picture?\n\n 12345, it's 3rd", "你好 🙂 is is", " a\t\n b", ""):
        assert ours.encode(text) == library.encode(text, add_special_tokens=False).ids
        assert ours.decode(ours.encode(text)) == text.encode()
    assert ours.encode("<image>") != [ours.token_id("<image>")]


def tokenizer_of(folder: Path, data: bytes, pre: str, without: str = "") -> bytes:
    """What becomes of a tokenizer.json; `without`: a piece that is replaced by another."""
    if without:
        data = data.replace(f'"{without}":'.encode(), '"ĠĠĠ":'.encode())
    writer = gguf.GGUFWriter(str(folder / "a.gguf"), "llama")
    add_tokenizer(writer, data, pre)
    writer.add_tensor("token_embd.weight", np.ones((4, 32), np.float32))
    finish(writer)
    content = open_checkpoint(folder / "a.gguf").tokenizer("tokenizer.json")
    assert isinstance(content, bytes)
    return content


def test_a_vocabulary_without_rare_bytes(tmp_path: Path) -> None:
    """That of SmolLM lacks some control characters, and bytes of no assigned character."""
    data = tokenizer_of(tmp_path, byte_level_json(), "smollm", "Ą")  # U+0004
    ours = parse_tokenizer("tokenizers", data, tmp_path)
    assert ours.decode(ours.encode("a b")) == b"a b"
    with pytest.raises(InputError, match=r"cannot spell U\+0004"):
        ours.encode("a\x04b")
    with pytest.raises(InputError, match="byte pieces are missing"):
        damaged = tokenizer_of(tmp_path, byte_level_json(), "smollm", "~")
        parse_tokenizer("tokenizers", damaged, tmp_path)


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small_file(tmp_path / "a.gguf")
    monkeypatch.setitem(sys.modules, "gguf.constants", None)
    with pytest.raises(InputError, match=r"pip install 'handglass\[gguf\]'"):
        open_checkpoint(path)

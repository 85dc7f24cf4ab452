"""Language models without vision, compiled from folders that transformers wrote."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch_minicpmv
from greedy import answered, check_greedy
from random_checkpoint import _language
from released46 import EXPERTS
from safetensors.numpy import save_file
from tokenizers import Tokenizer as Library
from vocabularies import newline_words_json

import handglass
from handglass.compiler.build import compile_model
from handglass.compiler.checkpoints.template_file import TemplateFile, read_template
from handglass.compiler.models.text_only import configure, prompt_entry
from handglass.compiler.tuning.tuning_input import CompileOptions, read_tuning_input
from handglass.compiler.verify import verify
from handglass.errors import InputError
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.bundle.report import read_report
from handglass.runtime.engine.session import Session
from handglass.runtime.measure.kernels import KernelBenchmark

QUESTION = "What is this picture? 你好"
SPECIAL = (
    *("<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|begin_of_text|>", "<|eot_id|>"),
    *("<|start_header_id|>", "<|end_header_id|>"),
)
CHATML = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM<|im_end|>\n' }}"
    "{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>'"
    " + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
).replace("\n", "\\n")
BARE = CHATML.replace(CHATML[CHATML.index("{% if loop") : CHATML.index("{{'<|im_start|>' +")], "")
THINKING = BARE.replace(
    "assistant\\n' }}", "assistant\\n' }}{{ '<think>\\n\\n</think>\\n\\n' }}"
).replace("{% for", "{% set enable_thinking = false %}{% for", 1)
LLAMA3 = (
    "{{ bos_token }}{% for message in messages %}{{ '<|start_header_id|>' + message['role'] +"
    " '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
).replace("\n", "\\n")
MINICPM = (
    "{{ bos_token }}{% for message in messages %}{{ '<用户>' + message['content'] if"
    " message['role'] == 'user' else '<AI>' + message['content'] }}{% endfor %}{{ '<AI>' }}"
)
SIZES: dict[str, Any] = {
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_hidden_layers": 4,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
DELTA = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
    "head_dim": 32,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 1e7,
        "partial_rotary_factor": 0.25,
    },
}


@dataclass(frozen=True)
class Kind:
    """A model class of transformers, its options, and the chat template of its checkpoint."""

    name: str
    template: str
    bos: str
    options: dict[str, Any]


KINDS = [
    Kind("Llama", LLAMA3, "<|begin_of_text|>", {"rope_parameters": LLAMA3_ROPE}),
    Kind("Llama", CHATML, "<|im_start|>", {"tie_word_embeddings": True, "rope_theta": 1e5}),
    Kind("Qwen2", CHATML, "", {"tie_word_embeddings": True}),
    Kind("Qwen3", THINKING, "", {"head_dim": 32}),
    Kind("Qwen3_5Moe", BARE, "", DELTA | EXPERTS),
    Kind("Qwen3_5", BARE, "", DELTA | {"tie_word_embeddings": True}),
]
HYBRIDS = ("Qwen3_5", "Qwen3_5Moe")

MINICPM_KIND = Kind("MiniCPM", MINICPM, "<s>", {})


def tokenizer() -> tuple[bytes, Library]:
    data = newline_words_json(SPECIAL)
    return data, Library.from_str(data.decode())


def write(folder: Path, kind: Kind) -> Any:
    import transformers

    data, library = tokenizer()
    config = getattr(transformers, f"{kind.name}{'Text' * (kind.name in HYBRIDS)}Config")
    sizes = SIZES | kind.options | {"vocab_size": library.get_vocab_size(), "eos_token_id": None}
    torch.manual_seed(2)
    model = getattr(transformers, f"{kind.name}ForCausalLM")(config(**sizes)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                centred = kind.name in HYBRIDS and "linear_attn" not in name
                parameter.normal_(0.0 if centred else 1.0, 0.2)
            elif parameter.dim() > 1 and "embed" not in name:
                inputs = parameter.shape[-1] if ".experts." in name else parameter[0].numel()
                parameter.normal_(0, 1.2 / inputs**0.5)
            else:
                parameter.normal_(0, 0.3)
    model.save_pretrained(folder)
    write_texts(folder, data, kind)
    return model


def write_texts(folder: Path, data: bytes, kind: Kind) -> None:
    (folder / "tokenizer.json").write_bytes(data)
    texts = {"chat_template": kind.template, "bos_token": kind.bos}
    (folder / "tokenizer_config.json").write_text(json.dumps(texts))


def rendered(kind: Kind) -> list[int]:
    """The prompt that transformers makes of the template."""
    from transformers import PreTrainedTokenizerFast

    library = tokenizer()[1]
    fast = PreTrainedTokenizerFast(tokenizer_object=library, bos_token=kind.bos or None)
    messages = [{"role": "user", "content": QUESTION}]
    text = fast.apply_chat_template(
        messages, chat_template=kind.template, tokenize=False, add_generation_prompt=True
    )
    return list(library.encode(text, add_special_tokens=False).ids)


def check_answer(reference: Any, bundle: Path, kind: Kind) -> None:
    """Token ids of the prompt, logits and 64 greedy tokens."""
    answer, logits = answered(handglass.load(bundle), QUESTION, max_tokens=64, temp=0)
    ids = rendered(kind)
    with torch.no_grad():
        truth = reference(torch.tensor([[*ids, *answer.tokens]])).logits[0, len(ids) - 1 :]
    check_greedy(answer, len(ids), truth.numpy(), logits=logits)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind",
    [KINDS[0], *(pytest.param(kind, marks=pytest.mark.large) for kind in KINDS[1:-1])],
    ids=lambda kind: kind.name,
)
def test_answer(kind: Kind, tmp_path: Path) -> None:
    reference = write(tmp_path / "checkpoint", kind)
    compile_model(tmp_path / "checkpoint", tmp_path / "bundle", quantization="f32")
    check_answer(reference, tmp_path / "bundle", kind)


@pytest.mark.large
def test_answer_verify_and_bench_of_a_hybrid(tmp_path: Path) -> None:
    """Without vision there are no stages and no kernels of tiles."""
    reference = write(tmp_path / "checkpoint", KINDS[-1])
    compile_model(tmp_path / "checkpoint", tmp_path / "bundle", quantization="f32")
    check_answer(reference, tmp_path / "bundle", KINDS[-1])
    stages = verify(tmp_path / "bundle", tmp_path / "checkpoint")
    assert [(stage.stage, stage.ok) for stage in stages] == [
        ("weights", True), ("embed", True), ("logits", True), ("end_to_end", True)
    ]  # fmt: skip
    with pytest.raises(InputError, match="text-only"):
        verify(tmp_path / "bundle", tmp_path / "checkpoint", [np.zeros((9, 9, 3), np.uint8)])
    bundle = Bundle.open(tmp_path / "bundle")
    assert bundle.manifest.scheme == {"language": "f32"}
    tasks = read_tuning_input(tmp_path / "bundle", CompileOptions()).parts
    assert {part.function for part in tasks} == {"prefill", "decode"}
    profile = KernelBenchmark(Session(bundle), read_report(bundle))
    profile.run(1, lambda *_: None)
    assert [phase["phase"] for phase in profile.report()] == ["prefill 64", "decode@511"]


def minicpm_tensors(config: dict[str, Any]) -> dict[str, np.ndarray]:
    """Random weights."""
    random = np.random.default_rng(1)
    return {
        draw.name.removeprefix("llm."): (
            draw.mean + draw.std * random.standard_normal(draw.shape)
        ).astype(np.float32)
        for draw in _language(configure(config).language)
    }


def write_minicpm(folder: Path, tied: bool = True) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The configuration and the tensors, with the names of MiniCPM-1B."""
    data, library = tokenizer()
    config = SIZES | {"architectures": ["MiniCPMForCausalLM"], "scale_emb": 12, "head_dim": 16}
    config |= {"scale_depth": 1.4, "dim_model_base": 24, "vocab_size": library.get_vocab_size()}
    config |= {} if tied else {"tie_word_embeddings": False}
    folder.mkdir()
    arrays = minicpm_tensors(config)
    save_file(arrays, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    write_texts(folder, data, MINICPM_KIND)
    return config, arrays


@pytest.mark.large
@pytest.mark.parametrize("tied", [True, False])
def test_minicpm(tmp_path: Path, tied: bool) -> None:
    """Its class is not in transformers: the plain reference."""
    config, arrays = write_minicpm(tmp_path / "checkpoint", tied)
    compile_model(tmp_path / "checkpoint", tmp_path / "bundle", quantization="f32")
    model = handglass.load(tmp_path / "bundle")
    answer, logits = answered(model, QUESTION, max_tokens=64, temp=0)
    ids = rendered(MINICPM_KIND)
    weights = {name: torch.from_numpy(array) for name, array in arrays.items()}
    x = torch_minicpmv.embed(weights, config, [*ids, *answer.tokens])
    truth = torch_minicpmv.logits(weights, config, x)[len(ids) - 1 :].numpy()
    check_greedy(answer, len(ids), truth, logits=logits)


def test_an_unknown_template_is_refused() -> None:
    config = configure(SIZES | {"architectures": ["LlamaForCausalLM"], "vocab_size": 400})
    with pytest.raises(InputError, match="chat template"):
        prompt_entry(config, TemplateFile("[INST] {{ messages }} [/INST]"))


def test_template_files(tmp_path: Path) -> None:
    assert read_template(tmp_path) == TemplateFile()
    named = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": "y"}]
    texts = {"chat_template": named, "bos_token": {"content": "<s>"}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(texts))
    assert read_template(tmp_path) == TemplateFile("y", "<s>")
    (tmp_path / "chat_template.jinja").write_text("z")
    assert read_template(tmp_path) == TemplateFile("z", "<s>")
    (tmp_path / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"chat_template\.jinja"):
        read_template(tmp_path)

"""Language models without vision: MiniCPM, Llama, Qwen2, Qwen3 and Qwen3.5.

The prompt follows from the checkpoint's chat template, of which three kinds are known: the template
is searched for their markers. packing/template_check.py compares what the two render.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from handglass.errors import InputError
from handglass.runtime.bundle.entries import PromptEntry

from ..checkpoints.fields import Fields
from ..checkpoints.template_file import TemplateFile
from . import templates, text_config
from .architecture import architecture_of
from .config import LanguageConfig
from .experts import as_stored
from .family import Family, HasHead
from .language import Decoder
from .network import DecoderNetwork
from .qwen35 import qwen35_config
from .storage import Storage

PREFIX, HEAD, EMBEDDING = "model", "lm_head.weight", "model.embed_tokens.weight"
SYSTEM = re.compile(r"<\|im_start\|>system(?:\\n|\n)([^'\"{}<|\\]{1,1000})<\|im_end\|>")
"""The default system turn: a literal in the template, with an escaped newline or a plain one."""


CHAT = {"temp": 0.3, "top_p": 0.8}
"""Defaults of the `chat` of MiniCPM-1B and 2B."""
TRIM = re.compile(r"\|\s*trim\b|\.strip\(\)")
"""How a template removes white space around a text."""


def _qwen35(fields: Fields) -> LanguageConfig:
    return qwen35_config(fields, fields.flag("tie_word_embeddings", False))


ARCHITECTURES: dict[str, Callable[[Fields], LanguageConfig]] = {
    "MiniCPMForCausalLM": text_config.minicpm,
    "LlamaForCausalLM": text_config.llama,
    "Qwen2ForCausalLM": text_config.qwen2,
    "Qwen3ForCausalLM": text_config.qwen3,
    "Qwen3_5ForCausalLM": _qwen35,
    "Qwen3_5MoeForCausalLM": _qwen35,
}


@dataclass(frozen=True)
class TextConfig:
    """A validated config.json."""

    architecture: str
    language: LanguageConfig


class TextModel(DecoderNetwork):
    """The decoder alone, under the name that it has beside a vision tower."""

    def __init__(self, language: LanguageConfig, storage: Storage, head: str) -> None:
        super().__init__(storage)
        self.llm = Decoder(language, storage, head, PREFIX)


def matches(config: Mapping[str, Any]) -> bool:
    return architecture_of(config) in ARCHITECTURES


def configure(config: dict[str, Any]) -> TextConfig:
    """Parse a flat config.json. Raises InputError for an unsupported setting."""
    name = architecture_of(config)
    assert name is not None  # `matches` has found it
    return TextConfig(name, ARCHITECTURES[name](Fields(config, "config.json")))


def build(checkpoint: HasHead, config: TextConfig, storage: Storage) -> TextModel:
    head = checkpoint.lm_head(config.language.tie_word_embeddings, HEAD, EMBEDDING)
    return TextModel(as_stored(config.language, checkpoint, PREFIX), storage, head)


def prompt_entry(config: TextConfig, template: TemplateFile) -> PromptEntry:
    """The prompt of the template's kind; without a template, that of the architecture.

    Raises InputError for a template of another kind.
    """
    text = template.text or DEFAULT_TEMPLATES[config.architecture]
    for marker, make in KINDS.items():
        if marker in text:
            return make(replace(template, text=text))
    raise InputError(
        "the chat template of the checkpoint (tokenizer_config.json or chat_template.jinja) is of "
        f"an unknown kind; known are those with {', '.join(KINDS)}"
    )


def _is_trimmed(template: TemplateFile) -> bool:
    return TRIM.search(template.text) is not None


def _chatml(template: TemplateFile) -> PromptEntry:
    system = SYSTEM.search(template.text)
    return templates.chatml(
        {},
        bos=template.bos if "bos_token" in template.text else "",
        system=system[1] if system else "",
        thinks="enable_thinking" in template.text,
        opened="<think>\n" if "'<think>\\n' }}" in template.text else "",
        is_trimmed=_is_trimmed(template),
    )


KINDS: dict[str, Callable[[TemplateFile], PromptEntry]] = {
    "<|im_start|>": _chatml,
    "<|start_header_id|>": lambda template: templates.llama3({}),
    "<用户>": lambda template: templates.minicpm({}, CHAT, is_trimmed=_is_trimmed(template)),
}
"""What a template of each kind contains -> the prompt."""
DEFAULT_TEMPLATES = {
    "MiniCPMForCausalLM": "<用户>",
    "LlamaForCausalLM": "<|start_header_id|>",
    "Qwen2ForCausalLM": "<|im_start|>",
    "Qwen3ForCausalLM": "<|im_start|>",
    "Qwen3_5ForCausalLM": "<|im_start|>",
    "Qwen3_5MoeForCausalLM": "<|im_start|>",
}

FAMILY = Family(
    name="language model without vision",
    matches=matches,
    configure=configure,
    build=build,
    prompt=prompt_entry,
    reference="handglass.compiler.parity.reference.text_only",
    title=lambda config: config.architecture.removesuffix("ForCausalLM").replace("_", "."),
)

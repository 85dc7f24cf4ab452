"""The warning about a chat template that differs from the compiled-in prompt."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from published import PUBLISHED, released_file, released_folder
from test_text_only import BARE, CHATML, KINDS, LLAMA3, MINICPM, THINKING

from handglass.compiler.checkpoints import rendering
from handglass.compiler.checkpoints.checkpoint import Checkpoint
from handglass.compiler.checkpoints.rendering import render
from handglass.compiler.checkpoints.template_file import TemplateFile, read_template
from handglass.compiler.models import find_family, release, templates
from handglass.compiler.models.minicpmv46 import FAMILY
from handglass.compiler.models.text_only import configure, prompt_entry
from handglass.compiler.packing.describe import read_inputs
from handglass.compiler.packing.template_check import (
    differences,
    thinks_by_default,
    warn_of_differences,
)
from handglass.runtime.bundle.entries import PromptEntry

TILES = templates.picture_tiles()
COMPILED = {
    "2.5": templates.llama3(templates.bracketed_tiles()),
    "2.6": release._qwen2_prompt(TILES),
    "4.6": FAMILY.prompt(None, TemplateFile()),
    "o-4.5": release._qwen3_prompt(TILES),
}
NAMED = {
    "smollm": CHATML,
    "bare": BARE,
    "llama": LLAMA3,
    "minicpm": MINICPM,
    "trimmed": BARE.replace("message['content']", "message['content'] | trim"),
    "stripped": MINICPM.replace("message['content']", "message['content'].strip()"),
}
HELPFUL = COMPILED["2.6"]


def of_text_model(template: TemplateFile) -> PromptEntry:
    sizes = {"hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 1}
    sizes |= {"num_attention_heads": 6, "vocab_size": 400, "max_position_embeddings": 64}
    names: dict[str, Any] = {"architectures": ["LlamaForCausalLM"], "rms_norm_eps": 1e-6}
    return prompt_entry(configure(sizes | names), template)


def found(prompt: PromptEntry, text: str, bos: str = "") -> list[str]:
    return list(differences(prompt, TemplateFile(text, bos)))


@pytest.mark.parametrize("version", COMPILED)
def test_published_templates_are_those_compiled_in(version: str) -> None:
    published = released_file(f"{version}/tokenizer_config.json").parent
    assert not list(differences(COMPILED[version], read_template(published)))


@pytest.mark.parametrize("name", NAMED)
def test_a_prompt_found_by_markers_is_that_of_the_template(name: str) -> None:
    bos = next((kind.bos for kind in KINDS if kind.template == NAMED[name]), "<s>")
    template = TemplateFile(NAMED[name].replace("\\n", "\n"), bos)
    assert not list(differences(of_text_model(template), template))


def test_a_begin_token_that_the_tokenizer_adds() -> None:
    assert not found(templates.minicpm({}, {}), MINICPM.replace("{{ bos_token }}", ""), "<s>")


def test_the_difference_is_named() -> None:
    edited = CHATML.replace("a helpful AI assistant named SmolLM", "a pirate").replace("\\n", "\n")
    (first, second, third) = found(HELPFUL, edited)
    assert first.startswith("in one user turn at character 29: the template has ")
    assert "You are a pirate<|im_end|>" in first
    assert "You are a helpful assistant." in first
    assert second.startswith("in two user turns")
    assert third.startswith("in white space around texts")


def test_thinking_on_and_off() -> None:
    """This one never thinks, whatever it is asked."""
    (only,) = found(COMPILED["o-4.5"], THINKING)
    assert only.startswith("in one user turn with thinking")


def test_the_template_may_think_by_default() -> None:
    """The one of 4.6 states its default; that of o-4.5, from Qwen3, thinks unless told not to."""
    text = read_template(released_folder("4.6")).text
    stated = "set enable_thinking = false"
    assert stated in text
    assert not thinks_by_default(COMPILED["4.6"], TemplateFile(text))
    edited = text.replace(stated, "set enable_thinking = true")
    assert thinks_by_default(COMPILED["4.6"], TemplateFile(edited))
    qwen3 = read_template(released_file("o-4.5/tokenizer_config.json").parent)
    assert thinks_by_default(COMPILED["o-4.5"], qwen3)
    for other in (THINKING, "{% if", ""):
        assert not thinks_by_default(COMPILED["o-4.5"], TemplateFile(other))
    assert not thinks_by_default(HELPFUL, TemplateFile(edited)), "it cannot think"


@pytest.mark.large
def test_the_chat_of_4_5_asks_for_plain_answers() -> None:
    """Although its template thinks by default."""
    folder = released_file("o-4.5/tokenizer_config.json").parent
    config = PUBLISHED["MiniCPM-o 4.5"]
    family = find_family(config)
    prompt = read_inputs(Checkpoint(folder, {}, {}), family, family.configure(config)).prompt
    assert "thinking" in prompt.answer and "thinking" not in prompt.defaults
    follows = replace(family, template_decides=True)
    prompt = read_inputs(Checkpoint(folder, {}, {}), follows, family.configure(config)).prompt
    assert prompt.defaults == {"temp": 0.6, "top_p": 0.95, "top_k": 20, "thinking": 1}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{{ 'a' * 9999999999 }}", "MemoryError"),
        ("{% for i in range(99999) %}{{ 'a' * 99 }}{% endfor %}", "more than 65536 characters"),
        ("{% set r = range(99999) %}{% for i in r %}{% for j in r %}{% endfor %}{% endfor %}",
         "SIGXCPU"),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}", "SecurityError"),
        ("{{ cycler.__init__.__globals__.os.system('touch /tmp/x') }}", "SecurityError"),
        ("{% include '/etc/passwd' %}", "no loader"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{% if", "TemplateSyntaxError"),
        ("{{ a.b.c }}", "UndefinedError"),
        ("{{" + "(" * 20000, "RecursionError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{{ raise_exception('no\nsystem \x1b[2J turn') }}", r"TemplateError: no\n"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
    ],
)  # fmt: skip
def test_malicious_and_broken_templates(text: str, reason: str) -> None:
    first = found(HELPFUL, text)[0]
    assert first.startswith("it does not render one user turn: ")
    assert reason in first
    assert first.isprintable()


def test_what_transformers_offers_templates() -> None:
    text = (
        "{% generation %}{{ [1, 'é<'] | tojson }}{% endgeneration %}{{ strftime_now('%Y') }}"
        "{% for i in [1, 2, 3] %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}"
    )
    (one,) = render(text, [{}])
    assert one.text is not None
    assert one.text.startswith('[1, "é<"]') and one.text.endswith("1")
    layout = "{{ {'b': 'é', 'a': [1]} | tojson(indent=1, sort_keys=true, ensure_ascii=true) }}"
    assert render(layout, [{}])[0].text == '{\n "a": [\n  1\n ],\n "b": "\\u00e9"\n}'


def test_the_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        warn_of_differences(HELPFUL, TemplateFile())
        assert not caplog.records
        warn_of_differences(HELPFUL, TemplateFile(BARE.replace("\\n", "\n")))
    (record,) = caplog.records
    assert "in one user turn at character 12" in record.getMessage()


def test_without_jinja(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "PACKAGE", "no_such_package")
    with caplog.at_level(logging.WARNING):
        warn_of_differences(HELPFUL, TemplateFile(BARE))
    assert "pip install 'handglass[compile]'" in caplog.text


def test_an_unlimited_length_in_the_tokenizer_configuration(tmp_path: Path) -> None:
    """transformers writes 10^30 as a float would store it."""
    texts = {"model_max_length": int(1e30), "bos_token": "<s>", "eos_token": "</s>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(texts))
    assert read_template(tmp_path) == TemplateFile("", "<s>", "</s>")

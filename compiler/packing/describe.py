"""The manifest of a bundle: everything that is known without running it."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import handglass
from handglass.errors import InputError
from handglass.runtime.bundle.entries import (
    EncodersEntry,
    ModelEntry,
    PromptEntry,
    StateEntry,
    TargetEntry,
    TensorEntry,
    TokenizerEntry,
    VisionEntry,
)
from handglass.runtime.bundle.manifest import Manifest
from handglass.runtime.prompt.chat_template import PICTURE
from handglass.runtime.prompt.tokenizer import Tokenizer, open_tokenizer, parse_tokenizer
from handglass.targets.target import Target

from ..checkpoints.checkpoint import Checkpoint
from ..checkpoints.fields import Fields
from ..checkpoints.preprocessor import preprocessed
from ..checkpoints.template_file import TemplateFile
from ..models import Family, FamilyConfig, Network
from ..models.config import LanguageConfig
from ..models.family import Score
from .encoder_inputs import encoder_entry, find_texts
from .picture_inputs import picture_inputs
from .template_check import thinks_by_default, warn_of_differences

GENERATION = "generation_config.json"
SAMPLING = {
    "temp": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "repeat_penalty": "repetition_penalty",
}
"""Our name of a sampling option -> its key."""
SAMPLED, GREEDY = {"temp": 1.0}, {"temp": 0.0}
"""What a file that samples implies without a temperature, and with one of 0."""
TOKENIZERS = (("sentencepiece", "tokenizer.model"), ("tokenizers", "tokenizer.json"))


@dataclass(frozen=True)
class Inputs:
    """What turns pictures and text into the inputs of the network."""

    vision: VisionEntry | None
    prompt: PromptEntry
    tokenizer: TokenizerEntry | None
    """None: the model takes no texts."""
    width: int
    """Columns of the rows that the functions pass on: `hidden_size` of the manifest."""
    encoders: EncodersEntry | None = None


def read_inputs(checkpoint: Checkpoint, family: Family, config: FamilyConfig) -> Inputs:
    """The entries that follow from the small files of the checkpoint; quick, so that a damaged file
    is found before anything is compiled.

    Raises InputError if the checkpoint has no usable tokenizer. Warns of a chat template that is
    not the one compiled in.
    """
    vision = preprocessed(checkpoint, family.vision(config), family.keeps_small_pictures)
    if family.score is not None:
        score = family.score(checkpoint, config)
        return _of_encoders(checkpoint, family, config, score, score.vision or vision)
    template = checkpoint.template()
    prompt = family.prompt(config, template)
    warn_of_differences(prompt, template)
    prompt = with_sampling(prompt, Fields(checkpoint.generation(), GENERATION))
    if family.template_decides and thinks_by_default(prompt, template):
        prompt = replace(prompt, defaults={**prompt.defaults, "thinking": 1.0})
    vocab_size = config.language.vocab_size + config.language.extra_tokens
    entry, tokenizer = find_tokenizer(checkpoint, prompt, vocab_size)
    prompt = with_stops(prompt, tokenizer, stop_ids(checkpoint, config.language))
    return Inputs(vision, prompt, entry, config.language.hidden_size)


def _of_encoders(
    checkpoint: Checkpoint,
    family: Family,
    config: FamilyConfig,
    score: Score,
    vision: VisionEntry | None,
) -> Inputs:
    """Those of an encoder, which has no chat template."""
    texts = find_texts(checkpoint, config, score) if family.has_texts else None
    encoders, tokenizer = encoder_entry(score, texts), texts.tokenizer if texts else None
    pictures = picture_inputs(checkpoint, vision) if vision else None
    prompt = family.prompt(config, TemplateFile())
    return Inputs(pictures, prompt, tokenizer, score.width, encoders)


def describe(
    checkpoint: Checkpoint,
    config: FamilyConfig,
    inputs: Inputs,
    network: Network,
    params: tuple[TensorEntry, ...],
    target: Target,
) -> Manifest:
    """The manifest without `files`, which the bundle writer adds."""
    storage, language = network.storage, config.language
    return Manifest(
        model=ModelEntry(config.architecture, checkpoint.config),
        target=target_entry(target),
        scheme=storage.names(inputs.vision is not None, inputs.tokenizer is not None),
        versions={
            "handglass": handglass.__version__,
            "tvm": version("apache-tvm"),
            "tvm_ffi": version("apache-tvm-ffi"),
        },
        functions=network.functions(),
        params=params,
        state=StateEntry(storage.context, network.state()),
        vision=inputs.vision,
        prompt=inputs.prompt,
        tokenizer=inputs.tokenizer,
        vocab_size=language.vocab_size,
        hidden_size=inputs.width,
        encoders=inputs.encoders,
        work=network.work(params),
        extra_tokens=0 if inputs.encoders else language.extra_tokens,
    )


def target_entry(target: Target) -> TargetEntry:
    """The requirements of the target's code on a device."""
    host = (target.name, target.triple, target.cpu, target.features)
    if target.gpu is None:
        return TargetEntry(*host)
    gpu = target.gpu
    return TargetEntry(*host, device=target.kind, abilities=gpu.abilities, images=gpu.images)


def stop_ids(checkpoint: Checkpoint, language: LanguageConfig) -> tuple[int, ...]:
    """The tokens that end an answer: of config.json, then of generation_config.json."""
    fields = Fields(checkpoint.generation(), GENERATION)
    return (*language.eos_token_ids, *fields.tokens("eos_token_id", language.vocab_size))


def with_sampling(prompt: PromptEntry, generation: Fields) -> PromptEntry:
    """The prompt with the sampling defaults of generation_config.json, if it samples."""
    if not generation.flag("do_sample", False):
        return prompt
    given = {
        ours: generation.number(theirs)
        for ours, theirs in SAMPLING.items()
        if generation.get(theirs)  # 0 switches top_k off
    }
    implied = GREEDY if generation.get(SAMPLING["temp"]) == 0 else SAMPLED
    return replace(prompt, defaults=implied | given)


def with_stops(prompt: PromptEntry, tokenizer: Tokenizer, ids: Iterable[int]) -> PromptEntry:
    """The template with these tokens as additional stops."""
    names = (tokenizer.name_of(id) for id in ids if id < tokenizer.vocab_size)
    return replace(prompt, stop=tuple(dict.fromkeys([*prompt.stop, *filter(None, names)])))


def find_tokenizer(
    checkpoint: Checkpoint, prompt: PromptEntry, vocab_size: int
) -> tuple[TokenizerEntry, Tokenizer]:
    """Find the tokenizer file and check that it has every marker of the prompt template."""
    for kind, name in TOKENIZERS:
        if (source := checkpoint.tokenizer(name)) is not None:
            path = checkpoint.folder / name if isinstance(source, bytes) else source
            if isinstance(source, bytes):
                tokenizer = parse_tokenizer(kind, source, path, prompt.reserved)
            else:
                tokenizer = open_tokenizer(kind, source, prompt.reserved)
            if tokenizer.vocab_size > vocab_size:
                raise InputError(
                    f"{path}: {tokenizer.vocab_size} tokens, but config.json says "
                    f"vocab_size {vocab_size}; the file belongs to another model"
                )
            for token in (
                *filter(None, [prompt.bos, prompt.picture]),
                *prompt.stop,
                *tile_tags(prompt),
            ):
                tokenizer.token_id(token)
            check_markers(prompt, tokenizer, path)
            return TokenizerEntry(kind, name), tokenizer
    wanted = " or ".join(name for _, name in TOKENIZERS)
    raise InputError(f"{checkpoint.folder}: no tokenizer; expected {wanted}")


def tile_tags(prompt: PromptEntry) -> list[str]:
    """The reserved strings around tiles. Spelled in several tokens, the model would not know them
    as the borders of a picture."""
    around = [text for tile in prompt.tiles.values() for text in (tile.before, tile.after)]
    return [tag for tag in prompt.reserved if any(tag in text for text in around)]


def check_markers(prompt: PromptEntry, tokenizer: Tokenizer, path: Path) -> None:
    """Raise InputError unless the tokenizer spells every text of the template, as special tokens
    or as it is.

    `{picture}` in a marker stands for a number, so that all digits are tried in its place.
    """
    for marker in filter(None, markers(prompt)):
        text = marker.replace(PICTURE, string.digits)
        spelled = tokenizer.decode(tokenizer.marker_ids(text)).decode("utf-8", "replace")
        plain = re.split("|".join(map(re.escape, tokenizer.special)) or "$", text)
        if not _in_order(plain, spelled):
            raise InputError(
                f"{path}: the marker {text!r} of the chat template becomes {spelled!r}; the file "
                "belongs to another model"
            )


def markers(prompt: PromptEntry) -> Iterator[str]:
    """Every text that the template puts into a prompt."""
    for around in (*prompt.roles.values(), *prompt.tiles.values(), prompt.thoughts):
        yield around.before
        yield around.after
    yield from prompt.answer.values()


def _in_order(parts: Iterable[str], text: str) -> bool:
    """Whether the text has these parts, one after the other."""
    for part in parts:
        _, found, text = text.partition(part) if part else ("", True, text)
        if not found:
            return False
    return True

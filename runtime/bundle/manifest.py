"""`manifest.json` as frozen dataclasses whose fields are the JSON keys.

Parsing is strict: a missing, unknown or mistyped key is an error that gives its location.
Reading a manifest executes nothing and does not trust what it says about its files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from handglass.errors import InputError, MismatchError

from ..system.json_dataclass import optional, parse_dataclass, plain
from ..system.json_text import parse_json
from .bounds import (
    encoders_beyond,
    files_beyond,
    graph_beyond,
    sizes_beyond,
    tensors_beyond,
    vision_beyond,
)
from .entries import (
    COSINE,
    PLAIN,
    POSITIONS,
    SIGMOID,
    SOFTMAX,
    STATE_KINDS,
    EncodersEntry,
    FileEntry,
    FunctionEntry,
    GraphEntry,
    ModelEntry,
    PromptEntry,
    StateEntry,
    TargetEntry,
    TensorEntry,
    TextEntry,
    TokenizerEntry,
    VisionEntry,
    WorkEntry,
)
from .lighter import lighter, smaller

FORMAT = "handglass-bundle"
VERSION = 2
LIBRARY = "lib.so"
RUNTIME_LIBRARY = "libtvm_runtime.so"
MAX_MANIFEST = 4 << 20
"""Largest manifest.json in bytes; that of a model of 1,000 layers has 1."""
MOST_EXTRA = 1 << 16
TOKENIZER_KINDS = ("sentencepiece", "tokenizers")
SCORES = (SIGMOID, SOFTMAX, COSINE)


@dataclass(frozen=True)
class Manifest:
    model: ModelEntry
    target: TargetEntry
    scheme: Mapping[str, str]
    versions: Mapping[str, str]
    functions: Mapping[str, FunctionEntry]
    params: tuple[TensorEntry, ...]
    state: StateEntry
    vision: VisionEntry | None
    prompt: PromptEntry
    tokenizer: TokenizerEntry | None
    """None: the model takes no texts."""
    vocab_size: int
    hidden_size: int
    work: Mapping[str, WorkEntry] = optional(dict)
    """Work per call of each function, for benchmarks."""
    files: Mapping[str, FileEntry] = field(default_factory=dict)
    encoders: EncodersEntry | None = optional(lambda: None)  # noqa: RUF009  a field, not a call
    """Of an encoder, which answers no questions: its prompt is empty, and it has no state."""
    graph: GraphEntry | None = optional(lambda: None)  # noqa: RUF009  a field, not a call
    """Of an imported graph, which has neither prompt nor tokenizer; sizes of text are 1."""

    extra_tokens: int = optional(int)
    """Ids after the vocabulary that `embed` takes as well; no answer contains them."""

    @property
    def answers(self) -> bool:
        """Whether the model answers questions."""
        return self.encoders is None and self.graph is None

    @property
    def resident_bytes(self) -> int:
        """Bytes of weights and state held while generating, without intermediate results."""
        return sum(tensor.nbytes for tensor in (*self.params, *self.state.tensors))

    def lighter(self, memory: int) -> str:
        """Advice for a device whose `memory` is less than `resident_bytes`."""
        weights = sum(tensor.nbytes for tensor in self.params)
        return lighter(self.scheme, weights, self.state, memory)

    @property
    def smaller(self) -> str:
        """Advice for a device whose memory ran out."""
        return smaller(self.scheme, self.state)

    @classmethod
    def parse(cls, text: str | bytes, where: str) -> Manifest:
        """Parse the text of a manifest.json; `where` names it in errors.

        Raises InputError for malformed content, MismatchError for another format version or for a
        required file that is not listed.
        """
        data = parse_json(_bytes(text), where, MAX_MANIFEST)
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise InputError(f"{where}: not a handglass bundle (format must be {FORMAT!r})")
        if data.get("version") != VERSION or isinstance(data["version"], bool):
            raise MismatchError(
                f"{where}: bundle version {data.get('version')!r:.40} is not supported, this "
                f"handglass reads version {VERSION}; compile the model again"
            )
        body = {key: value for key, value in data.items() if key not in ("format", "version")}
        manifest = parse_dataclass(cls, body, where, "")
        _check_values(manifest, where)
        return manifest

    def text(self) -> str:
        """The text of manifest.json."""
        head = {"format": FORMAT, "version": VERSION}
        return json.dumps(head | plain(self), indent=1, ensure_ascii=False) + "\n"


def _bytes(text: str | bytes) -> bytes:
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text


def _check_values(manifest: Manifest, where: str) -> None:
    """Check constraints that the field types do not express."""
    for text in _beyond(manifest):
        raise InputError(f"{where}: {text}")
    checks = _checks(manifest) | _vision_checks(manifest.vision) | _encoder_checks(manifest)
    checks |= _graph_checks(manifest)
    for text, holds in checks.items():
        if not holds:
            raise InputError(f"{where}: {text}")
    tokenizer = () if manifest.tokenizer is None else (manifest.tokenizer.file,)
    for name in (LIBRARY, *tokenizer):
        if name not in manifest.files:
            raise MismatchError(f"{where}: {name[:100]!r} is needed but not listed under files")


def _beyond(manifest: Manifest) -> Iterator[str]:
    sizes = {"vocab_size": manifest.vocab_size, "hidden_size": manifest.hidden_size}
    yield from sizes_beyond({**sizes, "state.context": manifest.state.context})
    yield from tensors_beyond(manifest.params, manifest.state)
    yield from files_beyond(manifest.files)
    if manifest.vision is not None:
        yield from vision_beyond(manifest.vision)
    if manifest.encoders is not None:
        yield from encoders_beyond(manifest.encoders)
    if manifest.graph is not None:
        yield from graph_beyond(manifest.graph)


def _checks(manifest: Manifest) -> dict[str, bool]:
    """Requirement (the text of the error) -> whether the manifest meets it."""
    state, target, prompt = manifest.state, manifest.target, manifest.prompt
    tensors = (*manifest.params, *state.tensors)
    sizes = (manifest.hidden_size, state.context)
    return {
        "target.device must be a name of lowercase letters and digits": re.fullmatch(
            "[a-z][a-z0-9]*", target.device
        )
        is not None,
        "target.abilities must map names to booleans or non-negative integers": all(
            re.fullmatch("[a-z][a-z0-9_]*", name) and type(value) in (bool, int) and value >= 0
            for name, value in target.abilities.items()
        ),
        "target.images must be names of lowercase letters, digits and _": all(
            re.fullmatch("[a-z][a-z0-9_]{0,30}", image) for image in target.images
        ),
        "vocab_size, hidden_size and state.context must be positive": min(sizes) > 0
        and (manifest.vocab_size > 0) == (manifest.tokenizer is not None),
        f"the kind of a state tensor must be one of {', '.join(STATE_KINDS)}": all(
            tensor.kind in STATE_KINDS for tensor in state.tensors
        ),
        "prompt.roles must have user and assistant": not manifest.answers
        or {"user", "assistant"} <= prompt.roles.keys(),
        "prompt.stop must name a token": bool(not manifest.answers or prompt.stop),
        "prompt.answer must have the keys plain and thinking only": prompt.answer.keys()
        <= {"plain", "thinking"},
        "prompt.thoughts must have both markers, or none": bool(prompt.thoughts.before)
        == bool(prompt.thoughts.after),
        "prompt.answer.thinking needs prompt.thoughts": "thinking" not in prompt.answer
        or bool(prompt.thoughts.after),
        "prompt.positions must be plain exactly where prefill and decode take no positions": all(
            manifest.functions[name].takes(POSITIONS) == (prompt.positions.kind != PLAIN)
            for name in {"prefill", "decode"} & manifest.functions.keys()
        ),
        "prompt.picture needs state for pictures, and show_pictures, prefill_seeing and "
        "decode_seeing; these need prompt.picture": _shows_pictures(manifest),
        f"extra_tokens must be from 0 to {MOST_EXTRA}": 0 <= manifest.extra_tokens <= MOST_EXTRA,
        "prompt.system needs a role system": not prompt.system or "system" in prompt.roles,
        f"tokenizer.kind must be one of {', '.join(TOKENIZER_KINDS)}": manifest.tokenizer is None
        or manifest.tokenizer.kind in TOKENIZER_KINDS,
        "tokenizer may be null only if encoders.text is, or of a graph": manifest.tokenizer
        is not None
        or manifest.graph is not None
        or (manifest.encoders is not None and manifest.encoders.text is None),
        "params and state.tensors must list each tensor once": len({t.name for t in tensors})
        == len(tensors),
        "work must not be negative": all(min(_amounts(w)) >= 0 for w in manifest.work.values()),
        "each of files must have a sha256 of 64 lowercase hexadecimal digits": all(
            re.fullmatch("[0-9a-f]{64}", f.sha256) for f in manifest.files.values()
        ),
    }


def _shows_pictures(manifest: Manifest) -> bool:
    """Whether all that showing pictures to the text needs is there, or nothing."""
    needed = {"show_pictures", "prefill_seeing", "decode_seeing"} <= manifest.functions.keys()
    parts = bool(manifest.prompt.picture), needed, bool(manifest.state.picture_rows)
    return all(parts) or not any(parts)


def _vision_checks(vision: VisionEntry | None) -> dict[str, bool]:
    if vision is None:
        return {}
    patch = max(vision.patch_size, 1)
    return {
        "vision.patch_size must be positive": vision.patch_size > 0,
        "vision.image_size must be a multiple of vision.patch_size": vision.image_size > 0
        and vision.image_size % patch == 0,
        "one of vision.query_num and vision.patches_per_row must be positive, the other 0": min(
            vision.query_num, vision.patches_per_row
        )
        == 0
        and max(vision.query_num, vision.patches_per_row) > 0,
        "vision.mean and vision.std must be three numbers each, std not 0": len(vision.mean) == 3
        and len(vision.std) == 3
        and all(vision.std),
    }


def _encoder_checks(manifest: Manifest) -> dict[str, bool]:
    encoders, functions = manifest.encoders, manifest.functions
    if encoders is None:
        return {}
    return {
        "encoders need encode_image exactly where there is vision": ("encode_image" in functions)
        == (manifest.vision is not None),
        "encoders need encode_text exactly where they have text": ("encode_text" in functions)
        == (encoders.text is not None),
        "encoders need encode_image or encode_text": bool(
            {"encode_image", "encode_text"} & functions.keys()
        ),
        "encoders need classify exactly where they have labels, of pictures": (
            "classify" in functions
        )
        == bool(encoders.labels)
        and (manifest.vision is not None or not encoders.labels),
        f"encoders.score must be one of {', '.join(SCORES)}": encoders.score in SCORES,
        f"encoders.score must not be {COSINE} where there is something to score": encoders.score
        != COSINE
        or not (encoders.labels or (manifest.vision and encoders.text)),
        **_text_checks(manifest, encoders.text),
    }


def _text_checks(manifest: Manifest, text: TextEntry | None) -> dict[str, bool]:
    if text is None:
        return {}
    ids = (*text.before, *text.after, *([] if text.padding is None else [text.padding]))
    return {
        "encoders.text.length must hold the ids before and after a text": len(text.before)
        + len(text.after)
        <= text.length,
        "encoders.text must have ids within the vocabulary": all(
            0 <= id < manifest.vocab_size for id in ids
        ),
    }


def _graph_checks(manifest: Manifest) -> dict[str, bool]:
    graph = manifest.graph
    if graph is None:
        return {}
    return {
        "graph needs the function encode and an output": "encode" in manifest.functions
        and bool(graph.outputs),
        "graph must list each input and each output once": all(
            len({tensor.name for tensor in tensors}) == len(tensors)
            for tensors in (graph.inputs, graph.outputs)
        ),
    }


def _amounts(work: WorkEntry) -> tuple[float, ...]:
    return work.flops, work.flops_per_row, work.flops_per_pair, work.bytes

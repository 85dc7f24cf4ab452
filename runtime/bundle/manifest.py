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
from .bounds import files_beyond, sizes_beyond, tensors_beyond, vision_beyond
from .entries import (
    PLAIN,
    POSITIONS,
    STATE_KINDS,
    FileEntry,
    FunctionEntry,
    ModelEntry,
    PromptEntry,
    StateEntry,
    TargetEntry,
    TensorEntry,
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
TOKENIZER_KINDS = ("sentencepiece", "tokenizers")


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
    tokenizer: TokenizerEntry
    vocab_size: int
    hidden_size: int
    work: Mapping[str, WorkEntry] = optional(dict)
    """Work per call of each function, for benchmarks."""
    files: Mapping[str, FileEntry] = field(default_factory=dict)

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
    for text, holds in (_checks(manifest) | _vision_checks(manifest.vision)).items():
        if not holds:
            raise InputError(f"{where}: {text}")
    for name in (LIBRARY, manifest.tokenizer.file):
        if name not in manifest.files:
            raise MismatchError(f"{where}: {name[:100]!r} is needed but not listed under files")


def _beyond(manifest: Manifest) -> Iterator[str]:
    sizes = {"vocab_size": manifest.vocab_size, "hidden_size": manifest.hidden_size}
    yield from sizes_beyond({**sizes, "state.context": manifest.state.context})
    yield from tensors_beyond(manifest.params, manifest.state)
    yield from files_beyond(manifest.files)
    if manifest.vision is not None:
        yield from vision_beyond(manifest.vision)


def _checks(manifest: Manifest) -> dict[str, bool]:
    """Requirement (the text of the error) -> whether the manifest meets it."""
    state, target, prompt = manifest.state, manifest.target, manifest.prompt
    tensors = (*manifest.params, *state.tensors)
    sizes = (manifest.vocab_size, manifest.hidden_size, state.context)
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
        "vocab_size, hidden_size and state.context must be positive": min(sizes) > 0,
        f"the kind of a state tensor must be one of {', '.join(STATE_KINDS)}": all(
            tensor.kind in STATE_KINDS for tensor in state.tensors
        ),
        "prompt.roles must have user and assistant": {"user", "assistant"} <= prompt.roles.keys(),
        "prompt.stop must name a token": bool(prompt.stop),
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
        "prompt.system needs a role system": not prompt.system or "system" in prompt.roles,
        f"tokenizer.kind must be one of {', '.join(TOKENIZER_KINDS)}": manifest.tokenizer.kind
        in TOKENIZER_KINDS,
        "params and state.tensors must list each tensor once": len({t.name for t in tensors})
        == len(tensors),
        "work must not be negative": all(min(_amounts(w)) >= 0 for w in manifest.work.values()),
        "each of files must have a sha256 of 64 lowercase hexadecimal digits": all(
            re.fullmatch("[0-9a-f]{64}", f.sha256) for f in manifest.files.values()
        ),
    }


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


def _amounts(work: WorkEntry) -> tuple[float, ...]:
    return work.flops, work.flops_per_row, work.flops_per_pair, work.bytes

"""The manifest of a bundle: everything about it that can be known without running it."""

from __future__ import annotations

from importlib.metadata import version

import handglass
from handglass.errors import InputError
from handglass.runtime.bundle.manifest import (
    CacheEntry,
    FunctionEntry,
    Manifest,
    ModelEntry,
    TargetEntry,
    TensorEntry,
    TokenizerEntry,
    VisionEntry,
)
from handglass.runtime.prompt.tokenizer import open_tokenizer
from handglass.targets.target import Target

from ..checkpoints.checkpoint import Checkpoint
from ..models import Importer
from ..models.minicpmv import MiniCPMV

TOKENIZERS = (("sentencepiece", "tokenizer.model"), ("tokenizers", "tokenizer.json"))
NORMALISATION = (0.5, 0.5, 0.5)


def describe(
    checkpoint: Checkpoint,
    model: MiniCPMV,
    importer: Importer,
    params: tuple[TensorEntry, ...],
    target: Target,
) -> Manifest:
    """All of the manifest but `files`, which the writer fills in."""
    config, storage = model.config, model.storage
    return Manifest(
        model=ModelEntry(config.architecture, checkpoint.config),
        target=target_entry(target),
        scheme={"language": storage.language.name, "vision": storage.vision.name},
        versions={
            "handglass": handglass.__version__,
            "tvm": version("apache-tvm"),
            "tvm_ffi": version("apache-tvm-ffi"),
        },
        functions=_functions(model),
        params=params,
        cache=CacheEntry(
            storage.context, tuple(TensorEntry(*tensor) for tensor in model.cache_tensors())
        ),
        vision=VisionEntry(
            image_size=config.image_size,
            patch_size=config.vision.patch_size,
            mean=NORMALISATION,
            std=NORMALISATION,
            query_num=config.resampler.query_num,
            positions_per_side=config.vision.positions_per_side,
        ),
        prompt=importer.prompt,
        tokenizer=find_tokenizer(checkpoint, importer, config.language.vocab_size),
        vocab_size=config.language.vocab_size,
        hidden_size=config.language.hidden_size,
    )


def target_entry(target: Target) -> TargetEntry:
    """What a device must be for code of the target."""
    host = (target.name, target.triple, target.cpu, target.features)
    if target.gpu is None:
        return TargetEntry(*host)
    return TargetEntry(*host, device=target.kind, abilities=target.gpu.abilities)


def find_tokenizer(checkpoint: Checkpoint, importer: Importer, vocab_size: int) -> TokenizerEntry:
    """The tokenizer file, after a look that it has every string the prompt is built from."""
    for kind, name in TOKENIZERS:
        if (path := checkpoint.folder / name).is_file():
            prompt = importer.prompt
            tokenizer = open_tokenizer(kind, path, prompt.markers)
            if tokenizer.vocab_size > vocab_size:
                raise InputError(
                    f"{path}: {tokenizer.vocab_size} tokens, but config.json says "
                    f"vocab_size {vocab_size}; the file belongs to another model"
                )
            for marker in (prompt.bos, prompt.unk, *prompt.stop):
                tokenizer.token_id(marker)
            for marker in (prompt.user, prompt.assistant, prompt.image_start, prompt.image_end):
                tokenizer.marker_ids(marker)
            return TokenizerEntry(kind, name)
    wanted = " or ".join(name for _, name in TOKENIZERS)
    raise InputError(f"{checkpoint.folder}: no tokenizer; expected {wanted}")


def _functions(model: MiniCPMV) -> dict[str, FunctionEntry]:
    vision, language = model.config.vision, model.config.language
    p, d, features = vision.patch_size, language.hidden_size, vision.hidden_size
    pixels, ids = f"pixels (3, {p}, {p} n) float32", "position_ids (n,) int32"
    grid, logits = "grid (n, 2) int32", f"({language.vocab_size},) float32"
    image = f"({model.config.resampler.query_num}, {d}) float32"
    table = {
        "encode_vision": ((pixels, ids), f"(n, {features}) float32"),
        "resample": ((f"features (n, {features}) float32", grid), image),
        "encode_image": ((pixels, ids, grid), image),
        "embed": (("ids (s,) int32",), f"(s, {d}) float32"),
        "prefill": ((f"x (s, {d}) float32", "pos", "cache"), logits),
        "decode": (("ids (1,) int32", "pos", "cache"), logits),
    }
    return {
        name: FunctionEntry((*arguments, "params"), result)
        for name, (arguments, result) in table.items()
    }

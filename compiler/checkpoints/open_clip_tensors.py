"""The tensors of OpenCLIP by the names and with the rows of transformers' CLIPModel.

OpenCLIP keeps the projections of queries, keys and values as one matrix, and multiplies by its two
last matrices from the right. Its text tower is at the top, or below `text.` ("custom_text").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from handglass.errors import InputError

from .shards import Shard
from .stored import FLOATS, Computed, drop_pages, widen

VISION, TEXT = "vision_model", "text_model"
TEXT_AT = "text."
"""What the names of the text tower may begin with."""
OUTER = {
    "visual.conv1.weight": f"{VISION}.embeddings.patch_embedding.weight",
    "visual.class_embedding": f"{VISION}.embeddings.class_embedding",
    "visual.positional_embedding": f"{VISION}.embeddings.position_embedding.weight",
    **{
        f"visual.{ours}.{end}": f"{VISION}.{theirs}.{end}"
        for ours, theirs in {"ln_pre": "pre_layrnorm", "ln_post": "post_layernorm"}.items()
        for end in ("weight", "bias")
    },
    "token_embedding.weight": f"{TEXT}.embeddings.token_embedding.weight",
    "positional_embedding": f"{TEXT}.embeddings.position_embedding.weight",
    "ln_final.weight": f"{TEXT}.final_layer_norm.weight",
    "ln_final.bias": f"{TEXT}.final_layer_norm.bias",
}
TRANSPOSED = {
    "visual.proj": "visual_projection.weight",
    "text_projection": "text_projection.weight",
}
LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
JOINED = ("q_proj", "k_proj", "v_proj")
DERIVED = ("attn_mask",)
"""Stored by early releases, though it follows from the configuration."""
_LAYER_NAME = re.compile(
    r"(visual\.)?transformer\.resblocks\.(0|[1-9]\d{0,5})\.(.+?)[._](weight|bias)", re.ASCII
)


@dataclass(frozen=True)
class Source:
    """Where the values of a tensor are: a stored one, a third of its rows, or its columns."""

    name: str
    third: int | None = None
    is_transposed: bool = False


class OpenClipTensors(Computed):
    """The tensors of one file."""

    def __init__(self, shards: Mapping[str, Shard]) -> None:
        """Raises InputError for tensors that two names stand for."""
        self._shards = shards
        self._sources: dict[str, Source] = {}
        for name in shards:
            for theirs, source in sources(name):
                if theirs in self._sources:
                    raise InputError(f"{name} and {self._sources[theirs].name} are the same tensor")
                self._sources[theirs] = source

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._sources)

    def shape(self, name: str) -> tuple[int, ...]:
        source = self._sources[name]
        shape = tuple(self._shards[source.name].shape(source.name))
        if source.third is not None:
            if not shape or shape[0] % 3:
                raise InputError(f"{source.name}: the shape is {shape}, whose rows are not q, k, v")
            return (shape[0] // 3, *shape[1:])
        return shape[::-1] if source.is_transposed else shape

    def floats(self, name: str, rows: slice) -> np.ndarray:
        """Rows in float32."""
        source = self._sources[name]
        shard = self._shards[source.name]
        if (dtype := shard.dtype(source.name)) not in FLOATS:
            raise InputError(
                f"{source.name}: stored as {dtype}; supported types: {', '.join(FLOATS)}"
            )
        array = shard.array(source.name)
        if source.third is not None:
            count = self.shape(name)[0]
            array = array[source.third * count :][:count]
        if source.is_transposed:
            array = array.T
        return widen(array[rows] if array.shape else array, dtype)

    def release(self, name: str) -> None:
        source = self._sources[name].name
        drop_pages(self._shards[source].array(source))


def sources(name: str) -> Iterator[tuple[str, Source]]:
    """Names of transformers that a stored tensor stands for; one that is unknown keeps its own."""
    bare = name.removeprefix(TEXT_AT)
    if bare in DERIVED:
        return
    match = _LAYER_NAME.fullmatch(bare)
    if match and match[3] == "attn.in_proj":
        for third, part in enumerate(JOINED):
            yield f"{_layer(match)}.self_attn.{part}.{match[4]}", Source(name, third)
    elif match and match[3] in LAYER:
        yield f"{_layer(match)}.{LAYER[match[3]]}.{match[4]}", Source(name)
    elif bare in TRANSPOSED:
        yield TRANSPOSED[bare], Source(name, is_transposed=True)
    else:
        yield OUTER.get(bare, name), Source(name)


def _layer(match: re.Match[str]) -> str:
    return f"{VISION if match[1] else TEXT}.encoder.layers.{match[2]}"

"""Keeps a conversation in one file: its turns and pictures, and the state computed of them.

The file is in the safetensors format. The tensor `talk` is a description in JSON (saved_talk.py);
beside it are the files of the pictures, their tiles, and of each state tensor the part that the
conversation takes. A state is used only with the bundle that computed it; with any other, the turns
and the pictures are read all the same and the next question computes them again.

A file appears under its name only when it is complete, so that a process that is killed while it
saves leaves the one that was saved before.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from handglass.errors import HandglassError, InputError

from ..bundle.entries import AXES, RECURRENT
from ..bundle.manifest import Manifest
from ..bundle.tensors import TensorFile, storage_dtype
from ..engine.checks import check_positions
from ..engine.state_layout import part_shape
from ..prompt.preprocess import Preprocessor, Tile
from ..prompt.video.groups import FrameGroup
from ..system.json_dataclass import parse_dataclass, plain
from ..system.json_text import parse_json
from .kept_cache import KeptCache
from .reuse import Copy
from .saved_talk import (
    FORMAT,
    VERSION,
    CacheEntry,
    ShownEntry,
    TalkEntry,
    TileEntry,
    TurnEntry,
    bundle_identity,
    check_cache,
    check_talk,
    keys_of,
    runs_of,
    vision_identity,
)

TALK, PLACES = "talk", "places"
MAX_TALK = 64 << 20

Tiles = tuple[tuple[Tile | FrameGroup, ...], ...]
"""By frame; a picture is one frame."""


@dataclass(frozen=True, eq=False)
class SavedShown:
    """A picture or a video. `tiles` is empty if it was cut for a model that cuts differently."""

    name: str
    is_video: bool
    tiles: Tiles
    original: bytes = b""  # the file of a picture


@dataclass(frozen=True)
class SavedTurn:
    question: str
    answer: str
    shown: tuple[SavedShown, ...] = ()


@dataclass(frozen=True)
class SavedConversation:
    bundle: str  # the name of the bundle that answered
    system: str | None
    turns: tuple[SavedTurn, ...]
    waiting: tuple[SavedShown, ...] = ()  # pictures for the next question
    cache: KeptCache | None = None
    is_foreign: bool = False  # it was read for another bundle than the one that answered


def arrays_of(saved: SavedConversation, manifest: Manifest) -> dict[str, np.ndarray]:
    """All tensors of the file by name, as views where possible."""
    shown = [*(s for turn in saved.turns for s in turn.shown), *saved.waiting]
    arrays = {TALK: np.frombuffer(_talk(saved, shown, manifest), np.uint8)}
    for i, item in enumerate(shown):
        if item.original:
            arrays[f"original.{i}"] = np.frombuffer(item.original, np.uint8)
        arrays.update({f"tile.{i}.{n}": a for n, a in enumerate(_pixels(item.tiles))})
    if saved.cache is not None:
        arrays.update(_cache_arrays(saved.cache, manifest))
    return arrays


def read_conversation(path: Path, manifest: Manifest) -> SavedConversation:
    """The conversation in a file. Its cache is None if another bundle computed it.

    Raises InputError for a file that is none, or whose parts do not fit together.
    """
    file = TensorFile.open(path)
    try:
        return _read(file, _described(file), manifest)
    except HandglassError as error:
        raise InputError(f"{path}: {error}") from error


def check_conversation(path: Path) -> None:
    """Raise InputError for a file that is no kept conversation; its parts are not looked at."""
    file = TensorFile.open(path)
    try:
        _described(file)
    except HandglassError as error:
        raise InputError(f"{path}: {error}") from error


def _described(file: TensorFile) -> TalkEntry:
    if TALK not in file or file.dtype(TALK) != "uint8":
        raise InputError("not a conversation that handglass saved")
    data = parse_json(file.array(TALK).tobytes(), TALK, MAX_TALK)
    if not isinstance(data, dict) or (data.get("format"), data.get("version")) != (FORMAT, VERSION):
        raise InputError(f"not a conversation of format {FORMAT} {VERSION}")
    return parse_dataclass(TalkEntry, data, TALK)


def _read(file: TensorFile, talk: TalkEntry, manifest: Manifest) -> SavedConversation:
    is_same = talk.vision == vision_identity(manifest.vision)
    cutter = Preprocessor(manifest.vision) if is_same and manifest.vision is not None else None
    check_talk(talk, {*manifest.prompt.tiles, *manifest.prompt.frames} if cutter else None)
    shown = [_shown(file, i, entry, cutter) for i, entry in enumerate(talk.shown)]
    turns = []
    for turn in talk.turns:
        turns.append(SavedTurn(turn.question, turn.answer, tuple(shown[: turn.shown])))
        del shown[: turn.shown]
    is_foreign = talk.identity != bundle_identity(manifest)
    saved = SavedConversation(
        talk.bundle, talk.system, tuple(turns), tuple(shown), is_foreign=is_foreign
    )
    if talk.cache is None or is_foreign:
        return saved
    return replace(saved, cache=_cache(file, talk.cache, manifest))


def _talk(saved: SavedConversation, shown: Sequence[SavedShown], manifest: Manifest) -> bytes:
    entry = TalkEntry(
        format=FORMAT,
        version=VERSION,
        bundle=saved.bundle,
        identity=bundle_identity(manifest),
        vision=vision_identity(manifest.vision),
        system=saved.system,
        turns=tuple(TurnEntry(t.question, t.answer, len(t.shown)) for t in saved.turns),
        shown=tuple(ShownEntry(s.name, s.is_video, _entries(s.tiles)) for s in shown),
        cache=None if saved.cache is None else _entry(saved.cache),
    )
    return json.dumps(plain(entry), ensure_ascii=True, separators=(",", ":")).encode()


def _entries(tiles: Tiles) -> tuple[tuple[TileEntry, ...], ...]:
    return tuple(
        tuple(TileEntry(t.role, t.times if isinstance(t, FrameGroup) else ()) for t in frame)
        for frame in tiles
    )


def _pixels(tiles: Tiles) -> Iterator[np.ndarray]:
    """(h, w, 3) uint8 of each tile, frame by frame."""
    for frame in tiles:
        for tile in frame:
            members = tile.frames if isinstance(tile, FrameGroup) else (tile,)
            yield from (member.pixels for member in members)


def _shown(
    file: TensorFile, number: int, entry: ShownEntry, cutter: Preprocessor | None
) -> SavedShown:
    name = f"original.{number}"
    original = file.array(name).tobytes() if name in file else b""
    if cutter is None:
        return SavedShown(entry.name, entry.is_video, (), original)
    arrays = (_tensor(file, f"tile.{number}.{n}") for n in range(_count(entry)))
    frames = tuple(_tiles(frame, arrays, cutter) for frame in entry.frames)
    return SavedShown(entry.name, entry.is_video, frames, original)


def _count(entry: ShownEntry) -> int:
    return sum(tile.frames for frame in entry.frames for tile in frame)


def _tiles(
    entries: Sequence[TileEntry], arrays: Iterator[np.ndarray], cutter: Preprocessor
) -> tuple[Tile | FrameGroup, ...]:
    """The tiles of one picture, or of one frame or group of frames of a video."""
    roles = [entry.role for entry in entries for _ in range(entry.frames)]
    tiles = iter(cutter.restored([next(arrays) for _ in roles], roles))
    grouped = [(entry, tuple(next(tiles) for _ in range(entry.frames))) for entry in entries]
    return tuple(
        FrameGroup(members, entry.times) if entry.times else members[0]
        for entry, members in grouped
    )


def _entry(cache: KeptCache) -> CacheEntry:
    lengths = tuple(copy.length for copy in cache.copies)
    return CacheEntry(
        tuple(runs_of(cache.keys)), cache.places is not None, cache.is_broken, lengths
    )


def _cache_arrays(cache: KeptCache, manifest: Manifest) -> dict[str, np.ndarray]:
    tensors = manifest.state.tensors
    arrays = {f"state.{t.name}": a for t, a in zip(tensors, cache.state, strict=True)}
    if cache.places is not None:
        arrays[PLACES] = cache.places
    recurrent = [tensor for tensor in tensors if tensor.kind == RECURRENT]
    for i, copy in enumerate(cache.copies):
        pairs = zip(recurrent, copy.state, strict=True)
        arrays.update({f"copy.{i}.{tensor.name}": array for tensor, array in pairs})
        arrays[f"copy.{i}"] = copy.logits
    return arrays


def _cache(file: TensorFile, entry: CacheEntry, manifest: Manifest) -> KeptCache:
    count, context = check_cache(entry, manifest), manifest.state.context
    shapes = {t.name: part_shape(t, context, count) for t in manifest.state.tensors}
    recurrent = [tensor for tensor in manifest.state.tensors if tensor.kind == RECURRENT]
    places = None
    if entry.is_placed:
        places = _checked(file, PLACES, (count, AXES), "int32")
        check_positions(places, count, context)
    state = (
        _checked(file, f"state.{t.name}", shapes[t.name], t.dtype) for t in manifest.state.tensors
    )
    copies = (
        Copy(
            length,
            tuple(_copied(file, f"copy.{i}.{t.name}", t.shape, t.dtype) for t in recurrent),
            _copied(file, f"copy.{i}", (manifest.vocab_size,), "float32"),
        )
        for i, length in enumerate(entry.copies)
    )
    keys = tuple(keys_of(entry.runs))
    return KeptCache(keys, places, tuple(state), tuple(copies), entry.is_broken)


def _tensor(file: TensorFile, name: str) -> np.ndarray:
    if name not in file:
        raise InputError(f"there is no tensor {name!r}")
    return file.array(name)


def _checked(file: TensorFile, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """A tensor that must have this shape and dtype."""
    array = _tensor(file, name)
    if array.shape != shape or array.dtype != storage_dtype(dtype):
        raise InputError(f"{name} is {array.dtype} {array.shape}, expected {dtype} {shape}")
    return array


def _copied(file: TensorFile, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    """The same as a copy, which outlives the file."""
    return np.array(_checked(file, name, shape, dtype))

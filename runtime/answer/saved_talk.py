"""The description inside a kept conversation: JSON, as dataclasses whose fields are the keys.

It says what was asked and answered, which tiles belong to which picture, and which keys the kept
state holds. Nothing in it is trusted: `check_talk` bounds every number before it is used.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise

from handglass.errors import InputError

from ..bundle.entries import VisionEntry
from ..bundle.manifest import Manifest
from ..prompt.messages import MARK
from ..system.json_dataclass import optional, plain
from .generate import Key

FORMAT, VERSION = "handglass-conversation", 1
MAX_TILES = 1 << 14
MAX_ROWS = 1 << 16  # of a tile
MAX_TIME = 1 << 24  # of a frame
_DIGEST = re.compile("[0-9a-f]{64}")


@dataclass(frozen=True)
class TileEntry:
    """A tile; `times`: of each frame, for several video frames that are encoded together."""

    role: str
    times: tuple[int, ...] = optional(tuple)

    @property
    def frames(self) -> int:
        return max(1, len(self.times))


@dataclass(frozen=True)
class ShownEntry:
    """A picture or a video: its tiles by frame; a picture is one frame."""

    name: str
    is_video: bool
    frames: tuple[tuple[TileEntry, ...], ...]


@dataclass(frozen=True)
class TurnEntry:
    question: str
    answer: str
    shown: int  # pictures and videos


@dataclass(frozen=True)
class RunEntry:
    """Keys of the cache: token ids, or `rows` rows of a tile from `first` on."""

    ids: tuple[int, ...] = optional(tuple)
    tile: str = optional(str)  # its digest; empty: token ids
    first: int = optional(int)
    rows: int = optional(int)


@dataclass(frozen=True)
class CacheEntry:
    runs: tuple[RunEntry, ...]
    is_placed: bool  # whether the keys have rotary positions
    is_broken: bool
    copies: tuple[int, ...]  # how many keys each copy of a recurrent state covers


@dataclass(frozen=True)
class TalkEntry:
    format: str
    version: int
    bundle: str  # its name, for people
    identity: str  # of the bundle
    vision: str  # identity of how it cuts pictures
    system: str | None
    turns: tuple[TurnEntry, ...]
    shown: tuple[ShownEntry, ...]  # of all turns in their order, then those that wait
    cache: CacheEntry | None


def bundle_identity(manifest: Manifest) -> str:
    """A hash of what decides a state: code, weights, its layout, how pictures become pixels."""
    files = sorted((name, entry.sha256) for name, entry in manifest.files.items())
    return _hash([files, plain(manifest.state), vision_identity(manifest.vision)])


def vision_identity(vision: VisionEntry | None) -> str:
    """A hash of how pictures are cut into tiles."""
    return _hash(None if vision is None else plain(vision))


def _hash(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def runs_of(keys: Sequence[Key]) -> Iterator[RunEntry]:
    """The keys with neighbours merged."""
    for digest, run in groupby(keys, key=lambda key: key[0] if isinstance(key, tuple) else ""):
        members = list(run)
        if not digest:
            yield RunEntry(ids=tuple(key for key in members if isinstance(key, int)))
            continue
        rows = [key[1] for key in members if isinstance(key, tuple)]
        starts = [i for i, row in enumerate(rows) if not i or row != rows[i - 1] + 1]
        for start, end in zip(starts, [*starts[1:], len(rows)], strict=True):
            yield RunEntry(tile=digest, first=rows[start], rows=end - start)


def keys_of(runs: Sequence[RunEntry]) -> Iterator[Key]:
    for run in runs:
        if run.tile:
            yield from ((run.tile, run.first + i) for i in range(run.rows))
        else:
            yield from run.ids


def check_talk(talk: TalkEntry, roles: Container[str] | None) -> None:
    """Raise InputError where the parts of the description do not fit together.

    `roles`: those that tiles have in this model; None: they are tiles of another one, not used.
    """
    tiles = [tile for shown in talk.shown for frame in shown.frames for tile in frame]
    if len(tiles) > MAX_TILES:
        raise InputError(f"{len(tiles)} tiles, but at most {MAX_TILES} are read")
    for tile in tiles:
        if roles is not None and tile.role not in roles:
            raise InputError(f"tiles of this model are no {tile.role!r:.80}")
        if any(not 0 <= time < MAX_TIME for time in tile.times):
            raise InputError(f"the times {tile.times!s:.80} of frames")
    for shown in talk.shown:
        if not shown.is_video and (len(shown.frames) != 1 or any(t.times for t in shown.frames[0])):
            raise InputError(f"the picture {shown.name!r:.80} has frames")
        if not all(shown.frames):
            raise InputError(f"{shown.name!r:.80} has a frame without tiles")
    for number, turn in enumerate(talk.turns, 1):
        if turn.question.count(MARK) != turn.shown:
            raise InputError(f"question {number} does not show {turn.shown} pictures")
    if sum(turn.shown for turn in talk.turns) > len(talk.shown):
        raise InputError(f"only {len(talk.shown)} of the pictures are there")


def check_cache(cache: CacheEntry, manifest: Manifest) -> int:
    """How many keys the cache holds. Raises InputError for what this bundle cannot hold."""
    context, count = manifest.state.context, 0
    for run in cache.runs:
        count += _checked(run, manifest.vocab_size)
        if count > context:
            raise InputError(f"the cache holds more than {context} positions")
    if not count:
        raise InputError("the cache holds nothing")
    lengths = (0, *cache.copies)
    if any(b <= a for a, b in pairwise(lengths)) or lengths[-1] > count:
        raise InputError(f"copies after {cache.copies} of {count} positions are none")
    return count


def _checked(run: RunEntry, vocab_size: int) -> int:
    if run.tile:
        if not _DIGEST.fullmatch(run.tile) or not (
            0 <= run.first < MAX_ROWS and 0 < run.rows <= MAX_ROWS
        ):
            raise InputError(f"rows {run.first} + {run.rows} of {run.tile!r:.80}")
        return run.rows
    if any(not 0 <= token < vocab_size for token in run.ids):
        raise InputError(f"a token id is outside the vocabulary of {vocab_size}")
    return len(run.ids)

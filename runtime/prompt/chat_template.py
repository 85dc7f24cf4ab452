"""Renders messages into token ids with slots for picture tiles, using the manifest's template.

A prompt is the begin token, then for each turn the marker before its role, the text, and the marker
after it, and finally the marker that opens an answer. Earlier answers come without the thoughts
that led to them. This module does not handle pixels: the caller supplies the tiles of each picture
and their roles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from handglass.errors import MismatchError

from ..bundle.entries import PromptEntry
from .messages import ASSISTANT, MARK, SYSTEM, Part, Placed, Turn, read_turns

__all__ = ["MARK", "Prompt", "Slot", "Tokens", "build_prompt", "marker_text", "opening"]

PLAIN, THINKING = "plain", "thinking"
PICTURE = "{picture}"
"""In a marker around a tile: the number of its picture in the prompt."""


class HasRole(Protocol):
    """The part of a tile that the template reads."""

    @property
    def role(self) -> str: ...


class Spells(Protocol):
    """The part of a tokenizer that building a prompt uses."""

    def encode(self, text: str) -> list[int]:
        """Ids of what a user typed."""

    def marker_ids(self, marker: str) -> tuple[int, ...]:
        """Ids of a template marker."""

    def token_id(self, piece: str) -> int:
        """The id of one token."""


T = TypeVar("T", bound=HasRole)


@dataclass(frozen=True)
class Tokens:
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Slot:
    """A place for the embedding rows of tile `tile` of `Prompt.pictures[picture]`."""

    picture: int
    tile: int


@dataclass(frozen=True)
class Prompt:
    segments: tuple[Tokens | Slot, ...]
    pictures: tuple[Sequence[Any], ...]
    """The tiles of each picture, as returned by `tiles_of`; a frame of a video is a picture."""
    passing: int = 0
    """Tokens at the end that open this answer only: the next turn's prompt does not repeat them."""
    videos: tuple[range, ...] = ()
    """For each video, its frames in `pictures`."""

    @property
    def shown(self) -> list[range]:
        """Each picture or video of the user, in order, as its numbers in `pictures`."""
        starts = {frames.start: frames for frames in self.videos}
        inner = {number for frames in self.videos for number in frames[1:]}
        ranges = (starts.get(i, range(i, i + 1)) for i in range(len(self.pictures)))
        return [numbers for numbers in ranges if numbers.start not in inner]

    @property
    def length(self) -> int:
        """Tokens and rows of tiles."""
        return sum(
            self.pictures[s.picture][s.tile].rows if isinstance(s, Slot) else len(s.ids)
            for s in self.segments
        )


def build_prompt(
    messages: str | Sequence[Mapping[str, Any]],
    images: Sequence[Any],
    tokenizer: Spells,
    template: PromptEntry,
    tiles_of: Callable[[Any], Sequence[T]],
    thinking: bool = False,
    frames_of: Callable[[Any], Sequence[Sequence[T]] | None] = lambda picture: None,
) -> Prompt:
    """Build the prompt for `messages`; `tiles_of` returns the tiles of one picture.

    `frames_of` returns the tiles of each frame if the picture is a video, else None.

    Raises InputError for malformed messages, MismatchError if the template lacks a tile role.
    """
    turns = read_turns(messages, images, tuple(template.roles), template.between, template.joint)
    if template.system and turns[0][0] != SYSTEM:
        turns = [(SYSTEM, [template.system]), *turns]
    placed = [p.picture for _, parts in turns for p in parts if isinstance(p, Placed)]
    shown = [_shown_item(picture, tiles_of, frames_of) for picture in placed]
    before = tokenizer.marker_ids(template.roles[ASSISTANT].before)
    last = tokenizer.marker_ids(opening(template, thinking))
    segments = _segments(turns, tokenizer, template, shown, last)
    pictures = tuple(tiles for item in shown for tiles in item.pictures)
    passing = len(last) - _common(before, last)
    return Prompt(tuple(segments), pictures, passing, tuple(_ranges(shown)))


@dataclass(frozen=True)
class _Item:
    """What the user shows at one place: a picture, or the frames of a video."""

    pictures: Sequence[Sequence[Any]]
    is_video: bool


def _shown_item(
    picture: Any,
    tiles_of: Callable[[Any], Sequence[T]],
    frames_of: Callable[[Any], Sequence[Sequence[T]] | None],
) -> _Item:
    frames = frames_of(picture)
    return _Item([tiles_of(picture)], False) if frames is None else _Item(frames, True)


def _ranges(items: Sequence[_Item]) -> Iterator[range]:
    """The frames of each video, by their numbers among all pictures."""
    start = 0
    for item in items:
        if item.is_video:
            yield range(start, start + len(item.pictures))
        start += len(item.pictures)


def opening(template: PromptEntry, thinking: bool) -> str:
    """The marker that opens an answer."""
    name = THINKING if thinking else PLAIN
    return template.answer.get(name, template.roles[ASSISTANT].before)


def marker_text(marker: str, picture: int) -> str:
    """A marker around a tile of this picture."""
    return marker.replace(PICTURE, str(picture))


def _common(a: Sequence[int], b: Sequence[int]) -> int:
    pairs = enumerate(zip(a, b, strict=False))
    return next((i for i, (x, y) in pairs if x != y), min(len(a), len(b)))


def _segments(
    turns: Sequence[Turn],
    tokenizer: Spells,
    template: PromptEntry,
    items: Sequence[_Item],
    last: Sequence[int],
) -> Iterator[Tokens | Slot]:
    ids = [tokenizer.token_id(template.bos)] if template.bos else []
    rest, picture, number = iter(items), 0, 0
    for role, parts in turns:
        around = template.roles[role]
        ids.extend(tokenizer.marker_ids(around.before))
        for part in _shown(role, parts, template):
            if isinstance(part, str):
                ids.extend(tokenizer.encode(part))
                continue
            item = next(rest)
            for frame, tiles in enumerate(item.pictures):
                ids.extend(tokenizer.encode(template.between_frames if frame else ""))
                for place, tile in enumerate(tiles):
                    before, after = _around(template, tile.role, number, item.is_video)
                    yield Tokens((*ids, *tokenizer.marker_ids(before)))
                    yield Slot(picture, place)
                    ids = [*tokenizer.marker_ids(after)]
                picture += 1
            number += not item.is_video  # frames have no numbers
        ids.extend(tokenizer.marker_ids(around.after))
    yield Tokens((*ids, *last))


def _around(template: PromptEntry, role: str, picture: int, is_frame: bool) -> tuple[str, str]:
    markers = template.frames if is_frame and template.frames else template.tiles
    if role not in markers:
        raise MismatchError(
            f"manifest.json: prompt.tiles has no role {role!r:.100}, which vision.slicing uses; "
            "compile the model again"
        )
    around = markers[role]
    return marker_text(around.before, picture), marker_text(around.after, picture)


def _shown(role: str, parts: Sequence[Part], template: PromptEntry) -> list[Part]:
    """The parts of a turn as the template shows them: trimmed, and without thoughts."""
    shown = list(parts)
    if template.is_trimmed:
        shown = _trimmed(shown)
    end = template.thoughts.after
    if role == ASSISTANT and end:
        shown = [_without_thoughts(p, end) if isinstance(p, str) else p for p in shown]
    return [part for part in shown if part != ""]


def _trimmed(parts: list[Part]) -> list[Part]:
    """Without white space at both ends of the turn; that next to a picture stays."""
    if parts and isinstance(parts[0], str):
        parts[0] = parts[0].lstrip()
    if parts and isinstance(parts[-1], str):
        parts[-1] = parts[-1].rstrip()
    return parts


def _without_thoughts(text: str, end: str) -> str:
    """What follows the last thoughts of an answer."""
    return text.split(end)[-1].lstrip("\n") if end in text else text

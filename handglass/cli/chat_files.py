"""`/save` and `/load` of `handglass chat`: a conversation to a file and back, with its cache."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from handglass.errors import HandglassError
from handglass.runtime.answer.kept_cache import keep_cache, put_cache
from handglass.runtime.answer.saved_conversation import (
    SavedConversation,
    SavedShown,
    SavedTurn,
    read_conversation,
)
from handglass.runtime.answer.saved_file import write_conversation
from handglass.runtime.prompt.messages import MARK, SYSTEM
from handglass.runtime.prompt.preprocess import Prepared, Tile
from handglass.runtime.prompt.video.reader import PreparedVideo

from .conversation import Conversation, Exchange, Shown, Totals
from .output import size_text

if TYPE_CHECKING:
    from handglass.runtime.answer.model import Model


def save(talk: Conversation, path: Path, bundle: str) -> str:
    """Write the conversation; returns what to tell the person."""
    turns = tuple(
        SavedTurn(e.question, e.answer, tuple(map(_saved, e.shown))) for e in talk.exchanges
    )
    saved = SavedConversation(
        bundle, talk.speaker.system, turns, tuple(map(_saved, talk.waiting)), keep_cache(talk.model)
    )
    size = write_conversation(path, saved, talk.model.manifest)
    return f"{path}: saved ({_extent(saved)}, {size_text(size)})"


def load(talk: Conversation, path: Path) -> str:
    """Replace the conversation by a kept one; returns what to tell the person.

    If anything is wrong with the file, the conversation stays as it is.
    """
    saved = read_conversation(path, talk.model.manifest)
    notes: list[str] = []
    exchanges = [_exchange(talk.model, turn, notes) for turn in saved.turns]
    waiting = [s for item in saved.waiting if (s := _shown(talk.model, item, notes))]
    talk.reset()
    talk.exchanges, talk.waiting, talk.totals = exchanges, waiting, Totals()
    notes += _with_system(talk, saved.system)
    if saved.cache is not None:
        put_cache(talk.model, saved.cache)
        notes.append(f"{len(saved.cache.keys)} positions need not be computed again")
    elif saved.turns:
        why = f"its cache is of another bundle ({saved.bundle}): " if saved.is_foreign else ""
        notes.append(f"{why}the next question computes it again")
    return "\n".join([f"{path}: loaded ({_extent(saved)})", *notes])


def _saved(shown: Shown) -> SavedShown:
    prepared = shown.prepared
    if isinstance(prepared, PreparedVideo):
        return SavedShown(shown.name, True, tuple(map(tuple, prepared.frames)))
    return SavedShown(shown.name, False, (prepared.tiles,), shown.original)


def _exchange(model: Model, turn: SavedTurn, notes: list[str]) -> Exchange:
    """What a turn showed takes the place of its mark; the mark of what cannot be shown goes."""
    texts, shown = turn.question.split(MARK), []
    question = texts[0]
    for text, item in zip(texts[1:], turn.shown, strict=True):
        found = _shown(model, item, notes)
        shown += [found] if found else []
        question += (MARK if found else "") + text
    return Exchange(question, turn.answer, tuple(shown))


def _shown(model: Model, item: SavedShown, notes: list[str]) -> Shown | None:
    vision = model.manifest.vision
    if item.tiles and vision is not None:
        if item.is_video:
            return Shown(item.name, PreparedVideo(item.tiles, vision))
        tiles = tuple(tile for tile in item.tiles[0] if isinstance(tile, Tile))
        return Shown(item.name, Prepared(tiles, vision), item.original)
    try:
        if item.original:
            return Shown(item.name, model.prepare(item.original), item.original)
        notes.append(f"{item.name}: left out, it was cut for another model; show it again")
    except HandglassError as error:
        notes.append(f"{item.name}: left out: {error}")
    return None


def _with_system(talk: Conversation, system: str | None) -> Iterator[str]:
    if system is None or SYSTEM in talk.model.manifest.prompt.roles:
        talk.instruct(system)
    else:
        talk.instruct(None)
        yield "its instructions are left out: this model has no system role"


def _extent(saved: SavedConversation) -> str:
    shown = sum(len(turn.shown) for turn in saved.turns) + len(saved.waiting)
    parts = [f"{len(saved.turns)} question{'' if len(saved.turns) == 1 else 's'}"]
    parts += [f"{shown} picture{'' if shown == 1 else 's'}"] if shown else []
    return ", ".join(parts)

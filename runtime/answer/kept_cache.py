"""What a model has computed of a conversation, taken out of it and put back later.

Until the next question the arrays are views of the model's memory where that is host memory, so
taking them costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..bundle.manifest import Manifest
from ..bundle.tensors import untouched_zeros
from ..engine.state_layout import part_of, part_shape, put_part
from ..engine.worker import Worker
from .conversations import Conversations
from .generate import Key
from .reuse import Copy


@dataclass(frozen=True)
class KeptCache:
    """The keys that a state holds, and of each state tensor the part that belongs to them."""

    keys: tuple[Key, ...]
    places: np.ndarray | None  # (len(keys), 3) int32, for a model that takes positions
    state: tuple[np.ndarray, ...]  # in manifest order
    copies: tuple[Copy, ...] = ()  # of a model that cannot rewind, shortest first
    is_broken: bool = False  # the recurrent state itself is unusable: a step was interrupted


class CacheSession(Protocol):
    """The part of a session whose state can be kept."""

    worker: Worker

    @property
    def cache(self) -> tuple[np.ndarray, ...]: ...
    @property
    def can_copy_positions(self) -> bool: ...
    def fill_cache(self, arrays: Any) -> None: ...


class CacheModel(Protocol):
    """The part of a model whose last conversation can be kept."""

    session: Any  # a CacheSession
    manifest: Manifest
    conversations: Conversations


def keep_cache(model: CacheModel) -> KeptCache | None:
    """The cache of the last conversation, after all that was queued; None if it is empty."""
    return model.session.worker.run(_kept, model)


def put_cache(model: CacheModel, kept: KeptCache) -> None:
    """Make this the cache of the last conversation. It was kept by a model of the same bundle."""
    model.session.worker.run(_put, model, kept)


def _kept(model: CacheModel) -> KeptCache | None:
    conversation = model.conversations.latest
    conversation.use()
    if not conversation.history:
        return None
    places = np.asarray(conversation.places, np.int32) if conversation.places else None
    entry, count = model.manifest.state, len(conversation.history)
    shapes = (part_shape(tensor, entry.context, count) for tensor in entry.tensors)
    reuse = conversation.reuse
    return KeptCache(
        tuple(conversation.history),
        places,
        tuple(part_of(a, s) for a, s in zip(model.session.cache, shapes, strict=True)),
        tuple(reuse.copies),
        reuse.is_broken and not model.session.is_rewindable,
    )


def _put(model: CacheModel, kept: KeptCache) -> None:
    conversation = model.conversations.latest
    conversation.use()
    conversation.forget()  # first: what follows may be interrupted
    _fill(model.session, model.manifest, kept.state)
    reuse = conversation.reuse
    reuse.copies = list(kept.copies)
    reuse.is_broken = kept.is_broken
    conversation.history = list(kept.keys)
    if kept.places is not None:
        conversation.places = [(t, h, w) for t, h, w in kept.places.tolist()]


def _fill(session: CacheSession, manifest: Manifest, parts: tuple[np.ndarray, ...]) -> None:
    if session.can_copy_positions:
        for array, part in zip(session.cache, parts, strict=True):
            put_part(array, part)
        return
    whole = [
        untouched_zeros(t.shape, p.dtype)
        for t, p in zip(manifest.state.tensors, parts, strict=True)
    ]
    for array, part in zip(whole, parts, strict=True):
        part_of(array, part.shape)[...] = part
    session.fill_cache(whole)

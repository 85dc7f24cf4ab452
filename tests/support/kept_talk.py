"""A kept conversation with all that one can hold: pictures, a video, a state of each kind."""

import dataclasses
from typing import Any

import numpy as np
from manifests import square
from scripted_model import MANIFEST

from handglass.runtime.answer.generate import Key
from handglass.runtime.answer.kept_cache import KeptCache
from handglass.runtime.answer.reuse import Copy
from handglass.runtime.answer.saved_conversation import SavedConversation, SavedShown, SavedTurn
from handglass.runtime.bundle.entries import (
    RECURRENT,
    FileEntry,
    StateEntry,
    StateTensor,
    VisionEntry,
)
from handglass.runtime.prompt.messages import MARK
from handglass.runtime.prompt.preprocess import Preprocessor
from handglass.runtime.prompt.video.groups import FrameGroup

VISION: VisionEntry = square(28, 14, 4, 2)
STATE = StateEntry(
    64,
    (
        StateTensor("k", (2, 4, 8, 16), "float16"),
        StateTensor("v", (2, 64, 8), "float16"),
        StateTensor("memory", (3, 5), "float32", RECURRENT),
    ),
)
HERE = dataclasses.replace(MANIFEST, state=STATE, files={"lib.so": FileEntry("0" * 64, 1)})
A, B = "a" * 64, "b" * 64
KEYS: tuple[Key, ...] = (1, 2, 3, *((A, row) for row in range(4)), 4, (B, 7), (B, 9), 5)


def random(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    return (np.random.default_rng(7).normal(size=shape) * 9).astype(dtype)


def kept() -> KeptCache:
    k, v, memory = random((2, 4, 8, 16), np.float16), random((2, 64, 8), np.float16), (3, 5)
    state = (k[:, :1], v[:, : len(KEYS)], random(memory, np.float32))
    logits = random((MANIFEST.vocab_size,), np.float32)
    copies = tuple(Copy(n, (random(memory, np.float32) + n,), logits + n) for n in (4, 9))
    places = np.arange(len(KEYS) * 3, dtype=np.int32).reshape(-1, 3)
    return KeptCache(KEYS, places, state, copies, is_broken=True)


def talk() -> SavedConversation:
    cut = Preprocessor(VISION)
    tiles = [tuple(cut.tiles(random((20, 30 + n, 3), np.uint8))) for n in range(3)]
    group = FrameGroup((tiles[1][0], tiles[2][0]), (0, 12))
    picture = SavedShown("a 圆.png", False, (tiles[0],), b"the file")
    video = SavedShown("clip.mp4", True, ((group,), tiles[1]))
    turns = (
        SavedTurn(f"{MARK}{MARK}what? 🙂", "Red\n\x1b[2J", (picture, video)),
        SavedTurn("", ""),
    )
    return SavedConversation("demo", "Be brief.", turns, (picture,), kept())

"""The compiled functions of a bundle with their parameters and state: arrays in, arrays out.

The placement (placement.py) decides where tensors live. Text and sampling are handled elsewhere.
Every call checks shapes and the end of the cache, because the compiled code does not: a write past
the context would silently corrupt memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from handglass.errors import InputError

from ..bundle.entries import AXES, POSITIONS
from ..bundle.reader import Bundle
from ..bundle.requirements import check_answers
from ..bundle.tensors import aligned_empty
from .checks import check_array, check_bounds, check_id, check_ids, check_positions, check_rows
from .state import State
from .step_arguments import StepArguments
from .vision import SHOW, VisionFunctions
from .worker import in_worker


class Session(VisionFunctions):
    """One model in memory, with a state that each conversation may have of its own.

    Calls may come from any thread; the session's own thread runs them one after the other.
    Arguments of a wrong shape, dtype or range raise InputError.
    """

    def __init__(
        self, bundle: Bundle, threads: int | None = None, device: str | None = None
    ) -> None:
        check_answers(bundle.manifest, bundle.path)
        super().__init__(bundle, threads, device)
        self._state = self.new_state()
        self._step = StepArguments(self._place)
        self._logits = aligned_empty((self.vocab_size,), np.float32)  # of every decode step

    @property
    def context(self) -> int:
        return self.manifest.state.context

    @property
    def vocab_size(self) -> int:
        return self.manifest.vocab_size

    @in_worker
    def embed(self, ids: Sequence[int]) -> np.ndarray:
        """Embeddings of token ids, (len(ids), hidden_size) float32."""
        known = self.vocab_size + self.manifest.extra_tokens
        result = self._call("embed", check_ids(ids, known), self._params)
        return self._result("embed", result, (len(ids), self.manifest.hidden_size))

    @in_worker
    def prefill(
        self, x: np.ndarray, pos: int, positions: np.ndarray | None = None, seen: int = 0
    ) -> np.ndarray:
        """Append rows x (s, hidden_size) float32 at position `pos`.

        `positions` (s, 3) int32: the rotary positions, if the bundle takes them; None: those of
        text, equal to the place in the cache. `seen`: how many of the rows of pictures that `show`
        has kept these rows see. Returns the logits of the last row, (vocab_size,)
        float32. Raises InputError if the rows or a position do not fit the context.
        """
        check_array("x", x, (len(x), self.manifest.hidden_size), np.float32)
        check_bounds(pos, len(x), self.context)
        placed = self._placed("prefill", positions, pos, len(x))
        shape = self._ffi.Shape((pos,))
        name, rows = self._seeing("prefill", seen)
        result = self._call(name, x, *placed, shape, *rows, self._state.cache, self._params)
        return self._result("prefill", result, (self.vocab_size,))

    @in_worker
    def decode(
        self, token: int, pos: int, position: int | None = None, seen: int = 0
    ) -> np.ndarray:
        """Append one token at position `pos`; returns the next logits, (vocab_size,) float32.

        `position`: the rotary position of the token, if the bundle takes one; None: `pos`. `seen`:
        see `prefill`. Every call returns the same array: the next call overwrites it.
        """
        check_bounds(pos, 1, self.context)
        given = self._step.token(check_id(token, self.vocab_size))
        placed = self._placed_token(pos if position is None else position, position is not None)
        shape = self._ffi.Shape((pos,))
        name, rows = self._seeing("decode", seen)
        arguments = (given, *placed, shape, *rows, self._state.cache, self._params)
        with self._state.decoding:
            result = self._call(name, *arguments)
        np.copyto(self._logits, self._view("decode", result, (self.vocab_size,)))
        return self._logits

    @in_worker
    def show(self, rows: np.ndarray, first: int = 0) -> None:
        """Keep what the text needs of rows (m, hidden_size) float32 of pictures, from place `first`
        on. Raises InputError if they do not fit the state, or the model has no such function."""
        check_array("rows", rows, (len(rows), self.manifest.hidden_size), np.float32)
        check_rows(first, len(rows), self.picture_rows)
        self._call(SHOW, rows, self._ffi.Shape((first,)), self._state.cache, self._params)

    @property
    def picture_rows(self) -> int:
        """The most rows of pictures that text can see."""
        return self.manifest.state.picture_rows

    def _seeing(self, name: str, seen: int) -> tuple[str, tuple[Any, ...]]:
        """The function of a step, and its argument `seen`."""
        if not seen:
            return name, ()
        check_rows(0, seen, self.picture_rows)
        return f"{name}_seeing", (self._ffi.Shape((seen,)),)

    def _placed(
        self, name: str, positions: np.ndarray | None, pos: int, s: int
    ) -> tuple[np.ndarray, ...]:
        """The argument `positions`, if the function has one; compiled code does not check it."""
        if not self._takes_positions(name):
            if positions is not None:
                raise InputError(f"{self._path}: {name} of this bundle takes no positions")
            return ()
        if positions is None:
            return (np.repeat(np.arange(pos, pos + s, dtype=np.int32)[:, None], AXES, axis=1),)
        check_positions(positions, s, self.context)
        return (positions,)

    def _takes_positions(self, name: str) -> bool:
        entry = self.manifest.functions.get(name)
        return entry is not None and entry.takes(POSITIONS)

    def _placed_token(self, position: int, is_given: bool) -> tuple[Any, ...]:
        """The argument `positions` of decode, if it has one."""
        if not is_given and not self._takes_positions("decode"):
            return ()
        self._placed("decode", np.full((1, AXES), position, np.int32), position, 1)
        return (self._step.position(position),)

    @in_worker
    def new_state(self) -> State:
        """The state of another conversation, which `use` makes the current one."""
        return State(self.manifest.state, self._place)

    @property
    def state(self) -> State:
        """The state that every step reads and updates."""
        return self._state

    def use(self, state: State) -> None:
        """Make this the state of the following steps."""
        self._state = state

    @in_worker
    def copy_positions(self, source: State, count: int) -> None:
        """Copy the first `count` positions of another state into the current one.

        Recurrent tensors stay as they are. Only where `can_copy_positions`.
        """
        self._state.copy_positions(source, count)

    @property
    def can_copy_positions(self) -> bool:
        """Whether states are in memory that this process can copy."""
        return not self._place.copies

    @property
    def cache(self) -> tuple[np.ndarray, ...]:
        """The state tensors in manifest order: views on the CPU, copies from a GPU."""
        return self._state.views()

    @in_worker
    def fill_cache(self, arrays: Iterable[np.ndarray]) -> None:
        """Replace the contents of the state tensors, in manifest order."""
        self._state.fill(arrays)

    @property
    def is_rewindable(self) -> bool:
        """Whether a step may begin at any earlier position. If not, it must begin at the current
        position or after `restore_state`."""
        return self.manifest.state.is_rewindable

    @in_worker
    def save_state(self) -> tuple[np.ndarray, ...]:
        """A copy of the recurrent state tensors."""
        return self._state.save()

    @in_worker
    def restore_state(self, state: Sequence[np.ndarray] | None) -> None:
        """Restore the state that `save_state` returned; None restores the initial zeros."""
        self._state.restore(state)

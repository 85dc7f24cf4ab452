"""The compiled functions of a bundle with their parameters and state: arrays in, arrays out.

The placement (placement.py) decides where tensors live. Text and sampling are handled elsewhere.
Every call checks shapes and the end of the cache, because the compiled code does not: a write past
the context would silently corrupt memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from handglass.errors import InputError, MismatchError

from ..bundle.entries import AXES, POSITIONS, VisionEntry
from ..bundle.reader import Bundle
from ..bundle.tensors import aligned_empty
from ..execution.clocks import Clock
from ..execution.thread_pool import POOL
from ..execution.tvm_runtime import import_tvm_ffi
from .checks import check_array, check_bounds, check_id, check_ids, check_positions
from .instrument import instrumented
from .library import load_library
from .parameters import place_params
from .state import State
from .step_arguments import StepArguments
from .worker import HasWorker, Worker, in_worker

Frame = tuple[np.ndarray, np.ndarray, np.ndarray]
"""strip, position_ids and grid of one tile."""


class Session(HasWorker):
    """One model in memory, with the state of one conversation.

    Calls may come from any thread; the session's own thread runs them one after the other.

    The bundle determines its capabilities: `has("encode_image")`. Calling a function that the
    bundle lacks raises MismatchError; arguments of a wrong shape, dtype or range raise InputError.
    """

    def __init__(
        self, bundle: Bundle, threads: int | None = None, device: str | None = None
    ) -> None:
        """`threads`: threads that run the compiled code; None: `default_threads`. `device`: a value
        of --device; None: the first device of the bundle's kind."""
        self.worker = Worker()
        self.manifest = bundle.manifest
        loaded = load_library(bundle, threads, device)
        self._machine, self._place, self.threads, self.device = loaded
        self._ffi = import_tvm_ffi()
        self._path = bundle.path
        self._functions = {name: self.function(name) for name in self.manifest.functions}
        self._params = self._ffi.convert(place_params(bundle, self._place))
        self._state = State(bundle.manifest.state.tensors, self._place)
        self._cache = self._ffi.convert(self._state.tensors)
        self._step = StepArguments(self._place)
        self._logits = aligned_empty((self.vocab_size,), np.float32)  # of every decode step
        self._decoding = self._place.repeated()

    @property
    def context(self) -> int:
        return self.manifest.state.context

    @property
    def vocab_size(self) -> int:
        return self.manifest.vocab_size

    def has(self, capability: str) -> bool:
        """Whether the bundle exports a function of this name."""
        return capability in self.manifest.functions

    @in_worker
    def encode_image(
        self, strip: np.ndarray, position_ids: np.ndarray, grid: np.ndarray
    ) -> np.ndarray:
        """Encode one tile of n patches of p x p pixels into rows of the language model.

        strip (3, p, p * n) float32, position_ids (n,) int32, grid (n, 2) int32
        -> (rows, hidden_size) float32. Raises InputError for other shapes or dtypes.
        """
        rows = self._check_picture(strip, position_ids)
        check_array("grid", grid, (len(position_ids), 2), np.int32)
        result = self._call("encode_image", strip, position_ids, grid, self._params)
        return self._result("encode_image", result, (rows, self.manifest.hidden_size))

    @in_worker
    def encode_vision(self, strip: np.ndarray, position_ids: np.ndarray) -> np.ndarray:
        """The vision tower of `encode_image` alone, for verification.

        strip (3, p, p * n) float32, position_ids (n,) int32 -> (n, vision hidden) float32.
        """
        self._check_picture(strip, position_ids)
        result = self._call("encode_vision", strip, position_ids, self._params)
        return self._result("encode_vision", result, (len(position_ids), result.shape[1]))

    @in_worker
    def resample(self, features: np.ndarray, grid: np.ndarray) -> np.ndarray:
        """The resampler of `encode_image` alone, for verification.

        features (n, vision hidden) float32, grid (n, 2) int32 -> (rows, hidden_size) float32.
        """
        rows = self._vision.rows(len(grid))
        check_array("features", features, (len(grid), features.shape[-1]), np.float32)
        check_array("grid", grid, (len(grid), 2), np.int32)
        result = self._call("resample", features, grid, self._params)
        return self._result("resample", result, (rows, self.manifest.hidden_size))

    @in_worker
    def encode_frames(self, frames: Sequence[Frame], times: Sequence[int]) -> np.ndarray:
        """Encode a group of video frames together into rows of the language model.

        `frames`: the arguments of `encode_image` for each; `times`: when each is shown, in the unit
        of the manifest's vision.video. -> (rows, hidden_size) float32. The vision tower encodes one
        frame at a time. Raises InputError for other shapes, or for not one time per frame.
        """
        if not frames or len(frames) != len(times):
            raise InputError(f"{len(frames)} frames with {len(times)} times: give each frame one")
        features = [self.encode_vision(strip, ids) for strip, ids, _ in frames]
        for (_, _, grid), rows in zip(frames, features, strict=True):
            check_array("grid", grid, (len(rows), 2), np.int32)
        grids = [grid for _, _, grid in frames]
        return self.resample_frames(np.concatenate(features), grids, times)

    @in_worker
    def resample_frames(
        self, features: np.ndarray, grids: Sequence[np.ndarray], times: Sequence[int]
    ) -> np.ndarray:
        """The resampler of `encode_frames` alone.

        features (n, vision hidden) float32 of one frame after the other, for each its grid
        (rows, 2) int32 and its time -> (rows, hidden_size) float32.
        """
        counts, grid = [len(grid) for grid in grids], np.concatenate(grids)
        check_array("features", features, (len(grid), features.shape[-1]), np.float32)
        check_array("grid", grid, (len(grid), 2), np.int32)
        shown = np.repeat(np.asarray(times, np.int32), counts)
        result = self._call("resample_frames", features, grid, shown, self._params)
        rows = self._vision.rows(max(counts))
        return self._result("resample_frames", result, (rows, self.manifest.hidden_size))

    @in_worker
    def embed(self, ids: Sequence[int]) -> np.ndarray:
        """Embeddings of token ids, (len(ids), hidden_size) float32."""
        result = self._call("embed", check_ids(ids, self.vocab_size), self._params)
        return self._result("embed", result, (len(ids), self.manifest.hidden_size))

    @property
    def on_gpu(self) -> bool:
        """Whether the model runs on a device with its own memory."""
        return self._place.copies

    @in_worker
    def prefill(self, x: np.ndarray, pos: int, positions: np.ndarray | None = None) -> np.ndarray:
        """Append rows x (s, hidden_size) float32 at position `pos`.

        `positions` (s, 3) int32: the rotary positions, if the bundle takes them; None: those of
        text, equal to the place in the cache. Returns the logits of the last row, (vocab_size,)
        float32. Raises InputError if the rows or a position do not fit the context.
        """
        check_array("x", x, (len(x), self.manifest.hidden_size), np.float32)
        check_bounds(pos, len(x), self.context)
        placed = self._placed("prefill", positions, pos, len(x))
        shape = self._ffi.Shape((pos,))
        result = self._call("prefill", x, *placed, shape, self._cache, self._params)
        return self._result("prefill", result, (self.vocab_size,))

    @in_worker
    def decode(self, token: int, pos: int, position: int | None = None) -> np.ndarray:
        """Append one token at position `pos`; returns the next logits, (vocab_size,) float32.

        `position`: the rotary position of the token, if the bundle takes one; None: `pos`.
        Every call returns the same array: the next call overwrites it.
        """
        check_bounds(pos, 1, self.context)
        given = self._step.token(check_id(token, self.vocab_size))
        placed = self._placed_token(pos if position is None else position, position is not None)
        shape = self._ffi.Shape((pos,))
        arguments = (given, *placed, shape, self._cache, self._params)
        with self._decoding:
            result = self._call("decode", *arguments)
        np.copyto(self._logits, self._view("decode", result, (self.vocab_size,)))
        return self._logits

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

    @in_worker
    def put(self, array: np.ndarray) -> Any:
        """Copy the array to the device, for several calls of `run`."""
        return self._place.put(array)

    def device_peak(self) -> int | None:
        """Peak bytes of GPU memory held by this process; None on the CPU."""
        return self._place.peak_bytes()

    def clock(self) -> Clock:
        """A clock for kernel times: on a GPU, calls return before their kernels have run."""
        return self._place.clock()

    def function(self, name: str) -> Any:
        """A function of the library. Raises MismatchError if the library lacks it."""
        try:
            return self._machine[name]
        except AttributeError as error:
            raise MismatchError(f"{self._path}: the library has no function {name!r}") from error

    @in_worker
    def run(self, name: str, *arguments: Any) -> np.ndarray:
        """Call a function that returns one array; arguments are arrays, results of `put`, or
        shapes as tuples."""
        ready = [self._ffi.Shape(a) if isinstance(a, tuple) else a for a in arguments]
        view = self._place.view(self._call(name, *ready))
        return view if self._place.copies else np.array(view)

    @in_worker
    def seconds(self, name: str, *arguments: Any) -> float:
        """Seconds that such a call takes on its device; on a GPU, without launch and readback."""
        clock = self.clock()
        start = clock.now()
        self._call(name, *arguments)
        return clock.seconds([(start, clock.now())])[0]

    def observed(
        self, before: Callable[[str, Sequence[Any]], None], after: Callable[[str], None]
    ) -> AbstractContextManager[None]:
        """Instrument every call of the virtual machine: before(name, arguments), then after(name).

        Names are those of kernels or of the virtual machine's builtins (vm.builtin. ...).
        """
        return instrumented(self._machine, self._ffi.convert, before, after)

    @property
    def _vision(self) -> VisionEntry:
        if self.manifest.vision is None:
            raise MismatchError(f"{self._path}: the bundle has no vision model")
        return self.manifest.vision

    def _check_picture(self, strip: np.ndarray, position_ids: np.ndarray) -> int:
        """Check a tile; returns the number of embedding rows it produces."""
        p, n = self._vision.patch_size, len(position_ids)
        check_array("strip", strip, (3, p, p * n), np.float32)
        check_array("position_ids", position_ids, (n,), np.int32)
        return self._vision.rows(n)

    def _call(self, name: str, *arguments: Any) -> Any:
        ready = (self._place.put(a) if isinstance(a, np.ndarray) else a for a in arguments)
        # Functions for verification are not in the manifest and are looked up on demand.
        function = self._functions.get(name) or self.function(name)
        if POOL.threads != self.threads:  # another session has another number
            POOL.threads = self.threads
        try:
            return function(*ready)
        except RuntimeError as error:
            raise self._place.translate_error(error) from error

    def _result(self, name: str, result: Any, shape: tuple[int, ...]) -> np.ndarray:
        """A copy: the memory of the tensor is freed after the call."""
        view = self._view(name, result, shape)
        return view if self._place.copies else np.array(view)

    def _view(self, name: str, result: Any, shape: tuple[int, ...]) -> np.ndarray:
        array = self._place.view(result)
        if array.shape != shape or array.dtype != np.float32:
            raise MismatchError(
                f"{name} returned {array.dtype} {array.shape}, the manifest says float32 {shape}"
            )
        return array

"""Calls the compiled functions of a bundle, in the session's own thread.

The placement (placement.py) decides where tensors live. Compiled code does not check its arguments:
whoever calls must.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from handglass.errors import MismatchError

from ..bundle.reader import Bundle
from ..execution.clocks import Clock
from ..execution.thread_pool import POOL
from ..execution.tvm_runtime import import_tvm_ffi
from .instrument import instrumented
from .library import load_library
from .parameters import place_params
from .worker import HasWorker, Worker, in_worker


class CompiledFunctions(HasWorker):
    """The functions of one library with their parameters.

    The bundle determines its capabilities: `has("encode_image")`. Calling a function that the
    bundle lacks raises MismatchError.
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

    def has(self, capability: str) -> bool:
        """Whether the bundle exports a function of this name."""
        return capability in self.manifest.functions

    @property
    def on_gpu(self) -> bool:
        """Whether the model runs on a device with its own memory."""
        return self._place.copies

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

    def parameter_addresses(self) -> dict[int, str]:
        """The address of each parameter, as an observer of calls sees it, and its name."""
        entries = zip(self._params, self.manifest.params, strict=True)
        return {tensor.data_ptr(): entry.name for tensor, entry in entries}

    def observed(
        self, before: Callable[[str, Sequence[Any]], None], after: Callable[[str], None]
    ) -> AbstractContextManager[None]:
        """Instrument every call of the virtual machine: before(name, arguments), then after(name).

        Names are those of kernels or of the virtual machine's builtins (vm.builtin. ...).
        """
        return instrumented(self._machine, self._ffi.convert, before, after)

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

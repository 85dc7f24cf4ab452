"""An imported graph in memory: arrays in, arrays out, by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from handglass.errors import InputError, MismatchError

from ..bundle.entries import GraphEntry, TensorEntry
from ..bundle.reader import Bundle
from ..bundle.tensors import storage_dtype
from .calls import CompiledFunctions
from .worker import in_worker

VERIFY_VARIABLE = "HANDGLASS_VERIFY"
ENCODE = "encode"


class GraphSession(CompiledFunctions):
    """Calls may come from any thread; they run one after the other."""

    def __init__(
        self, bundle: Bundle, threads: int | None = None, device: str | None = None
    ) -> None:
        """See CompiledFunctions. Raises InputError for a bundle of another kind of model."""
        if bundle.manifest.graph is None:
            raise InputError(
                f"{bundle.path}: {bundle.manifest.model.name} is no imported graph; arrays by name "
                "go into bundles that were compiled from an ONNX file"
            )
        self.graph: GraphEntry = bundle.manifest.graph
        super().__init__(bundle, threads, device)

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], threads: int | None = None, device: str | None = None
    ) -> GraphSession:
        """Check and open a bundle; `threads` and `device` are those of the command line."""
        bundle = Bundle.open(path, os.environ.get(VERIFY_VARIABLE) or "remembered")
        return cls(bundle, threads, device)

    @in_worker
    def apply(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The outputs by name. Raises InputError for arrays of other names, shapes or types."""
        names = {entry.name for entry in self.graph.inputs}
        if unknown := sorted(inputs.keys() - names):
            known = ", ".join(sorted(names))
            raise InputError(f"{unknown[0][:100]!r} is no input of this graph; it has {known:.300}")
        given = [_checked(entry, inputs.get(entry.name)) for entry in self.graph.inputs]
        result = self._call(ENCODE, *given, self._params)
        entries = self.graph.outputs
        fields = [result] if len(entries) == 1 else [result[i] for i in range(len(entries))]
        pairs = zip(entries, fields, strict=True)
        return {entry.name: self._array(entry, field) for entry, field in pairs}

    def _array(self, entry: TensorEntry, field: Any) -> np.ndarray:
        array = self._place.view(field)
        if array.shape != entry.shape or array.dtype != storage_dtype(entry.dtype):
            raise MismatchError(
                f"{ENCODE} returned {array.dtype} {array.shape} for {entry.name[:100]!r}, the "
                f"manifest says {entry.dtype} {entry.shape}"
            )
        return np.array(array)  # a copy: the memory of the result is used again by the next call


def _checked(entry: TensorEntry, array: np.ndarray | None) -> np.ndarray:
    """The array as compiled code takes it. Whole numbers of another width are converted: those that
    do not fit become the nearest that does, as places beyond a table become its last one."""
    wanted = storage_dtype(entry.dtype)
    if array is None:
        raise InputError(f"the input {entry.name[:100]!r} is missing: {entry.dtype} {entry.shape}")
    if array.shape != entry.shape or not np.can_cast(array.dtype, wanted, "same_kind"):
        raise InputError(
            f"the input {entry.name[:100]!r} is {array.dtype} {array.shape}, expected "
            f"{entry.dtype} {entry.shape}"
        )
    if array.dtype.kind == wanted.kind == "i" and array.dtype.itemsize > wanted.itemsize:
        array = np.clip(array, np.iinfo(wanted).min, np.iinfo(wanted).max)
    return np.ascontiguousarray(array, wanted)

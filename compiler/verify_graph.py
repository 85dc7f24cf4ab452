"""The stages of an imported graph: each of its outputs, beside onnxruntime's.

onnxruntime runs the file twice: as it is, and with every weight that the bundle stores in a scheme
replaced by what is stored. The second run tells a fault from what the scheme has lost.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from handglass.errors import DeviceError, InputError, MismatchError
from handglass.runtime.bundle.entries import TensorEntry
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.engine.graph import GraphSession

from .graphs.graph import Graph, array_of, shape_of
from .graphs.importing import imported
from .graphs.onnx_file import import_onnx, read_onnx
from .graphs.onnx_folding import fold
from .graphs.patches_pattern import PatchesMatch
from .graphs.patterns import LinearMatch
from .graphs.recognition import recognise
from .parity.ratios import Ratio, Stage, compared, judge
from .schemes.quantize import find_scheme
from .schemes.scheme import Scheme
from .verify_subject import Progress, units_of

TRIALS = 3
"""Random inputs that are compared."""
Arrays = dict[str, np.ndarray]


def verify_graph(
    bundle: Bundle, model: Path, device: str | None, progress: Progress
) -> list[Stage]:
    """Compare on random inputs: normal numbers, and ids and masks of zeros and ones.

    Raises MismatchError for a file with other inputs or outputs, and DeviceError without
    onnxruntime.
    """
    session, manifest = GraphSession(bundle, device=device), bundle.manifest
    scheme = find_scheme(manifest.scheme["language"], units_of(manifest))
    shapes = {entry.name: entry.shape for entry in session.graph.inputs}
    proto = _opened(model, shapes)
    exact = _Reference(proto)
    kept = _Reference(_with_stored_weights(model, proto, scheme))
    exact.check(bundle.path, session)
    found: list[dict[str, Ratio]] = []
    for trial in range(TRIALS):
        progress("compare", trial, TRIALS)
        given = random_inputs(session.graph.inputs, trial)
        ours, truth, stored = session.apply(given), exact.run(given), kept.run(given)
        found.append({name: compared(truth[name], stored[name], ours[name]) for name in ours})
    floor = scheme.floor_db if scheme.codes else scheme.arithmetic_db
    return [
        judge(entry.name, [ratios[entry.name] for ratios in found], scheme.floor_db, floor)
        for entry in session.graph.outputs
    ]


def random_inputs(entries: Sequence[TensorEntry], seed: int) -> Arrays:
    """Normal numbers; whole numbers are 0 or 1, which every table has, and the first one is 1, so
    that a mask leaves something."""
    generator = np.random.default_rng(seed)
    return {entry.name: _random(generator, entry) for entry in entries}


def _random(generator: np.random.Generator, entry: TensorEntry) -> np.ndarray:
    if entry.dtype.startswith("float"):
        return generator.standard_normal(entry.shape).astype(entry.dtype)
    numbers = generator.integers(0, 2, entry.shape)
    numbers[..., :1] = 1
    return numbers.astype(entry.dtype)


def _opened(model: Path, shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """The folded graph, by whose constants the weights are found."""
    proto = read_onnx(model, shapes)
    fold(model, proto)
    return proto


class _Reference:
    """onnxruntime with one graph."""

    def __init__(self, proto: Any) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise DeviceError(
                "verify compares a graph with onnxruntime: pip install onnxruntime"
            ) from error
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            problem = str(error).strip().partition("\n")[0][:300]
            raise InputError(f"onnxruntime cannot load the ONNX file: {problem}") from error

    def check(self, path: Path, session: GraphSession) -> None:
        """Raise MismatchError unless both take and give arrays of the same names."""
        theirs = [[v.name for v in self._session.get_inputs()], self._names()]
        ours = [[e.name for e in es] for es in (session.graph.inputs, session.graph.outputs)]
        if theirs != ours:
            raise MismatchError(
                f"{path}: its inputs and outputs differ from those of the ONNX file; pass the file "
                "that it was compiled from"
            )

    def run(self, given: Arrays) -> Arrays:
        """The results; whole numbers may be narrower than those of the file."""
        wide = {v.name for v in self._session.get_inputs() if v.type == "tensor(int64)"}
        widened = {n: a.astype(np.int64) if n in wide else a for n, a in given.items()}
        return dict(zip(self._names(), self._session.run(None, widened), strict=True))

    def _names(self) -> list[str]:
        return [value.name for value in self._session.get_outputs()]


def _with_stored_weights(model: Path, proto: Any, scheme: Scheme) -> Any:
    """A copy of the graph with the weights of recognised matmuls as the bundle stores them."""
    onnx = import_onnx()
    graph = Graph(imported(model, proto))
    stored = _stored_weights(graph, scheme)
    changed = type(proto)()
    changed.CopyFrom(proto)
    for tensor in changed.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        for turned in (values, values.T) if values.ndim == 2 else (values,):
            if (rows := stored.get(_key(turned))) is not None:
                kept = rows if turned is values else rows.T
                tensor.CopyFrom(
                    onnx.numpy_helper.from_array(np.ascontiguousarray(kept), tensor.name)
                )
                break
    return changed


def _stored_weights(graph: Graph, scheme: Scheme) -> dict[bytes, np.ndarray]:
    """The content of each weight -> the weight as stored, in the same shape."""
    found = {}
    recognised = recognise(graph)
    for match in recognised.matches.values():
        if isinstance(match, LinearMatch):
            rows = _rounded(scheme, array_of(match.weight).T).T
        elif isinstance(match, PatchesMatch):
            shape = shape_of(match.weight)
            rows = _rounded(scheme, array_of(match.weight).reshape(shape[0], -1)).reshape(shape)
        else:
            continue
        found[_key(array_of(match.weight))] = rows
    return found


def _rounded(scheme: Scheme, rows: np.ndarray) -> np.ndarray:
    """float32 rows (n, k) -> the rows as stored."""
    rows = np.ascontiguousarray(rows)
    return scheme.unpack(scheme.pack(rows), *rows.shape)


def _key(values: np.ndarray) -> bytes:
    """A hash of shape and content."""
    content = np.ascontiguousarray(values).tobytes()
    return hashlib.sha256(str(values.shape).encode() + content).digest()

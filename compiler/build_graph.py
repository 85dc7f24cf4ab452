"""Compiles a user's own exported graph: an ONNX file in, a bundle out.

import the graph -> recognise our operators -> lower and schedule -> pack the weights -> generate
code -> write the manifest
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tvm

import handglass
from handglass.errors import HandglassError, InputError
from handglass.runtime.bundle.entries import (
    GraphEntry,
    ModelEntry,
    PromptEntry,
    StateEntry,
    TensorEntry,
)
from handglass.runtime.bundle.manifest import Manifest
from handglass.runtime.bundle.reader import LIBRARY, REPORT, RUNTIME_LIBRARY
from handglass.runtime.bundle.writer import BundleWriter
from handglass.runtime.system.tilde import check_expanded
from handglass.schedules import GRAPH_RULES
from handglass.schedules.select import find_units
from handglass.targets import find_target
from handglass.targets.codegen.kinds import plugin_for, prepare_compiler
from handglass.targets.codegen.used import what_is_used
from handglass.targets.target import Target

from .build import (
    Clock,
    answers_of,
    find_runtime_library,
    generate,
    load_tuning_records,
    only_used,
    report_text,
)
from .graphs.graph import Graph, shape_of
from .graphs.importing import import_graph
from .graphs.narrow_integers import narrowed
from .graphs.network import ENCODE, GraphNetwork
from .graphs.onnx_sizes import parse_shapes
from .graphs.recognition import Coverage, Recognised, attends_to_all, cover, recognise
from .lowering.phases import Progress, lower
from .lowering.workload import Part
from .models.storage import FLOAT32, units_in_float32
from .packing.describe import target_entry
from .packing.pack import entries, pack_parameters
from .plan import check_memory
from .records.apply import reason_of
from .records.coverage import coverage
from .records.summary import summarize
from .records.this_device import this_device
from .schemes.quantize import find_scheme
from .schemes.scheme import Scheme

ARCHITECTURE = "ONNX"
SUFFIX = ".onnx"


@dataclass(frozen=True)
class GraphReport:
    """The result of compiling a graph."""

    phases: dict[str, float]
    """Seconds per phase."""
    bundle_bytes: int
    schedules: list[tuple[str, str, int]]
    """(function, rule that scheduled it, number of call sites)."""
    records: dict[str, Any]
    graph: dict[str, Any]
    """What was recognised, and what runs on default schedules (graphs/recognition.py)."""


def compile_graph(
    model: str | Path,
    output: str | Path,
    *,
    shapes: Sequence[str] = (),
    target: str = "host",
    quantization: str = "f32",
    attention: str | None = None,
    dump_ir: str | Path | None = None,
    overwrite: bool = False,
    bundle_runtime: bool = True,
    records: Sequence[Path] = (),
    use_records: bool = True,
    progress: Progress | None = None,
) -> GraphReport:
    """Compile the ONNX file `model` for `target` into the bundle folder `output`.

    `shapes` ("name=1,3,224,224") are the sizes of inputs whose file has names in place of numbers.
    `attention`: "f32" declines integers in attention to all positions.
    Raises as `compile_model`, and DeviceError if the package onnx is missing.
    """
    if dump_ir:
        check_expanded(dump_ir)
    device = find_target(target)
    prepare_compiler(device)
    if device.gpu is None:
        device = replace(device, load_rules=lambda: GRAPH_RULES)
    scheme = scheme_for(device, quantization)
    book = load_tuning_records(device, records, use_records)
    clock = Clock()
    with BundleWriter(Path(output), overwrite=overwrite) as writer:
        with clock.phase("import"):
            function, proto = import_graph(Path(model), parse_shapes(shapes))
            if device.gpu is not None:
                with blamed_on(model):
                    function = narrowed(function)
            graph = Graph(function)
            recognised = recognise(graph)
            covered = cover(graph, recognised)
            scheme = with_attention(scheme, attention, recognised)
        network = GraphNetwork(graph, recognised, scheme)
        with clock.phase("lower"), blamed_on(model):
            with tvm.target.Target(device.tvm):
                mod, parameters = network.export()
            lowered = lower(mod, device, Path(dump_ir) if dump_ir else None, progress, book)
        params = entries(parameters)
        manifest = describe_graph(graph, proto, network, covered, params, device)
        check_memory(manifest, device)
        with clock.phase("pack"):
            folder = writer.folder
            for name in pack_parameters(network, network.weights, params, folder, progress):
                writer.add_file(name)
        with clock.phase("codegen"), blamed_on(model), what_is_used() as used:
            if progress:
                progress("codegen", 0, 1)
            lowered = generate(mod, lowered, device, writer.folder / LIBRARY, book)
            writer.add_file(LIBRARY)
        needed = only_used(device, used)
        manifest = replace(manifest, target=target_entry(needed))
        if device.gpu is not None:
            with clock.phase("answers"):
                cpu_model = GraphNetwork(graph, recognised, scheme)
                answers = answers_of(mod, lowered, cpu_model, needed, None)
                for name in answers.write(writer.folder):
                    writer.add_file(name)
        parts = (Part(ENCODE, 1, {}, ()),)
        tuned = summarize(coverage(lowered, parts, device, book.used, this_device(device)), book)
        if bundle_runtime:
            writer.add_file(RUNTIME_LIBRARY, find_runtime_library(device))
        for name, file in plugin_for(device, bundle_runtime).items():
            writer.add_file(name, file)
        writer.add_file(
            REPORT, report_text(lowered, clock.seconds, manifest, tuned, graph=covered.json)
        )
        bundle = writer.finish(manifest)
    return GraphReport(
        clock.seconds,
        sum(entry.size for entry in bundle.manifest.files.values()),
        [(row.function, row.rule, row.calls) for row in lowered.kernels],
        tuned,
        covered.json,
    )


@contextmanager
def blamed_on(model: str | Path) -> Iterator[None]:
    """Errors of TVM as InputError: it imports operators that it cannot compile."""
    try:
        yield
    except HandglassError:
        raise
    except Exception as error:
        raise InputError(f"{model}: TVM cannot compile this graph: {reason_of(error)}") from error


def plan_graph(
    model: str | Path,
    shapes: Sequence[str] = (),
    *,
    target: str = "host",
    quantization: str = "f32",
    attention: str | None = None,
) -> dict[str, Any]:
    """What `compile_graph` would recognise; nothing is compiled. Raises as it does."""
    scheme = scheme_for(find_target(target), quantization)
    graph = Graph(import_graph(Path(model), parse_shapes(shapes))[0])
    recognised = recognise(graph)
    with_attention(scheme, attention, recognised)
    return cover(graph, recognised).json


def scheme_for(target: Target, quantization: str) -> Scheme:
    """The scheme of the weights on a target. Raises UsageError for an unknown name."""
    return find_scheme(quantization, find_units(tvm.target.Target(target.tvm)))


def with_attention(scheme: Scheme, attention: str | None, recognised: Recognised) -> Scheme:
    """The scheme, without integers in attention if `attention` declines them.

    Raises UsageError where there are none.
    """
    if attention is None:
        return scheme
    return scheme.on(units_in_float32(attention, [scheme] if attends_to_all(recognised) else []))


def describe_graph(
    graph: Graph,
    proto: Any,
    network: GraphNetwork,
    covered: Coverage,
    params: tuple[TensorEntry, ...],
    target: Target,
) -> Manifest:
    """The manifest without `files`, which the bundle writer adds."""
    weights = {tensor.name for tensor in proto.initializer}
    names = [i.name for i in proto.input if i.name not in weights]
    inputs = tensors_of(names, graph.inputs)
    outputs = tensors_of([output.name for output in proto.output], graph.outputs)
    return Manifest(
        model=ModelEntry(ARCHITECTURE, {"name": proto.name[:100]}),
        target=target_entry(target),
        scheme=scheme_names(network.scheme),
        versions={
            "handglass": handglass.__version__,
            "tvm": version("apache-tvm"),
            "tvm_ffi": version("apache-tvm-ffi"),
        },
        functions=network.functions(inputs, outputs),
        params=params,
        state=StateEntry(1, ()),
        vision=None,
        prompt=PromptEntry(bos="", roles={}, tiles={}, reserved=(), stop=()),
        tokenizer=None,
        vocab_size=0,
        hidden_size=1,
        work=network.work(covered),
        graph=GraphEntry(inputs, outputs),
    )


def scheme_names(scheme: Scheme) -> dict[str, str]:
    attention = {} if scheme.units.integer_scores else {"attention": FLOAT32}
    return {"language": scheme.name, **attention}


def tensors_of(names: Sequence[str], variables: Sequence[Any]) -> tuple[TensorEntry, ...]:
    pairs = zip(names, variables, strict=True)
    return tuple(TensorEntry(name, shape_of(var), str(var.ty.dtype)) for name, var in pairs)


__all__ = ["GraphReport", "compile_graph", "plan_graph"]

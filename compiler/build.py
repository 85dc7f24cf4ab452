"""The compilation pipeline: a checkpoint in, a bundle out.

read the configuration -> build the model in Relax -> lower and schedule -> pack the weights ->
generate code -> write the manifest -> move the finished bundle into place
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import tvm

from handglass.errors import DeviceError, HandglassError
from handglass.runtime.bundle.entries import VisionEntry
from handglass.runtime.bundle.reader import (
    LIBRARY,
    REPORT,
    RUNTIME_LIBRARY,
    Manifest,
)
from handglass.runtime.bundle.writer import BundleWriter
from handglass.runtime.execution.tvm_runtime import installed_runtime
from handglass.runtime.system.tilde import check_expanded
from handglass.schedules.select import find_units
from handglass.targets import find_target
from handglass.targets.codegen.build import build_library
from handglass.targets.codegen.kinds import plugin_for, prepare_compiler
from handglass.targets.codegen.used import Used, what_is_used
from handglass.targets.target import Target

from .checkpoints.opening import open_checkpoint
from .lowering.phases import Lowered, Progress, fuse, lower
from .lowering.probes import add_probes
from .lowering.workload import parts_of
from .models import Network, read_config
from .models.matching import build_for
from .models.storage import choose_storage
from .packing.describe import describe, read_inputs, target_entry
from .packing.pack import entries, pack_parameters
from .parity.known_answers import KnownAnswers, known_answers
from .plan import check_memory
from .records.apply import RecordBook, reason_of
from .records.coverage import coverage
from .records.store import open_store
from .records.summary import summarize
from .records.this_device import this_device


@dataclass(frozen=True)
class Report:
    """The result of a compilation."""

    phases: dict[str, float]
    """Seconds per phase."""
    bundle_bytes: int
    schedules: list[tuple[str, str, int]]
    """(function, rule that scheduled it, number of call sites)."""
    records: dict[str, Any] = field(default_factory=dict)
    """The share of the model's run time that tuning records cover (records/summary.py)."""
    reads_pictures: bool = True
    reads_texts: bool = True
    generates: bool = True
    """Whether the model answers questions; an encoder does not."""


def compile_model(
    model: str | Path,
    output: str | Path,
    *,
    mmproj: str | Path | None = None,
    target: str = "host",
    quantization: str = "w4a8",
    vision_quantization: str | None = None,
    head_quantization: str | None = None,
    context: int | None = None,
    kv_cache: str | None = None,
    attention: str | None = None,
    dump_ir: str | Path | None = None,
    overwrite: bool = False,
    allow_pickle: bool = False,
    bundle_runtime: bool = True,
    records: Sequence[Path] = (),
    use_records: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Compile the checkpoint `model` for `target` into the bundle folder `output`.

    `model` is a folder, or a GGUF file of a language model, with that of its vision tower in
    `mmproj` if it has one.

    A kernel with a tuning record is scheduled with the choices of the record. The files `records`
    have precedence; with `use_records`, the user's store and the shipped records follow.

    Raises InputError for an invalid checkpoint, UsageError for an invalid option, and DeviceError
    if this machine lacks a compiler or the target lacks memory. After an error, `output` does not
    contain a partial bundle.
    """
    if dump_ir:
        check_expanded(dump_ir)
    device = find_target(target)
    prepare_compiler(device)  # fails before a phase of minutes
    checkpoint = open_checkpoint(Path(model), allow_pickle, mmproj)
    family, config = read_config(checkpoint.config)
    units = find_units(tvm.target.Target(device.tvm))
    schemes = quantization, vision_quantization
    has_vision = family.vision(config) is not None
    generates = family.score is None
    options = *schemes, context, kv_cache, has_vision, head_quantization, generates, attention
    storage = choose_storage(config.language, units, *options)
    book = load_tuning_records(device, records, use_records)
    clock = Clock()
    with BundleWriter(Path(output), overwrite=overwrite) as writer:
        network = build_for(checkpoint, family, config, storage)
        inputs = read_inputs(checkpoint, family, config)
        with clock.phase("lower"):
            with tvm.target.Target(device.tvm):  # operators differ between CPU and GPU
                mod, parameters = network.export()
            lowered = lower(mod, device, Path(dump_ir) if dump_ir else None, progress, book)
        params = entries(parameters)
        manifest = describe(checkpoint, config, inputs, network, params, device)
        check_memory(manifest, device)
        with clock.phase("pack"):
            for name in pack_parameters(network, checkpoint, params, writer.folder, progress):
                writer.add_file(name)
        with clock.phase("codegen"), what_is_used() as used:
            if progress:
                progress("codegen", 0, 1)
            lowered = generate(mod, lowered, device, writer.folder / LIBRARY, book)
            writer.add_file(LIBRARY)
        needed = only_used(device, used)
        manifest = replace(manifest, target=target_entry(needed))
        parts = parts_of(manifest.vision, storage.context, generates, family.has_texts)
        covered = summarize(coverage(lowered, parts, device, book.used, this_device(device)), book)
        if device.gpu is not None:
            with clock.phase("answers"):
                cpu_model = family.build(checkpoint, config, storage)
                answers = answers_of(mod, lowered, cpu_model, needed, manifest.vision)
                for name in answers.write(writer.folder):
                    writer.add_file(name)
        with clock.phase("write"):
            if manifest.tokenizer is not None:
                tokenizer = manifest.tokenizer.file
                writer.add_file(tokenizer, checkpoint.tokenizer(tokenizer))
            if bundle_runtime:
                writer.add_file(RUNTIME_LIBRARY, find_runtime_library(device))
            for name, file in plugin_for(device, bundle_runtime).items():
                writer.add_file(name, file)
            writer.add_file(REPORT, report_text(lowered, clock.seconds, manifest, covered))
            bundle = writer.finish(manifest)
    return Report(
        clock.seconds,
        sum(entry.size for entry in bundle.manifest.files.values()),
        [(row.function, row.rule, row.calls) for row in lowered.kernels],
        covered,
        manifest.vision is not None,
        family.has_texts,
        generates,
    )


def load_tuning_records(target: Target, records: Sequence[Path], use_records: bool) -> RecordBook:
    """The tuning records for a target. Raises InputError if a file in `records` cannot be read."""
    store = open_store(target, this_device(target), records, use_records)
    return RecordBook(store, tvm.target.Target(target.tvm))


def generate(
    mod: tvm.IRModule, lowered: Lowered, target: Target, path: Path, book: RecordBook
) -> Lowered:
    """Build the library at `path`; if TVM fails with the records, build it without them."""
    try:
        build_library(add_probes(lowered.mod, target), target, path)
        return lowered
    except HandglassError:
        raise
    except Exception as error:
        if not book.used:
            raise
        book.set_aside(f"the library cannot be built with this record: {reason_of(error)}")
    # Outside the handler: if C++ made this error of a signal's exception, that is raised again as
    # soon as no exception is being handled.
    lowered = lower(mod, target, replays=book)
    build_library(add_probes(lowered.mod, target), target, path)
    return lowered


def only_used(target: Target, used: Used) -> Target:
    """The target, restricted to the GPU capabilities that the generated code uses."""
    return target if target.gpu is None else replace(target, gpu=target.gpu.only(used))


def answers_of(
    mod: tvm.IRModule,
    lowered: Lowered,
    cpu_model: Network,
    target: Target,
    vision: VisionEntry | None,
) -> KnownAnswers:
    """The known answers of a GPU library's kernels, computed by the same model built for a CPU."""
    host = replace(target, gpu=None, load_rules=None)
    with tvm.target.Target(host.tvm):
        on_cpu, _ = cpu_model.export()
    fused = fuse(mod, target), fuse(on_cpu, host)
    patch_size = 1 if vision is None else vision.patch_size
    return known_answers(target, lowered.kernels, *fused, patch_size)


def report_text(
    lowered: Lowered,
    phases: dict[str, float],
    manifest: Manifest,
    records: dict[str, Any],
    **more: Any,
) -> bytes:
    """`report.json`: the kernels, for `handglass bench --kernels`, the seconds per phase, and what
    else is known of a kind of model."""
    text = {
        "format": "handglass-report",
        "versions": dict(manifest.versions),
        "phases": {name: round(seconds, 3) for name, seconds in phases.items()},
        "kernels": [asdict(row) for row in lowered.kernels],
        "records": records,
        **more,
    }
    return (json.dumps(text) + "\n").encode()


def find_runtime_library(target: Target) -> Path:
    """The runtime library of the installed apache-tvm.

    Raises DeviceError if it is missing or built for another architecture than the target's.
    """
    if target.architecture != find_target("host").architecture or target.stub_libraries:
        raise DeviceError(
            f"this machine has no runtime library for {target.triple}: compile with --no-runtime "
            "and install apache-tvm on the device"
        )
    library = installed_runtime()
    if library is None:
        raise DeviceError(f"the installed apache-tvm does not contain {RUNTIME_LIBRARY}")
    return library


class Clock:
    """Seconds per phase, in the order of execution."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start


__all__ = ["Report", "compile_model"]

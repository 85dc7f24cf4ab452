"""What a compilation would produce, from config.json alone: sizes, schemes, tiles of a picture.

The model is built in Relax, which allocates no weights, but neither exported nor lowered. If the
folder has tensors, their names and shapes are checked as `compile_model` does; no data is read.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tvm

from handglass.errors import DeviceError
from handglass.runtime.bundle.entries import StateEntry, TensorEntry, VisionEntry
from handglass.runtime.bundle.lighter import lighter
from handglass.runtime.bundle.manifest import Manifest
from handglass.runtime.bundle.writer import BundleWriter
from handglass.runtime.prompt.preprocess import open_picture
from handglass.runtime.prompt.slicing import open_slicer
from handglass.schedules.select import find_units
from handglass.targets import find_target
from handglass.targets.target import Target

from .checkpoints.checkpoint import Checkpoint
from .checkpoints.opening import open_headers
from .models import Family, FamilyConfig, Network, read_config
from .models.matching import build_for, tensors_of
from .models.storage import Storage, choose_storage
from .packing.pack import entries, packed_bytes

PICTURE = 1920, 1080
"""Width and height of the picture whose tiles a plan states."""


@dataclass(frozen=True)
class ModelPlan:
    """What config.json describes."""

    name: str
    family: str
    architecture: str
    tensors: int
    """Distinct tensors of the checkpoint that the model reads."""
    parameters: int
    """Their elements."""
    tensors_checked: bool
    """Whether the folder has tensors, whose names and shapes are then right."""
    tokenizer: str | None
    """The name of the tokenizer file, which is not read."""
    reads_texts: bool = True
    """Whether it needs one."""
    generates: bool = True
    """Whether it answers questions; an encoder has no cache."""


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on the device; `resident` is weights and state, without intermediate results."""

    weights: int
    state: int
    resident: int
    limit: int | None
    """Of the target; None: differs among its devices."""
    fits: bool | None


@dataclass(frozen=True)
class DiskPlan:
    """Bytes in the bundle's folder, or in the current one if no output is given."""

    folder: str
    bundle: int
    """The parameter files; library and tokenizer add a few MB."""
    free: int
    fits: bool


@dataclass(frozen=True)
class PicturePlan:
    """How the model sees a picture; `tokens` are the rows of its tiles, without the markers."""

    width: int
    height: int
    tiles: int
    tokens: int


@dataclass(frozen=True)
class Plan:
    """What a compilation would produce."""

    model: ModelPlan
    target: str
    scheme: dict[str, str]
    kv_cache: str
    context: int
    memory: MemoryPlan
    disk: DiskPlan
    picture: PicturePlan | None
    problems: tuple[str, ...]
    """Why the bundle would not fit the device or the disk."""


def plan_model(
    model: str | Path,
    *,
    mmproj: str | Path | None = None,
    output: str | Path | None = None,
    target: str = "host",
    quantization: str = "w4a8",
    vision_quantization: str | None = None,
    head_quantization: str | None = None,
    context: int | None = None,
    kv_cache: str | None = None,
    attention: str | None = None,
    overwrite: bool = False,
    allow_pickle: bool = False,
) -> Plan:
    """Plan what `compile_model` would do with the same arguments.

    The folder `model` needs only a config.json. Raises InputError and UsageError as `compile_model`
    does; what does not fit is listed in `problems`.
    """
    if output is not None:
        BundleWriter(output, overwrite=overwrite)  # refuses what cannot be replaced; writes nothing
    device = find_target(target)
    checkpoint = open_headers(Path(model), allow_pickle, mmproj)
    family, config = read_config(checkpoint.config)
    units = find_units(tvm.target.Target(device.tvm))
    schemes = quantization, vision_quantization
    vision = family.vision(config)
    generates = family.score is None
    sizes = context, kv_cache, vision is not None
    options = *schemes, *sizes, head_quantization, generates, attention
    storage = choose_storage(config.language, units, *options)
    network = build(checkpoint, family, config, storage)
    params = entries(list(network.named_parameters()))
    state = StateEntry(storage.context, network.state())
    memory = plan_memory(params, state.tensors, device)
    disk = plan_disk(output, packed_bytes(params))
    scheme = storage.names(vision is not None, family.has_texts)
    problems = problems_of(memory, disk if output else None, scheme, state, device)
    return Plan(
        model=describe_model(checkpoint, family, config, network),
        target=device.name,
        scheme=scheme,
        kv_cache=storage.cache.name,
        context=storage.context,
        memory=memory,
        disk=disk,
        picture=plan_picture(vision, PICTURE),
        problems=tuple(problems),
    )


def build(
    checkpoint: Checkpoint, family: Family, config: FamilyConfig, storage: Storage
) -> Network:
    """The model, which is checked if there are tensors."""
    if checkpoint.has_tensors:
        return build_for(checkpoint, family, config, storage)
    return family.build(checkpoint, config, storage)


def describe_model(
    checkpoint: Checkpoint, family: Family, config: FamilyConfig, network: Network
) -> ModelPlan:
    shapes = tensors_of(network).values()
    return ModelPlan(
        name=family.title(config),
        family=family.name,
        architecture=config.architecture,
        tensors=len(shapes),
        parameters=sum(map(math.prod, shapes)),
        tensors_checked=checkpoint.has_tensors,
        tokenizer=checkpoint.tokenizer_file,
        reads_texts=family.has_texts,
        generates=family.score is None,
    )


def plan_memory(
    params: Sequence[TensorEntry], state: Sequence[TensorEntry], target: Target
) -> MemoryPlan:
    weights, kept = (sum(entry.nbytes for entry in tensors) for tensors in (params, state))
    resident, limit = weights + kept, target.memory_limit
    return MemoryPlan(weights, kept, resident, limit, None if limit is None else resident <= limit)


def plan_disk(output: str | Path | None, size: int) -> DiskPlan:
    """The space in the nearest folder above `output` that exists."""
    wanted = Path.cwd() / (output or "x")
    folder = next(parent for parent in wanted.parents if parent.is_dir())
    free = shutil.disk_usage(folder).free
    return DiskPlan(str(folder), size, free, size <= free)


def plan_picture(vision: VisionEntry | None, size: tuple[int, int]) -> PicturePlan | None:
    """The tiles of a picture of this width and height: those of a blank one, cut as the runtime
    does it."""
    if vision is None:
        return None
    width, height = size
    blank = open_picture(np.zeros((height, width, 3), np.uint8))
    sizes = [crop.image.size for crop in open_slicer(vision)(blank)]
    rows = (vision.rows(w * h // vision.patch_size**2) for w, h in sizes)
    return PicturePlan(width, height, len(sizes), sum(rows))


def problems_of(
    memory: MemoryPlan,
    disk: DiskPlan | None,
    scheme: Mapping[str, str],
    state: StateEntry,
    target: Target,
) -> Iterator[str]:
    if memory.limit is not None and memory.resident > memory.limit:
        advice = lighter(scheme, memory.weights, state, memory.limit)
        yield (
            f"weights and cache take {memory.resident / 1e9:.2g} GB, but target '{target.name}' "
            f"has {memory.limit / 1e9:.2g} GB: {advice}, or use a target file with a larger "
            "memory_limit"
        )
    if disk and not disk.fits:
        yield (
            f"{disk.folder}: the bundle takes {disk.bundle / 1e9:.2g} GB, but only "
            f"{disk.free / 1e9:.2g} GB are free; free some disk space"
        )


def check_memory(manifest: Manifest, target: Target) -> None:
    """Raise DeviceError if weights and cache exceed the target's memory."""
    memory = plan_memory(manifest.params, manifest.state.tensors, target)
    for problem in problems_of(memory, None, manifest.scheme, manifest.state, target):
        raise DeviceError(problem)


__all__ = ["Plan", "plan_model"]

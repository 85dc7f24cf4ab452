"""The input of tuning: the kernels of the model in a checkpoint or in a bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tvm

from handglass.errors import MismatchError, UsageError
from handglass.runtime.bundle.manifest import Manifest
from handglass.runtime.bundle.reader import MANIFEST, Bundle
from handglass.schedules.select import find_units
from handglass.targets import find_target
from handglass.targets.target import Target

from ..checkpoints.checkpoint import EMBEDDING, LM_HEAD, Checkpoint
from ..checkpoints.opening import open_checkpoint
from ..lowering.phases import fuse
from ..lowering.workload import Part, parts_of
from ..models import Family, FamilyConfig, HasHead, find_family
from ..models.matching import build_for
from ..models.storage import Storage, choose_storage, storage_of


@dataclass(frozen=True)
class TuningInput:
    """A model before its loops are scheduled."""

    mod: tvm.IRModule
    target: Target
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class CompileOptions:
    """Options for compiling the model; None: the default of `handglass compile` or the bundle's."""

    target: str | None = None
    quantization: str | None = None
    vision_quantization: str | None = None
    context: int | None = None
    kv_cache: str | None = None
    mmproj: Path | None = None
    """The GGUF file of the vision tower beside that of a language model."""
    head_quantization: str | None = None
    attention: str | None = None

    @property
    def of_storage(self) -> tuple[str | int | None, ...]:
        """Those that a bundle has already."""
        schemes = self.quantization, self.vision_quantization, self.head_quantization
        return *schemes, self.context, self.kv_cache, self.attention


def read_tuning_input(model: Path, options: CompileOptions) -> TuningInput:
    """Read a checkpoint (a folder, or GGUF files) or a bundle.

    Raises InputError if `model` is neither, UsageError for storage options with a bundle,
    MismatchError if the bundle is for another target.
    """
    if (model / MANIFEST).is_file():
        return _of_bundle(Bundle.open(model).manifest, options)
    checkpoint = open_checkpoint(model, mmproj=options.mmproj)
    return _of_config(checkpoint.config, checkpoint, options)


def shapes_of(config: Mapping[str, Any], options: CompileOptions) -> TuningInput:
    """The kernels of the model that a config.json describes, without a checkpoint.

    Raises InputError or MismatchError for a model that is not supported.
    """
    return _of_config(dict(config), _Head(frozenset()), options)


def _of_config(given: dict[str, Any], head: HasHead, options: CompileOptions) -> TuningInput:
    target = find_target(options.target or "host")
    family = find_family(given)
    config = family.configure(given)
    storage = choose_storage(
        config.language,
        find_units(tvm.target.Target(target.tvm)),
        options.quantization or "w4a8",
        options.vision_quantization,
        options.context,
        options.kv_cache,
        family.vision(config) is not None,
        options.head_quantization,
        family.score is None,
        options.attention,
    )
    return _tuning_input(family, config, storage, target, head)


@dataclass(frozen=True)
class _Head:
    """Replaces a checkpoint if only the manifest, or config.json, is available."""

    names: frozenset[str]

    def __contains__(self, name: str) -> bool:
        return False

    def lm_head(self, tied: bool, head: str = LM_HEAD, embedding: str = EMBEDDING) -> str:
        """Name of the head: a stored head has its own parameter, a tied one is the embedding."""
        own = any("lm_head." in name for name in self.names)
        return head if own else embedding


def _of_bundle(manifest: Manifest, options: CompileOptions) -> TuningInput:
    if any(options.of_storage):
        raise UsageError(
            "a bundle keeps the options that it was compiled with; omit --quantization, "
            "--vision-quantization, --head-quantization, --context, --kv-cache and --attention"
        )
    if options.mmproj:
        raise UsageError("--mmproj goes with a GGUF file; a bundle has its vision tower inside")
    target = find_target(options.target or manifest.target.name)
    if (target.triple, target.kind) != (manifest.target.triple, manifest.target.device):
        made_for = f"{manifest.target.triple} ({manifest.target.device})"
        raise MismatchError(f"the bundle is for {made_for}, not for {target.name}")
    units = find_units(tvm.target.Target(target.tvm))
    family = find_family(manifest.model.config)
    config = family.configure(dict(manifest.model.config))
    storage = storage_of(manifest, units)
    head = _Head(frozenset(entry.name for entry in manifest.params))
    return _tuning_input(family, config, storage, target, head)


def _tuning_input(
    family: Family, config: FamilyConfig, storage: Storage, target: Target, head: HasHead
) -> TuningInput:
    if isinstance(head, Checkpoint):
        network = build_for(head, family, config, storage)
    else:
        network = family.build(head, config, storage)
    with tvm.target.Target(target.tvm):  # operators depend on whether it is a CPU or a GPU
        mod, _ = network.export()
    kind = family.score is None, family.has_texts
    parts = parts_of(family.vision(config), storage.context, *kind)
    return TuningInput(fuse(mod, target), target, parts)

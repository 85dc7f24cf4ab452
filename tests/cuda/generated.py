"""The CUDA C++ that TVM generates, before it is compiled."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import tvm
import tvm_ffi
from release_configs import CONFIGS
from tvm import relax
from tvm.s_tir import Schedule
from tvm.target import Target

from handglass.compiler.checkpoints.headers import Headers
from handglass.compiler.lowering.phases import lower
from handglass.compiler.models import read_config
from handglass.compiler.models.storage import choose_storage
from handglass.schedules.select import find_units
from handglass.targets import find_target
from handglass.targets.codegen.build import pipeline
from handglass.targets.codegen.cuda.build import kernel_of
from handglass.targets.codegen.cuda.enable import CREATE, enable_compiler
from handglass.targets.codegen.cuda.module_bytes import Kernel
from handglass.targets.target import Target as TargetOfOurs

DEMO = Path(__file__).parents[2] / "examples" / "demo-checkpoint"
ENOUGH = "no module is needed here"


@dataclass
class Generated:
    """The source of a module, and the signatures of its kernels."""

    source: str = ""
    kernels: list[Kernel] = field(default_factory=list)


@contextmanager
def generated() -> Iterator[Generated]:
    """Catches what is generated in the block, whose build then ends."""
    enable_compiler()
    usual, caught = tvm_ffi.get_global_func(CREATE), Generated()

    def create(source: bytes, _: str, functions: Any, __: Any) -> None:
        caught.source = bytes(source).decode()
        caught.kernels = [kernel_of(str(name), info) for name, info in functions.items()]
        raise ValueError(ENOUGH)

    tvm_ffi.register_global_func(CREATE, create, override=True)
    try:
        yield caught
    except ValueError as error:
        if ENOUGH not in str(error):
            raise
    finally:
        tvm_ffi.register_global_func(CREATE, usual, override=True)


def source_of(sch: Schedule, target: dict[str, Any]) -> Generated:
    """What one scheduled function becomes."""
    with generated() as caught:
        tvm.tirx.build(sch.mod, target=Target(target))
    return caught


@cache
def demo_source(name: str, quantization: str) -> str:
    """All kernels of the demo model for a target, as one source."""
    return _source(json.loads((DEMO / "config.json").read_text()), find_target(name), quantization)


@cache
def release_source(release: str, name: str, quantization: str) -> str:
    """All kernels of a released model at full size, whose weights are not needed."""
    return _source(CONFIGS[release], find_target(name), quantization)


def _source(config: Mapping[str, Any], device: TargetOfOurs, quantization: str) -> str:
    family, parsed = read_config(config)
    target = Target(device.tvm)
    storage = choose_storage(parsed.language, find_units(target), quantization, None, None, None)
    network = family.build(Headers(Path(), dict(config), {}), parsed, storage)
    with target:
        mod, _ = network.export()
    lowered = lower(mod, device)
    with generated() as caught:
        relax.build(lowered.mod, target, relax_pipeline=pipeline(device))
    return caught.source

"""The tiny module of tiny_library.py as a bundle for a GPU, by default for Vulkan, including known
answers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import tvm
from tiny_library import PIECES, TABLE, TINY, manifest
from tvm import relax
from tvm.s_tir import dlight
from vulkan_library import skip_without_library
from vulkan_targets import PORTABLE

from handglass.compiler.parity.known_answers import known_answers
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.bundle.tensor_writer import TensorWriter
from handglass.runtime.bundle.writer import BundleWriter
from handglass.targets import find_target
from handglass.targets.codegen import vulkan
from handglass.targets.codegen.build import pipeline
from handglass.targets.linking.linker import find_linker
from handglass.targets.target import Target

ABILITIES = {"supports_float16": True, "supports_int64": True, "max_threads_per_block": 256}


class GpuTarget(Target):
    """The host target with kernels for Vulkan's portable profile."""

    @property
    def tvm(self) -> dict[str, Any]:
        return {**PORTABLE, "host": self.host_tvm}


@functools.cache
def gpu_target() -> Target:
    host = find_target("host")
    fields = {f.name: getattr(host, f.name) for f in dataclasses.fields(host)}
    return GpuTarget(**{**fields, "name": "vulkan-test", "gpu": find_target("vulkan").gpu})


def build_library(path: Path) -> Path:
    skip_without_library()
    vulkan.enable()
    return build_for(gpu_target(), path)


def build_for(gpu: Target, path: Path) -> Path:
    """Compile the module for a GPU, whose code generator is enabled."""
    target = tvm.target.Target(gpu.tvm)
    with target:
        mod = relax.get_pipeline("zero")(relax.transform.LegalizeOps()(TINY))
        mod = dlight.ApplyDefaultSchedule(dlight.gpu.Fallback())(mod)
        linker = find_linker(find_target("host"))
        built = relax.build(mod, target, relax_pipeline=pipeline(gpu))
    built.export_library(str(path), fcompile=linker)
    return path


def write_bundle(path: Path, library: Path, **entry: Any) -> Bundle:
    needed = {"name": "vulkan-test", "device": "vulkan", "abilities": ABILITIES, **entry}
    return write_for(gpu_target(), path, library, **needed)


def write_for(gpu: Target, path: Path, library: Path, **entry: Any) -> Bundle:
    """Write a bundle; `entry` are the fields of its TargetEntry that differ from the host's."""
    plain = manifest()
    with BundleWriter(path) as writer:
        writer.add_file("lib.so", library)
        writer.add_file("tokenizer.model", PIECES)
        params = writer.folder / "params-00001.safetensors"
        with TensorWriter(params, [("table", TABLE.shape, TABLE.dtype.name)]) as tensors:
            tensors.write("table", TABLE)
        writer.add_file(params.name)
        for name in known_answers(gpu).write(writer.folder):
            writer.add_file(name)
        return writer.finish(
            dataclasses.replace(plain, target=dataclasses.replace(plain.target, **entry))
        )


@contextmanager
def spied(name: str) -> Iterator[mock.Mock]:
    """Spy on a function of handglass: record its calls without changing it."""
    module, _, function = name.rpartition(".")
    real = getattr(__import__(module, fromlist=[function]), function)
    with mock.patch(name, side_effect=real) as spy:
        yield spy

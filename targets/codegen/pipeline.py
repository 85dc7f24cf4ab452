"""TVM's default pipeline for device code, with our lowering of reductions before TVM's.

Kernels of repeated functions are marked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.s_tir.pipeline import (
    default_s_tir_pipeline,
    finalize_device_passes,
    finalize_host_passes,
)
from tvm.target import Target
from tvm.tirx.compilation_pipeline import PIPELINE_MAP

from .reductions import WAYS, Way, kind_of, lower_reductions
from .repeated_kernels import mark_kernels

NAME = "s_tir"  # TVM's default
ALLREDUCE = "s_tir.LowerThreadAllreduce"


OPTIONS: dict[str, dict[str, Any]] = {}
"""TVM target kind -> what the configuration of its passes has beside the caller's."""


def use_pipeline(kind: str, way: Callable[[Target], Way], **options: Any) -> None:
    """Lower reductions by lanes in device code for a kind of target, as far as `way` allows.

    `options` are settings of TVM's passes that the kind's schedules need. This replaces TVM's
    default pipeline, which is unchanged for modules without such code.
    """
    WAYS[kind], OPTIONS[kind] = way, options
    if PIPELINE_MAP[NAME] is default_s_tir_pipeline:
        tirx.register_tir_pipeline(NAME, device_pipeline)


def device_pipeline() -> tuple[Any, Any, Any]:
    """The default pipeline with the lowering of thread reductions moved to `finalize_device`."""
    default, _, _ = default_s_tir_pipeline()

    @tvm.transform.module_pass(opt_level=0)
    def pipeline(mod: tvm.IRModule, context: tvm.transform.PassContext) -> tvm.IRModule:
        kinds = set(filter(None, map(kind_of, mod.functions.values())))
        if not kinds:
            return default(mod)
        options = {name: value for kind in kinds for name, value in OPTIONS[kind].items()}
        with tvm.transform.PassContext(
            opt_level=context.opt_level,
            required_pass=list(context.required_pass),
            disabled_pass=[*context.disabled_pass, ALLREDUCE],
            instruments=list(context.instruments),
            config=dict(context.config) | options,
        ):
            return mark_kernels(default(mod))

    return pipeline, finalize_host_passes, finalize_device


def finalize_device() -> tvm.transform.Pass:
    reductions = tirx.transform.prim_func_pass(lower_reductions, opt_level=0, name="SubgroupReduce")
    lower = s_tir.transform.LowerThreadAllreduce()
    return tvm.transform.Sequential([reductions, lower, finalize_device_passes()])

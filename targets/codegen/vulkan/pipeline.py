"""TVM's default pipeline, with the reduction lowering for Vulkan inserted before TVM's."""

from __future__ import annotations

from typing import Any

import tvm
from tvm import s_tir, tirx
from tvm.s_tir.pipeline import (
    default_s_tir_pipeline,
    finalize_device_passes,
    finalize_host_passes,
)
from tvm.tirx.compilation_pipeline import PIPELINE_MAP

from .reductions import is_vulkan, lower_reductions

NAME = "s_tir"  # TVM's default
ALLREDUCE = "s_tir.LowerThreadAllreduce"


def use_pipeline() -> None:
    """Replace TVM's default pipeline. It is unchanged for modules without Vulkan functions."""
    if PIPELINE_MAP[NAME] is default_s_tir_pipeline:
        tirx.register_tir_pipeline(NAME, vulkan_pipeline)


def vulkan_pipeline() -> tuple[Any, Any, Any]:
    """The default pipeline with the lowering of thread reductions moved to `finalize_device`."""
    default, _, _ = default_s_tir_pipeline()

    @tvm.transform.module_pass(opt_level=0)
    def pipeline(mod: tvm.IRModule, context: tvm.transform.PassContext) -> tvm.IRModule:
        if not any(is_vulkan(func) for func in mod.functions.values()):
            return default(mod)
        with tvm.transform.PassContext(
            opt_level=context.opt_level,
            required_pass=list(context.required_pass),
            disabled_pass=[*context.disabled_pass, ALLREDUCE],
            instruments=list(context.instruments),
            config=dict(context.config),
        ):
            return default(mod)

    return pipeline, finalize_host_passes, finalize_device


def finalize_device() -> tvm.transform.Pass:
    reductions = tirx.transform.prim_func_pass(lower_reductions, opt_level=0, name="SubgroupReduce")
    lower = s_tir.transform.LowerThreadAllreduce()
    return tvm.transform.Sequential([reductions, lower, finalize_device_passes()])

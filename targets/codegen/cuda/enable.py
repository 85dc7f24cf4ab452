"""Entry point: `from handglass.targets.codegen import cuda`, then `cuda.enable()`."""

from __future__ import annotations

BUILD, CREATE = "target.build.cuda", "ffi.Module.create.cuda"


def enable() -> None:
    """Enable `Target("cuda")` to compile and run in this process. Idempotent.

    Neither a GPU nor its driver is needed to compile. Raises DeviceError if the runtime's library
    cannot be built or loaded.
    """
    from handglass.runtime.devices.cuda import load_cuda

    load_cuda()
    enable_compiler()


def enable_compiler() -> None:
    """Enable compilation only; the resulting module still needs the runtime to be loaded."""
    import tvm  # registers the generator that is wrapped here  # noqa: F401
    import tvm_ffi

    from ..errors_through_tvm import keep_classes
    from ..pipeline import use_pipeline
    from ..reductions import WAYS
    from .build import create_module, way_of, with_target

    keep_classes()
    if "cuda" not in WAYS:
        build = tvm_ffi.get_global_func(BUILD)
        tvm_ffi.register_global_func(BUILD, with_target(build), override=True)
        tvm_ffi.register_global_func(CREATE, create_module, override=True)
        use_pipeline("cuda", way_of, **{"tirx.use_async_copy": True})

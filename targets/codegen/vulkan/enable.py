"""Entry point: `from handglass.targets.codegen import vulkan`, then `vulkan.enable()`."""

from __future__ import annotations

BUILD = "target.build.vulkan"


def enable() -> None:
    """Enable `Target("vulkan")` to compile and run in this process. Idempotent.

    Raises DeviceError if the runtime's library cannot be built or loaded.
    """
    from handglass.runtime.devices.vulkan import load_vulkan

    load_vulkan()
    enable_compiler()


def enable_compiler() -> None:
    """Enable compilation only; the resulting module still needs the runtime to be loaded."""
    import tvm_ffi

    from ..errors_through_tvm import keep_classes
    from ..pipeline import use_pipeline
    from .build import build_vulkan
    from .capabilities import way_of

    keep_classes()
    if tvm_ffi.get_global_func(BUILD, allow_missing=True) is None:
        tvm_ffi.register_global_func(BUILD, build_vulkan)
        use_pipeline("vulkan", way_of)

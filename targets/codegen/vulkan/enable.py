"""Two lines for any user: `from handglass.targets.codegen import vulkan` and `vulkan.enable()`."""

from __future__ import annotations

BUILD = "target.build.vulkan"


def enable() -> None:
    """Make `Target("vulkan")` compile and run in this process. A second call does nothing.

    Raises DeviceError where the runtime's library cannot be built or loaded.
    """
    from handglass.runtime.devices.vulkan import load_vulkan

    load_vulkan()
    enable_compiler()


def enable_compiler() -> None:
    """Compiling alone; the module that comes out still needs the runtime to be loaded."""
    import tvm_ffi

    from ..errors_through_tvm import keep_classes
    from .build import build_vulkan
    from .pipeline import use_pipeline

    keep_classes()
    if tvm_ffi.get_global_func(BUILD, allow_missing=True) is None:
        tvm_ffi.register_global_func(BUILD, build_vulkan)
        use_pipeline()

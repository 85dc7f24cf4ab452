"""Small vision-language models, compiled with Apache TVM for the device in your hand.

    import handglass
    handglass.compile("checkpoint", "bundle", target="host")
    model = handglass.load("bundle")
    print(model.chat("What is this picture?", images=["cat.jpg"]).text)

Names are resolved lazily, so `import handglass` stays cheap. `compile` needs the TVM compiler,
which is not installed on a device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from handglass.compiler.build import compile_model as compile
    from handglass.runtime.answer.model import Model, load

__version__ = "0.1.0"
__all__ = ["Model", "__version__", "compile", "load"]


def __getattr__(name: str) -> Any:
    if name in ("Model", "load", "compile"):
        from handglass.runtime.system.platforms import check_platform

        check_platform(f"handglass.{name}")
    if name in ("Model", "load"):
        from handglass.runtime.answer import model

        return getattr(model, name)
    if name == "compile":
        from handglass.compiler.build import compile_model

        return compile_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)

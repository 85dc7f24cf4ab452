"""The machine an operator is generated for: the target in scope while a model is exported.

Without a target in scope, it is a CPU.
"""

from tvm.target import Target

from handglass.schedules.gpu.limits import is_gpu


def on_gpu() -> bool:
    """Whether the target in scope is a GPU."""
    target = Target.current(allow_none=True)
    return target is not None and is_gpu(target)


def limit(name: str, default: int) -> int:
    """An attribute of the target in scope, such as `max_threads_per_block`, or `default`."""
    target = Target.current(allow_none=True)
    stated = target.attrs.get(name) if target is not None else None
    return default if stated is None else int(stated)

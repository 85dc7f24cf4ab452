"""Our errors keep their class where TVM calls us: TVM would make a RuntimeError of each.

Code generators, linkers and passes in Python are called by TVM's C++ through tvm-ffi, which carries
an error as a name and a text, and makes it a Python error again by the names that it knows.
"""

from __future__ import annotations

from handglass import errors


def keep_classes() -> None:
    """Make the errors of handglass known to tvm-ffi in this process; may be called again."""
    from tvm_ffi import register_error

    for kind in (
        errors.UsageError,
        errors.InputError,
        errors.DeviceError,
        errors.MismatchError,
    ):
        register_error(f"{kind.__module__}.{kind.__name__}", kind)

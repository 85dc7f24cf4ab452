"""Preserves the class of handglass errors that pass through TVM, which else become RuntimeError.

TVM's C++ calls code generators, linkers and passes in Python through tvm-ffi. It carries an error
as a name and a message, and converts it back to a Python class by the names registered with it.
"""

from __future__ import annotations

from handglass import errors


def keep_classes() -> None:
    """Register the handglass error classes with tvm-ffi in this process. Idempotent."""
    from tvm_ffi import register_error

    for kind in (
        errors.UsageError,
        errors.InputError,
        errors.DeviceError,
        errors.MismatchError,
    ):
        register_error(f"{kind.__module__}.{kind.__name__}", kind)

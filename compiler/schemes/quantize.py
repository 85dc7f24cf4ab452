"""Weight storage schemes, by the names on the command line.

A `Scheme` (schemes/scheme.py) packs float32 rows (out, in) into arrays and provides a tensor
expression that reads one value from them. schedules/select.py selects the kernels that multiply
them. To add a scheme, write a class with the methods of `Scheme` and list it in `SCHEMES`.
"""

from __future__ import annotations

from handglass.errors import UsageError
from handglass.schedules.select import ANY_CPU, Units

from .grouped import Grouped4Bit
from .integer import Integer
from .plain import Plain
from .scheme import Scheme

# `floor_db` is the lowest signal-to-noise ratio that storage may leave. Measured per stage, on
# random weights with 2 to 52 layers and on a trained model: f32 107 to 130 dB, f16 59 to 69, bf16
# 41 to 51, w4 13 to 28.
SCHEMES: dict[str, Scheme] = {
    "f32": Plain("f32", "float32", "float32", floor_db=80.0),
    "f16": Plain("f16", "float16", "float16", floor_db=50.0),
    "bf16": Plain("bf16", "uint16", "float16", floor_db=33.0),
    "w4": Grouped4Bit("w4"),
    "w4a8": Integer("w4a8", 4, floor_db=10.0),
    "w7a8": Integer("w7a8", 7, floor_db=20.0),
    "w8a8": Integer("w8a8", 8, floor_db=25.0),
}


def find_scheme(name: str, units: Units = ANY_CPU) -> Scheme:
    """The scheme called `name`, laid out for `units`. Raises UsageError for an unknown name."""
    if name not in SCHEMES:
        raise UsageError(f"unknown quantization '{name}'; known schemes: {', '.join(SCHEMES)}")
    return SCHEMES[name].on(units)

"""How weights are stored, by the name that a user types.

A `Scheme` (schemes/scheme.py) packs float32 rows (out, in) into arrays, and says as a tensor
expression how one value is read from them. Which kernels multiply them is the table's affair
(schedules/select.py). Adding one: a class that has the methods of `Scheme`, one line here.
"""

from __future__ import annotations

from handglass.errors import UsageError
from handglass.schedules.select import ANY_CPU, Units

from .grouped import Grouped4Bit
from .integer import Integer
from .plain import Plain
from .scheme import Scheme

# Floors are what storage may cost. Measured on random weights, 2 to 52 layers, and on a trained
# model: f32 107 to 130 dB, f16 59 to 69, bf16 41 to 51, w4 13 to 28, by stage.
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
    """The scheme of this name on a machine with `units`, or a UsageError that lists them."""
    if name not in SCHEMES:
        raise UsageError(f"unknown quantization '{name}'; known are {', '.join(SCHEMES)}")
    return SCHEMES[name].on(units)

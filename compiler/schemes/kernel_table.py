"""The kernels of each scheme on one target: `handglass targets --kernels`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tvm

from handglass.schedules.select import Kernel, find_units

from .quantize import SCHEMES
from .scheme import selection_of


def kernel_table(target: Mapping[str, Any]) -> dict[str, Any]:
    """The kernels and the weight layout of every scheme; `target` is a `tvm.target.Target` dict."""
    units = find_units(tvm.target.Target(target))
    selections = {name: selection_of(scheme.on(units)) for name, scheme in SCHEMES.items()}
    rows = [
        {
            "scheme": name,
            "one_row": described(selection.one_row),
            "many_rows": described(selection.many_rows),
            "layout": selection.layout.name,
        }
        for name, selection in selections.items()
    ]
    return {"integers": units.integers.name, "kernels": rows}


def described(kernel: Kernel) -> dict[str, str]:
    return {"kernel": kernel.name, "activations": kernel.activations, "rule": kernel.rule}

"""The table of kernels for one target, scheme by scheme: `handglass targets --kernels`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tvm

from handglass.schedules.select import Kernel, find_units

from .quantize import SCHEMES
from .scheme import selection_of


def kernel_table(target: Mapping[str, Any]) -> dict[str, Any]:
    """`target` as `tvm.target.Target` takes it. Of every scheme: its kernels and its layout."""
    units = find_units(tvm.target.Target(target))
    found = {name: selection_of(scheme.on(units)) for name, scheme in SCHEMES.items()}
    rows = [
        {
            "scheme": name,
            "one_row": described(selection.one_row),
            "many_rows": described(selection.many_rows),
            "layout": selection.layout.name,
        }
        for name, selection in found.items()
    ]
    return {"integers": units.integers.name, "kernels": rows}


def described(kernel: Kernel) -> dict[str, str]:
    return {"kernel": kernel.name, "activations": kernel.activations, "rule": kernel.rule}

"""`handglass targets --kernels TARGET`: the kernel selected for each quantization scheme."""

from __future__ import annotations

from .output import columns, print_json


def show_kernels(name: str, json: bool) -> None:
    """Print the kernel selection of schedules/select.py for one target."""
    from handglass.compiler.schemes.kernel_table import kernel_table
    from handglass.targets import find_target

    target = find_target(name)
    table = kernel_table(target.tvm)
    if json:
        print_json({"target": target.name, **table})
        return
    print(f"{target.name}: integer arithmetic with {table['integers']}")
    head = ("SCHEME", "ONE ROW", "MANY ROWS", "WEIGHT LAYOUT")
    rows = [
        (row["scheme"], kernel_cell(row["one_row"]), kernel_cell(row["many_rows"]), row["layout"])
        for row in table["kernels"]
    ]
    print(columns([head, *rows]))


def kernel_cell(kernel: dict[str, str]) -> str:
    return f"{kernel['kernel']} ({kernel['rule']})"

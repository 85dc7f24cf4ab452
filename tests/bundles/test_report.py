"""`report.json`: a damaged report is one clear error, work is evaluated within its arguments."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from handglass.errors import InputError
from handglass.runtime.bundle.report import MAX_REPORT, Kernel, parse_report

WORK: dict[str, Any] = {
    "symbols": {"s": [0, 0], "pos": [2]},
    "multiply_adds": [[64, [{"s": 1}, {"pos": 1, "": 15}]]],
    "touched": {"1": [[[1, [{"s": 1}]], [0.5, []]]]},
}
REPORT: dict[str, Any] = {
    "format": "handglass-report",
    "versions": {"handglass": "0.1.0"},
    "phases": {"lower": 1.5},
    "kernels": [
        {"function": "f", "rule": "r", "calls": 1, "patterns": [], "work": WORK, "choices": {}}
    ],
    "records": {},
}


def test_a_report() -> None:
    kernel = parse_report(json.dumps(REPORT).encode(), "r.json")["f"]
    sizes = ((3, 4), (8, 4), 5)
    assert kernel.flops(sizes) == 2 * 64 * 3 * 20
    assert kernel.bytes(sizes, (4, 4, 0)) == 4 * (12 + 3)


def changed(*keys: Any) -> bytes:
    data: Any = copy.deepcopy(REPORT)
    place = data
    for key in keys[:-2]:
        place = place[key]
    place[keys[-2]] = keys[-1]
    return json.dumps(data).encode()


W = ("kernels", 0, "work")
DAMAGED = {
    "records": (changed("records", 127), "records .*127"),
    "format": (changed("format", "x"), "'x'"),
    "kernels": (changed("kernels", {}), "kernels"),
    "work a number": (changed(*W, -0.5), r"kernels\[0\]\.work .*-0.5"),
    "work without symbols": (changed(*W, {}), r"kernels\[0\]\.work"),
    "symbol a text": (changed(*W, "symbols", "s", "0"), r"work\.symbols"),
    "symbol negative": (changed(*W, "symbols", "s", [-1]), r"work\.symbols .*-1"),
    "product of three": (changed(*W, "multiply_adds", [[1, [], 0]]), r"work\.multiply_adds"),
    "unknown symbol": (changed(*W, "multiply_adds", [[1, [{"t": 1}]]]), r"multiply_adds.*'t'"),
    "access a text": (changed(*W, "touched", "1", "x"), r"work\.touched"),
    "surrogate": (changed("versions", "handglass", "\ud800"), "surrogate"),
    "calls a text": (changed("kernels", 0, "calls", "x"), r"kernels\[0\]\.calls .*'x'"),
    "too large": (b" " * (MAX_REPORT + 1), str(MAX_REPORT)),
    "a list": (b"[]", r"\[\]"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_report_is_one_clear_error(case: str) -> None:
    data, message = DAMAGED[case]
    with pytest.raises(InputError, match=message) as caught:
        parse_report(data, "r.json")
    assert str(caught.value).startswith("r.json: ") and "\n" not in str(caught.value)


UNFIT: dict[str, Callable[[Kernel], object]] = {
    "no such argument": lambda kernel: kernel.flops(()),
    "no such dimension": lambda kernel: kernel.flops(((), (), 5)),
    "a number for a shape": lambda kernel: kernel.flops((3, (8, 4), 5)),
    "too few dimensions": lambda kernel: kernel.bytes(((3, 4), (8,), 5), (4, 4, 0)),
    "a shape for a number": lambda kernel: kernel.flops(((3, 4), (8, 4), (5,))),
}


@pytest.mark.parametrize("case", UNFIT)
def test_work_that_does_not_fit_its_arguments(case: str) -> None:
    kernel = parse_report(json.dumps(REPORT).encode(), "r.json")["f"]
    with pytest.raises(InputError, match="'f'"):
        UNFIT[case](kernel)

"""A report as data: it reads what it writes, and refuses what is out of bounds."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from report_content import elsewhere, made_up

from handglass.errors import InputError
from handglass.runtime.pages.content import (
    MAX_ITEMS,
    MAX_TEXT,
    TWO_SIDES,
    as_json,
    beyond,
    parse_content,
)
from handglass.runtime.pages.of_measurement import measured, parse_verified

VERIFIED: dict[str, Any] = {
    "ok": True,
    "first_fault": None,
    "lossy": [],
    "stages": [
        {"stage": "logits", "snr_db": -3.5, "floor_db": 12.0, "ok": True, "arithmetic_db": None}
    ],
}


def changed(change: Callable[[Any], object], data: Any = None) -> bytes:
    value = json.loads(json.dumps(as_json(made_up()) if data is None else data))
    change(value)
    return json.dumps(value).encode()


def put(*keys: Any) -> Callable[[Any], object]:
    def change(value: Any) -> None:
        for key in keys[:-2]:
            value = value[key]
        value[keys[-2]] = keys[-1]

    return change


@pytest.mark.parametrize("content", [made_up(), elsewhere()])
def test_a_saved_report_is_read_again(content: Any) -> None:
    assert parse_content(json.dumps(as_json(content)).encode(), "a.json") == content


KERNEL = ("measured", "phases", 0, "kernels", 0)
DAMAGED = {
    "another format": (put("format", "x"), "format is 'x'"),
    "a later version": (put("version", 2), "version 2"),
    "two sides": (put("format", TWO_SIDES), "compares two bundles"),
    "an unknown key": (put("more", 1), "'more' is unknown"),
    "a negative time": (put(*KERNEL, "ms", -1.0), "measured.phases.0.kernels.0.ms is -1.0"),
    "a huge number": (put(*KERNEL, "bytes", 1e300), "ms is|bytes is 1e[+]300"),
    "a tiny number": (put(*KERNEL, "ms", 1e-300), "0 or from 1e-18 to"),
    "a long name": (put(*KERNEL, "kernel", "k" * (MAX_TEXT + 1)), "301 characters"),
    "a long key": (put("bundle", "scheme", "k" * 400, "x"), "400 characters"),
    "many items": (put("measured", "phases", [0] * (MAX_ITEMS + 1)), "4097 items"),
    "a text for a number": (put(*KERNEL, "calls", "4"), "calls"),
    "a negative limit": (put("measured", "limits", "read", "median", -1.0), "limits.read.median"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_out_of_bounds_is_one_clear_error(case: str) -> None:
    change, message = DAMAGED[case]
    with pytest.raises(InputError, match=message) as caught:
        parse_content(changed(change), "a.json")
    assert str(caught.value).startswith("a.json: ") and len(str(caught.value)) < 600


def test_the_output_of_verify_with_and_without_layers() -> None:
    found = parse_verified(json.dumps(VERIFIED).encode(), "v.json")
    assert found.stages[0].snr_db == -3.5 and found.layers == ()
    layer = {"layer": "layers.0", "snr_db": 20.0, "floor_db": 18.0, "tensor": "layers.0.q"}
    more = json.dumps({**VERIFIED, "layers": [layer]}).encode()
    assert parse_verified(more, "v.json").layers[0].tensor == "layers.0.q"
    arrival = {"layer": "llm.layers.0", "snr_db": 20.0, "arithmetic_db": -300.0}
    more = json.dumps({**VERIFIED, "arrivals": [arrival]}).encode()
    assert parse_verified(more, "v.json").arrivals[0].arithmetic_db == -300.0
    with pytest.raises(InputError, match="stages"):
        parse_verified(changed(put("stages", 3), VERIFIED), "v.json")


def test_what_was_measured_can_be_read_again_however_much_it_is() -> None:
    """Names and numbers of kernels come from the bundle."""
    row = {"kernel": "k" * 1000, "rule": "r" * 1000, "calls": 1.0, "total_ms": 1.0, "share": 0.1}
    row |= {"median_us": 1.0, "bytes": None, "operations": None, "limit": None}
    once = {"kernel": "k" * 1000, "calls": 1, "ms": 1.0}
    part = {"blocks": 5000, "ms": 1.0, "block_ms": [1.0] * 5000, "kernels": [once] * 5000}
    spread = {"min": 1.0, "median": 1.0, "p90": 1.0}
    phase = {"phase": "decode", "step_ms": spread, "observed_ms": spread, "parts": [part]}
    phase["kernels"] = [{**row, "limit_fraction": None}] * 10_000
    about: dict[str, Any] = {"device": "d", "gpu": None, "threads": 1, "versions": {}}
    found = measured(about, {}, [phase])
    content = replace(made_up(), measured=found)
    assert not list(beyond(as_json(content)))
    assert len(found.phases[0].kernels) == MAX_ITEMS

"""Advice for a bundle that is too large for a device: options that help, and no others."""

from typing import Any

import pytest

from handglass.runtime.bundle.entries import RECURRENT, StateEntry, StateTensor
from handglass.runtime.bundle.lighter import lighter, smaller

KEYS = StateTensor("k", (2, 1000, 8), "float16")  # 32 bytes per position
NARROW = StateTensor("k", (2, 1000, 8), "int8")
RULE = StateTensor("s", (4, 100), "float32", RECURRENT)  # 1600 bytes


def advice(language: str, memory: int, *tensors: StateTensor, **vision: str) -> str:
    """Of a bundle with 50 kB of weights and 1000 positions."""
    return lighter({"language": language, **vision}, 50_000, StateEntry(1000, tensors), memory)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        (("w4a8", 60_000, KEYS), "compile with --context 256 or --kv-cache int8"),
        (("w4", 60_000, KEYS, RULE), "compile with --context 256 or --kv-cache int8"),
        (("w4a8", 51_600, RULE, KEYS), "use a smaller model"),
        (("w4a8", 52_000, KEYS), "compile with --kv-cache int8"),
        (("w4a8", 49_000, KEYS), "use a smaller model"),
        (("w8a8", 49_000, KEYS), "compile with --quantization w4a8"),
        (
            ("f16", 79_000, KEYS),
            "compile with --quantization w4a8, --context 896 or --kv-cache int8",
        ),
        (("w4a8", 51_000, RULE), "use a smaller model"),
    ],
)
def test_options_that_help(how: Any, expected: str) -> None:
    assert advice(*how).startswith(expected)


def test_schemes_of_the_vision_tower() -> None:
    assert advice("w4", 9, vision="f16") == "compile with --vision-quantization w8a8"
    assert advice("w4a8", 9, vision="w8a8").startswith("use a smaller model")


def test_a_cache_of_bytes_stays() -> None:
    assert advice("w4a8", 60_000, NARROW) == "compile with --context 576"


@pytest.mark.parametrize(
    ("scheme", "context", "tensors", "expected"),
    [
        ("w4a8", 1000, [KEYS, RULE], "compile with a smaller --context or --kv-cache int8"),
        ("f16", 64, [KEYS], "compile with --quantization w4a8 or --kv-cache int8"),
        (
            "w4a8",
            1000,
            [StateTensor("k", (2, 1000, 8), "int8")],
            "compile with a smaller --context",
        ),
        ("w4a8", 1000, [RULE], "use a smaller model"),
    ],
)
def test_memory_that_is_not_known(
    scheme: str, context: int, tensors: list[StateTensor], expected: str
) -> None:
    found = smaller({"language": scheme}, StateEntry(context, tuple(tensors)))
    assert found.startswith(expected)

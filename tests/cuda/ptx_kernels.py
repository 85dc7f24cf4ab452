"""Small PTX kernels for tests of the emulator: one case is an instruction and its reference.

`run_cases` puts all cases into one kernel. Each lane reads its inputs of every type, executes every
instruction, and stores the results; the references are numpy on the same arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from shutil import which
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from emulator.build import COMPILER
from emulator.launch import Module

if which(COMPILER) is None:
    pytest.skip("the PTX emulator needs g++", allow_module_level=True)

DTYPES = {
    **{f"s{8 * n}": np.dtype(f"i{n}") for n in (1, 2, 4, 8)},
    **{f"u{8 * n}": np.dtype(f"u{n}") for n in (1, 2, 4, 8)},
    "f16": np.dtype(np.float16),
    "bf16": np.dtype(ml_dtypes.bfloat16),
    "f32": np.dtype(np.float32),
    "f64": np.dtype(np.float64),
    "pred": np.dtype("u4"),
}
"""numpy's types by PTX's. Packed halves are u32 here."""
LANES = 256
HEADER = ".version 8.0\n.target sm_80\n.address_size 64\n"
_OPERANDS = "ABC"


@dataclass(frozen=True)
class Case:
    """`text` computes D from A, B and C; `inputs` are their types, one for all of them or each.

    The reference gets as many arrays as there are types. P is a scratch predicate.
    """

    text: str
    inputs: tuple[str, ...]
    output: str
    reference: Callable[..., Any]
    ulp: float = 0
    """Allowed distance in units of the last place of an f32."""


def values(ptx_type: str, which: int) -> np.ndarray:
    """Random numbers of a type and its odd values, another selection for each operand."""
    rng = np.random.default_rng([which, *ptx_type.encode()])
    dtype = DTYPES[ptx_type]
    if ptx_type == "pred":
        return rng.integers(0, 2, LANES, dtype=dtype)
    found, odd = _integers(dtype, rng) if dtype.kind in "iu" else _reals(dtype, rng)
    places = rng.permutation(LANES)[: 4 * len(odd)]
    found[places] = np.array(odd * 4, dtype)
    return found


def _integers(dtype: np.dtype, rng: np.random.Generator) -> tuple[np.ndarray, list]:
    low, high = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max)
    found = rng.integers(low, high, LANES, dtype, endpoint=True)
    small = rng.integers(0, 70, LANES).astype(dtype)
    return np.where(rng.random(LANES) < 0.4, small, found), [0, 1, high, low, high // 2]


def _reals(dtype: np.dtype, rng: np.random.Generator) -> tuple[np.ndarray, list]:
    scale = np.exp(rng.normal(0, 3, LANES))
    with np.errstate(over="ignore"):
        found = (rng.normal(0, 1, LANES) * scale).astype(dtype)
    info = ml_dtypes.finfo(dtype)
    least, most = float(info.smallest_subnormal), float(info.max)
    infinite = [np.inf, -np.inf, np.nan]
    return found, [0.0, -0.0, *infinite, 1.0, 2.5, -3.5, 0.5, least, 3 * least, most]


def register_type(ptx_type: str) -> str:
    """Registers are at least 16 bits wide."""
    return "pred" if ptx_type == "pred" else f"b{max(16, 8 * DTYPES[ptx_type].itemsize)}"


def stored_type(ptx_type: str) -> str:
    return ptx_type if ptx_type[0] in "us" else f"b{8 * DTYPES[ptx_type].itemsize}"


def run_cases(cases: Sequence[Case]) -> list[tuple[np.ndarray, np.ndarray]]:
    """What the kernel computes and what the reference says, for each case."""
    types = sorted({t for case in cases for t in case.inputs} | {"pred"})
    pools = {(t, n): values(t, n) for t in types for n in range(3)}
    results = np.zeros((len(cases), LANES), np.uint64)
    module = Module(_kernel(cases, types))
    module.launch("cases", [1], [LANES], results, *pools.values())
    return [_pair(case, results[i], pools) for i, case in enumerate(cases)]


def _pair(case: Case, result: np.ndarray, pools: dict) -> tuple[np.ndarray, np.ndarray]:
    arrays = [pools[t, n] for n, t in enumerate(case.inputs)]
    dtype = DTYPES[case.output]
    actual = result.view(dtype).reshape(LANES, -1)[:, 0]
    with np.errstate(all="ignore"):
        return actual, np.asarray(case.reference(*arrays)).astype(dtype)


def _kernel(cases: Sequence[Case], types: Sequence[str]) -> str:
    params = [".param .u64 results"]
    lines = [*_address("results", 8), "mov.b64 %out, %at;"]
    for t in types:
        for n, letter in enumerate(_OPERANDS):
            params.append(f".param .u64 in_{t}_{n}")
            lines += _loaded(t, f"in_{t}_{n}", f"%{letter}_{t}")
    for number, case in enumerate(cases):
        lines += _executed(case, number)
    body = "\n".join(["mov.u32 %tid0, %tid.x;", *lines, "ret;"])
    declarations = ".reg .b32 %tid0, %word; .reg .b64 %at, %off, %out;"
    text = f".visible .entry cases({', '.join(params)})\n{{\n{declarations}\n{body}\n}}\n"
    return HEADER + text


def _address(base: str, unit: int) -> list[str]:
    return [
        f"ld.param.u64 %at, [{base}];",
        f"mul.wide.u32 %off, %tid0, {unit};",
        "add.s64 %at, %at, %off;",
    ]


def _loaded(ptx_type: str, param: str, register: str) -> list[str]:
    declare = f".reg .{register_type(ptx_type)} {register};"
    if ptx_type == "pred":
        load = f"ld.global.b32 %word, [%at]; setp.ne.u32 {register}, %word, 0;"
    else:
        load = f"ld.global.{stored_type(ptx_type)} {register}, [%at];"
    return [declare, *_address(param, DTYPES[ptx_type].itemsize), load]


def _executed(case: Case, number: int) -> list[str]:
    words = {"D": "%result", "P": "%scratch", "Q": "%also"}
    words |= {_OPERANDS[n]: f"%{_OPERANDS[n]}_{t}" for n, t in enumerate(case.inputs)}
    text = " ".join(_replaced(token, words) for token in case.text.split())
    declare = (
        f"{{ .reg .{register_type(case.output)} %result; .reg .pred %scratch; .reg .pred %also;"
    )
    place = f"[%out + {number * LANES * 8}]"
    if case.output == "pred":
        store = ["selp.u32 %word, 1, 0, %result;", f"st.global.b32 {place}, %word; }}"]
    else:
        store = [f"st.global.{stored_type(case.output)} {place}, %result; }}"]
    return [declare, text, *store]


def _replaced(token: str, words: dict[str, str]) -> str:
    """Registers for the letters that stand alone, with their punctuation."""
    core = token.strip("{}@!,;|")
    parts = [words.get(part, part) for part in core.split("|")]
    return token.replace(core, "|".join(parts), 1) if core else token


def check_cases(cases: Sequence[Case]) -> None:
    """Assert that every case gives what its reference says, NaN for NaN."""
    for case, (actual, truth) in zip(cases, run_cases(cases), strict=True):
        assert same(actual, truth, case.ulp).all(), (case.text, difference(actual, truth, case))


def same(actual: np.ndarray, truth: np.ndarray, ulp: float = 0) -> np.ndarray:
    if actual.dtype.kind in "iu":
        return actual == truth
    a, t = actual.astype(np.float64), truth.astype(np.float64)
    with np.errstate(all="ignore"):
        close = np.abs(a - t) <= ulp * np.maximum(np.spacing(np.abs(truth.astype(np.float32))), 0)
    exact = (a == t) & (np.signbit(a) == np.signbit(t))
    return exact | (np.isnan(a) & np.isnan(t)) | (close if ulp else exact)


def difference(actual: np.ndarray, truth: np.ndarray, case: Case) -> list:
    wrong = np.flatnonzero(~same(actual, truth, case.ulp))[:4]
    inputs = [values(t, n)[wrong] for n, t in enumerate(case.inputs)]
    return [*inputs, actual[wrong], truth[wrong]]


def rounded(x: np.ndarray, precision: int, lowest: int, mode: Callable = np.rint) -> np.ndarray:
    """f64 to `precision` bits whose unit is at least 2^lowest, by its definition."""
    finite = np.where(np.isfinite(x), x, 1.0)
    _, exponent = np.frexp(finite)
    unit = np.exp2(np.maximum(exponent - precision, lowest).astype(np.float64))
    return np.where(np.isfinite(x), np.copysign(mode(finite / unit) * unit, finite), x)


def to_half(x: np.ndarray, ptx_type: str, mode: Callable = np.rint) -> np.ndarray:
    """f64 rounded once."""
    precision, lowest = (11, -24) if ptx_type == "f16" else (8, -133)
    return rounded(x, precision, lowest, mode).astype(DTYPES[ptx_type])


def one_nan(ptx_type: str) -> str:
    """PTX that replaces every NaN of the packed halves in D by 0x7fff."""
    halves = ".reg .b16 lo, hi; .reg .pred pl, ph; mov.b32 { lo, hi }, D;"
    find = f"setp.nan.{ptx_type} pl, lo, lo; setp.nan.{ptx_type} ph, hi, hi;"
    replace = "selp.b16 lo, 32767, lo, pl; selp.b16 hi, 32767, hi, ph; mov.b32 D, { lo, hi };"
    return f"{{ {halves} {find} {replace} }}"


@cache
def module(ptx: str) -> Module:
    """The kernels of a text without its header, compiled once per process."""
    return Module(HEADER + ptx)


REGISTERS = (
    ".reg .b32 %r<48>; .reg .b64 %d<32>; .reg .f32 %f<32>; .reg .b16 %h<16>; .reg .pred %p<8>;"
)


def entry(name: str, params: str, body: str) -> str:
    """A kernel with the parameters `u64 x, u32 n` and registers %r, %d, %f, %h and %p.

    A parameter of 64 bits is in %x already; %t is the thread's number in its block, %lane in its
    warp.
    """
    pairs = [p.split() for p in params.split(",")]
    declared = ", ".join(f".param .{ptx_type} {name}_" for ptx_type, name in pairs)
    loads = [f".reg .b{t[1:]} %{n}; ld.param.{t} %{n}, [{n}_];" for t, n in pairs if t[0] in "us"]
    threads = ".reg .b32 %t, %lane; mov.u32 %t, %tid.x; mov.u32 %lane, %laneid;"
    text = "\n".join([REGISTERS, *loads, threads, body, "ret;"])
    return f".visible .entry {name}({declared})\n{{\n{text}\n}}\n"


def place(register: str, base: str, index: str, unit: int) -> str:
    """PTX for register = base + index * unit."""
    return f"mul.wide.u32 {register}, {index}, {unit}; add.s64 {register}, {register}, {base};"

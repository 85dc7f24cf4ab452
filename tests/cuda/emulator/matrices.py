"""Matrices of a warp: ldmatrix and mma.sync."""

from __future__ import annotations

from .instructions import emits
from .site import Site

_ELEMENTS = {
    "f16": "F16",
    "bf16": "BF16",
    "tf32": "TF32",
    "s8": "S8",
    "u8": "U8",
    "s4": "S4",
    "u4": "U4",
}
_BITS = {"F16": 16, "BF16": 16, "TF32": 32, "S8": 8, "U8": 8, "S4": 4, "U4": 4}
_SHAPES = tuple(f"m16n8k{k}" for k in (4, 8, 16, 32, 64))


def whole_warp(site: Site) -> str:
    """All 32 lanes, none of which may have left."""
    what = "needs a whole warp: divergent collective"
    left = f'if (active && w.live != ~0u) fail({site.may_fail()}, "{what}", w.live);'
    return f"{left} {site.meets('~0u', '0', what)}"


@emits("ldmatrix", "sync aligned m8n8 x1 x2 x4 trans shared shared_cta")
def load_matrix(site: Site) -> str:
    parts = site.vector(0)
    stores = " ".join(
        site.assign(p, "b32", f"out[{i}][l]", masked=False) for i, p in enumerate(parts)
    )
    transposed = "true" if site.has("trans") else "false"
    lanes = f"u32 out[4][32]; u64 at[32]; LANES(l) at[l] = {site.address(1)};"
    arguments = f"w, at, {len(parts)}, {transposed}, out, {site.may_fail()}"
    code = f"{lanes} load_matrices({arguments}); LANES(l) {{ {stores} }}"
    return f"{{ {site.active()} {whole_warp(site)} if (active) {{ {code} }} }}"


@emits("mma", "sync aligned row col satfinite tf32 s4 u4 " + " ".join(_SHAPES))
def multiply(site: Site) -> str:
    """d = a b + c of one warp; accumulators in f16 are rounded from f32 once."""
    shape = site.one_of(*_SHAPES)
    if not shape:
        raise site.unknown("unknown shape")
    result, a, b, _ = [m for m in site.modifiers if m in (*_ELEMENTS, "f32", "s32")]
    first, second, depth = _ELEMENTS[a], _ELEMENTS[b], int(shape[len("m16n8k") :])
    if depth * _BITS[first] not in (64 if a == "tf32" else 128, 256, 128):
        raise site.unknown("unknown shape")
    sums = "s32" if result == "s32" else "f32"
    saturated = "true" if site.has("satfinite") else "false"
    call = f"multiply<{first}, {second}, {depth}>(a, b, c, {saturated}); w.block->counts.mma++;"
    lanes = f"LANES(l) {{ {_inputs(site, sums)} }} {call} LANES(l) {{ {_results(site, sums)} }}"
    arrays = f"u32 a[4][32], b[2][32]; {sums} c[4][32];"
    return f"{{ {site.active()} {whole_warp(site)} if (active) {{ {arrays} {lanes} }} }}"


def _inputs(site: Site, sums: str) -> str:
    code = [f"a[{i}][l] = {site.read(p, 'b32')};" for i, p in enumerate(site.vector(1))]
    code += [f"b[{i}][l] = {site.read(p, 'b32')};" for i, p in enumerate(site.vector(2))]
    accumulators = site.vector(3)
    if len(accumulators) == 4:
        return " ".join(
            code + [f"c[{i}][l] = {site.read(p, sums)};" for i, p in enumerate(accumulators)]
        )
    for i, p in enumerate(accumulators):
        code.append(f"{{ const f16x2 h = {site.read(p, 'f16x2')};")
        code.append(f"c[{2 * i}][l] = h.low; c[{2 * i + 1}][l] = h.high; }}")
    return " ".join(code)


def _results(site: Site, sums: str) -> str:
    parts = site.vector(0)
    if len(parts) == 4:
        stores = (site.assign(p, sums, f"c[{i}][l]", masked=False) for i, p in enumerate(parts))
        return " ".join(stores)
    halves = (f"f16x2{{f16(c[{2 * i}][l]), f16(c[{2 * i + 1}][l])}}" for i in range(2))
    return " ".join(
        site.assign(p, "f16x2", h, masked=False) for p, h in zip(parts, halves, strict=True)
    )

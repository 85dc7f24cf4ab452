"""mma.sync and ldmatrix of the PTX emulator against numpy, with the PTX manual's fragments."""

from dataclasses import dataclass

import numpy as np
import pytest

pytest.importorskip("ml_dtypes", reason="bf16")
import ml_dtypes
from emulator.launch import LaunchError
from ptx_kernels import entry, module, place

pytestmark = pytest.mark.cuda

ROWS, COLUMNS = 16, 8


@dataclass(frozen=True)
class Product:
    """A shape of mma.sync: types of d, a, b and c, and the depth."""

    depth: int
    types: str
    flags: str = ""

    @property
    def name(self) -> str:
        return f"m{self.depth}_{self.types.replace('.', '_')}{self.flags.replace('.', '_')}"

    @property
    def bits(self) -> int:
        return {"f16": 16, "bf16": 16, "tf32": 32}.get(
            self.a, int(self.a[1:]) if self.a[0] in "us" else 0
        )

    @property
    def a(self) -> str:
        return self.types.split(".")[1]

    @property
    def b(self) -> str:
        return self.types.split(".")[2]


PRODUCTS = (
    Product(8, "f32.f16.f16.f32"),
    Product(16, "f32.f16.f16.f32"),
    Product(16, "f16.f16.f16.f16"),
    Product(8, "f32.bf16.bf16.f32"),
    Product(16, "f32.bf16.bf16.f32"),
    Product(4, "f32.tf32.tf32.f32"),
    Product(8, "f32.tf32.tf32.f32"),
    Product(16, "s32.s8.s8.s32"),
    Product(32, "s32.s8.s8.s32"),
    Product(32, "s32.u8.s8.s32"),
    Product(32, "s32.s8.u8.s32", ".satfinite"),
    Product(32, "s32.s4.s4.s32"),
    Product(64, "s32.u4.s4.s32"),
)


def kernel(product: Product) -> str:
    """Each lane loads its registers of a, b and c, and stores those of d."""
    a, b = (
        ROWS * product.depth * product.bits // 1024,
        COLUMNS * product.depth * product.bits // 1024,
    )
    c = 2 if product.types.startswith("f16") else 4
    lines, vectors, at = [], ["{" + ", ".join(f"%r{40 + i}" for i in range(c)) + "}"], 0
    for name, count in (("a", a), ("b", b), ("c", c)):
        lines.append(place("%d0", f"%{name}", "%lane", 4 * count))
        lines += [f"ld.global.u32 %r{at + i}, [%d0+{4 * i}];" for i in range(count)]
        vectors.append("{" + ", ".join(f"%r{at + i}" for i in range(count)) + "}")
        at += count
    shape = f"m16n8k{product.depth}.row.col{product.flags}"
    lines.append(f"mma.sync.aligned.{shape}.{product.types} {', '.join(vectors)};")
    lines += [f"st.global.u32 [%d0+{4 * i}], %r{40 + i};" for i in range(c)]
    return entry(product.name, "u64 a, u64 b, u64 c", "\n".join(lines))


def elements(ptx_type: str, shape: tuple[int, int], seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if ptx_type in ("f16", "bf16", "tf32", "f32"):
        x = rng.standard_normal(shape).astype("f4")
        if ptx_type == "tf32":
            return (x.view("u4") & 0xFFFFE000).view("f4")
        return x.astype({"f16": np.float16, "bf16": ml_dtypes.bfloat16}.get(ptx_type, np.float32))
    bits = int(ptx_type[1:])
    low, high = (0, 2**bits) if ptx_type[0] == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1))
    return rng.integers(low, high, shape)


def words(x: np.ndarray, bits: int) -> np.ndarray:
    """Elements along the last axis packed into u32, the first in the lowest bits."""
    if x.dtype.kind == "i":
        codes = x.astype("i8").astype("u8") & (2**bits - 1)
    else:
        codes = x.view({16: "u2", 32: "u4"}[bits]).astype("u8")
    groups = codes.reshape(*x.shape[:-1], -1, 32 // bits)
    return (groups << (np.arange(32 // bits, dtype="u8") * np.uint64(bits))).sum(-1).astype("u4")


def fragment_a(a: np.ndarray, bits: int) -> np.ndarray:
    """[lane][register]: rows g and g + 8, then the right half of the columns."""
    packed = words(a, bits)
    lanes = np.arange(32)
    g, t = lanes // 4, lanes % 4
    columns = range(0, packed.shape[1], 4)
    return np.stack([packed[g + 8 * half, t + c] for c in columns for half in (0, 1)], 1)


def fragment_b(b: np.ndarray, bits: int) -> np.ndarray:
    packed = words(np.ascontiguousarray(b.T), bits)
    lanes = np.arange(32)
    return np.stack([packed[lanes // 4, lanes % 4 + c] for c in range(0, packed.shape[1], 4)], 1)


def fragment_c(c: np.ndarray) -> np.ndarray:
    lanes = np.arange(32)
    rows, columns = lanes // 4, 2 * (lanes % 4)
    return np.stack([c[rows + 8 * (i // 2), columns + i % 2] for i in range(4)], 1)


@pytest.fixture(scope="module")
def products() -> object:
    return module("".join(map(kernel, PRODUCTS)))


@pytest.mark.parametrize("product", PRODUCTS, ids=lambda p: p.name)
def test_products(products, product: Product) -> None:  # type: ignore[no-untyped-def]
    a = elements(product.a, (ROWS, product.depth), 1)
    b = elements(product.b, (product.depth, COLUMNS), 2)
    kind = "i4" if product.types.startswith("s32") else "f4"
    half = product.types.startswith("f16")
    c = elements("f32" if kind == "f4" else "s8", (ROWS, COLUMNS), 3).astype("f2" if half else kind)
    if product.flags:
        c[::2] += np.iinfo("i4").max - 9000
        c = np.where(c > 0, c, np.iinfo("i4").min + 9000).astype("i4")
    held = np.ascontiguousarray(fragment_c(c))
    fragments = (
        np.ascontiguousarray(fragment_a(a, product.bits)),
        np.ascontiguousarray(fragment_b(b, product.bits)),
    )
    counts = products.launch(product.name, [1], [32], *fragments, held)
    exact = a.astype("f8") @ b.astype("f8") + c.astype("f8")
    truth = np.clip(exact, -(2**31), 2**31 - 1) if product.flags else exact
    assert counts.mma == 1
    if kind == "i4":
        assert (held == fragment_c(truth.astype("i8"))).all()
    else:
        assert np.abs(held - fragment_c(truth)).max() <= np.abs(truth).max() * (
            1e-3 if half else 2e-7
        )


LOAD = """
.shared .align 16 .b8 tile[2048];
mov.u32 %r0, tile; mul.lo.u32 %r1, %lane, 16; add.u32 %r2, %r0, %r1;
{fill}
bar.warp.sync -1;
{load}
"""


def load_kernel(count: int, transposed: bool) -> str:
    """A lane fills its row of eight halves, then all lanes load matrices of eight rows."""
    fill = place("%d0", "%x", "%lane", 16)
    fill += "ld.global.v4.u32 {%r4, %r5, %r6, %r7}, [%d0];"
    fill += "st.shared.v4.u32 [%r2], {%r4, %r5, %r6, %r7};"
    registers = ", ".join(f"%r{10 + i}" for i in range(count))
    trans = ".trans" * transposed
    load = f"ldmatrix.sync.aligned.m8n8.x{count}{trans}.shared.b16 {{{registers}}}, [%r2];"
    load += place("%d1", "%y", "%lane", 4 * count)
    load += "".join(f"st.global.u32 [%d1+{4 * i}], %r{10 + i};" for i in range(count))
    body = LOAD.replace("{fill}", fill).replace("{load}", load)
    return entry(f"load{count}{'t' * transposed}", "u64 x, u64 y", body)


def test_matrices_are_loaded() -> None:
    cases = [(count, trans) for count in (1, 2, 4) for trans in (False, True)]
    kernels = module("".join(load_kernel(*case) for case in cases))
    x = np.random.default_rng(5).integers(0, 65536, (4, 8, 8)).astype("u2")
    for count, trans in cases:
        y = np.zeros((32, count, 2), "u2")
        counts = kernels.launch(f"load{count}{'t' * trans}", [1], [32], x, y)
        for i in range(count):
            matrix = x[i].T if trans else x[i]
            assert (y[:, i].reshape(8, 8) == matrix).all()
        assert counts.bank_conflicts == 0


def test_a_matrix_needs_a_whole_warp() -> None:
    guarded = kernel(PRODUCTS[1]).replace("mma.sync", "setp.lt.u32 %p0, %lane, 16; @%p0 mma.sync")
    zeros = [np.zeros(64 * n, "u4") for n in (4, 2, 4)]
    with pytest.raises(LaunchError, match=r"line \d+: needs a whole warp.*mma\.sync"):
        module(guarded).launch(PRODUCTS[1].name, [1], [32], *zeros)

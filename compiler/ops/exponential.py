"""exp2, and activations based on it.

On LLVM targets `T.exp` and `T.tanh` become one library call per vector lane; the polynomial of
schedules/cpu/exponential.py vectorizes.
"""

from tvm import te, tirx
from tvm.ir import Expr

from handglass.schedules.cpu import exponential

from .scope import on_gpu

LOG2_E = 1.4426950408889634

# log2(erfc(a)) / a for a in [0, 4]: minimax coefficients for the error of erf, 1.6e-8 at most
_ERFC = (-1.62790859311061, -0.9184163926290625, -0.14848161785344094, 0.028253686755582152,
         -0.0007746355698967644, -0.0014894384462719457, 0.00044550682510727246,
         -4.535852196838053e-05)  # fmt: skip
_ERFC_END = 4.0  # from here on, erf is 1 in float32


def exp2(x: Expr) -> Expr:
    """2^x in float32, on a CPU with x clamped to [-126, 126].

    A GPU has an instruction for 2^x, and its compiler may simplify the polynomial's (x + c) - c.
    """
    return tirx.exp2(x) if on_gpu() else exponential.exp2(x)


def sigmoid(x: Expr) -> Expr:
    """1 / (1 + e^-x)."""
    one = tirx.const(1.0, "float32")
    return one / (one + exp2(x * tirx.const(-LOG2_E, "float32")))


def erf(x: Expr) -> Expr:
    """The error function: sign(x) (1 - erfc(|x|)), with erfc as a power of two.

    The absolute error is at most 2e-7 (tests/kernels/test_ops.py). The library function is one
    call per vector lane on LLVM targets, and SPIR-V has none.
    """
    f32 = lambda value: tirx.const(value, "float32")  # noqa: E731 (a local cast, used often)
    size = tirx.min(f32(_ERFC_END), tirx.Select(x < f32(0.0), -x, x))  # this order propagates NaN
    power = f32(_ERFC[-1])
    for coefficient in reversed(_ERFC[:-1]):
        power = power * size + f32(coefficient)
    value = f32(1.0) - exp2(power * size)
    return tirx.Select(x < f32(0.0), -value, value)


def silu_gate(gate_up: te.Tensor) -> te.Tensor:
    """(m, 2f), gate and up concatenated -> silu(gate) * up, (m, f)."""
    m, width = gate_up.shape
    f = int(width) // 2
    return te.compute(
        (m, f),
        lambda i, j: gate_up[i, j] * sigmoid(gate_up[i, j]) * gate_up[i, j + f],
        name="silu_gate",
    )


def gelu_tanh(x: te.Tensor) -> te.Tensor:
    """GELU (tanh): x/2 (1 + tanh u) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3)."""
    inner = tirx.const(2.0 * 0.7978845608028654, "float32")
    cubic = tirx.const(0.044715, "float32")

    def value(*index):
        v = x[index]
        return v * sigmoid(inner * (v + cubic * v * v * v))

    return te.compute(x.shape, value, name="gelu_tanh")


def gelu(x: te.Tensor) -> te.Tensor:
    """GELU (exact): x/2 (1 + erf(x / sqrt(2)))."""
    half, root = tirx.const(0.5, "float32"), tirx.const(0.7071067811865476, "float32")
    one = tirx.const(1.0, "float32")
    return te.compute(x.shape, lambda *i: half * x[i] * (one + erf(root * x[i])), name="gelu")

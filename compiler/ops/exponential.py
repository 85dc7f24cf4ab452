"""exp2, and activations based on it.

On LLVM targets `T.exp` and `T.tanh` become one library call per vector lane; the polynomial of
schedules/cpu/exponential.py vectorizes.
"""

from collections.abc import Callable

from tvm import te, tirx
from tvm.ir import Expr

from handglass.schedules.cpu import exponential
from handglass.schedules.loops import named

from .scope import on_gpu

LOG2_E = 1.4426950408889634

# log2(erfc(a / sqrt(2))) / a: minimax coefficients for the error of erf up to a = 4 sqrt(2), 1.6e-8
# at most. Beyond, the power only decreases.
_ERFC = (-1.1511051654815674, -0.4592081904411316, -0.052496179938316345, 0.0070634218864142895,
         -0.00013693750952370465, -0.00018617980822455138, 3.9377613575197756e-05,
         -2.834907718352042e-06)  # fmt: skip
_ERFC_END = 10.0  # from here on, erfc is 0 in float32


def exp2(x: Expr) -> Expr:
    """2^x in float32, on a CPU with x clamped to [-126, 126].

    A GPU has an instruction for 2^x, and its compiler may simplify the polynomial's (x + c) - c.
    """
    return tirx.exp2(x) if on_gpu() else exponential.exp2(x)


def sigmoid(x: Expr) -> Expr:
    """1 / (1 + e^-x)."""
    one = tirx.const(1.0, "float32")
    return one / (one + exp2(x * tirx.const(-LOG2_E, "float32")))


def silu(x: Expr) -> Expr:
    """x sigmoid(x)."""
    return _once(x, lambda x: x * sigmoid(x))


def silu_gate(gate_up: te.Tensor) -> te.Tensor:
    """(m, 2f), gate and up concatenated -> silu(gate) * up, (m, f)."""
    m, width = gate_up.shape
    f = int(width) // 2
    return te.compute(
        (m, f),
        lambda i, j: silu(gate_up(i, j)) * gate_up[i, j + f],
        name="silu_gate",
    )


def gelu_tanh(x: te.Tensor) -> te.Tensor:
    """GELU (tanh): x/2 (1 + tanh u) = x sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3)."""
    inner = tirx.const(2.0 * 0.7978845608028654, "float32")
    cubic = tirx.const(0.044715, "float32")

    def value(v: Expr) -> Expr:
        return v * sigmoid(inner * (v + cubic * v * v * v))

    return te.compute(x.shape, lambda *index: _once(x(*index), value), name="gelu_tanh")


def gelu(x: te.Tensor) -> te.Tensor:
    """GELU (exact): x/2 (1 + erf(x / sqrt(2))) = x/2 + |x|/2 - |x|/2 erfc(|x| / sqrt(2)).

    erfc is a power of two: the library function is one call per vector lane on LLVM targets, and
    SPIR-V has none. The first two terms add up to 0 or x without rounding, so that negative x lose
    no precision, and propagate NaN where `min` does not.
    """
    f32 = lambda value: tirx.const(value, "float32")  # noqa: E731 (a local cast, used often)

    def value(v: Expr) -> Expr:
        size = tirx.min(f32(_ERFC_END), tirx.abs(v))
        power = f32(_ERFC[-1])
        for coefficient in reversed(_ERFC[:-1]):
            power = power * size + f32(coefficient)
        positive = f32(0.5) * v + f32(0.5) * tirx.abs(v)
        return positive - f32(0.5) * size * exp2(power * size)

    return te.compute(x.shape, lambda *index: _once(x(*index), value), name="gelu")


def quick_gelu(x: te.Tensor) -> te.Tensor:
    """The approximation of GELU that CLIP is trained with: x sigmoid(1.702 x)."""
    steep = tirx.const(1.702, "float32")
    value = lambda v: v * sigmoid(steep * v)  # noqa: E731 (one expression, passed on)
    return te.compute(x.shape, lambda *index: _once(x(*index), value), name="quick_gelu")


def _once(x: Expr, body: Callable[[Expr], Expr]) -> Expr:
    """body(x), with a variable for x where the code generator takes one: it may be an epilogue."""
    return body(x) if on_gpu() else named("x", x, body)

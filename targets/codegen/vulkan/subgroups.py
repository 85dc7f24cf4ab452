"""Operations across the lanes of a subgroup, and the subgroup size that a kernel requires.

The driver chooses the subgroup size when a pipeline is created. A kernel that depends on it states
this in OpModuleProcessed, which drivers ignore and the handglass runtime reads (subgroup.cc):

    handglass.subgroup = 32     whole subgroups of 32: requested, or else the kernel is rejected
    handglass.subgroup >= 8     8 or more: requested only if the device has smaller subgroups

The second form is for clusters: 8 threads whose linear indices are consecutive from a multiple of 8
share a subgroup of 8, 32 or 64 threads.
"""

from __future__ import annotations

from tvm import ir
from tvm.ir import prim

from .arithmetic import compute
from .calls import External
from .kernel import Kernel
from .opcodes import SCOPE_SUBGROUP, Op
from .types import Value

FEATURE = "subgroup shuffle"


def count_on_subgroups(k: Kernel, size: int, exactly: bool) -> None:
    """Require subgroups of `size` threads, or of more unless `exactly`. Size 0 requires nothing."""
    if size:
        k.subgroup = max(k.subgroup, (exactly, size))


def say_subgroups(k: Kernel) -> None:
    """Write the requirement of the finished kernel, if it has one."""
    exactly, size = k.subgroup
    if size:
        k.words.process(f"handglass.subgroup {'=' if exactly else '>='} {size}")


def across_lanes(node: type) -> External:
    """`handglass_lanes_add(value, 4, 8)`: reduces the 4 lanes whose indices differ in these bits.

    The type is of 32 bits: subgroup operations on narrower ones are a separate feature.
    """

    def emit(k: Kernel, e: ir.Call) -> Value:
        type, mine = k.type_of(e), k.expr(e.args[1])
        bits = [int(bit) for bit in e.args[2:]]
        k.claims.need(FEATURE, "a reduction over lanes of a subgroup")
        count_on_subgroups(k, 2 * max(bits), exactly=False)
        for bit in bits:
            scope, mask = k.uint(SCOPE_SUBGROUP), k.uint(bit)
            op, result = Op.GroupNonUniformShuffleXor, k.id_of(type)
            other = k.body.compute(op, result, scope, mine[0], mask)
            mine = compute(k, node, type, mine, (other,))
        return mine

    return emit


EXTERNALS: dict[str, External] = {
    "handglass_lanes_add": across_lanes(prim.Add),
    "handglass_lanes_max": across_lanes(prim.Max),
    "handglass_lanes_min": across_lanes(prim.Min),
}

"""What lanes of a subgroup do together, and how a kernel says what it counts on.

How wide subgroups are is the driver's choice when a pipeline is made. A kernel that counts on it
says so in a line of OpModuleProcessed, which drivers skip and our runtime reads (subgroup.cc):

    handglass.subgroup = 32     whole subgroups of 32: it is asked for, or the kernel is refused
    handglass.subgroup >= 8     of 8 or more: asked for only where the device has narrower ones

The second holds for a cluster: 8 neighbouring threads by their number in the workgroup, from a
multiple of 8 on, that are in one subgroup, be it of 8, 32 or 64.
"""

from __future__ import annotations

from tvm import ir
from tvm.ir import prim

from .arithmetic import compute
from .calls import External
from .conversions import convert
from .kernel import Kernel
from .opcodes import SCOPE_SUBGROUP, Op
from .types import FLOAT32, Value

FEATURE = "subgroup shuffle"


def count_on_subgroups(k: Kernel, size: int, exactly: bool) -> None:
    """Have subgroups of `size` threads or, unless `exactly`, more. 0: nothing is known of them."""
    if size:
        k.subgroup = max(k.subgroup, (exactly, size))


def say_subgroups(k: Kernel) -> None:
    """The line, once the whole kernel is known; nothing where any subgroups will do."""
    exactly, size = k.subgroup
    if size:
        k.words.process(f"handglass.subgroup {'=' if exactly else '>='} {size}")


def across_lanes(node: type) -> External:
    """`vk.lanes_add(value, 4, 8)`: of the 4 lanes whose numbers differ by these bits, for each.

    float16 is reduced in float32: narrow types in subgroups are a feature of their own.
    """

    def emit(k: Kernel, e: ir.Call) -> Value:
        type, value = k.type_of(e), k.expr(e.args[1])
        bits = [int(bit) for bit in e.args[2:]]
        form = FLOAT32 if type.kind == "float" else type
        k.claims.need(FEATURE, "a reduction over lanes of a subgroup")
        count_on_subgroups(k, 2 * max(bits), exactly=False)
        mine = convert(k, type, form, value)
        for bit in bits:
            scope, mask = k.uint(SCOPE_SUBGROUP), k.uint(bit)
            op, result = Op.GroupNonUniformShuffleXor, k.id_of(form)
            other = k.body.compute(op, result, scope, mine[0], mask)
            mine = compute(k, node, form, mine, (other,))
        return convert(k, form, type, mine)

    return emit


EXTERNALS: dict[str, External] = {
    "vk.lanes_add": across_lanes(prim.Add),
    "vk.lanes_max": across_lanes(prim.Max),
    "vk.lanes_min": across_lanes(prim.Min),
}

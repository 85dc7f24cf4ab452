"""The products of experts and the gated delta rule on a CPU, with inputs and results in numpy."""

from __future__ import annotations

import numpy as np
from arm_kernels import Kernel, height, like, normal, placeholder
from delta_reference import delta_truth, random_given
from tvm import te

from handglass.compiler.models.weights import as_function
from handglass.compiler.ops.delta_rule import Heads, delta_step, delta_writer
from handglass.compiler.ops.expert_matmul import ExpertShape, expert_matmul
from handglass.compiler.schemes.quantize import SCHEMES
from handglass.schedules.isa.register_tiles import LANES

COUNT, CHOSEN = 34, 3


def experts(scheme: str, m: int, is_first: bool = True) -> Kernel:
    """m rows (symbolic if several) times 8 panels of the experts that each of them chose."""
    shape = ExpertShape(COUNT, 8, 96, CHOSEN, is_first)
    stored = SCHEMES[scheme]
    weight = normal(shape.experts * shape.panels * LANES, shape.inputs)
    parts = stored.pack(weight)
    given = m if m == 1 else height(m)
    rows = normal(m, shape.inputs * (1 if is_first else CHOSEN))
    ids = np.stack([np.random.default_rng(r).permutation(9)[:CHOSEN] for r in range(m)])
    order, starts = _sorted(ids, shape.experts)  # nobody chooses most of them
    x = placeholder((given, rows.shape[1]), "float32")
    order_of = placeholder((given, CHOSEN), "int32", "order")
    (starts_of,) = like({"starts": starts})
    tensors = like(dict(parts))
    read = lambda buffers: as_function(stored.read(buffers))  # noqa: E731
    y = expert_matmul(x, order_of, starts_of, tensors, read, shape)
    stacked = stored.unpack(parts, *weight.shape).reshape(shape.experts, -1, shape.inputs)
    each = rows.reshape(m, -1, shape.inputs)
    truth = [stacked[e] @ each[r, 0 if is_first else c] for (r, c), e in np.ndenumerate(ids)]
    func = te.create_prim_func([x, order_of, starts_of, *tensors, y])
    inputs: list[np.ndarray | int] = [rows, order, starts, *parts.values()]
    return Kernel(func, inputs, [np.asarray(truth, np.float32).reshape(m, -1)])


def _sorted(ids: np.ndarray, experts: int) -> tuple[np.ndarray, np.ndarray]:
    """The choices by expert, and where those of each begin."""
    order = np.argsort(ids, axis=None, kind="stable").reshape(ids.shape)
    starts = np.searchsorted(np.sort(ids, axis=None), np.arange(experts + 1))
    return order.astype("i4"), starts.astype("i4")


def delta(m: int) -> Kernel:
    """m positions (symbolic if several) of the gated delta rule; tests of its state are in
    test_delta_rule.py."""
    heads = Heads(keys=4, values=16, key_dim=32, value_dim=128)
    given = random_given(heads, m)
    truth = delta_truth(given)[1].reshape(m, -1)
    func = delta_step(heads) if m == 1 else delta_writer(heads)
    return Kernel(func, [*given.arguments()], [truth], 1e-5)

"""Runs any TVM module on a GPU: TVM from pip, and two more lines.

    pip install 'handglass[compile]'
    python examples/plain_tvm_vulkan.py

It does not use the models of handglass; see docs/vulkan.md.
"""

from __future__ import annotations

import numpy as np
import tvm
from tvm import relax
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op, spec
from tvm.s_tir import dlight

from handglass.targets.codegen import vulkan

vulkan.enable()  # registers a code generator for Target("vulkan") and the device tvm.vulkan()


class Classifier(nn.Module):
    """x (n, 256) -> (n, 100), for any n."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.RMSNorm(256, axes=-1, epsilon=1e-5, bias=False)
        self.linear = nn.Linear(256, 100)

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        return op.softmax(self.linear(self.norm(x)), axis=-1)


def compiled(target: tvm.target.Target) -> tvm.runtime.Executable:
    mod, _ = Classifier().export_tvm(spec={"forward": {"x": spec.Tensor(["n", 256], "float32")}})
    with target:
        mod = relax.get_pipeline("zero")(mod)
        rules = (dlight.gpu.Matmul(), dlight.gpu.GeneralReduction(), dlight.gpu.Fallback())
        mod = dlight.ApplyDefaultSchedule(*rules)(mod)
    return relax.build(mod, target)


def reference(x: np.ndarray, norm: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    y = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * norm @ weight.T + bias
    weights = np.exp(y - y.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def main() -> None:
    target = tvm.target.Target("vulkan", host="llvm")
    device = tvm.vulkan()
    machine = relax.VirtualMachine(compiled(target), device)
    rng = np.random.default_rng(0)
    params = [rng.standard_normal(s, np.float32) / 9 for s in ((256,), (100, 256), (100,))]
    on_device = [tvm.runtime.tensor(array, device) for array in params]
    for n in (1, 7, 64):
        x = rng.standard_normal((n, 256), np.float32)
        found = machine["forward"](tvm.runtime.tensor(x, device), *on_device).numpy()
        error = np.abs(found - reference(x, *params)).max()
        print(f"{n} rows: largest error {error:.1e}")
        assert error < 1e-5, "the device does not compute what it should"


if __name__ == "__main__":
    main()

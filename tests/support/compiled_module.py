"""One module of a model, compiled for this machine with weights from memory."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tvm
from tvm import relax
from tvm.relax.frontend import nn

from handglass.compiler.lowering.phases import KernelRow, lower
from handglass.compiler.models.leaves import leaves
from handglass.compiler.models.network import MODES
from handglass.compiler.schemes.quantize import find_scheme
from handglass.compiler.schemes.scheme import Scheme
from handglass.schedules.select import find_units
from handglass.targets import find_target
from handglass.targets.codegen.build import without_alias

Compiled = Callable[..., np.ndarray]


class HeldWeights:
    """Has the interface of `Checkpoint`; float32 arrays by name, with those that were read."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.arrays, self.seen = arrays, set[str]()

    def expect(self, name: str, shape: tuple[int, ...]) -> None:
        self.seen.add(name)
        assert self.arrays[name].shape == tuple(shape), (name, self.arrays[name].shape, shape)

    def read(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        self.expect(name, shape)
        return np.array(self.arrays[name])

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        return np.array(self.arrays[name][start:stop])

    def rounded(self, name: str, x: np.ndarray, alone: bool = False) -> np.ndarray:
        return x

    def lm_head(self, tied: bool) -> str:
        raise AssertionError("a module without a head")


def host_scheme(name: str) -> Scheme:
    """The storage scheme, laid out for this machine."""
    return find_scheme(name, find_units(tvm.target.Target(find_target("host").tvm)))


def compile_module(
    module: nn.Module, weights: HeldWeights, **arguments: Any
) -> tuple[Compiled, tuple[KernelRow, ...]]:
    """The module's `forward` as a function of arrays, and its kernels; `arguments` are specs."""
    target = find_target("host")
    tvm_target = tvm.target.Target(target.tvm)
    with tvm_target:
        mod, params = module.export_tvm(spec={"forward": arguments | MODES})
    lowered = lower(mod, target)
    built = relax.build(lowered.mod, tvm_target, relax_pipeline=without_alias())
    machine = relax.VirtualMachine(built, tvm.cpu())
    arrays = {
        f"{path}.{name}": array
        for path, leaf in leaves(module)
        for name, array in leaf.load(weights).items()  # type: ignore[arg-type]
    }
    held = [tvm.runtime.tensor(np.ascontiguousarray(arrays[name])) for name, _ in params]

    def call(*given: np.ndarray) -> np.ndarray:
        return machine["forward"](*map(tvm.runtime.tensor, given), held).numpy()

    return call, lowered.kernels

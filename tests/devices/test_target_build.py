"""TVM accepts every target of the table, and its code can be linked and run."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from handglass.errors import DeviceError
from handglass.runtime.system.hardware import read_machine
from handglass.targets import Target, known_targets
from handglass.targets.codegen.build import build_library
from handglass.targets.linking.linker import find_linker

pytestmark = pytest.mark.compiler


def add_one():  # type: ignore[no-untyped-def]
    from tvm import relax
    from tvm.relax.frontend import nn
    from tvm.relax.frontend.nn import spec

    class AddOne(nn.Module):
        def forward(self, x: nn.Tensor) -> nn.Tensor:
            return x + 1.0

    mod, _ = AddOne().export_tvm(spec={"forward": {"x": spec.Tensor(["n"], "float32")}})
    return relax.transform.LegalizeOps()(mod)


@pytest.mark.parametrize("target", known_targets().values(), ids=known_targets())
def test_tvm_takes_the_target(target: Target) -> None:
    import tvm

    parsed = tvm.target.Target(target.host_tvm)
    has_feature = tvm.get_global_func("target.target_has_feature")
    width = tvm.get_global_func("target.llvm_get_vector_width")(parsed)
    assert width == target.vector_bits
    for attr in target.mattr:
        assert bool(has_feature(attr[1:], parsed)) == attr.startswith("+"), attr
    assert parsed.attrs["num-cores"] == target.cores
    whole = tvm.target.Target(target.tvm)
    assert whole.kind.name == ("llvm" if target.gpu is None else target.gpu.kind)
    if target.gpu is not None:
        assert {name: whole.attrs[name] for name in whole.attrs.keys() & target.gpu.abilities} == {
            name: value for name, value in target.gpu.abilities.items() if name in whole.attrs
        }
        assert whole.host.attrs["mtriple"] == target.triple


@pytest.mark.parametrize("target", known_targets().values(), ids=known_targets())
def test_library_is_linked_and_runs(target: Target, tmp_path: Path) -> None:
    import tvm

    try:
        find_linker(target)
        path = build_library(add_one(), target, tmp_path / "lib.so")
    except DeviceError as error:
        pytest.skip(str(error))
    assert path.stat().st_size > 0
    if target.missing_on(read_machine().flags):
        assert path.read_bytes()[18] == {"x86_64": 62, "aarch64": 183}[target.architecture]
        return  # code for another machine: built, not run
    if target.gpu is not None:
        return  # built; tests/devices/test_vulkan_bundle.py runs some
    vm = tvm.relax.VirtualMachine(tvm.runtime.load_module(str(path)), tvm.cpu())
    x = np.arange(7, dtype=np.float32)
    np.testing.assert_array_equal(np.from_dlpack(vm["forward"](tvm.runtime.tensor(x))), x + 1)


def test_missing_compiler_is_a_clear_error() -> None:
    target = replace(known_targets()["x86-64-v3"], linkers=("no-such-cc", "nor-this"))
    with pytest.raises(DeviceError, match="no-such-cc, nor-this"):
        find_linker(target)

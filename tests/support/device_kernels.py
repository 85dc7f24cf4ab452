"""A matmul compiled into a library, to be measured on a device."""

from pathlib import Path
from tempfile import TemporaryDirectory

import tvm
from tvm import te

from handglass.targets import find_target
from handglass.targets.linking.linker import find_linker


def matmul_library(k: int) -> bytes:
    """c (9, 31) = a (9, 64) b (64, 31), over the first `k` of the 64."""
    a, b = te.placeholder((9, 64), name="a"), te.placeholder((64, 31), name="b")
    axis = te.reduce_axis((0, k), "k")
    c = te.compute((9, 31), lambda i, j: te.sum(a[i, axis] * b[axis, j], axis))
    func = te.create_prim_func([a, b, c]).with_attr("global_symbol", "matmul")
    target = find_target("host")
    library = tvm.compile(tvm.IRModule({"matmul": func}), tvm.target.Target(target.tvm))
    with TemporaryDirectory() as folder:
        path = Path(folder, "lib.so")
        library.export_library(str(path), fcompile=find_linker(target))
        return path.read_bytes()

"""Tunes a Relax module of your own with the schedules and the tuner of handglass (docs/tuning.md).

python examples/tune_your_own.py
"""

from functools import partial
from pathlib import Path

import tvm
from tvm import relax
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import op, spec

from handglass.compiler.lowering.phases import fuse, lower
from handglass.compiler.lowering.workload import Part
from handglass.compiler.ops.matmul import matmul
from handglass.compiler.ops.norm import rms_norm
from handglass.compiler.records.apply import RecordBook
from handglass.compiler.records.store import open_store
from handglass.compiler.tune import Tuned, tune
from handglass.compiler.tuning.tuning_input import TuningInput
from handglass.runtime.remote.client import DeviceClient
from handglass.runtime.remote.local import local_device
from handglass.targets import find_target


class Block(nn.Module):
    """x (n, 256) -> (n, 1024). The weight is in panels of 16 output columns: (64, 256, 16)."""

    def __init__(self) -> None:
        self.norm, self.panels = nn.Parameter((256,)), nn.Parameter((64, 256, 16))

    def forward(self, x: nn.Tensor) -> nn.Tensor:
        y = op.tensor_expr_op(lambda a, w: rms_norm(a, w, 1e-5), "rms_norm", [x, self.norm])
        return op.tensor_expr_op(lambda a, p: matmul(a, 1024, 256, p), "matmul", [y, self.panels])


def tune_block(folder: Path, trials: int) -> tuple[Tuned, tvm.runtime.Executable]:
    """Tune the block on this machine, and compile it with the records that were found."""
    target, journal = find_target("host"), folder / "records.jsonl"
    mod, _ = Block().export_tvm(spec={"forward": {"x": spec.Tensor(["n", 256], "float32")}})
    part = Part("forward", calls=1, lengths={"n": 64}, others=({"n": 7},))
    given = TuningInput(fuse(mod, target), target, (part,))
    with local_device(threads=1) as device:
        connect = partial(DeviceClient, *device)
        tuned = tune(given, connect, trials=trials, work_dir=folder, journal=journal)
    records = open_store(target, tuned.device, [journal] if tuned.records else [], stored=False)
    host = tvm.target.Target(target.tvm)
    return tuned, relax.build(lower(mod, target, replays=RecordBook(records, host)).mod, host)


if __name__ == "__main__":
    result, _ = tune_block(Path("build/tune-your-own"), trials=40)
    found = {record.task: record for record in result.records}
    for outcome in result.outcomes:
        record = found.get(outcome.task.hash)
        tuned_us = f"{record.lengths[0].tuned.median * 1e6:.1f} us" if record else "stays"
        print(f"{outcome.task.name}: default {outcome.default_seconds * 1e6:.1f} us, {tuned_us}")
        print(f"  {record.text() if record else 'no record'}")

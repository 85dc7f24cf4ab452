"""examples/tune_your_own.py: tunes a module that is none of ours, and computes the same."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="the tuner is part of the compiler")
import tvm
from tune_your_own import tune_block
from tvm import relax

from handglass.compiler.tuning.task_tuner import UNSTEADY

pytestmark = [pytest.mark.compiler, pytest.mark.slow]


def test_a_module_of_ones_own_is_tuned_and_computes_the_same(tmp_path: Path) -> None:
    tuned, executable = tune_block(tmp_path, trials=2)
    # A busy machine may measure nothing stable; no other failure is accepted.
    assert all(UNSTEADY in failure for failure in tuned.failed), tuned.failed
    assert {row.task.name for row in tuned.rows} == {"rms_norm", "matmul"}
    (journal,) = tmp_path.glob("trials-*.jsonl")
    assert len(journal.read_text().splitlines()) == 2
    machine = relax.VirtualMachine(executable, tvm.cpu())
    rng = np.random.default_rng(0)
    for n in (1, 7, 64):
        shapes = ((n, 256), (256,), (64, 256, 16))
        x, norm, panels = (rng.standard_normal(s, np.float32) for s in shapes)
        given = [tvm.runtime.tensor(array) for array in (x, norm, panels)]
        found = machine["forward"](*given).numpy()
        rows = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * norm
        expected = rows @ panels.transpose(1, 0, 2).reshape(256, 1024)
        assert np.abs(found - expected).max() < 1e-5 * np.abs(expected).max()

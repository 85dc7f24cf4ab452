"""A whole model for AMX, with all instructions emulated."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("tvm", reason="compiles with the TVM compiler")

from odd_models import UNTIED, write_checkpoint
from test_amx import TILES, emulator, faulty_emulator  # noqa: F401 - fixtures
from tile_emulator import Emulator, emulated

from handglass.compiler import build, verify, verify_subject
from handglass.schedules import CPU_RULES, Rule
from handglass.schedules.choices import DEFAULTS
from handglass.schedules.cpu import dot as cpu_dot
from handglass.schedules.cpu.amx import schedule_tiles
from handglass.schedules.isa.integer_isa import AMX
from handglass.targets import find_target

pytestmark = [pytest.mark.compiler, pytest.mark.levels]


@pytest.mark.slow
@pytest.mark.large
def test_a_whole_model(
    emulator: Emulator,  # noqa: F811 - the fixture
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    evidence: Callable[..., None],
) -> None:
    """A bundle for AMX with all instructions emulated reaches the floors of `handglass verify`.

    It runs on any machine; on one with AVX-512, test_end_to_end.py emulates the tiles alone.
    """

    def emulate(rule: Rule) -> Rule:
        swap = {
            "cpu-tiles": lambda sch, target, choices=DEFAULTS: schedule_tiles(sch, choices),
            "cpu-dot": lambda sch, target, choices=DEFAULTS: cpu_dot.schedule_dot(
                sch, AMX, choices, emulate=True
            ),
        }
        return replace(rule, apply=swap.get(rule.name, rule.apply), on_cache=None)

    rules = tuple(map(emulate, CPU_RULES))
    device = replace(find_target("host"), load_rules=lambda: rules)
    monkeypatch.setattr(build, "find_target", lambda name: device)
    monkeypatch.setattr(build, "find_units", lambda target: TILES)
    build_library = build.build_library
    monkeypatch.setattr(
        build, "build_library", lambda mod, *where: build_library(emulated(mod), *where)
    )
    monkeypatch.setattr(verify_subject, "AMX_FLAGS", ())  # the manifest is one of this machine
    checkpoint = write_checkpoint(tmp_path / "c", UNTIED, "float32")
    report = build.compile_model(
        checkpoint, tmp_path / "b", quantization="w4a8", vision_quantization="bf16", context=128
    )
    assert "cpu-tiles" in {rule for _, rule, _ in report.schedules}
    stages = verify.verify(tmp_path / "b", checkpoint)
    assert all(stage.snr_db > stage.floor_db for stage in stages), stages
    assert emulator.counts["multiplied"] > 0
    arithmetic = {stage.stage: stage.arithmetic_db for stage in stages}
    assert min(db for db in arithmetic.values() if db is not None) > 35.0, arithmetic
    evidence("x86-64-amx", "stages of a random model in w4a8", emulated_instructions=True)

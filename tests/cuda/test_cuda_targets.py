"""CUDA targets: what they state for TVM and for the manifest, and how compiling for them fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tvm", reason="targets are resolved by the TVM compiler")
import tvm

from handglass.runtime.bundle.entries import TargetEntry
from handglass.runtime.devices.device_info import DeviceInfo
from handglass.runtime.devices.device_select import check_abilities
from handglass.schedules.gpu.limits import gpu_limits, is_gpu, supports
from handglass.targets import find_target, known_targets
from handglass.targets.codegen.cuda import architectures
from handglass.targets.codegen.cuda.build import capabilities_of, majors_of
from handglass.targets.codegen.cuda.detection import target_of
from handglass.targets.codegen.cuda.gpu import OPT_IN, CudaCapabilities
from handglass.targets.presets.cuda import CARDS, JETSONS

pytestmark = pytest.mark.compiler

PRESETS = [row[0] for row in (*JETSONS, *CARDS)]
KIB = 1 << 10


def gpu_of(name: str) -> CudaCapabilities:
    gpu = find_target(name).gpu
    assert isinstance(gpu, CudaCapabilities)
    return gpu


@pytest.mark.parametrize("name", PRESETS)
def test_tvm_gets_all_of_it(name: str) -> None:
    gpu, target = gpu_of(name), tvm.target.Target(find_target(name).tvm)
    limits = gpu_limits(target)
    assert is_gpu(target) and limits.half and supports(target, "int8")
    assert (limits.subgroup, limits.threads, limits.memory) == (32, 1024, 48 * KIB)
    assert limits.optin == min(OPT_IN[n] for n in gpu.capabilities)
    assert limits.matrix is None and limits.largest_buffer > 1 << 34
    assert capabilities_of(target) == list(gpu.capabilities)
    assert majors_of(target) == list(gpu.majors)
    assert target.attrs["arch"] == f"sm_{min(gpu.capabilities)}"


def test_the_chips_of_the_presets() -> None:
    chips = {name: gpu_of(name).capabilities for name in PRESETS}
    assert chips["jetson-orin"] == (87,) and chips["jetson-thor"] == (110,)
    assert chips["cuda"] == (75, 80, 86, 89, 90, 120)
    assert {chips[name][0] for name in ("rtx-20", "rtx-30", "rtx-40", "rtx-50")} == {
        75,
        86,
        89,
        120,
    }
    assert gpu_of("jetson-orin").unified_memory and not gpu_of("h100").unified_memory


def test_the_host_of_a_board_is_aarch64() -> None:
    assert {find_target(row[0]).architecture for row in JETSONS} == {"aarch64"}
    assert find_target("rtx-40@arm64").architecture == "aarch64"


def test_tensor_cores_are_claimed_if_every_chip_has_them() -> None:
    having = {n for n in PRESETS if any("tensor" in key for key in gpu_of(n).tvm["keys"])}
    assert having == set(PRESETS) - {"cuda", "rtx-20"}


def card(capability: int) -> DeviceInfo:
    return DeviceInfo(
        kind="cuda",
        index=0,
        name="A Card (8 GB)",
        sort="discrete",
        uuid="0" * 32,
        driver="",
        driver_key="",
        interface="CUDA 13.0",
        memory=8 << 30,
        unified_memory=False,
        abilities={"compute_capability": capability, "max_threads_per_block": 1024},
        report={},
    )


def test_the_target_of_a_card() -> None:
    target = target_of(card(86))
    assert target.gpu == CudaCapabilities(capabilities=(86,))
    assert (target.records_key, target.memory_limit) == ("cuda-a-card-8-gb", 8 << 30)
    assert target.name not in known_targets()


def entry(*images: str) -> TargetEntry:
    return TargetEntry("jetson-orin", "", "", (), device="cuda", images=images)


def test_a_bundle_without_code_for_the_chip_is_refused() -> None:
    from handglass.errors import DeviceError

    check_abilities(entry("sm_87", "compute_87"), card(120), frozenset())
    with pytest.raises(DeviceError, match=r"jetson-orin.*A Card.*y 7.5.*sm_87, compute_87"):
        check_abilities(entry("sm_87", "compute_87"), card(75), frozenset())


def test_compiling_without_nvrtc_ends_at_once(
    handglass: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(architectures, "load_nvrtc", lambda major: None)
    done = handglass("compile", "-m", tmp_path / "none", "-o", tmp_path / "b", "--target", "h100")
    assert done.code == 4
    assert "pip install 'handglass[cuda12]'" in done.err
    assert "pip install 'handglass[cuda13]'" in done.err
    assert not (tmp_path / "b").exists()


def test_the_variable_must_name_a_major(
    handglass: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(architectures.MAJOR, "twelve")
    done = handglass("compile", "-m", tmp_path / "none", "-o", tmp_path / "b", "--target", "h100")
    assert done.code == 2 and "must be 12 or 13" in done.err

"""A session on the emulated CUDA device computes what numpy does, with few waits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="builds a library with the TVM compiler")
from emulated_driver import counters
from tiny_gpu import build_for, write_for
from tiny_library import CONTEXT, TABLE, V, logits_after

from handglass.errors import DeviceError
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.devices.cuda import cuda_statistics
from handglass.runtime.devices.self_test import verdict_file
from handglass.runtime.engine.session import Session
from handglass.targets import find_target
from handglass.targets.codegen import cuda
from handglass.targets.codegen.cuda.nvrtc import Nvrtc

pytestmark = [pytest.mark.compiler, pytest.mark.cuda, pytest.mark.usefixtures("emulated")]

TARGET = find_target("rtx-30")
IMAGES = ("sm_86", "compute_86")
FIRST = 4
"""Tokens until each tensor has its place."""


@pytest.fixture(scope="module")
def library(any_nvrtc: Nvrtc, tmp_path_factory: pytest.TempPathFactory) -> Path:
    cuda.enable()
    return build_for(TARGET, tmp_path_factory.mktemp("build") / "lib.so")


def write_bundle(path: Path, library: Path, **entry: Any) -> Bundle:
    named = {"name": TARGET.name, "device": "cuda", "images": IMAGES, **entry}
    return write_for(TARGET, path, library, **named)


@pytest.fixture(scope="module")
def bundle(library: Path, emulated: None, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "tiny", library)


@pytest.fixture()
def session(bundle: Bundle) -> Session:
    return Session(bundle)


def test_prefill_then_decode_is_the_sum_of_all_rows(bundle: Bundle, session: Session) -> None:
    ids = [3, 0, 10, 3, 7]
    assert np.allclose(session.embed(ids), TABLE[ids])
    assert np.allclose(session.prefill(session.embed(ids[:3]), 0), logits_after(ids[:3]), atol=1e-5)
    for n in (3, 4):
        logits = session.decode(ids[n], n)
        assert np.allclose(logits, logits_after(ids[: n + 1]), atol=1e-5)
    assert session.device is not None and session.device.name == "Emulated sm_87"
    assert verdict_file(bundle, session.device).exists(), "known answers were right"


def test_another_device_of_the_machine(bundle: Bundle) -> None:
    session = Session(bundle, device="cuda:sm_90")
    assert session.device is not None and session.device.index == 1
    assert np.allclose(session.prefill(session.embed([3, 1]), 0), logits_after([3, 1]), atol=1e-5)
    assert cuda_statistics(1)["launches"] > 0


def test_a_token_is_one_launch_and_one_wait(session: Session) -> None:
    for n in range(FIRST):
        session.decode(n, n)
    before = {**cuda_statistics(), **counters()}
    for n in range(FIRST, CONTEXT):
        session.decode(n % V, n)
    after = {**cuda_statistics(), **counters()}
    assert after["waits"] - before["waits"] == CONTEXT - FIRST
    assert after["graph_launches"] - before["graph_launches"] == CONTEXT - FIRST
    assert after["node_updates"] == before["node_updates"], "the position is in device memory"
    assert after["uploads"] - before["uploads"] == 2 * (CONTEXT - FIRST), "a token, its position"
    assert after["live_bytes"] == before["live_bytes"]


def test_a_prompt_costs_one_wait(session: Session) -> None:
    before = cuda_statistics()["waits"]
    session.prefill(np.zeros((5, TABLE.shape[1]), np.float32), 0)
    assert cuda_statistics()["waits"] - before == 1


def test_a_chip_without_code_in_the_bundle(library: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "other", library, images=("sm_120", "compute_120"))
    with pytest.raises(DeviceError, match=r"cannot run on cuda:0 .*compute capability 8\.7"):
        Session(bundle)


def test_kernels_are_timed_by_the_devices_clock(session: Session) -> None:
    clock, spans, names = session.clock(), [], []

    def before(name: str, _: object) -> None:
        names.append((name, clock.now()))

    with session.observed(before, lambda _: spans.append((names[-1][1], clock.now()))):
        session.decode(5, 2)
    seconds = clock.seconds(spans)
    assert len(seconds) == len(names) and all(0 < each < 60 for each in seconds)

"""A session on a Vulkan device computes the same as one on the CPU."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tvm", reason="builds a library with the TVM compiler")
from tiny_gpu import build_library, spied, write_bundle
from tiny_library import CONTEXT, TABLE, D, P, Q, V, logits_after
from vulkan_running import needs_vulkan

from handglass.errors import DeviceError, InputError, MismatchError
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.devices.self_test import verdict_file
from handglass.runtime.devices.vulkan import vulkan_statistics
from handglass.runtime.engine.session import Session
from handglass.runtime.prompt.positions import position_ids
from handglass.runtime.prompt.preprocess import cut_patches
from handglass.runtime.system.user_cache import drop_cached

pytestmark = [pytest.mark.compiler, pytest.mark.slow]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("build") / "lib.so")


@pytest.fixture(scope="module")
def bundle(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "tiny", library)


@needs_vulkan
class TestSession:
    @pytest.fixture()
    def session(self, bundle: Bundle) -> Session:
        return Session(bundle)

    def test_prefill_then_decode_is_the_sum_of_all_rows(self, session: Session) -> None:
        ids = [3, 0, 10, 3, 7]
        assert np.allclose(session.embed(ids), TABLE[ids])
        first = session.prefill(session.embed(ids[:3]), 0)
        assert np.allclose(first, logits_after(ids[:3]), atol=1e-5)
        for n in (3, 4):
            logits = session.decode(ids[n], n)
            assert np.allclose(logits, logits_after(ids[: n + 1]), atol=1e-5)

    def test_the_states_of_two_conversations(self, session: Session) -> None:
        one, other = session.state, session.new_state()
        assert not session.can_copy_positions
        session.prefill(session.embed([1, 2]), 0)
        session.use(other)
        session.prefill(session.embed([7]), 0)
        for n, state, before in ((3, one, [1, 2]), (8, other, [7]), (4, one, [1, 2, 3])):
            session.use(state)
            logits = session.decode(n, len(before))
            assert np.allclose(logits, logits_after([*before, n]), atol=1e-4)

    def test_a_picture(self, session: Session) -> None:
        image = np.random.default_rng(0).random((3, 2 * P, 3 * P)).astype(np.float32)
        strip, grid = cut_patches(image, P)
        ids = position_ids(2, 3, 3)
        rows = session.encode_image(strip, ids, grid)
        places = float(ids.sum() + grid.sum())
        assert rows.shape == (Q, D)
        assert np.allclose(rows, TABLE[:Q] * strip.mean() + places, atol=1e-4)

    def test_the_cache_is_the_devices_and_can_be_read_and_filled(self, session: Session) -> None:
        session.prefill(session.embed([3, 4]), 5)
        (cache,) = session.cache
        assert np.allclose(cache[5:7], TABLE[[3, 4]]) and not cache[:5].any()
        values = np.random.default_rng(0).normal(size=(CONTEXT, D)).astype(np.float32)
        session.fill_cache([values])
        assert np.array_equal(session.cache[0], values)
        expected = TABLE @ (values[:9].sum(axis=0) + TABLE[2])
        assert np.allclose(session.decode(2, 9), expected, atol=1e-4)

    def test_two_sessions_share_the_device(self, bundle: Bundle, session: Session) -> None:
        other = Session(bundle)
        session.prefill(session.embed([3]), 0)
        other.prefill(other.embed([4]), 0)
        assert np.allclose(session.decode(5, 1), logits_after([3, 5]), atol=1e-5)
        assert np.allclose(other.decode(5, 1), logits_after([4, 5]), atol=1e-5)

    def test_bounds_are_checked_all_the_same(self, session: Session) -> None:
        with pytest.raises(InputError, match=f"position {CONTEXT} "):
            session.decode(1, CONTEXT)
        with pytest.raises(InputError, match=f"token id {V} "):
            session.decode(V, 0)

    def test_memory_is_told_and_does_not_grow(self, session: Session) -> None:
        def run() -> dict[str, Any]:
            session.prefill(session.embed([3, 4, 5]), 0)
            session.decode(6, 3)
            return vulkan_statistics(0)

        for n in range(CONTEXT):
            session.decode(n % V, n)
        gc.collect()  # tensors of earlier tests may be in cycles
        before = run()
        for _ in range(20):
            after = run()
        assert after["live_bytes"] == before["live_bytes"]
        assert after["live_buffers"] == before["live_buffers"]
        peak = session.device_peak()
        assert peak is not None and peak >= TABLE.nbytes

    def test_kernels_are_timed_by_the_devices_clock(self, session: Session) -> None:
        clock, spans, names = session.clock(), [], []

        def before(name: str, _: object) -> None:
            names.append((name, clock.now()))

        with session.observed(before, lambda _: spans.append((names[-1][1], clock.now()))):
            session.decode(5, 2)
        seconds = clock.seconds(spans)
        assert len(seconds) == len(names) and all(0 <= s < 60 for s in seconds)
        assert "append" in [name for name, _ in names]

    def test_the_device_is_tried_once(self, bundle: Bundle, session: Session) -> None:
        assert session.device is not None
        drop_cached(verdict_file(bundle, session.device))
        with spied("handglass.runtime.devices.self_test.try_cases") as tried:
            Session(bundle)
            Session(bundle, device="vulkan:0")
        assert tried.call_count == 1

    def test_by_name(self, bundle: Bundle, session: Session) -> None:
        assert session.device is not None
        part = session.device.name.split()[0].lower()
        assert Session(bundle, device=f"vulkan:{part}").device == session.device

    @pytest.mark.parametrize("device", ["vulkan:99", "vulkan:no such name"])
    def test_a_device_that_is_not_there(self, bundle: Bundle, device: str) -> None:
        with pytest.raises(DeviceError, match=f"{device}; available: vulkan:0"):
            Session(bundle, device=device)

    def test_an_ability_that_is_lacking(self, library: Path, tmp_path: Path) -> None:
        needed = {"max_shared_memory_per_block": 1 << 30}
        bundle = write_bundle(tmp_path / "large", library, abilities=needed)
        with pytest.raises(DeviceError, match="max_shared_memory_per_block .*1073741824"):
            Session(bundle)


def test_a_cpu_is_another_kind_of_device(bundle: Bundle) -> None:
    with pytest.raises(MismatchError, match="compiled for Vulkan .* --device cpu is a CPU"):
        Session(bundle, device="cpu")

"""A session with a compiled library: its results, and the arguments that it rejects."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="builds a library with the TVM compiler")
from tiny_library import (
    CONTEXT,
    TABLE,
    D,
    P,
    Q,
    V,
    build_library,
    logits_after,
    manifest,
    write_bundle,
)

from handglass.errors import InputError, MismatchError
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.bundle.tensors import aligned
from handglass.runtime.engine.session import Session
from handglass.runtime.prompt.positions import position_ids
from handglass.runtime.prompt.preprocess import cut_patches

pytestmark = [pytest.mark.compiler, pytest.mark.slow]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("build") / "lib.so")


@pytest.fixture(scope="module")
def bundle(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "tiny", library, manifest())


@pytest.fixture()
def session(bundle: Bundle) -> Session:
    return Session(bundle)


def test_prefill_then_decode_is_the_sum_of_all_rows(session: Session) -> None:
    ids = [3, 0, 10, 3, 7]
    assert np.allclose(session.embed(ids), TABLE[ids])
    assert np.allclose(session.prefill(session.embed(ids[:3]), 0), logits_after(ids[:3]), atol=1e-5)
    assert np.allclose(session.decode(ids[3], 3), logits_after(ids[:4]), atol=1e-5)
    assert np.allclose(session.decode(ids[4], 4), logits_after(ids), atol=1e-5)


def test_decoding_takes_no_new_memory_for_its_logits(session: Session) -> None:
    session.prefill(session.embed([3, 4]), 0)
    first = session.decode(5, 2)
    kept = first.copy()
    second = session.decode(7, 3)
    assert second is first, "one array, overwritten by every step"
    assert np.allclose(second, logits_after([3, 4, 5, 7]), atol=1e-5)
    assert not np.allclose(second, kept)


@pytest.mark.parametrize("token", [-1, V])
def test_a_token_outside_the_vocabulary_is_refused(session: Session, token: int) -> None:
    with pytest.raises(InputError, match=f"token id {token} "):
        session.decode(token, 0)


def test_every_call_can_be_observed(session: Session) -> None:
    seen: list[tuple[str, int]] = []
    ended: list[str] = []
    with session.observed(lambda name, args: seen.append((name, len(args))), ended.append):
        session.decode(5, 2)
    assert ("append", 3) in seen and ("total", 3) in seen
    assert ended == [name for name, _ in seen]
    count = len(seen)
    session.decode(6, 3)
    assert len(seen) == count, "it is over"


def test_an_error_of_the_observer_is_raised(session: Session) -> None:
    def interrupt(name: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), session.observed(lambda name, args: None, interrupt):
        session.decode(5, 2)
    assert session.decode(5, 2).shape == (V,)


def test_other_functions_can_be_run(session: Session) -> None:
    ids = np.array([3, 1], np.int32)
    with pytest.raises(MismatchError, match="'probe_read'"):
        session.run("probe_read", ids)


def test_a_prefix_is_reused_by_going_back(session: Session) -> None:
    session.prefill(session.embed([1, 2, 3, 4]), 0)
    assert np.allclose(session.prefill(session.embed([9]), 2), logits_after([1, 2, 9]), atol=1e-5)


def test_two_sessions_share_no_cache(bundle: Bundle) -> None:
    first, second = Session(bundle), Session(bundle)
    first.prefill(first.embed([1, 2]), 0)
    assert np.allclose(second.decode(5, 2), TABLE @ TABLE[5], atol=1e-5)  # initialized to zero
    assert np.allclose(first.decode(5, 2), logits_after([1, 2, 5]), atol=1e-5)


def test_the_states_of_two_conversations(session: Session) -> None:
    one, other = session.state, session.new_state()
    session.prefill(session.embed([1, 2]), 0)
    session.use(other)
    session.prefill(session.embed([7]), 0)
    assert np.allclose(session.decode(8, 1), logits_after([7, 8]), atol=1e-5)
    session.use(one)
    assert np.allclose(session.decode(3, 2), logits_after([1, 2, 3]), atol=1e-5)
    assert session.can_copy_positions
    session.use(other)
    session.copy_positions(one, 2)
    assert np.allclose(session.decode(9, 2), logits_after([1, 2, 9]), atol=1e-5)


def test_read_only_rows_are_taken(session: Session) -> None:
    rows = aligned(session.embed([1, 2]))
    rows.flags.writeable = False
    assert np.allclose(session.prefill(rows, 0), logits_after([1, 2]), atol=1e-5)


def test_the_context_can_be_filled_to_the_last_row(session: Session) -> None:
    ids = [7 * i % V for i in range(CONTEXT)]
    session.prefill(session.embed(ids[:-1]), 0)
    assert np.allclose(session.decode(ids[-1], CONTEXT - 1), logits_after(ids), atol=1e-5)


@pytest.mark.parametrize(("s", "pos"), [(CONTEXT + 1, 0), (1, CONTEXT), (4, CONTEXT - 3), (1, -1)])
def test_a_write_past_the_context_is_refused(session: Session, s: int, pos: int) -> None:
    with pytest.raises(InputError, match=rf"{s} tokens at position {pos} .*{CONTEXT}"):
        session.prefill(np.zeros((s, D), np.float32), pos)
    if s == 1:
        with pytest.raises(InputError, match=f"context of {CONTEXT}"):
            session.decode(0, pos)


@pytest.mark.parametrize("ids", [[V], [-1], [], [2, V + 5], [2**40]])
def test_ids_outside_the_vocabulary_are_refused(session: Session, ids: list[int]) -> None:
    with pytest.raises(InputError, match="vocabulary|non-empty"):
        session.embed(ids)


@pytest.mark.parametrize(
    "x", [np.zeros((2, D + 1), np.float32), np.zeros((2, D)), np.zeros((0, D), np.float32)]
)
def test_rows_of_another_shape_are_refused(session: Session, x: np.ndarray) -> None:
    with pytest.raises(InputError):
        session.prefill(x, 0)


def tile(rows: int, cols: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arguments of encode_image."""
    random = np.random.default_rng(rows * 10 + cols)
    x = random.normal(size=(3, rows * P, cols * P)).astype(np.float32)
    strip, grid = cut_patches(x, P)
    return strip, position_ids(rows, cols, 3), grid


@pytest.mark.parametrize(("rows", "cols"), [(3, 3), (1, 5), (2, 1)])
def test_encode_image_gets_pixels_positions_and_grid(
    session: Session, rows: int, cols: int
) -> None:
    strip, _, grid = arguments = tile(rows, cols)
    ids = [min(3 * i // rows, 2) * 3 + min(3 * j // cols, 2) for i, j in grid]
    expected = TABLE[:Q] * strip.mean() + sum(ids) + grid.sum()
    assert np.allclose(session.encode_image(*arguments), expected, atol=1e-4)


def test_the_two_halves_of_encode_image_can_be_run_apart(session: Session) -> None:
    strip, ids, grid = tile(2, 3)
    features = session.encode_vision(strip, ids)
    assert np.allclose(features, np.stack([ids, ids + strip.mean()], axis=1), atol=1e-5)
    expected = TABLE[:Q] + (features * grid).sum()
    assert np.allclose(session.resample(features, grid), expected, atol=1e-4)
    with pytest.raises(InputError, match=r"expected float32 \(5, 2\)"):
        session.resample(features, grid[1:])
    with pytest.raises(InputError, match="features is float64"):
        session.resample(features.astype(np.float64), grid)


def test_a_picture_of_another_patch_size_is_refused(session: Session) -> None:
    strip, grid = cut_patches(np.zeros((3, 6, 6), np.float32), 3)
    with pytest.raises(InputError, match=r"strip is float32 \(3, 3, 12\)"):
        session.encode_image(strip, position_ids(2, 2, 3), grid)

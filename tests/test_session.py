# ruff: noqa: N805 - methods of a TVMScript module have no self
"""A real compiled library behind a session: a tiny Relax module with the contract's functions.

The model is a sum: the logits after a prefix are table @ (sum of its rows), so numpy knows the
answer, and a cache that is read or written at a wrong place shows at once.
"""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from vocabularies import MARKERS, sentencepiece_model

import handglass
from handglass.errors import DeviceError, InputError, MismatchError, UsageError
from handglass.runtime.bundle import (
    Bundle,
    BundleWriter,
    CacheEntry,
    Manifest,
    ModelEntry,
    PromptEntry,
    TargetEntry,
    TensorEntry,
    TokenizerEntry,
    VisionEntry,
)
from handglass.runtime.machine import this_machine
from handglass.runtime.positions import position_ids
from handglass.runtime.preprocess import Pixels, patches, preprocess
from handglass.runtime.session import Session, load_params
from handglass.runtime.tensors import TensorWriter, aligned
from handglass.runtime.tokenizer import SentencePieceVocabulary, Tokenizer

tvm = pytest.importorskip("tvm", reason="builds a library with the TVM compiler")
relax = pytest.importorskip("tvm.relax", reason="builds a library with the TVM compiler")
from tvm.script import ir as I  # noqa: E402
from tvm.script import relax as R  # noqa: E402
from tvm.script import tirx as T  # noqa: E402

pytestmark = [pytest.mark.compiler, pytest.mark.slow]

PIECES = sentencepiece_model()
TOKENIZER = Tokenizer(SentencePieceVocabulary(PIECES, "test"), MARKERS)
V, D, CONTEXT, Q, P = TOKENIZER.vocab_size, 4, 37, 3, 2


@I.ir_module
class Tiny:
    @T.prim_func(private=True, s_tir=True)
    def append(
        cache: T.Buffer((T.int64(CONTEXT), T.int64(D)), "float32"), rows: T.handle, pos: T.int64
    ):
        s = T.int64()
        x = T.match_buffer(rows, (s, T.int64(D)), "float32")
        for i, d in T.grid(s, T.int64(D)):
            with T.sblock("append"):
                vi, vd = T.axis.remap("SS", [i, d])
                T.reads(x[vi, vd])
                T.writes(cache[pos + vi, vd])
                cache[pos + vi, vd] = x[vi, vd]

    @T.prim_func(private=True, s_tir=True)
    def total(
        cache: T.Buffer((T.int64(CONTEXT), T.int64(D)), "float32"),
        end: T.int64,
        out: T.Buffer((T.int64(D),), "float32"),
    ):
        for d, j in T.grid(T.int64(D), T.int64(CONTEXT)):
            with T.sblock("total"):
                vd, vj = T.axis.remap("SR", [d, j])
                with T.init():
                    out[vd] = T.float32(0)
                out[vd] = out[vd] + T.if_then_else(vj < end, cache[vj, vd], T.float32(0))

    @R.function
    def embed(ids: R.Tensor(("s",), "int32"), params: R.Tuple(R.Tensor((V, D), "float32"))):
        return R.take(params[0], ids, axis=0)

    @R.function
    def prefill(
        x: R.Tensor(("s", D), "float32"),
        at: R.Shape(["pos"]),
        cache: R.Tuple(R.Tensor((CONTEXT, D), "float32")),
        params: R.Tuple(R.Tensor((V, D), "float32")),
    ):
        s = T.int64()
        pos = T.int64()
        cls = Tiny
        kept = R.call_tir_inplace(
            cls.append,
            (cache[0], x, pos),
            out_ty=R.Tensor((CONTEXT, D), "float32"),
            inplace_indices=[0],
        )
        row = R.call_tir(cls.total, (kept, pos + s), out_ty=R.Tensor((D,), "float32"))
        return R.matmul(params[0], row)

    @R.function
    def decode(
        ids: R.Tensor((1,), "int32"),
        at: R.Shape(["pos"]),
        cache: R.Tuple(R.Tensor((CONTEXT, D), "float32")),
        params: R.Tuple(R.Tensor((V, D), "float32")),
    ):
        pos = T.int64()
        cls = Tiny
        kept = R.call_tir_inplace(
            cls.append,
            (cache[0], R.take(params[0], ids, axis=0), pos),
            out_ty=R.Tensor((CONTEXT, D), "float32"),
            inplace_indices=[0],
        )
        row = R.call_tir(cls.total, (kept, pos + 1), out_ty=R.Tensor((D,), "float32"))
        return R.matmul(params[0], row)

    @R.function
    def encode_image(
        pixels: R.Tensor((3, P, "w"), "float32"),
        position_ids: R.Tensor(("n",), "int32"),
        grid: R.Tensor(("n", 2), "int32"),
        params: R.Tuple(R.Tensor((V, D), "float32")),
    ):
        brightness = R.mean(pixels)
        places = R.sum(R.astype(position_ids, "float32")) + R.sum(R.astype(grid, "float32"))
        return R.take(params[0], R.const(np.arange(Q, dtype="int32")), axis=0) * brightness + places

    @R.function
    def encode_vision(
        pixels: R.Tensor((3, P, "w"), "float32"),
        position_ids: R.Tensor(("n",), "int32"),
        params: R.Tuple(R.Tensor((V, D), "float32")),
    ):
        n = T.int64()
        ids = R.reshape(R.astype(position_ids, "float32"), R.shape([n, 1]))
        return R.concat([ids, ids + R.mean(pixels)], axis=1)

    @R.function
    def resample(
        features: R.Tensor(("n", 2), "float32"),
        grid: R.Tensor(("n", 2), "int32"),
        params: R.Tuple(R.Tensor((V, D), "float32")),
    ):
        total = R.sum(features * R.astype(grid, "float32"))
        return R.take(params[0], R.const(np.arange(Q, dtype="int32")), axis=0) + total


TABLE = np.random.default_rng(3).normal(size=(V, D)).astype(np.float32)


def manifest() -> Manifest:
    return Manifest(
        model=ModelEntry("Tiny", {}),
        target=TargetEntry("host", f"{this_machine()[0]}-linux-gnu", "generic", ()),
        scheme={"language": "f32"},
        versions={"tvm": tvm.__version__},
        functions={},
        params=(TensorEntry("table", (V, D), "float32"),),
        cache=CacheEntry(CONTEXT, (TensorEntry("rows", (CONTEXT, D), "float32"),)),
        vision=VisionEntry(6, P, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), Q, 3),
        prompt=PromptEntry("<s>", "<用户>", "<AI>", "<image>", "</image>", "<unk>", ("</s>",)),
        tokenizer=TokenizerEntry("sentencepiece", "tokenizer.model"),
        vocab_size=V,
        hidden_size=D,
    )


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("build") / "lib.so"
    relax.build(Tiny, tvm.target.Target({"kind": "llvm"})).export_library(str(path))
    return path


def write_bundle(path: Path, library: Path, changed: Manifest, table: np.ndarray = TABLE) -> Bundle:
    with BundleWriter(path) as writer:
        writer.add_file("lib.so", library)
        writer.add_file("tokenizer.model", PIECES)
        params = writer.folder / "params-00001.safetensors"
        with TensorWriter(params, [("table", table.shape, table.dtype.name)]) as tensors:
            tensors.write("table", table)
        writer.add_file(params.name)
        return writer.finish(changed)


@pytest.fixture(scope="module")
def bundle(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "tiny", library, manifest())


@pytest.fixture()
def session(bundle: Bundle) -> Session:
    return Session(bundle)


def logits_after(ids: list[int]) -> np.ndarray:
    return TABLE @ TABLE[ids].sum(axis=0)


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
    with pytest.raises(InputError, match=f"token id {token} is outside"):
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
    with pytest.raises(MismatchError, match="no function 'probe_read'"):
        session.run("probe_read", ids)


def test_a_prefix_is_reused_by_going_back(session: Session) -> None:
    session.prefill(session.embed([1, 2, 3, 4]), 0)
    assert np.allclose(session.prefill(session.embed([9]), 2), logits_after([1, 2, 9]), atol=1e-5)


def test_two_sessions_share_no_cache(bundle: Bundle) -> None:
    first, second = Session(bundle), Session(bundle)
    first.prefill(first.embed([1, 2]), 0)
    assert np.allclose(second.decode(5, 2), TABLE @ TABLE[5], atol=1e-5)  # zero-filled before
    assert np.allclose(first.decode(5, 2), logits_after([1, 2, 5]), atol=1e-5)


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
    with pytest.raises(InputError, match=rf"{s} tokens at position {pos} .*context of {CONTEXT}"):
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


def pixels(rows: int, cols: int) -> Pixels:
    random = np.random.default_rng(rows * 10 + cols)
    return patches(random.normal(size=(3, rows * P, cols * P)).astype(np.float32), P)


@pytest.mark.parametrize(("rows", "cols"), [(3, 3), (1, 5), (2, 1)])
def test_encode_image_gets_pixels_positions_and_grid(
    session: Session, rows: int, cols: int
) -> None:
    picture = pixels(rows, cols)
    ids = [min(3 * i // rows, 2) * 3 + min(3 * j // cols, 2) for i, j in picture.grid]
    expected = TABLE[:Q] * picture.strip.mean() + sum(ids) + picture.grid.sum()
    assert np.allclose(session.encode_image(picture), expected, atol=1e-4)


def test_the_two_halves_of_encode_image_can_be_run_apart(session: Session) -> None:
    picture = pixels(2, 3)
    ids = position_ids(2, 3, 3)
    features = session.encode_vision(picture)
    assert np.allclose(features, np.stack([ids, ids + picture.strip.mean()], axis=1), atol=1e-5)
    expected = TABLE[:Q] + (features * picture.grid).sum()
    assert np.allclose(session.resample(features, picture.grid), expected, atol=1e-4)
    with pytest.raises(InputError, match=r"expected float32 \(5, 2\)"):
        session.resample(features, picture.grid[1:])
    with pytest.raises(InputError, match="features is float64"):
        session.resample(features.astype(np.float64), picture.grid)


def test_a_picture_of_another_patch_size_is_refused(session: Session) -> None:
    picture = patches(np.zeros((3, 6, 6), np.float32), 3)
    with pytest.raises(InputError, match=r"pixels is float32 \(3, 3, 12\)"):
        session.encode_image(picture)


def changed(**fields: object) -> Manifest:
    return dataclasses.replace(manifest(), **fields)  # type: ignore[arg-type]


WRONG_PARAMS = {
    "shape": ((TensorEntry("table", (D, V), "float32"),), rf"is float32 \({V}, 4\), the manifest"),
    "dtype": ((TensorEntry("table", (V, D), "float16"),), "the manifest says float16"),
    "missing": (
        (TensorEntry("table", (V, D), "float32"), TensorEntry("other", (1,), "float32")),
        "'other' is in no params file",
    ),
    "extra": ((), "'table' is not in the manifest"),
}


@pytest.mark.parametrize("case", WRONG_PARAMS)
def test_parameters_must_be_those_of_the_manifest(library: Path, tmp_path: Path, case: str) -> None:
    params, message = WRONG_PARAMS[case]
    bundle = write_bundle(tmp_path / "b", library, changed(params=params))
    with pytest.raises(MismatchError, match=message):
        Session(bundle)


def test_a_result_of_another_shape_is_refused(library: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", library, changed(vocab_size=V + 1))
    session = Session(bundle)
    with pytest.raises(MismatchError, match=rf"prefill returned float32 \({V},\)"):
        session.prefill(np.zeros((1, D), np.float32), 0)


def test_parameters_that_are_not_aligned_are_copied(library: Path, tmp_path: Path) -> None:
    with BundleWriter(tmp_path / "b") as writer:
        writer.add_file("lib.so", library)
        writer.add_file("tokenizer.model", b"")
        head = {"table": {"dtype": "F32", "shape": [V, D], "data_offsets": [0, TABLE.nbytes]}}
        text = json.dumps(head).encode()
        text += b" " * (20 - len(text) % 64)  # data at 28 modulo 64
        raw = len(text).to_bytes(8, "little") + text + TABLE.tobytes()
        writer.add_file("params-00001.safetensors", raw)
        bundle = writer.finish(manifest())
    assert load_params(bundle)[0].ctypes.data % 64 == 28
    assert np.array_equal(Session(bundle).embed([4, 2]), TABLE[[4, 2]])


def test_a_library_without_the_functions_is_refused(tmp_path: Path) -> None:
    only = tvm.IRModule({"embed": Tiny["embed"]})
    path = tmp_path / "lib.so"
    relax.build(only, tvm.target.Target({"kind": "llvm"})).export_library(str(path))
    with pytest.raises(MismatchError, match="no function 'encode_image'"):
        Session(write_bundle(tmp_path / "b", path, manifest()))


FOREIGN = {
    "architecture": (TargetEntry("board", "riscv64-linux-gnu", "u74", ()), "compiled for riscv64"),
    "instruction": (
        TargetEntry("future", f"{this_machine()[0]}-linux-gnu", "zen9", ("avx2048", "warp")),
        "lacks avx2048, warp",
    ),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_code_for_another_cpu_is_refused_before_it_is_loaded(tmp_path: Path, case: str) -> None:
    target, message = FOREIGN[case]
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"loading this would be another error")
    bundle = write_bundle(tmp_path / "b", broken, changed(target=target))
    with pytest.raises(DeviceError, match=message):
        Session(bundle)


def test_a_library_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.so"
    path.write_bytes(b"not an ELF file")
    with pytest.raises(MismatchError, match="cannot be loaded"):
        Session(write_bundle(tmp_path / "b", path, manifest()))


def test_another_minor_version_of_tvm_ffi_is_refused(library: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", library, changed(versions={"tvm_ffi": "0.9.1"}))
    with pytest.raises(MismatchError, match=r"tvm_ffi 0\.9\.1, installed is"):
        Session(bundle)


@pytest.mark.parametrize("threads", [0, -1, 10**6, True, "2"])
def test_impossible_thread_counts_are_refused(bundle: Bundle, threads: int) -> None:
    with pytest.raises(UsageError, match="threads="):
        Session(bundle, threads=threads)


def test_a_running_pool_shrinks_and_grows_back(bundle: Bundle) -> None:
    import tvm_ffi

    Session(bundle)
    running = tvm_ffi.get_global_func("runtime.NumThreads")
    before = running()
    try:
        cpus = os.sched_getaffinity(0)
        session = Session(bundle, threads=1)
        assert running() == 1
        session.prefill(session.embed([1, 2]), 0)
        assert os.sched_getaffinity(0) == cpus
    finally:
        Session(bundle, threads=before)
    assert running() == before


CHILD = """
import json, os, sys
from handglass.runtime.bundle import Bundle
cpus = os.sched_getaffinity(0)
from handglass.runtime.session import Session
bundle = Bundle.open(sys.argv[1])
session = Session(bundle, threads=1)
logits = session.prefill(session.embed([1, 2]), 0)
import tvm_ffi
threads = tvm_ffi.get_global_func("runtime.NumThreads")()
bound = os.sched_getaffinity(0) != cpus
loaded = [name for name in ("tvm", "torch", "onnx") if name in sys.modules]
maps = open("/proc/self/maps").read()
import torch, tvm  # both still work afterwards
print(json.dumps({"loaded": loaded, "compiler": "libtvm_compiler" in maps, "threads": threads,
                  "bound": bound, "logits": logits.tolist()}))
"""


def test_a_fresh_process_runs_without_tvm_or_torch(bundle: Bundle) -> None:
    root = Path(__file__).parent.parent
    command = [sys.executable, "-W", "error", "-c", CHILD, str(bundle.path)]
    child = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert child.returncode == 0, child.stderr
    seen = json.loads(child.stdout)
    assert (seen["loaded"], seen["compiler"], seen["threads"]) == ([], False, 1)
    assert seen["bound"] is False
    assert np.allclose(seen["logits"], logits_after([1, 2]), atol=1e-5)


def test_a_bundle_answers_questions_about_pictures(bundle: Bundle) -> None:
    """Everything of the runtime at once; numpy plays the model beside it."""
    model = handglass.load(bundle.path, threads=1)
    array = np.random.default_rng(8).integers(0, 256, (17, 23, 3), dtype=np.uint8)
    answer = model.chat("What is it?", images=[array], max_tokens=9)

    settings = {"image_size": 6, "patch_size": P, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    picture = preprocess(array, **settings)  # type: ignore[arg-type]
    features = TABLE[:Q] * picture.strip.mean() + np.arange(9).sum() + picture.grid.sum()
    ids = TOKENIZER.encode("What is it?")
    head = [TOKENIZER.token_id(t) for t in ("<s>", "<用户>", "<image>")]
    tail = [TOKENIZER.token_id("</image>"), *ids, TOKENIZER.token_id("<AI>")]
    total = TABLE[head].sum(axis=0) + features.sum(axis=0) + TABLE[tail].sum(axis=0)
    said: list[int] = []
    while len(said) < 9:
        token = int((TABLE @ total).argmax())
        if token == TOKENIZER.token_id("</s>"):
            break
        said.append(token)
        total = total + TABLE[token]
    assert list(answer.tokens) == said
    assert answer.text == TOKENIZER.decode(said).decode("utf-8", "replace")
    assert answer.timings.prefill_tokens == len(head) + Q + len(tail)
    assert answer.timings.load_s > 0


def test_the_runtime_may_come_with_the_bundle(library: Path, tmp_path: Path) -> None:
    """In a process that has no tvm at all: it is found in the bundle."""
    installed = Path(tvm.__file__).parent / "lib" / "libtvm_runtime.so"
    with BundleWriter(tmp_path / "b") as writer:
        writer.add_file("lib.so", library)
        writer.add_file("tokenizer.model", PIECES)
        writer.add_file("libtvm_runtime.so", installed)
        params = writer.folder / "params-00001.safetensors"
        with TensorWriter(params, [("table", TABLE.shape, "float32")]) as tensors:
            tensors.write("table", TABLE)
        writer.add_file(params.name)
        made = writer.finish(manifest())
    code = (
        "import sys; sys.modules['tvm'] = None; import handglass\n"
        "print(handglass.load(sys.argv[1]).chat('hello', max_tokens=2).tokens)\n"
        "print(sys.argv[1] + '/libtvm_runtime.so' in open('/proc/self/maps').read())"
    )
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", code, str(made.path)]
    root = Path(__file__).parent.parent
    child = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert child.returncode == 0, child.stderr
    expected = handglass.load(made.path).chat("hello", max_tokens=2).tokens
    assert child.stdout.split("\n")[:2] == [str(expected), "True"]

"""Loading a bundle: parameters, library, threads, and the bundles that are rejected."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tvm", reason="builds a library with the TVM compiler")
import tvm
from tiny_library import (
    PIECES,
    TABLE,
    TINY,
    TOKENIZER,
    D,
    Q,
    V,
    build_library,
    changed,
    export,
    logits_after,
    manifest,
    write_bundle,
)
from tvm import relax

import handglass
from handglass.errors import DeviceError, MismatchError, UsageError
from handglass.runtime.bundle.entries import TargetEntry, TensorEntry
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.bundle.tensor_writer import TensorWriter
from handglass.runtime.bundle.writer import BundleWriter
from handglass.runtime.engine.session import Session
from handglass.runtime.execution.thread_pool import POOL
from handglass.runtime.prompt.preprocess import open_preprocessor
from handglass.runtime.system.machine import this_machine

pytestmark = [pytest.mark.compiler, pytest.mark.slow]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_library(tmp_path_factory.mktemp("build") / "lib.so")


@pytest.fixture(scope="module")
def bundle(library: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "tiny", library, manifest())


WRONG_PARAMS = {
    "shape": ((TensorEntry("table", (D, V), "float32"),), rf"is float32 \({V}, 4\), the manifest"),
    "dtype": ((TensorEntry("table", (V, D), "float16"),), "the manifest says float16"),
    "missing": (
        (TensorEntry("table", (V, D), "float32"), TensorEntry("other", (1,), "float32")),
        "'other' is missing from the params files",
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
    (file,) = bundle.params_names()
    assert bundle.tensors(file).array("table").ctypes.data % 64 == 28
    assert np.array_equal(Session(bundle).embed([4, 2]), TABLE[[4, 2]])


def test_a_library_without_the_functions_is_refused(tmp_path: Path) -> None:
    only = tvm.IRModule({"embed": TINY["embed"]})
    path = export(only, tmp_path / "lib.so")
    with pytest.raises(MismatchError, match="'encode_image'"):
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
    with pytest.raises(MismatchError, match=r"lib\.so: cannot be loaded"):
        Session(write_bundle(tmp_path / "b", path, manifest()))


def test_another_minor_version_of_tvm_ffi_is_refused(library: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", library, changed(versions={"tvm_ffi": "0.9.1"}))
    with pytest.raises(MismatchError, match=r"tvm_ffi 0\.9\.1"):
        Session(bundle)


@pytest.mark.parametrize("threads", [0, -1, 10**6, True, "2"])
def test_impossible_thread_counts_are_refused(bundle: Bundle, threads: int) -> None:
    with pytest.raises(UsageError, match="threads="):
        Session(bundle, threads=threads)


def test_sessions_of_a_process_have_their_own_number_of_threads(bundle: Bundle) -> None:
    cpus = os.sched_getaffinity(0)
    one, all_of_them = Session(bundle, threads=1), Session(bundle, threads=len(cpus))
    for session, threads in [(one, 1), (all_of_them, len(cpus)), (one, 1)]:
        session.prefill(session.embed([1, 2]), 0)
        assert (session.threads, POOL.threads) == (threads, threads)
    assert os.sched_getaffinity(0) == cpus


def test_a_library_without_a_thread_pool_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lib.so"
    relax.build(TINY, tvm.target.Target({"kind": "llvm"})).export_library(str(path))
    with pytest.raises(MismatchError, match=r"lib\.so: .*compile again"):
        Session(write_bundle(tmp_path / "b", path, manifest()))


CHILD = """
import json, os, sys
from handglass.runtime.bundle.reader import Bundle
cpus = os.sched_getaffinity(0)
from handglass.runtime.engine.session import Session
from handglass.runtime.execution.thread_pool import POOL
bundle = Bundle.open(sys.argv[1])
session = Session(bundle, threads=1)
logits = session.prefill(session.embed([1, 2]), 0)
from handglass.runtime.execution.thread_pool import POOL
threads = POOL.threads
bound = os.sched_getaffinity(0) != cpus
loaded = [name for name in ("tvm", "torch", "onnx") if name in sys.modules]
maps = open("/proc/self/maps").read()
import torch, tvm  # both still import afterwards
print(json.dumps({"loaded": loaded, "compiler": "libtvm_compiler" in maps, "threads": threads,
                  "bound": bound, "logits": logits.tolist()}))
"""


def test_a_fresh_process_runs_without_tvm_or_torch(bundle: Bundle) -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-W", "error", "-c", CHILD, str(bundle.path)]
    child = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert child.returncode == 0, child.stderr
    seen = json.loads(child.stdout)
    assert (seen["loaded"], seen["compiler"], seen["threads"]) == ([], False, 1)
    assert seen["bound"] is False
    assert np.allclose(seen["logits"], logits_after([1, 2]), atol=1e-5)


def test_a_bundle_answers_questions_about_pictures(bundle: Bundle) -> None:
    """The whole runtime at once, compared with a numpy model."""
    model = handglass.load(bundle.path, threads=1)
    array = np.random.default_rng(8).integers(0, 256, (17, 23, 3), dtype=np.uint8)
    answer = model.chat("What is it?", images=[array], max_tokens=9)

    (picture,) = open_preprocessor(bundle.manifest)(array)
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
    """In a process without tvm installed, the bundle's runtime library is used."""
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
        "print('/memfd:libtvm_runtime.so' in open('/proc/self/maps').read())"
    )
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", code, str(made.path)]
    root = Path(__file__).parents[2]
    child = subprocess.run(command, capture_output=True, text=True, cwd=root)
    assert child.returncode == 0, child.stderr
    expected = handglass.load(made.path).chat("hello", max_tokens=2).tokens
    assert child.stdout.split("\n")[:2] == [str(expected), "True"]

# ruff: noqa: N805 - methods of a TVMScript module have no self
"""A tiny Relax module with the contract's functions, and bundles of it.

The model is a sum: the logits after a prefix are table @ (sum of its rows). numpy can compute the
answer, and a wrong position in the cache changes it.
"""

import dataclasses
from pathlib import Path

import numpy as np
import tvm
from manifests import seed_prompt, square
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R
from tvm.script import tirx as T
from vocabularies import MARKERS, sentencepiece_model

from handglass.runtime.bundle.entries import (
    FunctionEntry,
    ModelEntry,
    StateEntry,
    StateTensor,
    TargetEntry,
    TensorEntry,
    TokenizerEntry,
)
from handglass.runtime.bundle.reader import Bundle, Manifest
from handglass.runtime.bundle.tensor_writer import TensorWriter
from handglass.runtime.bundle.writer import BundleWriter
from handglass.runtime.prompt.tokenizer import Tokenizer
from handglass.runtime.prompt.vocabularies import SentencePieceVocabulary
from handglass.runtime.system.machine import this_machine
from handglass.targets import find_target
from handglass.targets.linking.linker import find_linker

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


TINY: tvm.IRModule = Tiny
FUNCTIONS = ("encode_image", "encode_vision", "resample", "embed", "prefill", "decode")
TABLE = np.random.default_rng(3).normal(size=(V, D)).astype(np.float32)


def manifest() -> Manifest:
    return Manifest(
        model=ModelEntry("Tiny", {}),
        target=TargetEntry("host", f"{this_machine()[0]}-linux-gnu", "generic", ()),
        scheme={"language": "f32"},
        versions={"tvm": tvm.__version__},
        functions={name: FunctionEntry((), "") for name in FUNCTIONS},
        params=(TensorEntry("table", (V, D), "float32"),),
        state=StateEntry(CONTEXT, (StateTensor("rows", (CONTEXT, D), "float32"),)),
        vision=square(6, P, Q, 3),
        prompt=seed_prompt(),
        tokenizer=TokenizerEntry("sentencepiece", "tokenizer.model"),
        vocab_size=V,
        hidden_size=D,
    )


def changed(**fields: object) -> Manifest:
    return dataclasses.replace(manifest(), **fields)  # type: ignore[arg-type]


def build_library(path: Path) -> Path:
    return export(TINY, path)


def export(mod: tvm.IRModule, path: Path) -> Path:
    """Compile `mod` for the host, with the thread pool that the compiler links to every library."""
    built = relax.build(mod, tvm.target.Target({"kind": "llvm"}))
    built.export_library(str(path), fcompile=find_linker(find_target("host")))
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


def logits_after(ids: list[int]) -> np.ndarray:
    return TABLE @ TABLE[ids].sum(axis=0)

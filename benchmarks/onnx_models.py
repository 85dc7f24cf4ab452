"""Ten exported encoders of public architectures (random weights), from both exporters of torch.

Prints a Markdown table: how much of the work of each graph is in operators of ours, the difference
from onnxruntime, and the time of a call beside onnxruntime's, in one interleaved run.

    python benchmarks/onnx_encoders.py [--size small] [--only ViT ...] [--quantization f32]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handglass.compiler.build_graph import compile_graph
from handglass.compiler.parity.ratios import snr_db
from handglass.runtime.engine.graph import GraphSession

TOKENS = 64
EXPORTERS = {"dynamo": True, "TorchScript": False}
"""Name -> the argument `dynamo` of torch.onnx.export."""
ROUNDS, SECONDS = 40, 2.0
"""Pairs of calls per model, at most, and about how long they may take."""


@dataclass(frozen=True)
class Size:
    """Hidden size, layers, heads, side of a picture, side of a patch."""

    hidden: int
    layers: int
    heads: int
    picture: int
    patch: int


SIZES = {"base": Size(384, 4, 6, 224, 16), "small": Size(64, 1, 2, 32, 8)}


def models(size: Size) -> dict[str, Callable[[], tuple[Any, dict[str, Any]]]]:
    """Name -> a function that makes (module, arguments by name)."""
    import transformers as t

    sizes = {
        "hidden_size": size.hidden,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "intermediate_size": 4 * size.hidden,
    }
    sees = sizes | {"image_size": size.picture, "patch_size": size.patch}
    reads = sizes | {"vocab_size": 1000}
    depths = [size.layers // 2 or 1] * 4
    widths = [size.hidden // 8 * 2**i for i in range(4)]
    return {
        "ViT": lambda: _picture(t.ViTModel(t.ViTConfig(**sees), add_pooling_layer=False), size),
        "DeiT": lambda: _picture(t.DeiTModel(t.DeiTConfig(**sees), add_pooling_layer=False), size),
        "DINOv2": lambda: _picture(t.Dinov2Model(t.Dinov2Config(**sees)), size),
        "CLIP vision": lambda: _picture(t.CLIPVisionModel(t.CLIPVisionConfig(**sees)), size),
        "SigLIP vision": lambda: _picture(t.SiglipVisionModel(t.SiglipVisionConfig(**sees)), size),
        "BERT": lambda: _text(t.BertModel(t.BertConfig(**reads), add_pooling_layer=False)),
        "DistilBERT": lambda: _text(t.DistilBertModel(_distil(t, size))),
        "RoBERTa": lambda: _text(t.RobertaModel(t.RobertaConfig(**reads), add_pooling_layer=False)),
        "ConvNeXt": lambda: _picture(
            t.ConvNextModel(t.ConvNextConfig(hidden_sizes=widths, depths=depths)), size
        ),
        "ResNet": lambda: _picture(
            t.ResNetModel(
                t.ResNetConfig(
                    embedding_size=widths[0], hidden_sizes=[4 * n for n in widths], depths=depths
                )
            ),
            size,
        ),
    }


def _distil(t: Any, size: Size) -> Any:
    return t.DistilBertConfig(
        vocab_size=1000,
        dim=size.hidden,
        n_layers=size.layers,
        n_heads=size.heads,
        hidden_dim=4 * size.hidden,
    )


def _picture(module: Any, size: Size) -> tuple[Any, dict[str, Any]]:
    import torch

    return module, {"pixel_values": torch.randn(1, 3, size.picture, size.picture)}


def _text(module: Any) -> tuple[Any, dict[str, Any]]:
    import torch

    ids = torch.randint(5, 1000, (1, TOKENS))
    return module, {"input_ids": ids, "attention_mask": torch.ones(1, TOKENS, dtype=torch.int64)}


def export(
    module: Any, given: Mapping[str, Any], path: Path, is_new: bool, opset: int = 18
) -> Path:
    """Write the first output of a module as ONNX, with the new (dynamo) or the old exporter."""
    import torch

    class First(torch.nn.Module):
        """Arguments by position, because exporters name inputs after them."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = module.eval()

        def forward(self, *values: Any) -> Any:
            return self.inner(**dict(zip(given, values, strict=True)))[0]

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            First(),
            tuple(given.values()),
            str(path),
            dynamo=is_new,
            opset_version=opset,
            input_names=list(given),
            output_names=["output"],
            verbose=False,
        )
    return path


@dataclass(frozen=True)
class Row:
    """One exported model."""

    name: str
    exporter: str
    found: dict[str, Any]
    snr: float
    ours: float
    """Seconds of a call, the median."""
    theirs: float

    def __str__(self) -> str:
        counts = ", ".join(f"{n} {kind}" for kind, n in self.found["recognised"].items())
        share, ratio = self.found["share"], self.ours / self.theirs
        return (
            f"| {self.name} | {self.exporter} | {share:.1%} | {counts} | {self.snr:.0f} dB | "
            f"{self.ours * 1e3:.2f} ms | {self.theirs * 1e3:.2f} ms | {ratio:.2f} |"
        )


HEAD = (
    "| model | exporter | recognised | operators | against onnxruntime | ours | onnxruntime | "
    "ratio |\n|---|---|---|---|---|---|---|---|"
)


def rows(
    size: Size, quantization: str, threads: int, folder: Path, only: list[str]
) -> Iterator[Row | str]:
    """Every model by both exporters; a text instead of a row where one is refused."""
    import torch

    for name, make in models(size).items():
        if only and name not in only:
            continue
        torch.manual_seed(0)
        module, given = make()
        for exporter, is_new in EXPORTERS.items():
            path = folder / f"{name.replace(' ', '-')}-{exporter}.onnx"
            try:
                export(module, given, path, is_new)
                yield compared(name, exporter, path, given, quantization, threads)
            except Exception as error:  # noqa: BLE001  a row of the table says so
                text = f"{type(error).__name__}: {error}".replace("\n", " ")
                yield f"| {name} | {exporter} | {text[:300]} | | | | | |"


def compared(
    name: str, exporter: str, path: Path, given: Mapping[str, Any], quantization: str, threads: int
) -> Row:
    import onnxruntime

    bundle = path.with_suffix("")
    found = compile_graph(path, bundle, quantization=quantization).graph
    session = GraphSession.load(bundle, threads=threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    theirs = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    arrays = {name: value.numpy() for name, value in given.items()}
    (result,) = session.apply(arrays).values()
    snr = snr_db(theirs.run(None, arrays)[0], result)
    times = interleaved(lambda: session.apply(arrays), lambda: theirs.run(None, arrays))
    return Row(name, exporter, found, snr, *times)


def interleaved(ours: Callable[[], Any], theirs: Callable[[], Any]) -> tuple[float, float]:
    """The median seconds of both, called in turn."""
    times: list[tuple[float, float]] = []
    start = time.perf_counter()
    while len(times) < ROUNDS and (len(times) < 3 or time.perf_counter() - start < SECONDS):
        times.append((_seconds(ours), _seconds(theirs)))
    first, second = np.median(np.array(times), axis=0)
    return float(first), float(second)


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--quantization", default="f32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[])
    asked = parser.parse_args()
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        size = SIZES[asked.size]
        for row in rows(size, asked.quantization, asked.threads, Path(folder), asked.only):
            print(row, flush=True)


if __name__ == "__main__":
    main()

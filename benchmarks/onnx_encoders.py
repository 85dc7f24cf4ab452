"""Ten exported encoders of public architectures (random weights), from both exporters of torch.

Prints a Markdown table: how much of the work of each graph is in operators of ours, the difference
from onnxruntime, and the time of a call beside onnxruntime's, in one interleaved run.

    python benchmarks/onnx_encoders.py [--size small] [--only ViT ...] [--quantization w8a8]

What is exported, compiled and measured is kept in build/onnx-encoders, for each revision: a run
goes on where the last one ended. With --prepare, it measures nothing, so that the rest, on a quiet
machine, takes three minutes.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from full_size import revision
from onnx_models import EXPORTERS, SIZES, Size, export, models

from handglass.compiler.build_graph import compile_graph
from handglass.compiler.parity.ratios import snr_db
from handglass.runtime.bundle.reader import REPORT
from handglass.runtime.engine.graph import GraphSession
from handglass.runtime.system.hardware import read_machine

BUILD = Path(__file__).parents[1] / "build" / "onnx-encoders"
ROUNDS, SECONDS = 40, 2.0
"""Pairs of calls per model, at most, and about how long they may take."""
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Row:
    """One exported model; `found` is what compile reports of the graph."""

    model: str
    exporter: str
    error: str = ""
    found: dict[str, Any] = field(default_factory=dict)
    snr_db: float = 0.0
    ours: float = 0.0
    """Seconds of a call, the median."""
    theirs: float = 0.0

    def __str__(self) -> str:
        start = f"| {self.model} | {self.exporter} |"
        if self.error:
            return f"{start} {self.error} | | | | | |"
        counts = ", ".join(f"{n} {kind}" for kind, n in self.found["recognised"].items())
        return (
            f"{start} {self.found['share']:.1%} | {counts} | {self.snr_db:.0f} dB | "
            f"{self.ours * 1e3:.2f} ms | {self.theirs * 1e3:.2f} ms | "
            f"{self.ours / self.theirs:.2f} |"
        )


HEAD = (
    "| model | exporter | recognised | operators | against onnxruntime | ours | onnxruntime | "
    "ratio |\n|---|---|---|---|---|---|---|---|"
)


def exported(name: str, exporter: str, size: Size, folder: Path) -> Path:
    """The file; its inputs are beside it, as .npz, which is written last."""
    import torch

    path = folder / f"{name.replace(' ', '-')}-{exporter}.onnx"
    if not path.with_suffix(".npz").exists():
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        module, given = models(size)[name]()
        export(module, given, path, EXPORTERS[exporter])
        np.savez(path.with_suffix(".npz"), **{n: v.numpy() for n, v in given.items()})
    return path


def arrays_of(path: Path) -> Arrays:
    """The inputs of an exported file."""
    with np.load(path.with_suffix(".npz")) as arrays:
        return dict(arrays)


@dataclass(frozen=True)
class Pair:
    """A bundle and its graph in onnxruntime, with the same inputs."""

    ours: Callable[[], Any]
    theirs: Callable[[], Any]

    @classmethod
    def load(cls, path: Path, bundle: Path, threads: int) -> Pair:
        import onnxruntime

        session, arrays = GraphSession.load(bundle, threads=threads), arrays_of(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        other = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return cls(
            lambda: next(iter(session.apply(arrays).values())),
            lambda: other.run(None, arrays)[0],
        )

    def snr(self) -> float:
        """In dB."""
        return snr_db(self.theirs(), self.ours())

    def interleaved(self) -> tuple[float, float]:
        """The median seconds of both, called in turn."""
        times: list[tuple[float, float]] = []
        start = time.perf_counter()
        while len(times) < ROUNDS and (len(times) < 3 or time.perf_counter() - start < SECONDS):
            times.append((_seconds(self.ours), _seconds(self.theirs)))
        first, second = np.median(np.array(times), axis=0)
        return float(first), float(second)


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@dataclass(frozen=True)
class Run:
    """Where one size and scheme of this revision are kept."""

    size: str
    quantization: str
    threads: int

    @property
    def folder(self) -> Path:
        return BUILD / f"{self.size}-{self.quantization}-{revision()}"

    @property
    def results(self) -> Path:
        """A row on each line, as JSON."""
        return self.folder / f"{self.threads}-threads.jsonl"

    def prepared(self, name: str, exporter: str) -> tuple[Path, Path]:
        """The file and the bundle of a model, which are made if they are missing."""
        path = exported(name, exporter, SIZES[self.size], BUILD / self.size)
        bundle = self.folder / path.stem
        if not bundle.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            compile_graph(path, bundle, quantization=self.quantization)
        return path, bundle

    def row(self, name: str, exporter: str) -> Row:
        """The row of a model, measured if the file does not have it."""
        for row in self.known():
            if (row.model, row.exporter) == (name, exporter):
                return row
        path, bundle = self.prepared(name, exporter)
        row = measured(name, exporter, path, bundle, self.threads)
        with self.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(row)) + "\n")
        return row

    def known(self) -> list[Row]:
        if not self.results.exists():
            return []
        lines = self.results.read_text("utf-8").splitlines()
        return [Row(**json.loads(line)) for line in lines]


def measured(name: str, exporter: str, path: Path, bundle: Path, threads: int) -> Row:
    found = json.loads((bundle / REPORT).read_text("utf-8"))["graph"]
    pair = Pair.load(path, bundle, threads)
    return Row(name, exporter, "", found, pair.snr(), *pair.interleaved())


def rows(run: Run, names: Sequence[str], is_measured: bool) -> Iterator[Row]:
    """Every model by both exporters; a row with an error, which is not kept, where one fails."""
    for name, exporter in product(names, EXPORTERS):
        try:
            if is_measured:
                yield run.row(name, exporter)
            else:
                run.prepared(name, exporter)
        except Exception as error:  # noqa: BLE001  a row of the table says so
            text = f"{type(error).__name__}: {error}".replace("\n", " ")
            yield Row(name, exporter, text[:300])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="base")
    parser.add_argument("--quantization", default="f32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--prepare", action="store_true", help="export and compile alone")
    asked = parser.parse_args()
    known = models(SIZES[asked.size])
    if unknown := set(asked.only) - known.keys():
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(known)}")
    run = Run(asked.size, asked.quantization, asked.threads)
    machine = read_machine().model
    print(
        f"{machine}, {asked.threads} threads, {date.today()}, {revision()}, {asked.size}, ", end=""
    )
    print(f"{asked.quantization}\n\n{HEAD}", flush=True)
    for row in rows(run, asked.only or list(known), not asked.prepare):
        print(row, flush=True)


if __name__ == "__main__":
    main()

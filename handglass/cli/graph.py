"""`handglass compile` of an ONNX file, and what it says of the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from .checks import importing_compiler
from .output import columns, print_json, size_text

if TYPE_CHECKING:
    from handglass.compiler.build_graph import GraphReport

FOR_MODELS = (
    "mmproj",
    "vision_quantization",
    "head_quantization",
    "context",
    "kv_cache",
)
"""Options that a graph has no use for."""
SHOWN = 12
"""Operators on default schedules that a report names."""


def is_graph(model: Path) -> bool:
    """Whether the file is an ONNX file, by its name."""
    return model.suffix.lower() == ".onnx"


@dataclass(frozen=True)
class GraphRequest:
    """What the command line asks for; without `output`, only what would be recognised."""

    model: Path
    output: Path | None
    shapes: list[str]
    choices: Mapping[str, Any]
    how: Mapping[str, Any]

    def answer(self, report: bool, json: bool) -> None:
        """Compile, or only look, and print the result."""
        self._check()
        if self.output is None:
            found = self._plan()
            shown: dict[str, Any] = {"graph": found}
            text = "\n".join(graph_lines(found))
        else:
            result = self._compile(self.output)
            shown = {"bundle": str(self.output), **asdict(result)}
            text = as_text(self.output, result, report)
        if json:
            print_json(shown)
        else:
            print(text)

    def _check(self) -> None:
        from handglass.errors import UsageError

        for name in FOR_MODELS:
            if self.choices[name] is not None:
                option = name.replace("_", "-")
                raise UsageError(f"--{option}: an ONNX file has no use for it; omit it")
        if self.choices["allow_pickle"]:
            raise UsageError("--allow-pickle: an ONNX file contains no pickles; omit it")

    def _plan(self) -> dict[str, Any]:
        with importing_compiler(False):
            from handglass.compiler.build_graph import plan_graph

        return plan_graph(self.model, self.shapes, **self._choices())

    def _compile(self, output: Path) -> GraphReport:
        from .progress import progress

        with importing_compiler(False):
            from handglass.compiler.build_graph import compile_graph

        choices = self._choices() | {"overwrite": self.choices["overwrite"], **self.how}
        with progress() as advance:
            return compile_graph(
                self.model, output, shapes=self.shapes, progress=advance, **choices
            )

    def _choices(self) -> dict[str, Any]:
        return {name: self.choices[name] for name in ("target", "quantization", "attention")}


def as_text(output: Path, result: GraphReport, report: bool) -> str:
    total = sum(result.phases.values())
    lines = [f"{output}: {size_text(result.bundle_bytes)}, compiled in {total:.1f} s"]
    lines += graph_lines(result.graph)
    if report:
        rows = [("FUNCTION", "SCHEDULE", "CALLS"), *result.schedules]
        lines += ["", columns(rows), ""]
    lines.append(result.records["line"])
    lines.append(
        f"to run it: handglass apply {quote(str(output))} --input NAME=FILE.npy -o OUT.npz"
    )
    return "\n".join(lines)


def graph_lines(found: Mapping[str, Any]) -> list[str]:
    """What was recognised, and what runs on default schedules."""
    return [
        f"recognised: {_counts(found['recognised'])}: {found['share']:.1%} of the operations",
        f"on default schedules: {_counts(found['default'])}",
        *(f"not recognised: {count} times {text}" for text, count in found["reasons"].items()),
    ]


def _counts(counts: Mapping[str, int]) -> str:
    shown = [f"{count} {name}" for name, count in list(counts.items())[:SHOWN]]
    return ", ".join(shown) + (", ..." if len(counts) > SHOWN else "") or "nothing"

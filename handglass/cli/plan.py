"""`handglass compile --dry-run`: shows what a compilation would produce."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from handglass.errors import DeviceError

from .checks import importing_compiler
from .errors import explain
from .output import columns, print_json, size_text

if TYPE_CHECKING:
    from handglass.compiler.plan import DiskPlan, MemoryPlan, ModelPlan, Plan


def show_plan(json: bool, model: Path, output: Path | None, choices: dict[str, Any]) -> None:
    """Print the plan; an error follows if the bundle would not fit.

    With --json the error is part of the one object.
    """
    with importing_compiler(choices["allow_pickle"]):
        from handglass.compiler.plan import plan_model
    plan = plan_model(model, output=output, **choices)
    error = DeviceError("; ".join(plan.problems)) if plan.problems else None
    if json:
        print_json(asdict(plan) | ({"error": vars(explain(error))} if error else {}))
        raise typer.Exit(DeviceError.exit_code if error else 0)
    print(as_text(plan))
    if error:
        raise error


def as_text(plan: Plan) -> str:
    parts = [f"{part} {name}" for part, name in plan.scheme.items()]
    if plan.model.generates:
        parts.append(f"keys and values {plan.kv_cache}")
    rows = [
        *model_rows(plan.model),
        ("target", plan.target),
        ("scheme", ", ".join(parts)),
        *length_rows(plan),
        ("picture", picture_text(plan)),
        ("bundle", f"{size_text(plan.disk.bundle)}; {disk_text(plan.disk)}"),
        ("memory", memory_text(plan.memory)),
    ]
    return columns(rows)


def model_rows(model: ModelPlan) -> Iterator[tuple[str, str]]:
    yield "model", f"{model.name} ({model.architecture})"
    yield "family", model.family
    yield "parameters", f"{model.parameters:,} in {model.tensors} tensors"
    checked = "names and shapes are right" if model.tensors_checked else "none here: not checked"
    yield "tensors", checked
    if model.reads_texts:
        yield "tokenizer", model.tokenizer or "none here; compiling needs one"


def length_rows(plan: Plan) -> Iterator[tuple[str, str]]:
    if plan.model.reads_texts:
        yield "context" if plan.model.generates else "texts", f"{plan.context} tokens"


def picture_text(plan: Plan) -> str:
    picture = plan.picture
    if picture is None:
        return "none: text only"
    if not plan.model.generates:
        return f"{picture.width}x{picture.height} becomes one row"
    tiles = "1 tile" if picture.tiles == 1 else f"{picture.tiles} tiles"
    return f"{picture.width}x{picture.height} becomes {tiles}, {picture.tokens} tokens"


def disk_text(disk: DiskPlan) -> str:
    fits = "fits" if disk.fits else "DOES NOT FIT"
    return f"{fits}, {size_text(disk.free)} free in {disk.folder}"


def memory_text(memory: MemoryPlan) -> str:
    parts = f"weights {size_text(memory.weights)}, state {size_text(memory.state)}"
    if memory.limit is None:
        fits = "the memory of this target is not known"
    else:
        fits = f"{'fits' if memory.fits else 'DOES NOT FIT'} {size_text(memory.limit)}"
    return f"{size_text(memory.resident)} ({parts}); {fits}"

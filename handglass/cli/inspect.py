"""`handglass inspect`: shows the contents of a bundle and verifies its files.

No code of the bundle is loaded or executed.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import BundleArgument, Json
from .output import columns, print_json, size_text

if TYPE_CHECKING:
    from handglass.runtime.bundle.entries import GraphEntry, TargetEntry, TensorEntry
    from handglass.runtime.bundle.reader import FileState, Inspection, Manifest


def inspect(
    bundle: BundleArgument,
    tensors: Annotated[
        bool, typer.Option("--tensors", help="Also list every parameter and cache tensor.")
    ] = False,
    json: Json = False,
) -> None:
    """Show the contents of a bundle and verify its files."""
    from handglass.errors import MismatchError
    from handglass.runtime.bundle.reader import Bundle

    found = Bundle.inspect(bundle)
    if json:
        print_json(as_json(found, tensors))
    else:
        print(as_text(found, tensors))
    if any(file.problem for file in found.files):
        raise typer.Exit(MismatchError.exit_code)


def as_json(found: Inspection, tensors: bool) -> dict[str, Any]:
    """The manifest and the state of the files; tensor lists only with `tensors`."""
    manifest = asdict(found.manifest)
    for entry in (manifest, manifest["state"]) if not tensors else ():
        entry.pop("params", None)
        entry.pop("tensors", None)
    files = [{**asdict(file), "ok": not file.problem} for file in found.files]
    kernels = tuned_kernels(found)
    return {
        "path": str(found.path),
        **manifest,
        "files": files,
        "params_count": len(found.manifest.params),
        "params_bytes": total_bytes(found.manifest.params),
        "has_report": "report.json" in found.manifest.files,
        "tuned_kernels": kernels and [name for name, tuned in kernels.items() if tuned],
        "cache_bytes": total_bytes(found.manifest.state.tensors),
        "ok": all(file["ok"] for file in files),
    }


def as_text(found: Inspection, tensors: bool) -> str:
    manifest = found.manifest
    parts = [
        columns(facts(found)),
        "functions:\n" + columns(function_rows(manifest), "  "),
        "files:\n" + columns([file_row(file) for file in found.files], "  "),
    ]
    if tensors:
        parts.append("parameters:\n" + columns(tensor_rows(manifest.params), "  "))
        parts.append("cache:\n" + columns(tensor_rows(manifest.state.tensors), "  "))
    return "\n\n".join(parts)


def facts(found: Inspection) -> list[tuple[str, str]]:
    manifest, target = found.manifest, found.manifest.target
    return [
        ("bundle", str(found.path)),
        ("model", manifest.model.name),
        ("target", f"{target.name} ({target.triple}, {target.cpu})"),
        ("needs", " ".join(target.features) or "nothing beyond the baseline"),
        *gpu_facts(target),
        ("scheme", ", ".join(f"{part} {name}" for part, name in manifest.scheme.items())),
        ("parameters", f"{len(manifest.params)}, {size_text(total_bytes(manifest.params))}"),
        *(text_facts(manifest) if manifest.graph is None else graph_facts(manifest.graph)),
        ("report", report_text(manifest)),
        ("kernels", kernels_text(found)),
        ("made with", ", ".join(f"{name} {text}" for name, text in manifest.versions.items())),
    ]


def vocabulary_text(manifest: Manifest) -> str:
    if manifest.tokenizer is None:
        return "none: it takes no texts"
    return f"{manifest.vocab_size} tokens, {manifest.tokenizer.kind}"


def context_fact(manifest: Manifest) -> tuple[str, str]:
    """Of an encoder, which has no cache: the length of its texts."""
    if (encoders := manifest.encoders) is not None:
        return "texts", f"at most {encoders.text.length} tokens" if encoders.text else "none"
    cache_bytes = size_text(total_bytes(manifest.state.tensors))
    return "context", f"{manifest.state.context} tokens, cache {cache_bytes}"


def text_facts(manifest: Manifest) -> list[tuple[str, str]]:
    """What a model takes besides its weights."""
    return [
        context_fact(manifest),
        ("vision", vision_text(manifest)),
        *([("thinking", thinking_text(manifest))] if manifest.prompt.answer else []),
        ("vocabulary", vocabulary_text(manifest)),
    ]


def graph_facts(graph: GraphEntry) -> list[tuple[str, str]]:
    """The arrays that an imported graph takes and gives."""
    groups = ("input", graph.inputs), ("output", graph.outputs)
    return [(kind, " ".join(row)) for kind, entries in groups for row in tensor_rows(entries)]


def gpu_facts(target: TargetEntry) -> list[tuple[str, str]]:
    """The capabilities and minimum limits that the bundle requires of a GPU."""
    if target.device == "cpu":
        return []
    needed = {name: count for name, count in target.abilities.items() if count}
    kinds = [name.removeprefix("supports_") for name in needed if name.startswith("supports_")]
    least = [f"{name} {n}" for name, n in needed.items() if not name.startswith("supports_")]
    return [
        ("device", target.device),
        ("must have", ", ".join([*kinds, *least]) or "no optional capabilities"),
    ]


def report_text(manifest: Manifest) -> str:
    """Whether the bundle has a report, which older bundles lack."""
    from handglass.runtime.bundle.reader import REPORT

    if manifest.graph is not None:  # which bench refuses
        return f"{REPORT}, what was recognised" if REPORT in manifest.files else "none"
    if REPORT in manifest.files:
        return f"{REPORT}, for bench --kernels"
    return "none; bench --kernels needs one, compile again"


def kernels_text(found: Inspection) -> str:
    """The number of kernels, and of those that tuning records scheduled."""
    tuned = tuned_kernels(found)
    if tuned is None:
        return "unknown: no valid report.json"
    return f"{len(tuned)}, {sum(tuned.values())} of them scheduled by tuning records"


def tuned_kernels(found: Inspection) -> dict[str, bool] | None:
    """By kernel: whether its choices are a record's; None without a valid report."""
    from handglass.errors import HandglassError
    from handglass.runtime.bundle.reader import Bundle
    from handglass.runtime.bundle.report import read_report

    try:
        kernels = read_report(Bundle(found.path, found.manifest))
    except HandglassError:
        return None
    return {name: kernel.record is not None for name, kernel in kernels.items()}


def vision_text(manifest: Manifest) -> str:
    vision = manifest.vision
    if vision is None:
        return "none: text only"
    side, patch = vision.image_size, vision.patch_size
    rows = vision.rows((side // patch) ** 2)
    if manifest.encoders is not None:
        return f"{side}x{side} in patches of {patch}, one row of {manifest.hidden_size} columns"
    slices = vision.slicing.parameters.get("max_slices", 1)
    count = "tiles" if slices == 1 else f"an overview and up to {slices!r:.20} slices"
    return f"{count} of {side}x{side} in patches of {patch}, {rows} tokens each"


def thinking_text(manifest: Manifest) -> str:
    return (
        "on, unless --no-think"
        if manifest.prompt.defaults.get("thinking")
        else "off, unless --think"
    )


def function_rows(manifest: Manifest) -> list[tuple[str, str]]:
    return [
        (name, f"({', '.join(entry.arguments)}) -> {entry.result}")
        for name, entry in manifest.functions.items()
    ]


def file_row(file: FileState) -> tuple[str, str, str]:
    return file.name, size_text(file.size), f"BROKEN: {file.problem}" if file.problem else "ok"


def tensor_rows(entries: tuple[TensorEntry, ...]) -> list[tuple[str, str, str]]:
    return [(entry.name, "x".join(map(str, entry.shape)), entry.dtype) for entry in entries]


def total_bytes(entries: tuple[TensorEntry, ...]) -> int:
    return sum(entry.nbytes for entry in entries)

"""`handglass compile`: compiles a checkpoint into a bundle."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .checks import importing_compiler
from .options import Json, Mmproj
from .output import columns, print_json, size_text

if TYPE_CHECKING:
    from handglass.compiler.build import Report


def compile_(
    model: Annotated[
        Path,
        typer.Option(
            "--model",
            "-m",
            metavar="CHECKPOINT",
            help="The checkpoint to read: a folder, a GGUF file of a language model, or an ONNX "
            "file of an encoder.",
        ),
    ],
    mmproj: Mmproj = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="BUNDLE",
            help="The bundle folder to write; required except with --dry-run.",
        ),
    ] = None,
    target: Annotated[
        str,
        typer.Option(metavar="TARGET", help="The device to compile for; see 'handglass targets'."),
    ] = "host",
    quantization: Annotated[
        str | None,
        typer.Option(
            metavar="SCHEME",
            help="Storage of the language model and the resampler: f32, f16, bf16, w4, or with "
            "integer arithmetic w4a8, w8a8, w7a8.  [default: w4a8; f32 of an ONNX file]",
        ),
    ] = None,
    vision_quantization: Annotated[
        str | None,
        typer.Option(
            metavar="SCHEME",
            help="Storage of the vision tower.  [default: f16 with --quantization w4; w8a8 with "
            "w4a8, on AVX2 without VNNI w7a8; otherwise the same]",
        ),
    ] = None,
    head_quantization: Annotated[
        str | None,
        typer.Option(
            metavar="SCHEME",
            help="Storage of the output head, and of the embedding if both are one matrix.  "
            "[default: as --quantization]",
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            "--context", "-c", min=1, metavar="N", help="Maximum number of tokens per conversation."
        ),
    ] = None,
    kv_cache: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="Storage of the key-value cache: f32, f16 or int8.  "
            "[default: f32 for f32, else f16]",
        ),
    ] = None,
    attention: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="f32: no integers in attention to pictures (of an encoder or an ONNX file: to all "
            "positions), where the target and the storage of the weights have them by default.",
        ),
    ] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(
            metavar="INPUT=SIZES",
            help="Of an ONNX file: the sizes of an input whose file has names in place of numbers, "
            "such as x=1,3,224,224; repeatable.",
        ),
    ] = None,
    dump_ir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the module after each phase to DIR.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing bundle.")
    ] = False,
    allow_pickle: Annotated[
        bool,
        typer.Option(
            "--allow-pickle", help="Also read .bin files, using torch with weights_only=True."
        ),
    ] = False,
    runtime: Annotated[
        bool, typer.Option(help="Include the 3 MB runtime library in the bundle.")
    ] = True,
    records: Annotated[
        list[Path] | None,
        typer.Option(
            "--records",
            metavar="FILE",
            help="Tuning records to prefer over all others; repeatable.  [default: yours and "
            "those shipped with handglass]",
        ),
    ] = None,
    no_records: Annotated[
        bool, typer.Option("--no-records", help="Use default schedules for all kernels.")
    ] = False,
    report: Annotated[
        bool,
        typer.Option("--report", help="Also print the rule and the record of each function."),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Only print what would be compiled: sizes, memory, tokens per picture. CHECKPOINT "
            "may consist of config.json alone.",
        ),
    ] = False,
    json: Json = False,
) -> None:
    """Compile a checkpoint for a device."""
    from handglass.errors import UsageError

    from .graph import GraphRequest, is_graph
    from .plan import show_plan
    from .progress import progress

    if records and no_records:
        raise UsageError("--records and --no-records are mutually exclusive: use only one")
    choices: dict[str, Any] = {
        "mmproj": mmproj,
        "target": target,
        "quantization": quantization or "w4a8",
        "vision_quantization": vision_quantization,
        "head_quantization": head_quantization,
        "context": context,
        "kv_cache": kv_cache,
        "attention": attention,
        "overwrite": overwrite,
        "allow_pickle": allow_pickle,
    }
    if dry_run and (dump_ir or report):
        raise UsageError("--dry-run compiles nothing: use it without --dump-ir and --report")
    if output is None and not dry_run:
        raise UsageError("--output BUNDLE is missing; only --dry-run works without it")
    how: dict[str, Any] = {
        "dump_ir": dump_ir,
        "bundle_runtime": runtime,
        "records": records or (),
        "use_records": not no_records,
    }
    if is_graph(model):
        choices["quantization"] = quantization or "f32"
        asked = GraphRequest(model, None if dry_run else output, shape or [], choices, how)
        asked.answer(report, json)
        return
    if shape:
        raise UsageError("--shape goes with an ONNX file: a checkpoint says its sizes")
    if dry_run:
        show_plan(json, model, output, choices)
        return
    assert output is not None
    compile_model = load_compiler(allow_pickle)
    with progress() as advance:
        result = compile_model(model, output, progress=advance, **how, **choices)
    if json:
        print_json({"bundle": str(output), **asdict(result)})
    else:
        print(as_text(output, result, report))


def load_compiler(allow_pickle: bool = False) -> Any:
    """Import `compile_model`. An installed torch is imported with it only if it will read pickles.

    Raises:
        DeviceError: The TVM compiler is not installed.
    """
    with importing_compiler(allow_pickle):
        from handglass.compiler.build import compile_model

    return compile_model


def as_text(output: Path, result: Report, report: bool) -> str:
    total = sum(result.phases.values())
    lines = [f"{output}: {size_text(result.bundle_bytes)}, compiled in {total:.1f} s"]
    if report:
        phases = [(name, f"{seconds:.1f} s") for name, seconds in result.phases.items()]
        rows = [("FUNCTION", "SCHEDULE", "CALLS"), *result.schedules]
        lines += ["", columns(phases), "", columns(rows), "", *records_text(result.records), ""]
    else:
        lines.append(records_line(result.records))
    picture = " --image PICTURE" if result.reads_pictures else ""
    if result.generates:
        lines.append(f"to ask it: handglass run -m {quote(str(output))}{picture} -p QUESTION")
    else:
        text = " --text TEXT" if result.reads_texts else ""
        lines.append(f"to use it: handglass embed {quote(str(output))}{picture}{text}")
    return "\n".join(lines)


def records_line(records: dict[str, Any]) -> str:
    """How much of the model is tuned for this target, and how many records were skipped."""
    skipped = len(records["skipped"]) + len(records["refused"])
    return records["line"] + (f"; {skipped} skipped, see --report" if skipped else "")


def records_text(records: dict[str, Any]) -> list[str]:
    """List the kernels of an answer with their share of the time, and the skipped records."""
    rows = [("KERNEL", "SHARE", "RECORD", "CHOICES")]
    for kernel in records["kernels"]:
        record = (kernel["record"] or "default")[:12]
        choices = ", ".join(f"{name} {value}" for name, value in kernel["choices"].items())
        rows.append((kernel["function"], f"{kernel['share']:.1%}", record, choices))
    skipped = [f"skipped {s['record'][:12]}: {s['reason']}" for s in records["skipped"]]
    refused = [f"{r['file']}:{r['line']}: {r['reason']}" for r in records["refused"]]
    return [records["line"], "", columns(rows), *skipped, *refused]

"""`handglass compile`: a checkpoint folder in, a bundle out."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Json
from .output import columns, print_json, size_text

if TYPE_CHECKING:
    from handglass.compiler.build import Report


def compile_(
    model: Annotated[
        Path,
        typer.Option("--model", "-m", metavar="CHECKPOINT", help="The checkpoint folder to read."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="BUNDLE", help="The bundle folder to write.")
    ],
    target: Annotated[
        str,
        typer.Option(metavar="TARGET", help="The device to compile for; see 'handglass targets'."),
    ] = "host",
    quantization: Annotated[
        str,
        typer.Option(
            metavar="SCHEME",
            help="How the language model and the resampler are stored: f32, f16, bf16, w4, and "
            "with integer arithmetic w4a8, w8a8, w7a8.",
        ),
    ] = "w4a8",
    vision_quantization: Annotated[
        str | None,
        typer.Option(
            metavar="SCHEME",
            help="How the vision tower is stored.  [default: as --quantization; f16 for w4, "
            "w8a8 for w4a8, or w7a8 where AVX2 is all there is]",
        ),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            "--context", "-c", min=1, metavar="N", help="Tokens that a conversation may have."
        ),
    ] = None,
    kv_cache: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="How keys and values are kept while running: f32, f16 or int8.  "
            "[default: f32 for f32, else f16]",
        ),
    ] = None,
    dump_ir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the module after each phase here.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a bundle that is there already.")
    ] = False,
    allow_pickle: Annotated[
        bool,
        typer.Option("--allow-pickle", help="Also read .bin files, by torch with weights_only."),
    ] = False,
    runtime: Annotated[
        bool, typer.Option(help="Put the 3 MB runtime library into the bundle.")
    ] = True,
    records: Annotated[
        list[Path] | None,
        typer.Option(
            "--records",
            metavar="FILE",
            help="Tuning records to use before all others; repeatable.  [default: those of "
            "'handglass tune' and those that come with handglass]",
        ),
    ] = None,
    no_records: Annotated[
        bool, typer.Option("--no-records", help="Use default schedules for all kernels.")
    ] = False,
    report: Annotated[
        bool,
        typer.Option("--report", help="Also print which schedule and record took which function."),
    ] = False,
    json: Json = False,
) -> None:
    """Compile a checkpoint for a device."""
    from handglass.errors import UsageError

    from .progress import progress

    if records and no_records:
        raise UsageError("--records and --no-records exclude each other: leave out one")
    compile_model = load_compiler()
    with progress() as tell:
        result = compile_model(
            model,
            output,
            target=target,
            quantization=quantization,
            vision_quantization=vision_quantization,
            context=context,
            kv_cache=kv_cache,
            dump_ir=dump_ir,
            overwrite=overwrite,
            allow_pickle=allow_pickle,
            bundle_runtime=runtime,
            records=records or (),
            use_records=not no_records,
            progress=tell,
        )
    if json:
        print_json({"bundle": str(output), **asdict(result)})
    else:
        print(as_text(output, result, report))


def load_compiler() -> Any:
    """`compile_model`, or what to install where this is only a device."""
    from handglass.errors import DeviceError

    from .checks import INSTALL_COMPILER, has_compiler

    if not has_compiler():
        raise DeviceError(f"compiling needs the TVM compiler: {INSTALL_COMPILER}")
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
    lines.append(f"ask it: handglass run -m {output} --image PICTURE -p QUESTION")
    return "\n".join(lines)


def records_line(records: dict[str, Any]) -> str:
    """Always told: how much of the model is tuned for this target."""
    passed = len(records["skipped"]) + len(records["refused"])
    return records["line"] + (f"; {passed} passed over, see --report" if passed else "")


def records_text(records: dict[str, Any]) -> list[str]:
    """Every kernel that an answer calls, by its share of the time, and what was passed over."""
    rows = [("KERNEL", "SHARE", "RECORD", "CHOICES")]
    for kernel in records["kernels"]:
        record = (kernel["record"] or "default")[:12]
        choices = ", ".join(f"{name} {value}" for name, value in kernel["choices"].items())
        rows.append((kernel["function"], f"{kernel['share']:.1%}", record, choices))
    skipped = [f"passed over {s['record'][:12]}: {s['reason']}" for s in records["skipped"]]
    refused = [f"{r['file']}:{r['line']}: {r['reason']}" for r in records["refused"]]
    return [records["line"], "", columns(rows), *skipped, *refused]

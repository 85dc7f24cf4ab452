"""`handglass tune`: measures kernel candidates on a device and records the faster ones."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handglass.runtime.system.printable import printable

from .checks import importing_compiler
from .options import Json, Mmproj
from .output import columns, cost_text, print_json
from .remote import KeyFile, Rpc, connector

if TYPE_CHECKING:
    from handglass.compiler.tune import Tuned


def tune(
    model: Annotated[
        Path,
        typer.Option(
            "--model",
            "-m",
            metavar="MODEL",
            help="A checkpoint folder, the GGUF file of a language model, or a bundle.",
        ),
    ],
    mmproj: Mmproj = None,
    target: Annotated[
        str | None,
        typer.Option(metavar="TARGET", help="Target of the kernels.  [default: host]"),
    ] = None,
    trials: Annotated[
        int, typer.Option(min=1, metavar="N", help="Candidates to measure over all kernels.")
    ] = 256,
    tasks: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Only the N costliest kernels.  [default: all]"),
    ] = None,
    kernel: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only this kernel; repeatable."),
    ] = None,
    rpc: Rpc = None,
    key_file: KeyFile = None,
    work_dir: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Folder for all measurements; an interrupted run resumes from it."
        ),
    ] = Path("build/tune"),
    records: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where records go.  [default: your records for the target, used by 'compile']",
        ),
    ] = None,
    quantization: Annotated[
        str | None, typer.Option(metavar="SCHEME", help="As for 'compile'; not with a bundle.")
    ] = None,
    vision_quantization: Annotated[
        str | None, typer.Option(metavar="SCHEME", help="As for 'compile'; not with a bundle.")
    ] = None,
    head_quantization: Annotated[
        str | None, typer.Option(metavar="SCHEME", help="As for 'compile'; not with a bundle.")
    ] = None,
    context: Annotated[
        int | None,
        typer.Option("--context", "-c", min=1, metavar="N", help="As for 'compile'."),
    ] = None,
    kv_cache: Annotated[
        str | None, typer.Option(metavar="TYPE", help="As for 'compile'; not with a bundle.")
    ] = None,
    attention: Annotated[
        str | None, typer.Option(metavar="TYPE", help="As for 'compile'; not with a bundle.")
    ] = None,
    build_timeout: Annotated[
        float, typer.Option(min=1.0, metavar="SECONDS", help="Time limit to build one candidate.")
    ] = 60.0,
    cost_model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Predicts fast candidates: choices, features (of the scheduled kernel; slower) "
            "or random.  [default: choices]",
        ),
    ] = None,
    measure: Annotated[
        str,
        typer.Option(
            metavar="MEASURE",
            help="What candidates are judged by: seconds, or instructions, which an emulated "
            "device counts (docs/devices.md).",
        ),
    ] = "seconds",
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="CPU threads on this machine; a server has its own --threads."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Measure kernels on a device and record faster ones."""
    from handglass.errors import DeviceError

    from .tune_progress import tune_progress

    tune_model, read_tuning_input, options_type, own_file = load_tuner()
    check_cost_model(cost_model)
    check_measure(measure)
    schemes = quantization, vision_quantization
    others = context, kv_cache, mmproj, head_quantization, attention
    options = options_type(target, *schemes, *others)
    connect = connector(rpc, key_file, threads)
    tuning_input = read_tuning_input(model, options)
    journal = records or own_file(tuning_input.target.records_key)
    with connect as device, tune_progress() as report:
        result = tune_model(
            tuning_input,
            device,
            trials=trials,
            tasks=tasks,
            kernels=kernel or (),
            work_dir=work_dir,
            journal=journal,
            build_timeout=build_timeout,
            cost_model=cost_model,
            measure=measure,
            progress=report,
        )
    if json:
        print_json(as_json(result, journal))
    else:
        print(as_text(result, journal))
    for message in result.refused:
        print(f"refused: {printable(message)}", file=sys.stderr)
    if result.failed:
        raise DeviceError("\n".join(["no candidate could be measured for:", *result.failed]))


def load_tuner() -> tuple[Any, ...]:
    """Import the tuner.

    Raises:
        DeviceError: The TVM compiler is not installed.
    """
    with importing_compiler():
        from handglass.compiler.records.store import own_file
        from handglass.compiler.tune import tune as tune_model
        from handglass.compiler.tuning.tuning_input import CompileOptions, read_tuning_input

    return tune_model, read_tuning_input, CompileOptions, own_file


def check_cost_model(name: str | None) -> None:
    """Raise UsageError for an unknown model, DeviceError if the model is not installed."""
    from handglass.compiler.tuning.cost_models import MODELS, check_installed
    from handglass.errors import UsageError

    if name is not None and name not in MODELS:
        raise UsageError(f"--cost-model: '{name}' is not one of {', '.join(MODELS)}")
    check_installed(name)


def check_measure(name: str) -> None:
    """Raise UsageError for an unknown measure."""
    from handglass.compiler.records.record import MEASURES
    from handglass.errors import UsageError

    if name not in MEASURES:
        raise UsageError(f"--measure: '{name}' is not one of {', '.join(MEASURES)}")


HEAD = ("KERNEL", "SHARE", "DEFAULT", "NOW", "GAIN", "LIMIT", "TRIALS", "")


def as_text(result: Tuned, journal: Path) -> str:
    """Format the kernel table and the number of records written."""
    rows: list[tuple[str, ...]] = [HEAD]
    shares = {row.task.name: row.share for row in result.rows}
    gained = 0.0
    for outcome in result.outcomes:
        main = outcome.default_seconds
        now = main if outcome.winner is None else tuned_seconds(outcome)
        gained += shares[outcome.task.name] * (1 - now / main)
        limit = f"{outcome.limit_fraction:.0%}" if outcome.limit_fraction else "-"
        gain = f"{main / now:.2f}x" if outcome.winner else "-"
        share = f"{shares[outcome.task.name]:.1%}"
        us = [cost_text(seconds * 1e6, result.measure) for seconds in (main, now)]
        rows.append((outcome.task.name, share, *us, gain, limit, str(outcome.trials), outcome.note))
    kept = f"{len(result.records)} records for {result.target} added to {journal}"
    what = "faster" if result.measure == "seconds" else "shorter in instructions"
    saved = f"they make the kernels of an answer {gained:.1%} {what}"
    return "\n".join([columns(rows), "", f"{kept}; {saved}" if result.records else kept])


def tuned_seconds(outcome: Any) -> float:
    """Median seconds of the winner at the most frequent length."""
    main = outcome.task.uses.index(outcome.task.main)
    return float(outcome.lengths[main].tuned.median)


def as_json(result: Tuned, journal: Path) -> dict[str, Any]:
    return {
        "target": result.target,
        "journal": str(journal),
        "measure": result.measure,
        "device": asdict(result.device),
        "tasks": [
            {"name": row.task.name, "share": row.share, "default_us": row.seconds * 1e6}
            for row in result.rows
        ],
        "outcomes": [
            {
                "name": outcome.task.name,
                "trials": outcome.trials,
                "winner": outcome.winner,
                "default_us": outcome.default_seconds * 1e6,
                "limit_fraction": outcome.limit_fraction,
                "note": outcome.note,
            }
            for outcome in result.outcomes
        ],
        "records": [record.id for record in result.records],
        "failed": list(result.failed),
        "refused": list(result.refused),
    }

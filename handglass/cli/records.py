"""`handglass records list|check|export`: inspects and shares tuning records."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .compile import load_compiler
from .options import Json
from .output import columns, print_json

if TYPE_CHECKING:
    from handglass.compiler.records.record import Record

Files = Annotated[list[Path], typer.Argument(metavar="FILE", help="Record files.")]
Target = Annotated[
    str, typer.Option(metavar="TARGET", help="Target of the kernels; see 'handglass targets'.")
]


def list_(
    target: Annotated[
        str | None,
        typer.Option(metavar="TARGET", help="List only this target's records.  [default: all]"),
    ] = None,
    json: Json = False,
) -> None:
    """List your own records and those shipped with handglass."""
    load_compiler()
    from handglass.compiler.records.journal import read
    from handglass.compiler.records.store import OF_KIND, SHIPPED_FOLDER, user_folder
    from handglass.targets import find_target

    key = find_target(target).records_key if target else "*"
    rows = []
    for whose, folder in (("own", user_folder()), ("handglass", SHIPPED_FOLDER)):
        for path in sorted({*folder.glob(f"{key}.jsonl"), *folder.glob(f"{key}{OF_KIND}*.jsonl")}):
            rows += [(record, whose) for record in read(path).records]
    if json:
        print_json({"records": [{**as_json(record), "whose": whose} for record, whose in rows]})
    elif rows:
        print(as_text(rows))
    else:
        suffix = f" for {target}" if target else ""
        print(f"no records{suffix}: run 'handglass tune' or 'handglass records import'")


def as_json(record: Record) -> dict[str, Any]:
    from json import loads

    return {**loads(record.text()), "gain": record.gain}


def as_text(rows: list[tuple[Record, str]]) -> str:
    head = ("TARGET", "WHOSE", "RECORD", "KERNEL", "CHOICES", "GAIN", "DATE", "DEVICE")
    cells = [head]
    for r, whose in sorted(rows, key=lambda row: (row[0].target, row[1], -row[0].share)):
        choices = " ".join(f"{name}={value}" for name, value in r.choices.items())
        device = f"{r.device.model}, {r.device.threads} threads"
        name, gain = r.about.partition(":")[0], f"{r.gain:.2f}x"
        gain += "" if r.measure == "seconds" else f" in {r.measure}"
        cells.append((r.target, whose, r.id[:12], name, choices, gain, r.date[:10], device))
    return columns(cells)


def check(files: Files, json: Json = False) -> None:
    """Validate every line of record files."""
    load_compiler()
    from handglass.compiler.records.journal import read_all
    from handglass.errors import InputError

    journals = [(path, read_all(path)) for path in files]
    if json:
        print_json({"files": [check_json(path, journal) for path, journal in journals]})
    else:
        for path, (records, refused) in journals:
            for line in refused:
                print(f"{path}:{line.line}: {line.reason}")
            print(f"{path}: {len(records)} records, {len(refused)} lines refused")
    if any(journal.refused for _, journal in journals):
        raise typer.Exit(InputError.exit_code)


def check_json(path: Path, journal: Any) -> dict[str, Any]:
    refused = [{"line": line.line, "reason": line.reason} for line in journal.refused]
    return {"file": str(path), "records": len(journal.records), "refused": refused}


def export(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The file to write.")
    ],
    target: Target = "host",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an existing file.")
    ] = False,
    json: Json = False,
) -> None:
    """Write your own records for a target to a file."""
    from handglass.runtime.system.tilde import check_expanded

    check_expanded(output)
    load_compiler()
    from handglass.compiler.records.journal import read
    from handglass.compiler.records.store import own_file
    from handglass.errors import InputError, UsageError
    from handglass.targets import find_target

    device = find_target(target)
    journal = own_file(device.records_key)
    records = read(journal).records if journal.exists() else []
    if not records:
        raise InputError(
            f"{journal}: no records for {device.records_key}; run 'handglass tune' first"
        )
    if output.exists() and not overwrite:
        raise UsageError(f"{output} already exists; use --overwrite to replace it")
    write(output, [record.text() for record in records])
    if json:
        print_json({"file": str(output), "target": device.records_key, "records": len(records)})
    else:
        print(f"{output}: {len(records)} records for {device.records_key}")


def write(path: Path, lines: list[str]) -> None:
    """Write atomically: an interrupted write leaves an existing file unchanged."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)

"""`handglass records import`: verifies records from elsewhere on the device and keeps them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handglass.runtime.system.printable import printable

from .compile import load_compiler
from .options import Json
from .output import print_json
from .records import Files
from .remote import KeyFile, Rpc, connector

if TYPE_CHECKING:
    from handglass.compiler.tuning.importing import Outcome


def import_(
    files: Files,
    model: Annotated[
        Path,
        typer.Option(
            "--model", "-m", metavar="MODEL", help="A checkpoint or a bundle with these kernels."
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option(metavar="TARGET", help="Target of the kernels.  [default: host]"),
    ] = None,
    rpc: Rpc = None,
    key_file: KeyFile = None,
    json: Json = False,
) -> None:
    """Verify records on the device and add them to yours."""
    load_compiler()
    from handglass.compiler.lowering.tasks import extract_tasks
    from handglass.compiler.records.store import own_file
    from handglass.compiler.tuning.importing import import_records
    from handglass.compiler.tuning.tuning_input import CompileOptions, read_tuning_input
    from handglass.compiler.tuning.verify_record import record_verifier
    from handglass.errors import InputError

    with connector(rpc, key_file, None) as connect:
        subject = read_tuning_input(model, CompileOptions(target))
        journal = own_file(subject.target.records_key)
        tasks = extract_tasks(subject.mod, subject.target, subject.parts)
        with record_verifier(connect, subject.target, tasks) as verify:
            outcomes = []
            for outcome in import_records(files, subject.target, tasks, verify, journal):
                outcomes.append(outcome)
                if not json:
                    print(as_text(outcome), flush=True)
    kept = sum(outcome.kept for outcome in outcomes)
    if json:
        rows = [as_json(outcome) for outcome in outcomes]
        print_json({"journal": str(journal), "kept": kept, "outcomes": rows})
    else:
        print(f"{kept} of {len(outcomes)} records added to {journal}")
    if any(outcome.record is None for outcome in outcomes):
        raise typer.Exit(InputError.exit_code)


def as_text(outcome: Outcome) -> str:
    if outcome.record is None:
        return f"{outcome.file}:{outcome.line}: refused: {printable(outcome.words)}"
    name = outcome.record.about.partition(":")[0]
    verdict = "kept" if outcome.kept else "not kept"
    return f"{outcome.record.id[:12]} {name}: {verdict}: {outcome.words}"


def as_json(outcome: Outcome) -> dict[str, Any]:
    return {
        "file": str(outcome.file),
        "line": outcome.line,
        "record": outcome.record.id if outcome.record else None,
        "kept": outcome.kept,
        "words": outcome.words,
    }

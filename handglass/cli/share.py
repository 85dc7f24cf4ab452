"""`handglass bench --share`: one line of figures that names no person, machine or folder.

The line holds the model of the processor, its cores, the measured rates, versions and the
revision. Everything is put together from known fields, and what is left of the names of this host
and user is removed.
"""

from __future__ import annotations

import getpass
import re
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from handglass.errors import InputError, UsageError
from handglass.runtime.system.printable import printable

from .bench_text import figure
from .terminal import confirmed

if TYPE_CHECKING:
    from handglass.runtime.bundle.manifest import Manifest

HEAD = (
    *("machine", "cores, threads", "reads, GB/s", "model", "scheme", "picture, ms"),
    *("pp64 / pp512, tok/s", "tg64@0 / @512 / @2048, tok/s", "first token, ms"),
    *("peak memory, GB", "handglass, tvm_ffi", "revision", "date"),
)
MOST = 60
"""Characters of a text."""
SHORTEST = 3
"""Characters of a host or user name that is removed: shorter ones are in too many words."""
_REVISION = re.compile(r"(?:[\w.]+-\d+-g)?([0-9a-f]{7,40})(-dirty)?$|^(\d+(?:\.\d+)+\w*)$")


def share_row(
    result: Mapping[str, Any], manifest: Manifest, file: Path, yes: bool, may_ask: bool = False
) -> None:
    """Show the line on standard error, and append it to the table in `file` if that is wanted.

    `may_ask`: whether a question may be printed on standard output.
    """
    row = row_of(result, manifest)
    print(f"\n{line(HEAD)}\n{line(row)}", file=sys.stderr)
    if not yes and not (may_ask and sys.stdin.isatty()):
        print(f"not written: add --yes to append this line to {printable(file)}", file=sys.stderr)
        return
    if yes or confirmed(f"append this line to {printable(file)}?"):
        append(file, row)
        print(f"appended to {printable(file)}", file=sys.stderr)


def row_of(result: Mapping[str, Any], manifest: Manifest) -> tuple[str, ...]:
    """The cells of HEAD."""
    rows = {row["row"]: row for row in result["rows"]}
    machine, cores = result["device"].rsplit(", ", 1)
    reads = result["limits"].get("read_gb_s", {}).get("median")
    peak = rows.get("peak_memory", {}).get("median")
    parameters = sum(tensor.nbytes for tensor in manifest.params)
    cells = (
        result["gpu"] or machine,
        f"{cores.split()[0]}, {result['threads']}",
        figure(reads),
        f"{manifest.model.architecture}, {parameters / 1e9:.2f} GB",
        " / ".join(dict.fromkeys(result["scheme"].values())),
        medians(rows, "encode"),
        medians(rows, "pp64", "pp512"),
        medians(rows, "tg64@0", "tg64@512", "tg64@2048"),
        medians(rows, "ttft"),
        "-" if peak is None else f"{peak / 1e9:.2f}",
        f"{result['versions']['handglass']}, {result['versions']['tvm_ffi']}",
        revision_of(result["revision"]),
        result["date"],
    )
    return tuple(anonymous(cell) for cell in cells)


def medians(rows: Mapping[str, Any], *names: str) -> str:
    return " / ".join(figure(rows.get(name, {}).get("median")) for name in names)


def revision_of(text: str) -> str:
    """The hash or the version of a revision, without the names of tags."""
    found = _REVISION.search(text)
    if not found:
        return "unknown"
    return found[3] or found[1][:10] + (found[2] or "")


def anonymous(text: str) -> str:
    """A cell without the names of this host and user, and without what a table gives a meaning."""
    shown = printable(text)
    for name in private_names():
        shown = re.sub(rf"\b{re.escape(name)}\b", "(removed)", shown, flags=re.IGNORECASE)
    return re.sub(r"[|`<>\\/]{2,}|[|`<>\\]", " ", shown)[:MOST].strip()


def private_names() -> Iterator[str]:
    """Names that could identify this machine or its user."""
    found = {socket.gethostname(), socket.gethostname().split(".")[0], Path.home().name}
    with suppress(KeyError, OSError):  # a user without an entry
        found.add(getpass.getuser())
    yield from sorted((name for name in found if len(name) >= SHORTEST), key=len, reverse=True)


def line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cells) + " |"


def append(file: Path, row: tuple[str, ...]) -> None:
    """Write the line below the last one of the table with this heading, or a new table.

    Raises InputError if the file cannot be read or written, UsageError if it is no text.
    """
    try:
        text = file.read_text("utf-8") if file.exists() else ""
        file.write_text(with_row(text, row), "utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: is not a text file; name a Markdown file") from error
    except OSError as error:
        raise InputError(f"{file}: cannot be written: {error.strerror}") from error


def with_row(text: str, row: tuple[str, ...]) -> str:
    lines = text.splitlines()
    heading = line(HEAD)
    if heading not in lines:
        rule = "|" + "---|" * len(HEAD)
        before = [*lines, ""] if lines else []
        return "\n".join([*before, heading, rule, line(row)]) + "\n"
    place = lines.index(heading) + 1
    while place < len(lines) and lines[place].startswith("|"):
        place += 1
    return "\n".join([*lines[:place], line(row), *lines[place:]]) + "\n"

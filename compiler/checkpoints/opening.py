"""Opens what people bring: a folder of transformers or of OpenCLIP, or GGUF files."""

from __future__ import annotations

from pathlib import Path

from handglass.errors import UsageError
from handglass.runtime.system.regular_file import is_regular

from .checkpoint import Checkpoint
from .gguf_checkpoint import GgufCheckpoint
from .headers import Headers
from .open_clip_checkpoint import OpenClipCheckpoint, is_open_clip


def open_checkpoint(
    path: str | Path, allow_pickle: bool = False, mmproj: str | Path | None = None
) -> Checkpoint:
    """Read the configuration and the tensor headers, but no tensor data.

    `mmproj` is the GGUF file of the vision tower beside that of a language model. Raises InputError
    for a missing or damaged file, and for a pickle unless `allow_pickle`; UsageError for `mmproj`
    with a folder.
    """
    return _open(Checkpoint, Path(path), allow_pickle, mmproj)


def open_headers(
    path: Path, allow_pickle: bool = False, mmproj: str | Path | None = None
) -> Checkpoint:
    """The same for a plan: a folder may have no tensors."""
    return _open(Headers, path, allow_pickle, mmproj)


def _open(
    kind: type[Checkpoint], path: Path, allow_pickle: bool, mmproj: str | Path | None
) -> Checkpoint:
    if path.suffix.lower() == ".onnx":
        raise UsageError(
            f"{path}: an ONNX file can be compiled, applied and verified on the command line; in "
            "Python, handglass.compiler.build_graph compiles it"
        )
    if is_regular(path):
        return GgufCheckpoint.read_file(path, Path(mmproj) if mmproj else None)
    if mmproj:
        raise UsageError(f"--mmproj goes with the GGUF file of a language model, not with {path}")
    if is_open_clip(path):
        return OpenClipCheckpoint.read_folder(path, allow_pickle)
    return kind.open(path, allow_pickle=allow_pickle)

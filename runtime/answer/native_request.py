"""The host's half of a native runner: questions become files for it, its ids become text.

`handglass-native run` (runtime/native/) knows no text and no pictures. Here a question is tokenised
and its pictures are cut into tiles and those into patches, and both are written down:

    python -m handglass.runtime.answer.native_request BUNDLE FOLDER -p QUESTION [--image FILE ...]

FOLDER then holds request.json and a tile-N.safetensors per tile (docs/native.md), and the
command that answers it is printed. What the runner printed becomes text again with

    python -m handglass.runtime.answer.native_request BUNDLE --read FILE
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from handglass.errors import DeviceError, HandglassError, InputError, UsageError

from ..bundle.manifest import Manifest
from ..bundle.reader import read_manifest
from ..bundle.tensor_writer import TensorWriter
from ..prompt.chat_template import Prompt, Slot, build_prompt
from ..prompt.preprocess import Tile, open_preprocessor
from ..prompt.tokenizer import Tokenizer, open_tokenizer
from .answer import Answer
from .generate import Timings
from .model import MAX_TOKENS, Messages
from .stream import TextStream

FORMAT, VERSION = "handglass-request", 2
REQUEST = "request.json"


@dataclass(frozen=True)
class Written:
    """A question as files."""

    request: Path
    tiles: tuple[Path, ...]

    def command(self, program: str, bundle: str) -> list[str]:
        """What answers it, where the files lie."""
        pixels = [word for path in self.tiles for word in ("--pixels", str(path))]
        return [program, "run", bundle, "--ids", str(self.request), *pixels]


class RequestWriter:
    """Needs of a bundle its manifest and its tokenizer, not its library."""

    def __init__(self, bundle: Path) -> None:
        self.manifest: Manifest = read_manifest(bundle)
        entry = self.manifest.tokenizer
        self._tiles_of = open_preprocessor(self.manifest)
        self.tokenizer: Tokenizer = open_tokenizer(
            entry.kind, bundle / entry.file, self.manifest.prompt.reserved
        )

    def write(
        self,
        folder: Path,
        messages: Messages,
        images: Sequence[Any] = (),
        max_tokens: int = MAX_TOKENS,
        repeat_penalty: float = 1.0,
    ) -> Written:
        """Messages and pictures as `Model.chat` takes them; answers are greedy."""
        prompt = build_prompt(
            messages, images, self.tokenizer, self.manifest.prompt, self._tiles_of
        )
        request = self._request(prompt, max_tokens, repeat_penalty)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / REQUEST).write_text(json.dumps(request) + "\n", "utf-8")
        except OSError as error:
            raise DeviceError(f"{folder}: cannot be written: {error.strerror}") from error
        tiles = [tile for picture in prompt.pictures for tile in picture]
        paths = [folder / f"tile-{n}.safetensors" for n in range(len(tiles))]
        for path, tile in zip(paths, tiles, strict=True):
            write_tile(path, tile)
        return Written(folder / REQUEST, tuple(paths))

    def read(self, lines: Iterable[str]) -> Answer:
        """The answer that the runner printed: ids, then a JSON object."""
        *ids, last = [line for line in lines if line.strip()] or [""]
        try:
            tokens = tuple(int(line) for line in ids)
            told = json.loads(last)
            timings: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in told["timings"].items()
            }
            reason, times = str(told["finish_reason"]), Timings(**timings)
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(
                f"not what handglass-native run prints: {error!r:.200}; it ends with a JSON object"
            ) from error
        stream = TextStream()
        for token in tokens:
            stream.feed(self.tokenizer.surface(token))
        stream.finish()
        return Answer(stream.text, tokens, reason, times)

    def _request(self, prompt: Prompt, max_tokens: int, repeat_penalty: float) -> dict[str, Any]:
        first: dict[str, int] = {}  # of equal tiles the runner encodes the first
        tiles = (tile for picture in prompt.pictures for tile in picture)
        for number, tile in enumerate(tiles):
            first.setdefault(tile.digest, number)
        segments: list[list[int] | dict[str, int]] = [
            {"tile": first[prompt.pictures[s.picture][s.tile].digest]}
            if isinstance(s, Slot)
            else list(s.ids)
            for s in prompt.segments
        ]
        return {
            "format": FORMAT,
            "version": VERSION,
            "pictures": [len(tiles) for tiles in prompt.pictures],
            "prompt": [segment for segment in segments if segment],
            "stop": [self.tokenizer.token_id(token) for token in self.manifest.prompt.stop],
            "max_tokens": max_tokens,
            "repeat_penalty": repeat_penalty,
        }


def write_tile(path: Path, tile: Tile) -> None:
    """A tile as `encode_image` takes it: its three arguments in a safetensors file."""
    arrays = {"pixels": tile.strip, "position_ids": tile.position_ids, "grid": tile.grid}
    specs = [(name, array.shape, array.dtype.name) for name, array in arrays.items()]
    with TensorWriter(path, specs) as writer:
        for name, array in arrays.items():
            writer.write(name, np.ascontiguousarray(array))


def main(arguments: Sequence[str] | None = None) -> Iterator[str]:
    """The lines to print."""
    parser = argparse.ArgumentParser(prog="python -m handglass.runtime.answer.native_request")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("-p", "--prompt")
    parser.add_argument("--image", action="append", default=[])
    parser.add_argument("-n", "--max-tokens", type=int, default=MAX_TOKENS)
    parser.add_argument("--repeat-penalty", type=float, default=1.0)
    parser.add_argument("--read", metavar="FILE", help="what the runner printed, - for stdin")
    given = parser.parse_args(arguments)
    writer = RequestWriter(given.bundle)
    if given.read is not None:
        yield writer.read(_lines(given.read)).text
    elif given.folder is None or given.prompt is None:
        raise UsageError("give a FOLDER and a --prompt, or --read FILE")
    else:
        written = writer.write(
            given.folder, given.prompt, given.image, given.max_tokens, given.repeat_penalty
        )
        yield shlex.join(written.command("handglass-native", str(given.bundle)))


def _lines(name: str) -> list[str]:
    if name == "-":
        return sys.stdin.readlines()
    try:
        return Path(name).read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: cannot be read: {error}") from error


if __name__ == "__main__":
    try:
        for line in main():
            print(line)
    except HandglassError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)

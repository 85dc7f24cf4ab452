"""The host side of the native runner: converts questions to files and its token ids to text.

`handglass-native run` (runtime/native/) handles neither text nor pictures. This module tokenizes a
question, cuts its pictures into tiles of patches, and writes both to files:

    python -m handglass.runtime.answer.native_request BUNDLE FOLDER -p QUESTION [--image FILE ...]

It writes request.json and one tile-N.safetensors per tile to FOLDER (docs/native.md), and prints
the command that answers the question. To convert the output of the runner to text:

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

from handglass.errors import DeviceError, InputError, MismatchError, UsageError

from ..bundle.entries import PLAIN
from ..bundle.manifest import Manifest
from ..bundle.reader import Bundle
from ..bundle.tensor_writer import TensorWriter
from ..prompt.chat_template import Prompt, Slot, build_prompt
from ..prompt.messages import Clip
from ..prompt.preprocess import Tile, open_preprocessor
from ..prompt.tokenizer import Tokenizer, tokenizer_of
from ..prompt.video.reader import PreparedVideo
from ..system.exits import run_module
from ..system.json_text import parse_json
from ..system.regular_file import read_text
from ..system.streams import input_lines, print_answer
from ..system.tilde import check_expanded
from .answer import Answer
from .generate import Timings
from .model import MAX_TOKENS, Messages
from .stream import TextStream

FORMAT, VERSION = "handglass-request", 2
MAX_LINE = 1 << 20
"""Largest last line of the output of the runner, in bytes."""
REQUEST = "request.json"


@dataclass(frozen=True)
class Written:
    """The files of a question."""

    request: Path
    tiles: tuple[Path, ...]

    def command(self, program: str, bundle: str) -> list[str]:
        """The command line that answers the question on the machine with these files."""
        pixels = [argument for path in self.tiles for argument in ("--pixels", str(path))]
        return [program, "run", bundle, "--ids", str(self.request), *pixels]


class RequestWriter:
    """Writes requests for a bundle, of which it needs the manifest and the tokenizer only."""

    def __init__(self, bundle: Path) -> None:
        opened = Bundle.of_manifest(bundle)
        self.manifest: Manifest = opened.manifest
        kind = self.manifest.prompt.positions.kind
        if kind != PLAIN:
            raise MismatchError(
                f"{bundle}: the native program does not compute the positions of the tokens "
                f"(prompt.positions {kind!r:.100}); use 'handglass run'"
            )
        self._tiles_of = open_preprocessor(self.manifest)
        self.tokenizer: Tokenizer = tokenizer_of(opened)

    def write(
        self,
        folder: Path,
        messages: Messages,
        images: Sequence[Any] = (),
        max_tokens: int = MAX_TOKENS,
        repeat_penalty: float = 1.0,
    ) -> Written:
        """Write the files of a question to `folder`; the runner decodes greedily.

        `messages` and `images` as for `Model.chat`. Raises InputError for bad input, DeviceError if
        the folder cannot be written.
        """
        check_expanded(folder)
        prompt = build_prompt(
            messages,
            images,
            self.tokenizer,
            self.manifest.prompt,
            self._tiles_of,
            frames_of=_refuse_videos,
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
        """Parse the output of the runner: token ids, one per line, then a JSON object."""
        *ids, last = [line for line in lines if line.strip()] or [""]
        try:
            tokens = tuple(int(line) for line in ids)
            summary = parse_json(last.encode("utf-8", "surrogatepass"), "the last line", MAX_LINE)
            timings: dict[str, Any] = {
                name: tuple(value) if isinstance(value, list) else value
                for name, value in summary["timings"].items()
            }
            reason, times = str(summary["finish_reason"]), Timings(**timings)
        except (ValueError, TypeError, KeyError, AttributeError, InputError) as error:
            raise InputError(
                f"not the output of handglass-native run, which ends with a JSON object: "
                f"{error!r:.200}"
            ) from error
        stream = TextStream()
        for token in tokens:
            stream.feed(self.tokenizer.surface(token))
        stream.finish()
        return Answer(stream.text, tokens, reason, times)

    def _request(self, prompt: Prompt, max_tokens: int, repeat_penalty: float) -> dict[str, Any]:
        first: dict[str, int] = {}  # the runner encodes only the first of equal tiles
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


def _refuse_videos(picture: Any) -> None:
    if isinstance(picture, Clip | PreparedVideo):
        raise InputError("the native program takes no videos; use 'handglass run --video'")


def write_tile(path: Path, tile: Tile) -> None:
    """Write the three arguments of `encode_image` for a tile to a safetensors file."""
    arrays = {"pixels": tile.strip, "position_ids": tile.position_ids, "grid": tile.grid}
    specs = [(name, array.shape, array.dtype.name) for name, array in arrays.items()]
    with TensorWriter(path, specs) as writer:
        for name, array in arrays.items():
            writer.write(name, np.ascontiguousarray(array))


def main(arguments: Sequence[str] | None = None) -> Iterator[str]:
    """Run the command line; yields the lines to print."""
    parser = argparse.ArgumentParser(prog="python -m handglass.runtime.answer.native_request")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("-p", "--prompt")
    parser.add_argument("--image", action="append", default=[])
    parser.add_argument("-n", "--max-tokens", type=int, default=MAX_TOKENS)
    parser.add_argument("--repeat-penalty", type=float, default=1.0)
    parser.add_argument("--read", metavar="FILE", help="output of the runner, - for stdin")
    args = parser.parse_args(arguments)
    writer = RequestWriter(args.bundle)
    if args.read is not None:
        yield writer.read(_lines(args.read)).text
    elif args.folder is None or args.prompt is None:
        raise UsageError("pass FOLDER and --prompt, or --read FILE")
    else:
        written = writer.write(
            args.folder, args.prompt, args.image, args.max_tokens, args.repeat_penalty
        )
        yield shlex.join(written.command("handglass-native", str(args.bundle)))


def _lines(name: str) -> list[str]:
    if name == "-":
        return list(input_lines())
    try:
        return read_text(name).splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{name}: cannot be read: {error}") from error


def _print_lines() -> None:
    for line in main():
        print_answer(line)


if __name__ == "__main__":
    sys.exit(run_module(_print_lines))

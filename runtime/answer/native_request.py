"""The host side of the native runner: converts questions to files and its token ids to text.

`handglass-native run` (runtime/native/) handles neither text nor pictures. This module tokenizes a
question, cuts its pictures into tiles of patches, chooses the options of the answer as `handglass
run` does, and writes everything to files:

    python -m handglass.runtime.answer.native_request BUNDLE FOLDER -p QUESTION [--image FILE ...]

It writes request.json and one tile-N.safetensors per tile to FOLDER (docs/native.md), and prints
the command that answers the question. To convert the output of the runner to text:

    python -m handglass.runtime.answer.native_request BUNDLE --read FILE [--json]
"""

from __future__ import annotations

import argparse
import json
import secrets
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from handglass.errors import DeviceError, InputError, UsageError

from ..bundle.manifest import Manifest
from ..bundle.reader import Bundle
from ..bundle.tensor_writer import TensorWriter
from ..prompt.canvas import open_positions
from ..prompt.chat_template import Prompt, Slot, build_prompt
from ..prompt.messages import Clip, with_system
from ..prompt.preprocess import Tile, open_preprocessor
from ..prompt.tokenizer import Tokenizer, tokenizer_of
from ..prompt.video.reader import PreparedVideo
from ..system.exits import run_module
from ..system.regular_file import read_text
from ..system.streams import input_lines, print_answer
from ..system.tilde import check_expanded
from .answer import Answer
from .fitting import check_fits
from .model import Messages
from .native_answer import read_answer
from .options import Options, check_options, with_defaults
from .sampler import Sampling

FORMAT, VERSION = "handglass-request", 3
SEED_BITS = 63
REQUEST = "request.json"
OPTIONS: Mapping[tuple[str, ...], type] = {
    ("-n", "--max-tokens"): int,
    ("--temp",): float,
    ("--top-p",): float,
    ("--top-k",): int,
    ("--repeat-penalty",): float,
    ("--seed",): int,
    ("--max-slices",): int,
}
"""Flags of the command line, named as the options of `Model.chat`."""


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
        self._tiles_of = open_preprocessor(self.manifest)
        self.tokenizer: Tokenizer = tokenizer_of(opened)
        self._positions_of = open_positions(self.manifest.prompt, self.tokenizer)

    def write(
        self,
        folder: Path,
        messages: Messages,
        images: Sequence[Any] = (),
        **given: Any,
    ) -> Written:
        """Write the files of a question to `folder`.

        `messages`, `images` and the options `given` as for `Model.chat`. Raises UsageError or
        InputError for bad arguments, DeviceError if the folder cannot be written.
        """
        check_expanded(folder)
        options = Options.of(with_defaults(self.manifest, given))
        check_options(self.manifest, options.max_slices, options.thinking)
        prompt = build_prompt(
            messages,
            images,
            self.tokenizer,
            self.manifest.prompt,
            partial(self._tiles_of, max_slices=options.max_slices),
            bool(options.thinking),
            frames_of=_refuse_videos,
        )
        check_fits(prompt.length, self.manifest.state.context, prompt.pictures)
        request = self._request(prompt, options)
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
        """Parse the output of the runner (native_answer.py)."""
        return read_answer(lines, self.tokenizer, self.manifest.prompt)

    def _request(self, prompt: Prompt, options: Options) -> dict[str, Any]:
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
            "positions": [] if self._positions_of is None else self._positions_of(prompt).tolist(),
            "stop": [self.tokenizer.token_id(token) for token in self.manifest.prompt.stop],
            "max_tokens": options.max_tokens,
            "thinking": bool(options.thinking),
            "sampling": asdict(_seeded(options.sampling)),
        }


def _refuse_videos(picture: Any) -> None:
    if isinstance(picture, Clip | PreparedVideo):
        raise InputError("the native program takes no videos; use 'handglass run --video'")


def _seeded(sampling: Sampling) -> Sampling:
    """With a seed: a random one unless it is given. Raises UsageError for one of 64 bits."""
    if sampling.seed is None:
        return replace(sampling, seed=secrets.randbits(SEED_BITS) if sampling.temp else 0)
    if sampling.seed >> SEED_BITS:
        raise UsageError(f"seed={sampling.seed}: must be less than 2**{SEED_BITS} here")
    return sampling


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
    parser.add_argument("--system", help="instructions that precede the question")
    parser.add_argument("--image", action="append", default=[])
    for names, kind in OPTIONS.items():
        parser.add_argument(*names, type=kind)
    parser.add_argument("--think", dest="thinking", action=argparse.BooleanOptionalAction)
    parser.add_argument("--read", metavar="FILE", help="output of the runner, - for stdin")
    parser.add_argument("--json", action="store_true", help="of --read: all of the answer")
    args = parser.parse_args(arguments)
    writer = RequestWriter(args.bundle)
    if args.read is not None:
        answer = writer.read(_lines(args.read))
        yield json.dumps(asdict(answer), ensure_ascii=False) if args.json else answer.text
    elif args.folder is None or args.prompt is None:
        raise UsageError("pass FOLDER and --prompt, or --read FILE")
    else:
        names = (*(names[-1][2:].replace("-", "_") for names in OPTIONS), "thinking")
        given = {name: getattr(args, name) for name in names}
        written = writer.write(
            args.folder, with_system(args.prompt, args.system), args.image, **given
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

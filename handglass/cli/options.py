"""Flags shared by several verbs."""

from pathlib import Path
from typing import Annotated

import typer

from handglass.runtime.devices.kinds import device_names

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output instead of text.")
]
BundleOption = Annotated[
    Path, typer.Option("--model", "-m", metavar="BUNDLE", help="The bundle folder to load.")
]
BundleArgument = Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle folder.")]

MaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens",
        "-n",
        min=1,
        metavar="N",
        help="Stop after this many tokens.  [default: 512]",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", "-t", min=1, metavar="N", help="CPU threads.  [default: one per core]"
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="DEVICE",
        help=f"{device_names()}.  [default: the first device the bundle is compiled for]",
    ),
]
Temperature = Annotated[
    float,
    typer.Option(
        "--temp", metavar="T", help="Sampling temperature; 0 takes the most likely token."
    ),
]
TopP = Annotated[
    float,
    typer.Option(
        "--top-p",
        metavar="P",
        help="Sample among the most likely tokens with this total probability.",
    ),
]
TopK = Annotated[
    int,
    typer.Option("--top-k", metavar="N", help="Sample among the N most likely tokens; 0: all."),
]
RepeatPenalty = Annotated[
    float,
    typer.Option(
        "--repeat-penalty", metavar="X", help="Repetition penalty for tokens seen so far; 1: off."
    ),
]
Seed = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="Random seed, for reproducible sampling.")
]

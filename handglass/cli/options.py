"""Flags shared by several verbs."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from handglass.runtime.devices.kinds import device_names

from .bundle_argument import bundle_folder

Json = Annotated[
    bool, typer.Option("--json", help="Print one JSON object on standard output instead of text.")
]
BundleOption = Annotated[
    Path,
    typer.Option(
        "--model",
        "-m",
        metavar="BUNDLE",
        help="The bundle folder to load.",
        callback=bundle_folder,
    ),
]
BundleArgument = Annotated[
    Path, typer.Argument(metavar="BUNDLE", help="A bundle folder.", callback=bundle_folder)
]
Mmproj = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="The GGUF file of the vision tower beside that of a language model "
        "(MiniCPM-V 2.5 to 4.7).",
    ),
]

MaxTokens = Annotated[
    int | None,
    typer.Option(
        "--max-tokens",
        "-n",
        min=1,
        metavar="N",
        help="Stop after this many tokens.  [default: the bundle's, else 512]",
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
MOST_SAMPLES = 10_000
"""Of a row or a step: rounds are planned before the first one."""
Temperature = Annotated[
    float | None,
    typer.Option(
        "--temp",
        metavar="T",
        help="Sampling temperature; 0 takes the most likely token.  "
        "[default: the bundle's, else 0]",
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(
        "--top-p",
        metavar="P",
        help="Sample among the most likely tokens with this total probability.  "
        "[default: the bundle's, else 1]",
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        "--top-k",
        metavar="N",
        help="Sample among the N most likely tokens; 0: all.  [default: the bundle's, else 0]",
    ),
]
RepeatPenalty = Annotated[
    float | None,
    typer.Option(
        "--repeat-penalty",
        metavar="X",
        help="Repetition penalty for tokens seen so far; 1: off.  [default: the bundle's, else 1]",
    ),
]
MaxSlices = Annotated[
    int | None,
    typer.Option(
        "--max-slices",
        min=1,
        metavar="N",
        help="Cut a large picture into at most N slices; 1: none.  [default: the bundle's]",
    ),
]
Videos = Annotated[
    list[Path] | None,
    typer.Option(
        "--video",
        metavar="VIDEO",
        help="A video, an animation or a folder of frames to ask about; repeatable.",
    ),
]
MostFrames = Annotated[
    int | None,
    typer.Option(
        "--frames",
        min=1,
        metavar="N",
        help="Show at most N frames of a video.  [default: the bundle's]",
    ),
]
FramesPerSecond = Annotated[
    float | None,
    typer.Option(
        "--fps",
        metavar="X",
        help="Show X frames per second of a video; the rate of a folder of frames.  "
        "[default: the bundle's]",
    ),
]
Packing = Annotated[
    int | None,
    typer.Option(
        "--packing",
        min=1,
        metavar="N",
        help="Let N frames of a video share the tokens of one picture, if the model can.  "
        "[default: the bundle's]",
    ),
]
Think = Annotated[
    bool | None,
    typer.Option(
        "--think/--no-think",
        help="Let the model think before it answers, if it can.  [default: the bundle's]",
    ),
]
System = Annotated[
    str | None,
    typer.Option(
        metavar="TEXT",
        help="Instructions that precede the conversation, if the model has a system role.  "
        "[default: the bundle's]",
    ),
]
Seed = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="Random seed, for reproducible sampling.")
]
KeptFile = Annotated[
    Path | None,
    typer.Option(
        "--load",
        metavar="FILE",
        help="Go on with a conversation that '/save' kept; nothing of it is computed again.",
    ),
]
WhenFull = Annotated[
    Literal["ask", "forget", "stop"] | None,
    typer.Option(
        "--when-full",
        help="When the context is full: ask whether to forget the oldest question and answer, "
        "forget them, or stop with an error.  [default: ask on a terminal, else stop]",
    ),
]
PreviewOption = Annotated[
    Literal["auto", "off", "kitty", "iterm", "sixel", "blocks"],
    typer.Option(
        "--preview",
        help="How a terminal shows the pictures of a conversation; auto asks the terminal.",
    ),
]

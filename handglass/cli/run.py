"""`handglass run`: asks one question and streams the answer.

The answer goes to standard output and the footer to standard error, so a pipe receives only the
answer. Never imports the compiler.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from handglass.errors import UsageError
from handglass.runtime.system.streams import input_lines

from .options import (
    BundleOption,
    Device,
    FramesPerSecond,
    Json,
    MaxSlices,
    MaxTokens,
    MostFrames,
    Packing,
    RepeatPenalty,
    Seed,
    System,
    Temperature,
    Think,
    Threads,
    TopK,
    TopP,
    Videos,
)
from .output import print_json


def run(
    model: BundleOption,
    prompt: Annotated[
        str,
        typer.Option(
            "--prompt",
            "-p",
            metavar="TEXT",
            help="The question; '-' reads it from standard input.",
        ),
    ],
    image: Annotated[
        list[Path] | None,
        typer.Option(metavar="PICTURE", help="A picture to ask about; repeatable."),
    ] = None,
    video: Videos = None,
    max_tokens: MaxTokens = None,
    threads: Threads = None,
    device: Device = None,
    temp: Temperature = None,
    top_p: TopP = None,
    top_k: TopK = None,
    repeat_penalty: RepeatPenalty = None,
    seed: Seed = None,
    max_slices: MaxSlices = None,
    think: Think = None,
    system: System = None,
    frames: MostFrames = None,
    fps: FramesPerSecond = None,
    packing: Packing = None,
    json: Json = False,
    no_stream: Annotated[
        bool, typer.Option("--no-stream", help="Print the answer when it is complete.")
    ] = False,
) -> None:
    """Ask one question, with or without pictures and videos."""
    from handglass.runtime.prompt.preprocess import open_picture
    from handglass.runtime.prompt.video.source import check_video

    from .answer import Speaker, answer_json

    # Validate the question before a large model is loaded. A decoded picture may take 300 MB, so
    # that it is not kept.
    text = "".join(input_lines()).rstrip("\n") if prompt == "-" else prompt
    for path in image or ():
        open_picture(path)
    for path in video or ():
        check_video(path)
    last = (frames, fps, packing, system)
    speaker = Speaker(
        max_tokens, temp, top_p, top_k, repeat_penalty, seed, max_slices, think, *last
    )
    if speaker.video is not None and not video:
        raise UsageError("--frames, --fps and --packing need --video")
    loaded = speaker.load(model, threads, device, with_videos=bool(video))
    answer = speaker.ask(
        loaded, text, image or [], silent=json, stream=not no_stream, videos=video or []
    )
    if json:
        print_json(answer_json(answer))

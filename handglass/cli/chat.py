"""`handglass chat`: a conversation that keeps its cache, on a terminal or from a pipe.

On a terminal an error is reported and the conversation continues; from a pipe it ends the command
with its exit code. With --json each turn is one line, written when it is complete, so that nothing
is lost if the process is killed.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from handglass.runtime.system.printable import printable
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
from .signals import ended_by
from .terminal import confirmed, read_lines

if TYPE_CHECKING:
    from .conversation import Conversation


def chat(
    model: BundleOption,
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
) -> None:
    """Chat about pictures; --json prints one JSON object per turn."""
    from handglass.runtime.prompt.video.source import check_video

    from .answer import Speaker
    from .conversation import COMMANDS, HELP, Conversation

    last = (frames, fps, packing, system)
    speaker = Speaker(
        max_tokens, temp, top_p, top_k, repeat_penalty, seed, max_slices, think, *last
    )
    for path in video or ():
        check_video(path)
    on_terminal = sys.stdin.isatty() and not json
    loaded = speaker.load(model, threads, device, with_videos=bool(video))
    talk = Conversation(loaded, speaker, silent=json)
    for path in video or ():
        talk.show_video(str(path))
    if on_terminal:
        talk.confirmed = confirmed
        print(HELP, file=sys.stderr)
    for line in read_lines(COMMANDS) if on_terminal else input_lines():
        if not take(talk, line.strip(), on_terminal):
            break


def take(talk: Conversation, line: str, on_terminal: bool) -> bool:
    """Process one line of input. Returns False when the conversation is over."""
    from handglass.errors import HandglassError

    try:
        return talk.take(line)
    except HandglassError as error:
        if not on_terminal:
            raise
        print(f"error: {printable(error, lines=True)}", file=sys.stderr)
    except KeyboardInterrupt:
        if not on_terminal:
            raise
        ended_by()
        print("\ninterrupted; the question was discarded", file=sys.stderr)
    return True

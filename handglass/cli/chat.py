"""`handglass chat`: a conversation that keeps its cache, on a terminal or from a pipe.

On a terminal an error is reported and the conversation continues, and Ctrl-C ends an answer, of
which the part that was said is kept; from a pipe either ends the command with its exit code. With
--json each turn is one line, written when it is complete, so that nothing is lost if the process is
killed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from handglass.errors import HandglassError, UsageError
from handglass.runtime.system.printable import printable
from handglass.runtime.system.streams import input_lines

from .options import (
    BundleOption,
    Device,
    FramesPerSecond,
    Json,
    KeptFile,
    MaxSlices,
    MaxTokens,
    MostFrames,
    Packing,
    PreviewOption,
    RepeatPenalty,
    Seed,
    System,
    Temperature,
    Think,
    Threads,
    TopK,
    TopP,
    Videos,
    WhenFull,
)
from .signals import ended_by
from .terminal import TerminalLines, confirmed

if TYPE_CHECKING:
    from .chat_commands import Commands


def chat(
    model: BundleOption,
    load: KeptFile = None,
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
    when_full: WhenFull = None,
    preview: PreviewOption = "auto",
    json: Json = False,
) -> None:
    """Chat about pictures; --json prints one JSON object per turn."""
    from handglass.runtime.answer.saved_conversation import check_conversation
    from handglass.runtime.prompt.video.source import check_video

    from .answer import Speaker
    from .chat_commands import Commands
    from .conversation import Conversation
    from .preview import OFF, Preview

    last = (frames, fps, packing, system)
    speaker = Speaker(
        max_tokens, temp, top_p, top_k, repeat_penalty, seed, max_slices, think, *last
    )
    if load is not None:
        check_conversation(load)
    for path in video or ():
        check_video(path)
    on_terminal = sys.stdin.isatty() and not json
    policy = policy_of(when_full, on_terminal)
    loaded = speaker.load(model, threads, device, with_videos=bool(video))
    talk = Conversation(loaded, speaker, silent=json, confirmed=confirmed, when_full=policy)
    shown = Preview(preview if on_terminal else OFF)
    commands = Commands(talk, shown, model.resolve().name)

    lines = entered_lines(on_terminal)
    if load is not None:
        resume(commands, load, system)
    for path in video or ():
        commands.show_video(str(path))
    converse(commands, lines, on_terminal)


def resume(commands: Commands, kept: Path, system: str | None) -> None:
    """Go on with a kept conversation. Instructions that are given now replace its own."""
    commands.open(kept)
    if system is not None:
        commands.talk.instruct(system)


def entered_lines(on_terminal: bool) -> Iterator[str]:
    """Lines from the terminal, with the list of commands above them, or from standard input."""
    from .chat_commands import COMMANDS, WITH_PATHS, help_text

    if not on_terminal:
        return input_lines()
    print(help_text(), file=sys.stderr)
    return TerminalLines(COMMANDS, WITH_PATHS)


def converse(commands: Commands, lines: Iterator[str], on_terminal: bool) -> None:
    """Process lines until the conversation is over."""
    is_over, why = False, ""
    while not is_over:
        try:  # all is in here: an interrupt may come between two lines, and while one is reported
            if why:
                print(why, file=sys.stderr)
            while not is_over:
                line = next(lines, None)
                is_over = line is None or not commands.take(line.strip())
        except (HandglassError, KeyboardInterrupt) as error:
            if not on_terminal:
                raise
            why = described(error)


def described(error: HandglassError | KeyboardInterrupt) -> str:
    """Why a line was not processed to its end."""
    if isinstance(error, HandglassError):
        return f"error: {printable(error, lines=True)}"
    ended_by()
    return f"\ninterrupted{getattr(error, 'outcome', '')}"


def policy_of(when_full: str | None, on_terminal: bool) -> str:
    """What happens when the context is full: on a terminal people are asked, a pipe cannot be."""
    from .conversation import ASK, STOP

    if when_full == ASK and not on_terminal:
        raise UsageError("--when-full ask needs a terminal; choose forget or stop")
    return when_full or (ASK if on_terminal else STOP)

"""`handglass quickstart`: from a checkpoint to a chat on this machine, with one command.

It chooses what fits, compiles, compares with the checkpoint, asks a first question and goes on as
`chat` or `serve`. The bundle stays in the user's cache, so that the second time it only asks.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from handglass.errors import UsageError

from .options import Json, MaxTokens, Mmproj, Threads
from .output import print_json, size_text
from .quickstart_say import say

if TYPE_CHECKING:
    from handglass.runtime.answer.model import Model

    from .quickstart_shelf import Note, Request, Slot

ABOUT_PICTURE, ABOUT_TEXT = "What is this picture?", "Who are you?"


def quickstart(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            metavar="CHECKPOINT",
            help="A folder, or a GGUF file of a language model.  "
            "[default: the demo model, in a source checkout]",
        ),
    ] = None,
    mmproj: Mmproj = None,
    target: Annotated[
        str, typer.Option(metavar="TARGET", help="A device of this machine to compile for.")
    ] = "host",
    quantization: Annotated[
        str | None,
        typer.Option(metavar="SCHEME", help="As of compile.  [default: the first that fits]"),
    ] = None,
    context: Annotated[
        int | None,
        typer.Option("--context", "-c", min=1, metavar="N", help="As of compile."),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(metavar="PICTURE", help="The first picture.  [default: a drawn one]"),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", "-p", metavar="TEXT", help="The first question.")
    ] = None,
    max_tokens: MaxTokens = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Compile again.")] = False,
    keep: Annotated[
        int,
        typer.Option("--keep", min=1, metavar="N", help="Bundles to keep, the last used ones."),
    ] = 3,
    listed: Annotated[bool, typer.Option("--list", help="Only list the bundles it keeps.")] = False,
    clean: Annotated[bool, typer.Option("--clean", help="Only remove them.")] = False,
    check: Annotated[
        bool, typer.Option("--verify/--no-verify", help="Compare the bundle with the checkpoint.")
    ] = True,
    chat: Annotated[
        bool, typer.Option("--chat/--no-chat", help="Go on with a chat, on a terminal.")
    ] = True,
    serve: Annotated[bool, typer.Option("--serve", help="Go on with the server.")] = False,
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, metavar="N", help="Of the server.")
    ] = 8080,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """From a checkpoint to a chat, with one command."""
    from .quickstart_shelf import Request

    if listed or clean:
        from .quickstart_list import show_kept

        show_kept(json, clean)
        return
    check_wishes(serve, json, image)
    request = Request(found(checkpoint), mmproj, target, quantization, context)
    slot, note, kept = ready(request, fresh, keep, check)
    first = First(slot.bundle, image, prompt, max_tokens, threads)
    if json:
        asked = first.ask_silently()
        print_json({"bundle": str(slot.bundle), "kept": kept, **asdict(note), **asked})
        return
    first.ask(goes_on=chat and not serve and sys.stdin.isatty())
    if serve:
        del first  # its model; the server loads its own
        from .serve import serve as serve_bundles

        serve_bundles([slot.bundle], port=port, threads=threads)


def check_wishes(serve: bool, json: bool, image: Path | None) -> None:
    """Raise UsageError or InputError for what would fail only after minutes."""
    if serve and json:
        raise UsageError("--serve and --json are mutually exclusive: handglass serve has --json")
    if serve:
        from .serve import check_packages

        check_packages()
    if image is not None:
        from handglass.runtime.prompt.preprocess import open_picture

        open_picture(image)


def found(checkpoint: Path | None) -> Path:
    """The checkpoint, or the demo model. Raises UsageError if neither can be meant."""
    from handglass.runtime.bundle.reader import is_bundle

    if checkpoint is None:
        demo = Path(__file__).parents[2] / "examples" / "demo-checkpoint"
        if not demo.is_dir():
            raise UsageError(
                "CHECKPOINT is missing; only a source checkout has a demo model to start without"
            )
        return demo
    if is_bundle(checkpoint):
        raise UsageError(f"{checkpoint}: is a bundle already: handglass chat -m {checkpoint}")
    return checkpoint


def ready(request: Request, fresh: bool, keep: int, check: bool) -> tuple[Slot, Note, bool]:
    """A bundle for the request: one that was kept, or a new one. Says which."""
    from .quickstart_make import compare, compile_into
    from .quickstart_shelf import bound, prepare_shelf

    slot = request.slot()
    prepare_shelf()
    note = None if fresh else usable(slot)
    kept = note is not None
    if note is None:
        note = compile_into(slot, request, check)
    else:
        say(f"{slot.bundle.name}: compiled already ({note.choice}); --fresh compiles it again")
    if check and not note.verdict:
        note = compare(slot, request, note)
    slot.touch(note)
    for _, old in bound(keep, slot):
        say(f"removed: the bundle of {old.checkpoint}, {size_text(old.bytes)} (--keep {keep})")
    return slot, note, kept


def usable(slot: Slot) -> Note | None:
    """The note of a kept bundle whose files are as they were."""
    note = slot.read()
    if note is not None and (damage := slot.damage()):
        say(f"{damage}: compiling it again")
        return None
    return note


class First:
    """The first question, and the chat that goes on from it."""

    def __init__(
        self,
        bundle: Path,
        image: Path | None,
        prompt: str | None,
        max_tokens: int | None,
        threads: int | None,
    ) -> None:
        from .answer import Speaker

        self.bundle = bundle
        self.speaker = Speaker(max_tokens)
        self.model: Model = self.speaker.load(bundle, threads, None)
        sees = self.model.manifest.vision is not None
        if image is not None and not sees:
            raise UsageError("--image: this model is text-only; omit it")
        self.picture = (image or drawn(bundle.parent)) if sees else None
        self.prompt = prompt or (ABOUT_PICTURE if sees else ABOUT_TEXT)

    def ask_silently(self) -> dict[str, Any]:
        from .answer import answer_json

        pictures = [] if self.picture is None else [self.picture]
        answer = self.speaker.ask(self.model, self.prompt, pictures, silent=True)
        return {"prompt": self.prompt, **answer_json(answer)}

    def ask(self, goes_on: bool) -> None:
        """Ask as if it was entered into a chat, which then goes on."""
        from .chat import converse, entered_lines, policy_of
        from .chat_commands import Commands
        from .conversation import Conversation
        from .preview import OFF, Preview
        from .terminal import confirmed

        policy = policy_of(None, goes_on)
        talk = Conversation(self.model, self.speaker, confirmed=confirmed, when_full=policy)
        commands = Commands(talk, Preview("auto" if goes_on else OFF), self.bundle.name)
        if self.picture is not None:
            commands.show(str(self.picture))
        say(f"> {self.prompt}")
        converse(commands, iter([self.prompt]), goes_on)
        if goes_on:
            converse(commands, entered_lines(on_terminal=True), on_terminal=True)
        else:
            say(f"to go on: handglass chat -m {self.bundle}")


def drawn(folder: Path) -> Path:
    """A file with a picture of a big red circle and a small blue square."""
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (224, 224), (236, 232, 220))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((24, 24, 124, 124), (210, 40, 40))
    draw.rectangle((160, 160, 194, 194), (40, 80, 200))
    file = folder / "example.png"
    picture.save(file)
    return file

"""The public interface: a loaded bundle that answers questions about pictures.

A model builds prompts, encodes each picture once and converts tokens to text. It has a cache for
one conversation, or for each of several, and generates one answer at a time. Callers in several
threads wait their turn.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from handglass.errors import InputError

from ..bundle.reader import Bundle, Manifest
from ..engine.session import Session
from ..engine.worker import Worker
from ..prompt.canvas import open_positions
from ..prompt.chat_template import build_prompt, opening
from ..prompt.messages import Clip
from ..prompt.openbmb import translate
from ..prompt.preprocess import Prepared, open_preprocessor
from ..prompt.tokenizer import Tokenizer, tokenizer_of
from ..prompt.video.reader import Frames, PreparedVideo, VideoReader
from ..prompt.video.sampling import VideoOptions
from .answer import Answer, AnswerStream, Production
from .conversations import Conversations
from .fitting import check_fits
from .generate import Engine
from .keys import keys_of
from .logprobs import LogProbs
from .options import MAX_TOKENS, Options, check_options, with_defaults
from .pictures import TILES_KEPT, Memory, PictureEncoder, TilesOfFiles, VisionEngine
from .sampler import Constraint, Sampler, Sampling
from .stream import TextStream
from .surfaces import Surfaces
from .thoughts import Thoughts

__all__ = ["MAX_TOKENS", "Answer", "AnswerStream", "Model", "load"]

Messages = str | Sequence[Mapping[str, Any]]
VERIFY_VARIABLE = "HANDGLASS_VERIFY"


class ModelEngine(Engine, VisionEngine, Protocol):
    """The part of a session that a model uses."""

    worker: Worker

    def device_peak(self) -> int | None: ...


def load(
    path: str | os.PathLike[str],
    threads: int | None = None,
    verify: str | None = None,
    device: str | None = None,
) -> Model:
    """Open a bundle folder; see Model.load."""
    return Model.load(path, threads, verify, device)


class Model:
    def __init__(
        self,
        session: ModelEngine,
        tokenizer: Tokenizer,
        manifest: Manifest,
        load_s: float = 0.0,
        conversations: int = 1,
        tiles_kept: int = TILES_KEPT,
        rows: int | None = None,
    ) -> None:
        self.session = session
        self.tokenizer = tokenizer
        self.manifest = manifest
        self.load_s = load_s
        picture = manifest.prompt.picture
        token = tokenizer.token_id(picture) if picture else None
        self.conversations = Conversations(session, conversations, rows, token)
        self.encoded = Memory(tiles_kept)
        self._stop = {tokenizer.token_id(token) for token in manifest.prompt.stop}
        self._surface = Surfaces(tokenizer, manifest.prompt.thoughts)
        tiles_of = open_preprocessor(manifest)
        self._tiles_of = TilesOfFiles(tiles_of)
        self._videos = VideoReader(manifest, tiles_of)
        self._positions_of = open_positions(manifest.prompt, tokenizer)
        self._preparing = threading.Lock()

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str],
        threads: int | None = None,
        verify: str | None = None,
        device: str | None = None,
        conversations: int = 1,
        tiles_kept: int = TILES_KEPT,
        rows: int | None = None,
    ) -> Model:
        """Check and open a bundle.

        `threads`: None uses one thread per physical core.
        `verify`: "remembered" hashes a parameter file again only after it changes, "all" always,
        "library" never. None uses the environment variable HANDGLASS_VERIFY, or "remembered".
        `device`: "cpu", "vulkan", "vulkan:1" or "vulkan:part of its name". None uses the first
        device of the kind that the bundle is compiled for.
        `conversations`: how many have a cache of their own; `tiles_kept`: encoded tiles of pictures
        that are kept; `rows`: the most that a prompt computes in one call, between which an answer
        can be closed; None: all.

        Raises UsageError, InputError, DeviceError or MismatchError (handglass/errors.py).
        """
        start = time.perf_counter()
        bundle = Bundle.open(path, verify or os.environ.get(VERIFY_VARIABLE) or "remembered")
        manifest = bundle.manifest
        tokenizer = tokenizer_of(bundle)
        session = Session(bundle, threads, device)
        load_s = time.perf_counter() - start
        return cls(session, tokenizer, manifest, load_s, conversations, tiles_kept, rows)

    def prepare(self, picture: Any, max_slices: int | None = None) -> Prepared:
        """A picture (path, bytes, PIL image, array) for several turns: read and cut now, once.

        It is shown like any other: `chat("What is this?", [prepared])`. Raises InputError where it
        cannot be read, has more tokens than the context, or where the model reads text alone, and
        UsageError for a `max_slices` (see `chat`) that the model does not have.
        """
        self.check(max_slices)
        tiles = tuple(self._tiles_of(picture, max_slices))
        assert self.manifest.vision is not None  # else the line above has refused
        check_fits(sum(tile.rows for tile in tiles), self.session.context, [tiles])
        return Prepared(tiles, self.manifest.vision)

    def prepare_video(
        self,
        video: Any,
        max_slices: int | None = None,
        options: VideoOptions = VideoOptions(),  # noqa: B008 - frozen
    ) -> PreparedVideo:
        """A video (path of a file or a folder, list of frames) for several turns: read now, once.

        It is shown like any other: `chat("What happens?", videos=[prepared])`. Raises InputError
        and UsageError as `prepare` does.
        """
        frames = self._videos.frames(video, options, max_slices)
        assert self.manifest.vision is not None  # else the line above has refused
        rows = sum(tile.rows for tiles in frames for tile in tiles)
        check_fits(rows, self.session.context, frames, [range(len(frames))])
        return PreparedVideo(frames, self.manifest.vision)

    def check(
        self,
        max_slices: int | None = None,
        thinking: bool | None = None,
        video: VideoOptions | None = None,
    ) -> None:
        """Raise UsageError if the model does not have these options of `chat`, or, where `video` is
        given, if it takes no videos."""
        check_options(self.manifest, max_slices, thinking)
        if video is not None:
            self._videos.check(video)

    def chat(
        self,
        messages: Messages | None = None,
        images: Sequence[Any] | None = None,
        *,
        videos: Sequence[Any] | None = None,
        stream: bool = False,
        max_tokens: int | None = None,
        temp: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        repeat_penalty: float | None = None,
        seed: int | None = None,
        stop: Sequence[str] = (),
        max_slices: int | None = None,
        thinking: bool | None = None,
        frames: int | None = None,
        fps: float | None = None,
        packing: int | None = None,
        **openbmb: Any,
    ) -> Any:
        """Return an `Answer`, or with `stream=True` an `AnswerStream` over pieces of text.

        `messages` is the user's text or a list of {"role", "content"}; `images` are paths, bytes,
        PIL images or arrays; `videos`, which follow them, are paths of files or folders, or lists
        of frames. None selects the default of the bundle, else greedy decoding of at most
        MAX_TOKENS tokens. `max_slices` lowers the number of slices of a large picture, for a
        model that slices; `thinking` lets a model think first, if it can. `frames` limits the
        frames that are shown of a video, `fps` is how many are shown per second, `packing` how many
        share one tile (VideoOptions). With OpenBMB's arguments, `chat(image=, msgs=,
        tokenizer=None)`, it returns only the text, as the reference does.
        Raises UsageError or InputError for bad arguments.
        """
        options: dict[str, Any] = {
            "max_tokens": max_tokens,
            "temp": temp,
            "top_p": top_p,
            "top_k": top_k,
            "repeat_penalty": repeat_penalty,
            "seed": seed,
            "max_slices": max_slices,
            "thinking": thinking,
        }
        given = {name: value for name, value in options.items() if value is not None}
        if openbmb:
            defaults = self.manifest.prompt.sampling
            messages, theirs = translate(messages, images, openbmb, defaults)
            given = theirs | given
        chosen = Options.of(with_defaults(self.manifest, given))
        shown = VideoOptions(frames, fps, packing)
        answers = self.stream(
            messages,
            images,
            chosen.sampling,
            chosen.max_tokens,
            stop,
            chosen.max_slices,
            chosen.thinking,
            videos,
            None if shown == VideoOptions() else shown,
        )
        if stream:
            return answers
        answer = answers.finish()
        return answer.text if openbmb else answer

    def stream(
        self,
        messages: Messages | None,
        images: Sequence[Any] | None = None,
        sampling: Sampling = Sampling(),  # noqa: B008 - frozen
        max_tokens: int = MAX_TOKENS,
        stop: Sequence[str] = (),
        max_slices: int | None = None,
        thinking: bool | None = None,
        videos: Sequence[Any] | None = None,
        options: VideoOptions | None = None,
        *,
        constraint: Constraint | None = None,
        top_logprobs: int | None = None,
    ) -> AnswerStream:
        """Stream the answer. Bad input raises here, not when the first piece is read.

        `constraint`: what the answer must consist of. `top_logprobs`: how many alternatives to each
        token to record with their log probabilities; None records nothing.
        """
        start = time.perf_counter()
        self.check(max_slices, thinking, options)
        template = self.manifest.prompt
        with self._preparing:
            prompt = build_prompt(
                "" if messages is None else messages,
                [*_list("images", images), *map(Clip, _list("videos", videos))],
                self.tokenizer,
                template,
                partial(self._tiles_of, max_slices=max_slices),
                bool(thinking),
                partial(self._frames_of, options=options or VideoOptions(), max_slices=max_slices),
            )
        encoder = PictureEncoder(self.session, self.encoded, prompt)
        keys = keys_of(prompt)
        positions = None if self._positions_of is None else self._positions_of(prompt)
        check_fits(len(keys), self.session.context, prompt.pictures, prompt.videos)
        branch = len(keys) - prompt.passing
        sample = Sampler(sampling, constraint)
        recorded = None if top_logprobs is None else LogProbs(sample, top_logprobs)
        generation = self.conversations.answer(
            keys, encoder, recorded or sample, self._stop, max_tokens, branch, positions
        )
        text = TextStream(stop, Thoughts(template.thoughts, opening(template, bool(thinking))))
        times = (start, self.load_s, self.session.device_peak)
        production = Production(generation, encoder, text, self._surface, *times, recorded)
        return AnswerStream(self.session.worker, production)

    def _frames_of(
        self, picture: Any, options: VideoOptions, max_slices: int | None
    ) -> Frames | None:
        """The frames of a video, or None if this is a picture."""
        if isinstance(picture, PreparedVideo):
            picture = Clip(picture)
        if not isinstance(picture, Clip):
            return None
        return self._videos.frames(picture.video, options, max_slices)


def _list(name: str, items: Any) -> list[Any]:
    if items is None:
        return []
    if not isinstance(items, Sequence) or isinstance(items, str | bytes | bytearray):
        kind = "pictures" if name == "images" else name
        raise InputError(f"{name} must be a list of {kind}, got {type(items).__name__}")
    return list(items)

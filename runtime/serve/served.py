"""The models of a server, and a question made ready for one of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from handglass.errors import HandglassError

from ..answer.answer import AnswerStream
from ..answer.model import Model
from ..answer.options import Options, with_defaults
from ..search.encoder import Encoder
from .asked import Asked
from .embedder import ENCODE_TEXT, AskedRows, Embedder, ReadyRows
from .grammar import Grammars
from .limits import TEXT_PER_POSITION, Limits
from .pictures import Fetch, Pictures
from .refusal import Refusal, bad, refusal_of


@dataclass
class Served:
    """One model under its name."""

    name: str
    model: Model
    pictures: Pictures
    grammars: Grammars
    limits: Limits
    created: int  # seconds since 1970

    @property
    def entry(self) -> dict[str, Any]:
        """The entry of /v1/models."""
        manifest = self.model.manifest
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "handglass",
            "context": manifest.state.context,
            "vision": manifest.vision is not None,
            "thinking": "thinking" in manifest.prompt.answer,
            "system": "system" in manifest.prompt.roles,
            "limits": {"body_bytes": self.limits.body_bytes, "pictures": self.limits.pictures},
        }


@dataclass(frozen=True)
class Ready:
    """A question whose answer only waits for its turn."""

    asked: Asked
    served: Served
    stream: AnswerStream


class Models:
    """By name: models that answer questions, and encoders of texts. `ready` and `ready_rows` are
    called by one thread at a time; iterating gives those that answer questions."""

    def __init__(
        self,
        models: Mapping[str, Model],
        limits: Limits,
        fetch: Fetch,
        encoders: Mapping[str, Encoder] | None = None,
    ) -> None:
        self._limits = limits
        now = int(time.time())
        self._served = {
            name: Served(name, model, self._pictures(model, fetch), Grammars(model), limits, now)
            for name, model in models.items()
        }
        self._embedders = {
            name: Embedder(name, encoder, now) for name, encoder in (encoders or {}).items()
        }

    def _pictures(self, model: Model, fetch: Fetch) -> Pictures:
        return Pictures(model, fetch, self._limits.picture_bytes)

    def __iter__(self) -> Any:
        return iter(self._served.values())

    @property
    def entries(self) -> list[dict[str, Any]]:
        """The entries of /v1/models."""
        answering = [served.entry for served in self._served.values()]
        return answering + [embedder.entry for embedder in self._embedders.values()]

    def entry(self, name: str) -> dict[str, Any]:
        return (self._embedders.get(name) or self.find(name)).entry

    def find(self, name: str) -> Served:
        """The model that answers questions. Raises Refusal."""
        if name in self._embedders:
            raise _unable(name, "is an encoder, which answers no questions", "/v1/embeddings")
        if name not in self._served:
            raise self._unknown(name)
        return self._served[name]

    def _unknown(self, name: str) -> Refusal:
        known = ", ".join((*self._served, *self._embedders))
        message = f"the model {name!r:.100} is not served here; served: {known}"
        return Refusal(404, message, "model", "model_not_found")

    def ready_rows(self, asked: AskedRows) -> ReadyRows:
        """Raises Refusal."""
        if asked.model in self._served:
            lacks = f"has no capability {ENCODE_TEXT!r}, so no embeddings"
            raise _unable(asked.model, lacks, "/v1/chat/completions and /v1/responses")
        if asked.model not in self._embedders:
            raise self._unknown(asked.model)
        return self._embedders[asked.model].ready(asked)

    def ready(self, asked: Asked) -> Ready:
        """Read its pictures and build its prompt. Raises Refusal."""
        served = self.find(asked.model)
        self._check(asked, served)
        try:
            stream = self._stream(asked, served)
        except HandglassError as error:
            raise refusal_of(error) from error
        return Ready(replace(asked, turns=()), served, stream)  # the data of its pictures is large

    def _check(self, asked: Asked, served: Served) -> None:
        count, limit = len(asked.pictures), self._limits.pictures
        if count > limit:
            raise bad(f"{count} pictures, but the limit of this server is {limit}", "messages")
        longest = TEXT_PER_POSITION * served.model.session.context
        if asked.text_bytes > longest:
            raise bad(
                f"{asked.text_bytes} bytes of text, at most {longest} fit the context",
                "messages",
                "context_length_exceeded",
            )

    def _stream(self, asked: Asked, served: Served) -> AnswerStream:
        model = served.model
        options = Options.of(with_defaults(model.manifest, asked.options))
        model.check(options.max_slices, options.thinking)
        constraint = served.grammars.constraint(asked.format, bool(options.thinking))
        return model.stream(
            [_with_pictures(turn, served.pictures) for turn in asked.turns],
            None,
            options.sampling,
            options.max_tokens,
            asked.stop,
            options.max_slices,
            options.thinking,
            constraint=constraint,
            top_logprobs=asked.top_logprobs,
        )


def _with_pictures(turn: Mapping[str, Any], pictures: Pictures) -> dict[str, Any]:
    parts = [
        {"type": "image", "image": pictures.prepared(part["image"])}
        if part["type"] == "image"
        else part
        for part in turn["content"]
    ]
    return {"role": turn["role"], "content": parts}


def _unable(name: str, why: str, paths: str) -> Refusal:
    """A bundle that is served has no answer at a path."""
    message = f"the bundle {name!r} {why}; ask it at {paths}"
    return Refusal(400, message, "model", "unsupported_capability")

"""Answers that follow a JSON schema, a grammar or a regular expression, through llguidance."""

from __future__ import annotations

import json
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from ..answer.model import Model
from ..answer.sampler import Constraint
from .asked import GBNF, JSON, LARK, SCHEMA, Format
from .refusal import Refusal, bad

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer


ONE_LINE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""A small model that may write white space anywhere can write it for ever."""


class Grammars:
    """Makes constraints for one model; its vocabulary is read with the first."""

    def __init__(self, model: Model) -> None:
        self._model = model

    def constraint(self, wanted: Format | None, thinking: bool) -> Constraint | None:
        """Raises Refusal for a grammar that is wrong or too complex."""
        if wanted is None:
            return None
        matcher = self._matcher(wanted)
        constraint = Matched(matcher, self._model.manifest.vocab_size)
        return AfterThoughts(constraint, self._end_of_thoughts()) if thinking else constraint

    def _matcher(self, wanted: Format) -> LLMatcher:
        from llguidance import LLMatcher

        try:
            matcher = LLMatcher(self._tokenizer, _grammar(wanted), log_level=0)
        except (ValueError, TypeError) as error:
            raise _wrong(str(error)) from error
        if matcher.is_error():
            raise _wrong(matcher.get_error())
        return matcher

    def _end_of_thoughts(self) -> int:
        marker = self._model.manifest.prompt.thoughts.after
        ids = self._model.tokenizer.marker_ids(marker)
        if len(ids) != 1:
            raise bad("response_format: not while this model thinks; turn thinking off")
        return ids[0]

    @cached_property
    def _tokenizer(self) -> LLTokenizer:
        try:
            from llguidance import LLTokenizer, TokenizerWrapper
        except ImportError as error:
            message = (
                "response_format: this server lacks llguidance: pip install 'handglass[serve]'"
            )
            raise Refusal(501, message, "response_format") from error
        vocabulary = _Vocabulary(self._model)
        return LLTokenizer(TokenizerWrapper(vocabulary), eos_token=sorted(vocabulary.stops))


class _Vocabulary:
    """What llguidance reads of a tokenizer."""

    def __init__(self, model: Model) -> None:
        tokenizer, prompt = model.tokenizer, model.manifest.prompt
        size = model.manifest.vocab_size
        self.stops = {tokenizer.token_id(token) for token in prompt.stop}
        self.tokens = [tokenizer.surface(token) for token in range(size)]
        names = {tokenizer.token_id(name): name for name in tokenizer.special}
        for token, name in names.items():
            self.tokens[token] = name.encode()
        self.special_token_ids = sorted(names)
        self.eos_token_id = min(self.stops)
        self.bos_token_id = tokenizer.token_id(prompt.bos) if prompt.bos else None
        self._encode = tokenizer.encode

    def __call__(self, text: Any) -> list[int]:
        return self._encode(text.decode("utf-8", "replace") if isinstance(text, bytes) else text)


class Matched:
    """The state of a grammar while an answer is generated."""

    def __init__(self, matcher: LLMatcher, vocab_size: int) -> None:
        self._matcher = matcher
        self._size = vocab_size

    def allowed(self) -> np.ndarray | None:
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        mask = np.unpackbits(bits, count=self._size, bitorder="little").astype(bool)
        if self._matcher.is_error():
            raise _wrong(self._matcher.get_error())
        return mask

    def take(self, token: int) -> None:
        self._matcher.consume_token(token)


class AfterThoughts:
    """A constraint that begins after the token that ends the thoughts."""

    def __init__(self, constraint: Constraint, end: int) -> None:
        self._constraint = constraint
        self._end = end
        self._has_begun = False

    def allowed(self) -> np.ndarray | None:
        return self._constraint.allowed() if self._has_begun else None

    def take(self, token: int) -> None:
        if self._has_begun:
            self._constraint.take(token)
        self._has_begun |= token == self._end


def _grammar(wanted: Format) -> str:
    from llguidance import LLMatcher
    from llguidance.gbnf_to_lark import any_to_lark

    if wanted.kind in (JSON, SCHEMA):
        return LLMatcher.grammar_from_json_schema(json.loads(wanted.text), ONE_LINE)
    if wanted.kind == GBNF:
        return LLMatcher.grammar_from_lark(any_to_lark(wanted.text))
    if wanted.kind == LARK:
        return LLMatcher.grammar_from_lark(wanted.text)
    return LLMatcher.grammar_from_regex(wanted.text)


def _wrong(problem: str) -> Refusal:
    said = problem.partition("<state>")[0].strip()  # the rest is for developers of the library
    return bad(f"response_format: {said:.1000}", "response_format", "invalid_grammar")

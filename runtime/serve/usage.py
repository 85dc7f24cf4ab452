"""What an answer took, in tokens and in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..answer.answer import Answer
from ..answer.logprobs import TokenLogProb
from ..prompt.tokenizer import Tokenizer


@dataclass(frozen=True)
class Counts:
    prompt: int
    cached: int  # of the prompt, those that were in the cache
    pictures: int  # of the prompt, those of pictures
    completion: int
    thinking: int  # of the completion


def counts_of(answer: Answer) -> Counts:
    timings = answer.timings
    return Counts(
        prompt=timings.prefill_tokens + timings.reused_tokens,
        cached=timings.reused_tokens,
        pictures=sum(timings.image_tokens),
        completion=len(answer.tokens),
        thinking=answer.thinking_tokens,
    )


def chat_usage(answer: Answer) -> dict[str, Any]:
    """`usage` of a chat completion; `image_tokens` is ours."""
    counts = counts_of(answer)
    return {
        "prompt_tokens": counts.prompt,
        "completion_tokens": counts.completion,
        "total_tokens": counts.prompt + counts.completion,
        "prompt_tokens_details": {"cached_tokens": counts.cached, "image_tokens": counts.pictures},
        "completion_tokens_details": {"reasoning_tokens": counts.thinking},
    }


def response_usage(answer: Answer) -> dict[str, Any]:
    """`usage` of a response; `image_tokens` is ours."""
    counts = counts_of(answer)
    return {
        "input_tokens": counts.prompt,
        "input_tokens_details": {
            "cached_tokens": counts.cached,
            "cache_write_tokens": 0,
            "image_tokens": counts.pictures,
        },
        "output_tokens": counts.completion,
        "output_tokens_details": {"reasoning_tokens": counts.thinking},
        "total_tokens": counts.prompt + counts.completion,
    }


def timings_of(answer: Answer, waited_s: float) -> dict[str, Any]:
    """A field of ours beside `usage`: milliseconds and rates."""
    timings = answer.timings
    return {
        "queue_ms": round(waited_s * 1e3, 1),
        "encode_ms": [round(ms, 1) for ms in timings.encode_ms],
        "ttft_ms": round(timings.ttft_ms, 1),
        "prefill_tok_s": round(timings.prefill_tok_s, 1),
        "decode_tok_s": round(timings.decode_tok_s, 1),
    }


def logprob_entry(entry: TokenLogProb, tokenizer: Tokenizer) -> dict[str, Any]:
    """One token of `logprobs.content`."""
    top = [_alternative(token, value, tokenizer) for token, value in entry.top]
    return {**_alternative(entry.token, entry.logprob, tokenizer), "top_logprobs": top}


def _alternative(token: int, logprob: float, tokenizer: Tokenizer) -> dict[str, Any]:
    data = tokenizer.surface(token)
    text = data.decode("utf-8", "replace") or tokenizer.name_of(token) or ""
    return {"token": text, "logprob": max(logprob, LOWEST), "bytes": list(data)}


LOWEST = -9999.0
"""In place of minus infinity, which JSON does not have."""

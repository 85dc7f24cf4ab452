"""What an answer took."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timings:
    load_s: float
    encode_ms: tuple[float, ...]  # per picture or video; 0 if it was encoded before
    image_tokens: tuple[int, ...]  # cache positions of each
    prefill_tokens: int  # prompt positions computed
    reused_tokens: int  # prompt positions already in the cache
    prefill_tok_s: float
    decode_tokens: int
    decode_tok_s: float
    ttft_ms: float  # from the call to the first token
    peak_mb: float  # peak resident memory of the process
    device_mb: float | None = None  # peak GPU memory; None on the CPU
    video_frames: tuple[int, ...] = ()  # of each; 0 for a picture, () from the native program

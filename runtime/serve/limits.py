"""What one request may take. All of it is checked before the model does anything."""

from __future__ import annotations

from dataclasses import dataclass

BODY_MB, PICTURES, PICTURE_MB, QUEUE, TIMEOUT_S = 32, 16, 64, 16, 600.0
"""Defaults."""
JSON_ITEMS = 200_000
"""Commas and brackets of a body: a Python object can take 50 times the bytes of its text."""
TEXT_PER_POSITION = 64
"""Bytes of text per position of the context. Tokens have 4 on average; a text that is longer than
this is refused before it is split into tokens."""
STOPS, STOP_LENGTH = 16, 256
TOP_LOGPROBS = 20
TEXTS = 2048
"""Texts of one request for embeddings."""
GRAMMAR_BYTES = 64 << 10
BODY_S = 60.0
"""Seconds in which the first SMALL_BODY bytes of a request must arrive, in which a larger one must
get a place, and in which its rest must arrive."""
SMALL_BODY = 256 << 10
PIECE_S = 5.0
"""Seconds in which each further SMALL_BODY bytes must arrive, as they hold one of the UPLOADS."""
UPLOADS, UPLOADS_SHARE = 4, 2
"""Bodies of more than SMALL_BODY bytes that are read at the same time, and those of one address."""
STALL_S = 30.0
"""Seconds that a client may leave its answer unread, once its socket takes no more."""


@dataclass(frozen=True)
class Limits:
    body_bytes: int = BODY_MB << 20
    pictures: int = PICTURES
    picture_bytes: int = PICTURE_MB << 20  # of pictures, cut or encoded, that are kept
    queue: int = QUEUE  # answers that wait for their turn
    timeout_s: float = TIMEOUT_S  # from the request to the end of its answer
    body_s: float = BODY_S
    piece_s: float = PIECE_S
    stall_s: float = STALL_S
    hosts: tuple[str, ...] = ()  # from which pictures may be fetched

    @property
    def per_client(self) -> int:
        """Places of the queue that one client may take."""
        return max(1, self.queue // 2)

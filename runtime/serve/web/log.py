"""The log: one line per request, on standard error."""

from __future__ import annotations

import contextlib
import sys
import traceback

from handglass.errors import HandglassError

from ...system.printable import printable
from ..desk import Ended, Ticket
from ..embedder import Rows
from ..refusal import Refusal
from ..usage import counts_of

LONGEST = 300


class Log:
    def answer(self, ticket: Ticket, ended: Ended, seconds: float) -> None:
        """Model, tokens, what was cached, pictures and milliseconds of an answer."""
        name, waited = ticket.ready.served.name, ticket.waited_s or 0.0
        answer = ended.answer
        if answer is None:
            what = str(ended.error) if isinstance(ended.error, HandglassError) else ""
            how = "cancelled" if ended.error is None else f"error {what:.{LONGEST}}"
            self._print(f"{name}: {how}, {seconds * 1e3:.0f} ms")
            return
        if isinstance(answer, Rows):
            self._print(
                f"{name}: {len(answer.rows)} texts of {answer.tokens} tokens, "
                f"waited {waited * 1e3:.0f} ms, {seconds * 1e3:.0f} ms"
            )
            return
        counts = counts_of(answer)
        pictures = len(answer.timings.encode_ms)
        new = sum(ms > 0 for ms in answer.timings.encode_ms)
        self._print(
            f"{name}: {answer.finish_reason}, prompt {counts.prompt} tokens "
            f"({counts.cached} cached), answer {counts.completion} tokens, "
            f"pictures {pictures} ({new} encoded), "
            f"waited {waited * 1e3:.0f} ms, {seconds * 1e3:.0f} ms"
        )

    def refusal(self, path: str, refusal: Refusal) -> None:
        message = refusal.message
        self._print(
            f"{path}: {refusal.status} {refusal.code or refusal.kind}: {message:.{LONGEST}}"
        )

    def bug(self, error: BaseException) -> None:
        self._print("".join(traceback.format_exception(error)).rstrip())

    def note(self, text: str) -> None:
        self._print(text)

    def _print(self, text: str) -> None:
        """Answers go on where nobody reads the log."""
        with contextlib.suppress(OSError, ValueError):
            print(printable(text, lines=True), file=sys.stderr, flush=True)

"""A request that is not answered, in the shape of OpenAI's errors."""

from __future__ import annotations

from typing import Any

from handglass.errors import HandglassError, InputError, UsageError

from ..answer.generate import ContextFullError

INVALID, SERVER = "invalid_request_error", "server_error"


class Refusal(Exception):  # noqa: N818  it is an answer, not a failure of ours
    """`status`: of HTTP; `param`: the field at fault; `code`: what programs look at."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        kind: str = INVALID,
        retry_s: int | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.kind = kind
        self.retry_s = retry_s  # seconds, for Retry-After

    @property
    def body(self) -> dict[str, Any]:
        error = {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}
        return {"error": error}


def bad(message: str, param: str | None = None, code: str | None = None) -> Refusal:
    """Refusal of a request that is wrong in itself."""
    return Refusal(400, message, param, code)


def refusal_of(error: HandglassError) -> Refusal:
    """How an error of the runtime is told to a client."""
    if isinstance(error, ContextFullError):
        return bad(
            f"{error.counts}; shorten the conversation", "messages", "context_length_exceeded"
        )
    if isinstance(error, InputError | UsageError):
        return bad(str(error))
    return Refusal(500, str(error), kind=SERVER)

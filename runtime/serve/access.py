"""Who may ask: tokens, host names and origins. No network, no framework."""

from __future__ import annotations

import hmac
import ipaddress
import os
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from handglass.errors import InputError, UsageError

from ..system.regular_file import open_regular, read_within
from .refusal import Refusal

SHORTEST, LONGEST = 16, 4096
OPEN_PATHS = ("/health", "/")
"""What needs no token: it tells nothing about anybody."""
LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Access:
    """`hosts`: names by which this server may be called; None: any."""

    token: str | None = None
    hosts: Collection[str] | None = LOCAL
    origins: Collection[str] = ()
    """Pages of other sites that may use this server."""

    def check(self, path: str, headers: Mapping[str, str]) -> None:
        """Raise Refusal unless a request with these headers (names in lower case) may pass."""
        self.check_host(headers)
        self.check_origin(headers)
        if self.token is not None and path not in OPEN_PATHS:
            self._check_token(headers.get("authorization", ""))

    def check_host(self, headers: Mapping[str, str]) -> None:
        """A page on the internet can have a name that leads to this machine (DNS rebinding)."""
        host = host_of(headers.get("host", ""))
        if self.hosts is not None and host not in self.hosts:
            raise Refusal(
                421, f"this server is not called {host!r:.100}; use localhost", code="unknown_host"
            )

    def check_origin(self, headers: Mapping[str, str]) -> None:
        """Browsers send with each request of a page where the page comes from."""
        origin = headers.get("origin")
        if origin is None or origin in self.origins:
            return
        if origin.partition("://")[2] != headers.get("host", ""):
            raise Refusal(
                403,
                f"pages of {origin!r:.100} may not use this server; --cors allows it",
                code="origin_not_allowed",
            )

    def _check_token(self, header: str) -> None:
        scheme, _, given = header.partition(" ")
        right = hmac.compare_digest(given.strip().encode(), (self.token or "").encode())
        if scheme.lower() != "bearer" or not right:
            message = (
                "a token is needed: the header 'Authorization: Bearer TOKEN' is missing or wrong"
            )
            raise Refusal(401, message, code="invalid_api_key", kind="authentication_error")


def host_of(header: str) -> str:
    """The name in a Host header, without the port."""
    if header.startswith("["):
        return header[1:].partition("]")[0].lower()
    return header.rpartition(":")[0].lower() if ":" in header else header.lower()


def read_token(file: Path) -> str:
    """The token in a file that nobody else can read.

    Raises InputError for a file that cannot be read or that others can read, UsageError for a short
    token.
    """
    try:
        with open_regular(file) as opened:
            if os.fstat(opened.fileno()).st_mode & 0o077:
                name = shlex.quote(str(file))
                raise InputError(f"{file}: other users can read the token; chmod 600 {name}")
            token = read_within(opened, LONGEST, file).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot read the token: {error}") from error
    if len(token) < SHORTEST or any(c.isspace() for c in token):
        raise UsageError(
            f"{file}: a token must be {SHORTEST} characters or more, without spaces "
            "(openssl rand -hex 16)"
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"

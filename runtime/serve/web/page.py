"""The page at `/`: one file, whose own scripts and styles are all that a browser may run."""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from starlette.responses import Response

PAGE = Path(__file__).parent.parent / "page.html"
NOTHING = "'none'"
_INLINE = re.compile(r"<(script|style)\b[^>]*>(.*?)</\1\s*>", re.DOTALL | re.IGNORECASE)


def page() -> Response:
    """The page, or a sentence where there is none."""
    if not PAGE.is_file():
        return Response("handglass serve: the API is at /v1\n", media_type="text/plain")
    text = PAGE.read_text("utf-8")
    headers = {
        "Content-Security-Policy": policy(text),
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    }
    return Response(text, media_type="text/html", headers=headers)


def policy(text: str) -> str:
    """A Content-Security-Policy with the hashes of the inline scripts and styles of a page."""
    hashes: dict[str, list[str]] = {"script": [], "style": []}
    for found in _INLINE.finditer(text):
        hashes[found[1].lower()].append(_hash(found[2]))
    return "; ".join(
        [
            "default-src 'none'",
            f"script-src {' '.join(hashes['script']) or NOTHING}",
            f"style-src {' '.join(hashes['style']) or NOTHING}",
            "img-src 'self' data: blob:",
            "media-src 'self' blob:",
            "connect-src 'self'",
            "form-action 'none'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ]
    )


def _hash(text: str) -> str:
    """As browsers compute it: of the text between the tags, with line ends as newlines."""
    data = text.replace("\r\n", "\n").replace("\r", "\n").encode()
    return f"'sha256-{base64.b64encode(hashlib.sha256(data).digest()).decode()}'"

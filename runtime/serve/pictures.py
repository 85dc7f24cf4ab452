"""Pictures of requests: decoded, cut into tiles, and kept for the next turn of a conversation.

A client sends every picture again with each turn. What is kept is bounded in bytes; the encoded
rows are kept by the model (runtime/answer/pictures.py).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable

from handglass.errors import HandglassError

from ..answer.model import Model
from ..prompt.preprocess import Prepared
from .asked import ShownPicture
from .refusal import Refusal, bad, refusal_of

_DATA_URL = re.compile(r"data:(image/[\w.+-]+)?(;[\w.+-]+=[\w.+-]+)*;base64,", re.ASCII | re.I)
Fetch = Callable[[str], bytes]


class Pictures:
    """The tiles of one model's pictures, by content; the most recently shown are kept.

    Not for several threads at once.
    """

    def __init__(self, model: Model, fetch: Fetch, kept_bytes: int) -> None:
        self._model = model
        self._fetch = fetch
        self._kept_bytes = kept_bytes
        self._known: OrderedDict[tuple[bytes, bool], Prepared] = OrderedDict()
        self.nbytes = 0

    def prepared(self, picture: ShownPicture) -> Prepared:
        """Raises Refusal for what is no picture, or more than the model takes."""
        data = self._data(picture)
        key = (hashlib.sha256(data).digest(), picture.is_small)
        if key not in self._known:
            self._known[key] = self._prepare(data, picture)
            self.nbytes += _bytes_of(self._known[key])
            self._forget()
        self._known.move_to_end(key)
        return self._known[key]

    def _data(self, picture: ShownPicture) -> bytes:
        if picture.url[:5].lower() == "data:":
            return decode(picture)
        try:
            return self._fetch(picture.url)
        except Refusal as error:
            raise bad(error.message, picture.param, "invalid_image_url") from error

    def _prepare(self, data: bytes, picture: ShownPicture) -> Prepared:
        slices = 1 if picture.is_small and self._slices else None
        try:
            return self._model.prepare(data, slices)
        except HandglassError as error:
            refused = refusal_of(error)
            refused.param = picture.param
            refused.code = refused.code or "invalid_image"
            raise refused from error

    @property
    def _slices(self) -> bool:
        """Whether the model cuts pictures into a number of slices that can be lowered."""
        try:
            self._model.check(max_slices=1)
        except HandglassError:
            return False
        return True

    def _forget(self) -> None:
        while len(self._known) > 1 and self.nbytes > self._kept_bytes:
            self.nbytes -= _bytes_of(self._known.popitem(last=False)[1])


def _bytes_of(picture: Prepared) -> int:
    return sum(tile.pixels.nbytes for tile in picture.tiles)


def decode(picture: ShownPicture) -> bytes:
    """The bytes of a data URL. Raises Refusal."""
    found = _DATA_URL.match(picture.url)
    if found is None:
        raise bad(
            f"{picture.param}: must be a data URL like 'data:image/png;base64,...'",
            picture.param,
            "invalid_image_url",
        )
    try:
        return base64.b64decode(picture.url[found.end() :].encode("ascii"), validate=True)
    except (binascii.Error, ValueError) as error:
        message = f"{picture.param}: the data is not base64: {error}"
        raise bad(message, picture.param, "invalid_base64") from error

"""The compiled functions of an encoder: a picture or a text in, one row out."""

from __future__ import annotations

import numpy as np

from handglass.errors import InputError

from ..bundle.entries import EncodersEntry, VisionEntry
from ..bundle.reader import Bundle
from .calls import CompiledFunctions
from .checks import check_array, check_ids
from .session import Session
from .worker import in_worker

FOR_QUESTIONS = "handglass run, chat and serve"


class EncoderSession(CompiledFunctions):
    """One tower in memory, or both. Calls may come from any thread; they run one after the other.

    Arguments of a wrong shape, dtype or range raise InputError.
    """

    def __init__(
        self, bundle: Bundle, threads: int | None = None, device: str | None = None
    ) -> None:
        """See CompiledFunctions. Raises InputError for a bundle that is no encoder."""
        manifest = bundle.manifest
        if manifest.graph is not None:
            raise InputError(
                f"{bundle.path}: {manifest.model.name} is an imported graph, whose rows cannot be "
                "compared with those of texts; give it arrays: handglass apply"
            )
        if manifest.encoders is None:
            raise InputError(
                f"{bundle.path}: {manifest.model.name} is no encoder, whose pictures and texts "
                f"can be compared; it answers questions: {FOR_QUESTIONS}"
            )
        super().__init__(bundle, threads, device)
        self.encoders: EncodersEntry = manifest.encoders
        self.vision: VisionEntry | None = manifest.vision

    @in_worker
    def encode_image(self, strip: np.ndarray, position_ids: np.ndarray) -> np.ndarray:
        """The row of one picture of n patches of p x p pixels.

        strip (3, p, p * n) float32, position_ids (n,) int32, without class tokens
        -> (hidden_size,) float32, of any length. Raises InputError for a model of texts alone.
        """
        if self.vision is None:
            raise InputError(f"{self.manifest.model.name} encodes texts, no pictures")
        p, n = self.vision.patch_size, len(position_ids)
        check_array("strip", strip, (3, p, p * n), np.float32)
        check_array("position_ids", position_ids, (n,), np.int32)
        arguments = self._with_class(strip, position_ids, p)
        result = self._call("encode_image", *arguments, self._params)
        return self._result("encode_image", result, (1, self.manifest.hidden_size))[0]

    @in_worker
    def encode_text(self, ids: np.ndarray) -> np.ndarray:
        """The row of one text: ids (s,) int32 -> (hidden_size,) float32, of any length.

        Raises InputError for more ids than `length`, or fewer if the entry has padding, and for a
        model of pictures alone.
        """
        text = self.encoders.text
        if text is None:
            raise InputError(f"{self.manifest.model.name} encodes pictures, no texts")
        least = 1 if text.padding is None else text.length
        if not least <= len(ids) <= text.length:
            raise InputError(f"a text has {len(ids)} tokens, but must have {least}-{text.length}")
        checked = check_ids(ids, self.manifest.vocab_size)  # type: ignore[arg-type]
        result = self._call("encode_text", checked, self._params)
        return self._result("encode_text", result, (1, self.manifest.hidden_size))[0]

    @in_worker
    def classify(self, row: np.ndarray) -> np.ndarray:
        """The scores of the labels of the model for the row of a picture, (hidden_size,) float32
        -> (labels,) float32. Raises InputError for a model without labels."""
        labels = self.encoders.labels
        if not labels:
            raise InputError(f"{self.manifest.model.name} has no labels of its own")
        check_array("row", row, (self.manifest.hidden_size,), np.float32)
        result = self._call("classify", row[None], self._params)
        return self._result("classify", result, (1, len(labels)))[0]

    def _with_class(
        self, strip: np.ndarray, position_ids: np.ndarray, patch_size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """The arguments of the compiled function, which has class tokens before the patches."""
        count = self.encoders.class_tokens
        if not count:
            return strip, position_ids
        padded = np.pad(strip, ((0, 0), (0, 0), (count * patch_size, 0)))
        first = np.arange(count, dtype=np.int32)
        return padded, np.concatenate([first, position_ids + np.int32(count)])


def open_session(
    bundle: Bundle, threads: int | None = None, device: str | None = None
) -> Session | EncoderSession:
    """The session of either kind of bundle."""
    kind = Session if bundle.manifest.encoders is None else EncoderSession
    return kind(bundle, threads, device)

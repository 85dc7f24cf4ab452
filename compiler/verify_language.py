"""The stages of the language model: it sees the tiles of a picture and generates some tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from handglass.runtime.prompt.canvas import open_positions
from handglass.runtime.prompt.chat_template import Slot, build_prompt
from handglass.runtime.prompt.preprocess import Tile
from handglass.runtime.prompt.tokenizer import Tokenizer

from .parity import reference
from .parity.inputs import CACHE_NOISE, continued, disturbed, splice
from .parity.ratios import Ratio, Ratios, compared, snr_db
from .parity.reference import Weights
from .parity.reference.arithmetic import Watch, unwatched
from .parity.reference.cross_attention import Shown
from .verify_layers import Arrivals, Watched
from .verify_subject import Progress, Subject
from .verify_tiles import Seen

QUESTION = "What is this picture?"
STEPS = 8  # tokens that are decoded after the prompt and compared one by one


class Language:
    """The comparison of a subject's language model."""

    def __init__(self, subject: Subject, tokenizer: Tokenizer) -> None:
        self.subject = subject
        self.session, self.weights, self.stored = subject.session, subject.weights, subject.stored
        self.reference = subject.reference
        self.arrivals = Arrivals(subject.session)
        self.tokenizer = tokenizer
        self.positions_of = open_positions(subject.manifest.prompt, tokenizer)
        picture = subject.manifest.prompt.picture
        self.token = tokenizer.token_id(picture) if picture else None
        """Stands for a picture whose rows the text sees; None: they are rows of the prompt."""

    def ratios(self, seen: Sequence[Seen], name: str, progress: Progress) -> Ratios:
        """The compiled model generates the tokens; the reference gets the same ones."""
        tiles = [one.tile for one in seen]
        ids, positions = self._prompt(tiles)
        text = [i for i in ids if i is not None]
        embedded, kept = (
            self._embed(self.weights, text),
            self._embed(self.stored, text),
        )
        x, shown = self._seen(ids, embedded, [one.rows for one in seen])
        with self.arrivals.seen(x.shape[1]) as arrived:
            first = self._prefill(x, positions, shown)
        compiled, tokens = self._decode(first, len(x), positions, shown)
        after, after_kept = (
            self._embed(self.weights, tokens),
            self._embed(self.stored, tokens),
        )
        places = None if positions is None else continued(positions, len(tokens))

        def logits(
            weights: Weights,
            before: np.ndarray,
            after: np.ndarray,
            how: str,
            watch: Watch = unwatched,
            shown: Shown | None = shown,
        ) -> np.ndarray:
            x, phase = np.concatenate([before, after]), f"{name}, language{how}"
            return self._logits(weights, x, places, phase, progress, watch, shown)

        watched = Watched(len(x))
        truth = logits(self.weights, x, after, "", watched.watch_exact)
        weights = self.stored.with_rows_alone(len(tokens))
        stored = logits(weights, x, after_kept, " as stored", watched.watch_kept)
        if shown is None:  # else the prompt is computed in two parts
            self.arrivals.compare(arrived, watched)
        noise = CACHE_NOISE[self.subject.manifest.state.cache_dtype]
        again = partial(logits, weights, disturbed(x, noise), after_kept, " disturbed")

        own_text = self.session.embed(text)
        encoded = [self.session.encode_image(*tile.arrays) for tile in tiles]
        own, own_shown = self._seen(ids, own_text, encoded)
        own_first = self._prefill(own, positions, own_shown)
        own_logits, _ = self._decode(own_first, len(own), positions, own_shown, tokens)
        all_stored, rows = self._seen(ids, kept, [one.stored_rows for one in seen])
        alone = partial(
            logits, weights, all_stored, after_kept, " from the picture", unwatched, rows
        )
        return {
            "embed": compared(embedded, kept, own_text),
            "logits": self.subject.compared("logits", truth, stored, compiled, again),
            "end_to_end": self._end_to_end(truth, own_logits, alone),
        }

    def _end_to_end(
        self, truth: np.ndarray, compiled: np.ndarray, alone: Callable[[], np.ndarray]
    ) -> Ratio:
        """`alone` computes the logits with the weights as stored in all stages, if the ratio is
        below its floor."""
        found = Ratio(snr_db(truth, compiled))
        if found.snr_db >= self.subject.floors.storage()["end_to_end"]:
            return found
        return replace(found, storage_db=snr_db(truth, alone()))

    def _embed(self, weights: Weights, ids: Sequence[int]) -> np.ndarray:
        return reference.embed(weights, self.reference.language, ids, self.reference.names)

    def _logits(
        self,
        weights: Weights,
        x: np.ndarray,
        positions: np.ndarray | None,
        phase: str,
        progress: Progress,
        watch: Watch,
        shown: Shown | None,
    ) -> np.ndarray:
        return reference.logits(
            weights,
            self.reference.language,
            x,
            last=STEPS + 1,
            names=self.reference.names,
            progress=lambda done, total: progress(phase, done, total),
            positions=positions,
            watch=watch,
            shown=shown,
        )

    def _seen(
        self, ids: Sequence[int | None], text: np.ndarray, pictures: Sequence[np.ndarray]
    ) -> tuple[np.ndarray, Shown | None]:
        """The rows of the prompt, and what they see besides themselves."""
        if self.token is None or self.token not in ids:
            return splice(ids, text, pictures), None
        return text, Shown(np.concatenate(pictures), ids.index(self.token))

    def _prefill(
        self, x: np.ndarray, positions: np.ndarray | None, shown: Shown | None
    ) -> np.ndarray:
        """Logits (V,) after the prompt x."""
        self.session.restore_state(None)
        if shown is None:
            return self.session.prefill(x, 0, *(() if positions is None else (positions,)))
        place = shown.place
        self.session.show(shown.rows)
        if place:
            self.session.prefill(x[:place], 0)
        return self.session.prefill(x[place:], place, seen=len(shown.rows))

    def _decode(
        self,
        first: np.ndarray,
        length: int,
        positions: np.ndarray | None,
        shown: Shown | None,
        forced: Sequence[int] | None = None,
    ) -> tuple[np.ndarray, list[int]]:
        """Logits (STEPS + 1, V): `first`, those after a prompt of this length, and those after each
        of STEPS tokens; and the tokens: `forced`, or else the most likely ones."""
        rows = [first]
        tokens: list[int] = []
        for step in range(STEPS):
            tokens.append(int(rows[-1].argmax()) if forced is None else forced[step])
            placed = () if positions is None else (int(positions.max()) + 1 + step,)
            sees = {} if shown is None else {"seen": len(shown.rows)}
            rows.append(self.session.decode(tokens[-1], length + step, *placed, **sees).copy())
        return np.stack(rows), tokens

    def _prompt(self, tiles: Sequence[Tile]) -> tuple[list[int | None], np.ndarray | None]:
        """Token ids of a user turn with a picture of these tiles, or without one; None for each of
        their rows. And their rotary positions, if the model takes them."""
        images = [None] if tiles else []
        template = self.subject.manifest.prompt
        prompt = build_prompt(QUESTION, images, self.tokenizer, template, lambda _: tiles)
        ids: list[int | None] = []
        for segment in prompt.segments:
            if isinstance(segment, Slot):
                rows = tiles[segment.tile].rows
                ids.extend([None] * rows if self.token is None else [self.token])
            else:
                ids.extend(segment.ids)
        return ids, None if self.positions_of is None else self.positions_of(prompt)

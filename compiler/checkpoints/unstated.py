"""What the files of a release do not say, and config.json may: questions with keys of our own.

A release lists its questions (release.py). One that its description leaves open, too, has no
default: a configuration without the answer is refused, and the error names the keys, their values
and where the answer is found.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from handglass.errors import InputError

from .fields import Fields

Answer = str | bool
Answers = Mapping[str, Answer]
"""Key -> its value in config.json."""


@dataclass(frozen=True)
class Question:
    """One choice of a release, which config.json makes under `key`."""

    key: str
    asks: str
    """The choice in words."""
    values: Mapping[Answer, str]
    """The supported values, and what each means."""
    default: Answer | None = None
    """None: it must be answered."""

    def answer(self, top: Fields) -> Answer:
        """Raises InputError for a value that is not supported."""
        value = top.get(self.key)
        value = self.default if value is None else value
        for known in self.values:
            if type(value) is type(known) and value == known:
                return known
        known = " and ".join(map(_spelled, self.values))
        raise InputError(f"config.json: {self.key} is {value!r:.200}; supported: {known}")

    @property
    def described(self) -> str:
        meanings = ", ".join(f"{_spelled(value)}: {text}" for value, text in self.values.items())
        return f"{self.asks} ({self.key}; {meanings})"


def answers(top: Fields, questions: Sequence[Question], release: str) -> dict[str, Answer]:
    """The answers in config.json. Raises InputError, which names all that are missing."""
    missing = [
        question.described
        for question in questions
        if question.default is None and top.get(question.key) is None
    ]
    if missing:
        raise InputError(
            f"config.json: {release}: its files do not say {'; '.join(missing)}. Look it up in the "
            f"Python code beside its weights and add the key to config.json"
        )
    return {question.key: question.answer(top) for question in questions}


def _spelled(value: Answer) -> str:
    """As JSON has it."""
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


FIT, ADAPTIVE, NEWLINE = "picture_fit", "resampler_adaptive", "newline_after_picture"
SQUARE_QUESTIONS = (
    Question(
        FIT,
        "how a picture becomes a square",
        {"squash": "the whole picture, its sides scaled to the square's, bicubic"},
    ),
    Question(
        ADAPTIVE,
        "which positions the keys of the resampler have",
        {
            True: "the sine and cosine of their row and column",
            False: "the table of the queries, enlarged to the grid",
        },
    ),
    Question(
        NEWLINE,
        "whether a newline follows a picture in the prompt",
        {True: "it does", False: "it does not"},
    ),
)
"""Of 1.0, whose own code was not at hand."""
PATCHES, PADDED_ROW, GRID = "patch_positions", "padded", "grid"
PATCH_QUESTIONS = (
    Question(
        PATCHES,
        "which positions the patches of a tile have in the vision tower",
        {
            PADDED_ROW: "those of a row of patches as long as the picture's largest tile, to which "
            "all tiles are padded",
            GRID: "those of their row and column, without padding",
        },
        default=PADDED_ROW,
    ),
)
"""Of 2.5: its released code does the first, by a mistake in a mask. Which of the two it was trained
with is not documented, and other engines do the second."""

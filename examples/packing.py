"""Turns scenes and questions into training batches of a fixed shape.

A row holds one prefix (the picture) and then many dialogues about it. Each dialogue attends only to
the prefix and itself, and its positions continue those of the prefix, so it is numerically a
separate conversation although the picture is encoded once. One row in seven is instead a single
long conversation, which teaches follow-up questions.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from questions import Item, questions, random_scenes
from scenes import MOST_SHAPES, SIDE, Scene, random_picture
from torch.utils.data import IterableDataset
from words import COLOURS, KINDS

UNK, BOS, EOS = 0, 1, 2
QUERIES = 64
GRID = 8
CELL = SIDE // GRID
ROW = 192  # tokens per row
TARGETS = 60  # answer tokens per row, on average
ROWS = {1: 11, 2: 4, 0: 1}  # rows per batch by number of pictures
IGNORE = -100

Batch = dict[str, torch.Tensor]


class Tokenizer:
    """The SentencePiece model, plus the control pieces that it does not parse."""

    def __init__(self, path: Path) -> None:
        self.model = sentencepiece.SentencePieceProcessor(model_file=str(path))
        self.user, self.assistant, self.image, self.image_end, self.newline = (
            self.model.piece_to_id(p) for p in ("<用户>", "<AI>", "<image>", "</image>", "\n")
        )

    def encode(self, text: str) -> list[int]:
        return self.model.encode(text)

    def decode(self, ids: list[int]) -> str:
        return self.model.decode(ids)

    def prefix(self, pictures: int) -> list[int]:
        return [BOS, self.user] + [self.image, *[UNK] * QUERIES, self.image_end] * pictures


def pixels(pictures: list[np.ndarray]) -> torch.Tensor:
    """Convert uint8 [N, 112, 112, 3] to float [N, 3, 112, 112] in -1..1, for the vision tower."""
    stacked = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)
    return stacked.float() / 127.5 - 1


def cell_labels(scene: Scene) -> np.ndarray:
    """Auxiliary labels: per 14-pixel cell, kind and size, and color; 0 = background."""
    labels = np.zeros((2, GRID, GRID), np.int64)
    centre = (np.arange(GRID) + 0.5) * CELL
    for shape in scene.shapes:
        inside = (abs(centre[None, :] - shape.x) < shape.radius) & (
            abs(centre[:, None] - shape.y) < shape.radius
        )
        labels[0][inside] = 1 + 2 * list(KINDS).index(shape.kind) + shape.big
        labels[1][inside] = 1 + list(COLOURS).index(shape.colour)
    return labels.reshape(2, GRID * GRID)


class Row:
    """One row under construction: tokens, their branch (0 = seen by all), positions, labels."""

    def __init__(self, prefix: list[int]) -> None:
        self.ids, self.branch = list(prefix), [0] * len(prefix)
        self.positions, self.labels = list(range(len(prefix))), [IGNORE] * len(prefix)
        self.start = len(prefix)

    def add(self, question: list[int], answer: list[int], branch: int) -> bool:
        """Add a dialogue; False if it does not fit. The end-of-answer token is a target but never
        an input: the next turn follows the answer directly."""
        if len(self.ids) + len(question) + len(answer) > ROW:
            return False
        first = self.positions[-1] + 1 if branch == 0 else self.start
        new = question + answer
        self.positions += range(first, first + len(new))
        self.branch += [branch] * len(new)
        self.ids += new
        self.labels += [IGNORE] * (len(question) - 1) + answer + [EOS]
        return True

    def padded(self) -> tuple[list[int], list[int], list[int], list[int]]:
        fill = ROW - len(self.ids)
        return (
            self.ids + [EOS] * fill,
            self.branch + [-1] * fill,
            self.positions + [0] * fill,
            self.labels + [IGNORE] * fill,
        )


def pack_row(rng: random.Random, tok: Tokenizer, asked: Iterator[Item], pictures: int) -> Row:
    """Fill a row with dialogues until three in a row do not fit."""
    row, chained, misses = Row(tok.prefix(pictures)), rng.random() < 0.15, 0
    while misses < 3:
        item, number = next(asked), max(row.branch)
        question = [*tok.encode(item.question), tok.assistant]
        first = len(row.ids) == row.start
        if chained and not first:
            question.insert(0, tok.user)
        elif pictures and rng.random() < 0.5:
            # Some prompt formats have a newline after the picture, some do not.
            question.insert(0, tok.newline)
        fits = row.add(question, tok.encode(item.answer), 0 if chained else number + 1)
        misses = 0 if fits else misses + 1
    return row


def make_batch(rng: random.Random, tok: Tokenizer, most: int) -> Batch:
    kinds = [pictures for pictures, times in ROWS.items() for _ in range(times)]
    scenes = [random_scenes(rng, pictures, most) for pictures in kinds]
    rows = [pack_row(rng, tok, questions(rng, s), len(s)) for s in scenes]
    return assemble(rng, rows, scenes, TARGETS * len(rows))


def one_question(tok: Tokenizer, item: Item) -> Row:
    row = Row(tok.prefix(len(item.scenes)))
    row.add([*tok.encode(item.question), tok.assistant], tok.encode(item.answer), 0)
    return row


def assemble(
    rng: random.Random, rows: list[Row], scenes: list[tuple[Scene, ...]], targets: int
) -> Batch:
    """Draw the pictures and stack the rows; `targets` answer tokens, padded or truncated."""
    seen = [scene for group in scenes for scene in group]
    first = [r * ROW + 3 + k * (QUERIES + 2) for r, g in enumerate(scenes) for k in range(len(g))]
    ids, branch, positions, labels = (
        torch.tensor(column) for column in zip(*(row.padded() for row in rows), strict=True)
    )
    chosen = labels.flatten().ne(IGNORE).nonzero()[:targets, 0]
    chosen = torch.nn.functional.pad(chosen, (0, targets - len(chosen)))
    return {
        "pixels": pixels([np.asarray(random_picture(rng, scene)) for scene in seen]),
        "cells": torch.from_numpy(np.stack([cell_labels(scene) for scene in seen])),
        "places": (torch.tensor(first)[:, None] + torch.arange(QUERIES)).flatten(),
        "ids": ids,
        "branch": branch,
        "positions": positions,
        "targets": chosen,  # padded with index 0, whose label is IGNORE
        "labels": labels.flatten()[chosen],
    }


def visible(branch: torch.Tensor) -> torch.Tensor:
    """Convert branches [B, T] to the boolean attention mask [B, 1, T, T]."""
    same = (branch[:, None, :] == 0) | (branch[:, None, :] == branch[:, :, None])
    causal = torch.ones(branch.shape[1], branch.shape[1], dtype=torch.bool).tril()
    return (same & causal)[:, None]


class Batches(IterableDataset):
    """Endless batches from a worker process; `progress` (0..1, shared) widens the scenes."""

    def __init__(self, tokenizer: Path, seed: str, progress: torch.Tensor) -> None:
        self.tokenizer, self.seed, self.progress = tokenizer, seed, progress

    def __iter__(self) -> Iterator[Batch]:
        rng, tok = random.Random(self.seed), Tokenizer(self.tokenizer)
        while True:
            done = self.progress.item()
            yield make_batch(rng, tok, 2 if done < 0.06 else MOST_SHAPES)

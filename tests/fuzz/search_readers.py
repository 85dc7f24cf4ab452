"""Readers of what `index`, `embed` and `search` keep, and of the configuration of OpenCLIP."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np

from .reader import Reader, written

if TYPE_CHECKING:
    from handglass.runtime.search.index_file import About, Entry

ROWS = np.eye(4, 6, dtype=np.float32)


def about() -> About:
    from handglass.runtime.search.index_file import FORMAT, About

    return About(FORMAT, "/bundle", "0" * 64, "/pictures")


def entries() -> list[Entry]:
    from handglass.runtime.search.index_file import Entry

    return [Entry(f"{i}/\n.png", i, -i, bytes([i]) * 32) for i in range(len(ROWS))]


@cache
def index_files() -> list[bytes]:
    from handglass.runtime.search.index_file import write_index

    with TemporaryDirectory() as folder:
        path = Path(folder) / "index"
        write_index(path, about(), entries(), lambda number: ROWS[number])
        return [path.read_bytes()]


def read_index(data: bytes, folder: Path) -> None:
    from handglass.runtime.search.index_file import Index
    from handglass.runtime.search.nearest import nearest
    from handglass.runtime.search.sheet import sheet

    index = Index.read(written(folder, "pictures.index", data))
    found = nearest(index, np.ones(6, np.float32), 2)
    sheet("x", folder, found)
    assert all(".." not in Path(entry.name).parts for entry in index.entries)


@cache
def rows_files() -> list[bytes]:
    from handglass.runtime.search.index_file import About
    from handglass.runtime.search.rows_file import FORMAT, PICTURE, TEXT, Input, write_rows

    whose = About(FORMAT, "/bundle", "0" * 64, "")
    inputs = [Input(TEXT, ""), Input(TEXT, "\u732b\n"), Input(PICTURE, "a.png"), Input(TEXT, "x")]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "rows.safetensors"
        write_rows(path, whose, inputs, ROWS)
        return [path.read_bytes()]


def read_rows(data: bytes, folder: Path) -> None:
    from handglass.runtime.search.cells import key_of
    from handglass.runtime.search.nearest import nearest
    from handglass.runtime.search.rows_file import open_index

    index = open_index(written(folder, "rows.safetensors", data))
    assert len(key_of(index)) == 32
    for one in nearest(index, np.ones(6, np.float32), 2):
        one.name.encode()


@cache
def cells_files() -> list[bytes]:
    from handglass.runtime.search.cells import Cells, key_of
    from handglass.runtime.search.index_file import Index

    index = Index(about(), entries(), ROWS)
    order, starts = np.array([2, 0, 1, 3], np.int32), np.array([0, 1, 4], np.int64)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "cells"
        Cells(key_of(index), ROWS[:2], order, starts).write(path)
        return [path.read_bytes()]


def read_cells(data: bytes, folder: Path) -> None:
    from handglass.runtime.search.cells import Cells
    from handglass.runtime.search.index_file import Index

    index = Index(about(), entries(), ROWS)
    cells = Cells.read(written(folder, "pictures.cells", data), index)
    if cells is not None:
        cells.nearest(index, np.ones(6, np.float32), 2)


@cache
def journals() -> list[bytes]:
    from handglass.runtime.search.journal import Journal

    with TemporaryDirectory() as folder, Journal(Path(folder) / "index") as journal:
        journal.resume(about(), None)
        for entry, row in zip(entries(), ROWS, strict=True):
            journal.add(entry, row)
        return [journal.path.read_bytes()]


def read_journal(data: bytes, folder: Path) -> None:
    from handglass.runtime.search.journal import Journal

    written(folder, "index.journal", data)
    with Journal(folder / "index") as journal:
        journal.resume(about(), None)
        for _, at in journal.ready.values():
            assert np.isfinite(journal.row(at)).all()


def open_clip_configs() -> list[bytes]:
    from open_clip_folders import config

    content = config(500)
    content["model_cfg"]["vision_cfg"]["norm_kwargs"] = {"eps": 1e-6}
    return [json.dumps(content).encode()]


def read_open_clip(data: bytes, folder: Path) -> None:
    from handglass.compiler.checkpoints.open_clip_config import clip_config, pictures
    from handglass.compiler.checkpoints.shards import read_json
    from handglass.compiler.models import read_config

    content = read_json(written(folder, "open_clip_config.json", data))
    config = clip_config(content, "open_clip_config.json")
    read_config(config)
    pictures(content, "open_clip_config.json", config["vision_config"]["image_size"])


READERS = {
    "pictures-index": Reader(index_files, read_index),
    "pictures-cells": Reader(cells_files, read_cells),
    "pictures-journal": Reader(journals, read_journal),
    "open-clip": Reader(open_clip_configs, read_open_clip),
    "rows-file": Reader(rows_files, read_rows),
}

"""Draws the pictures of the documentation.

    python docs/pictures/draw.py           # all
    python docs/pictures/draw.py index     # one

Their data are the tables of the pages, the evidence of targets, the packing of weights, and files
in data/, which measure.py writes. `tests/test_pictures.py` fails if a committed picture differs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

FOLDER = Path(__file__).parent
sys.path.insert(0, str(FOLDER))

import evidence  # noqa: E402
import figures  # noqa: E402
import graphs  # noqa: E402
import layouts  # noqa: E402
import parts  # noqa: E402
import paths  # noqa: E402
from sheet import Sheet  # noqa: E402

PICTURES: Mapping[str, Callable[[], Sheet | layouts.Figure]] = {
    "accuracy": layouts.accuracy,
    "adding": parts.adding,
    "bundle": layouts.bundle,
    "cuda": figures.cuda,
    "device-server": parts.device_server,
    "devices": evidence.devices,
    "embed": parts.embed,
    "index": paths.index,
    "kernels": layouts.kernels,
    "layers": layouts.layers,
    "measured": figures.measured,
    "models": evidence.models,
    "native": parts.native,
    "onnx": graphs.onnx,
    "records": paths.records,
    "threads": figures.threads,
    "troubleshooting": paths.troubleshooting,
    "vulkan": parts.vulkan,
}

if __name__ == "__main__":
    for name in sys.argv[1:] or PICTURES:
        (FOLDER / f"{name}.svg").write_text(PICTURES[name]().svg(), "utf-8")

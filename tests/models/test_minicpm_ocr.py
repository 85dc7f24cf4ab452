"""MiniCPM-OCR compiled from its folder, against the classes of transformers that wrote it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from greedy import QUESTION, ask, check_greedy, pictures
from PIL import Image
from released46 import Reference, write_checkpoint
from test_small_pictures import page
from torch_ocr import Processor, replace_opencv

import handglass
from handglass.compiler.build import compile_model
from handglass.compiler.verify import verify
from handglass.errors import InputError

pytestmark = [pytest.mark.compiler, pytest.mark.slow, pytest.mark.large]


class Both:
    """A compiled model and the reference."""

    def __init__(self, folder: Path, rule: str) -> None:
        self.checkpoint, self.bundle = folder / "checkpoint", folder / "bundle"
        self.reference = Reference(write_checkpoint(self.checkpoint, "4x", "OCR"))
        add_rule(self.checkpoint, rule)
        compile_model(self.checkpoint, self.bundle, quantization="f32", context=4096)
        self.model = handglass.load(self.bundle)


def add_rule(checkpoint: Path, rule: Any) -> None:
    path = checkpoint / "preprocessor_config.json"
    given = json.loads(path.read_text())
    path.write_text(json.dumps(given | {"small_image_upsize": rule}))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Both:
    return Both(tmp_path_factory.mktemp("minicpm_ocr"), "adaptive")


@pytest.mark.parametrize("name", ["none", "page", "whole", "small", "split", "two"])
def test_answer(both: Both, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Token ids of the prompt, logits after it, and 64 greedy tokens."""
    replace_opencv(monkeypatch)
    shown = [page((500, 450), 6, 0.3)] if name == "page" else pictures(name)
    monkeypatch.setattr(both.reference, "processor", adaptive)
    asked = both.reference.ask(QUESTION, shown)
    answer, logits = ask(both.model, shown, 64)
    tokens = both.reference.before_pads(answer.tokens)
    truth = both.reference.logits(asked, tokens)
    check_greedy(answer, len(asked.ids), truth, logits=logits)


def adaptive(shown: list[Image.Image], **_: Any) -> dict[str, Any]:
    """All pictures by the image processor of MiniCPM-OCR."""
    import torch

    found = [Processor().tiles(picture, "adaptive") for picture in shown]
    return {
        "pixel_values": torch.cat([f["pixel_values"] for f in found], dim=-1),
        "target_sizes": torch.cat([f["target_sizes"] for f in found]),
        "num_patches_per_image": [len(f["target_sizes"]) for f in found],
        "grids": [f["grids"][0] for f in found],
    }


def test_verify(both: Both) -> None:
    """On a picture that keeps its size, and on one with slices."""
    small, large = page((200, 120), 20), page((800, 600), 30)
    for asked in (None, [np.asarray(small), np.asarray(large)]):
        assert all(stage.ok for stage in verify(both.bundle, both.checkpoint, asked))


def test_small_pictures_take_fewer_tokens(both: Both) -> None:
    (tile,) = both.model.prepare(page((200, 120), 20)).tiles
    assert (tile.height, tile.width, tile.rows) == (8, 14, 28)


def test_an_unknown_rule_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "checkpoint", "4x", "OCR")
    for rule in ("sometimes", 3):
        add_rule(tmp_path / "checkpoint", rule)
        with pytest.raises(InputError, match=r"small_image_upsize is .* always, never, adaptive"):
            compile_model(tmp_path / "checkpoint", tmp_path / "bundle")

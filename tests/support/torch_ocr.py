"""The image processor of MiniCPM-OCR in transformers, with what it needs of other packages.

torchvision's resizing is replaced by Pillow's, OpenCV's threshold and components by short ones.
"""

import importlib
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

# By its full name: the package replaces the module if torchvision is missing.
module: Any = importlib.import_module(
    "transformers.models.minicpm_ocr.image_processing_minicpm_ocr"
)
torch.set_num_threads(1)  # idle threads of small operations would spin beside other tests
NORMAL = [0.5, 0.5, 0.5]
Box = tuple[int, int, int, int, int]
"""left, top, width, height, pixels"""


class Processor(module.MiniCPMOcrImageProcessor):
    """Made without its __init__, which wants torchvision."""

    def __init__(self) -> None:
        pass

    def resize(self, image: torch.Tensor, size: Any, **_: Any) -> torch.Tensor:
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        small = picture.resize((size.width, size.height), Image.Resampling.BICUBIC)
        return torch.from_numpy(np.array(small)).permute(2, 0, 1)

    def rescale_and_normalize(self, images: torch.Tensor, *_: Any) -> torch.Tensor:
        return (images / 255 - 0.5) / 0.5

    def tiles(self, picture: Image.Image, small: str, most: int = 9) -> Any:
        """pixel_values, target_sizes and grids of one picture."""
        image = torch.from_numpy(np.array(picture)).permute(2, 0, 1)
        return self._preprocess(
            [image],
            do_resize=True,
            resample=None,
            do_rescale=True,
            rescale_factor=1 / 255,
            do_normalize=True,
            image_mean=NORMAL,
            image_std=NORMAL,
            max_slice_nums=most,
            scale_resolution=448,
            patch_size=14,
            slice_mode=True,
            small_image_upsize=small,
            return_tensors="pt",
            disable_grouping=True,
        )


def replace_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the processor the functions of OpenCV that it calls."""
    names = {"THRESH_BINARY": 0, "THRESH_OTSU": 8}
    functions = {"threshold": _threshold, "connectedComponentsWithStats": _components}
    monkeypatch.setattr(module, "cv2", SimpleNamespace(**names, **functions), raising=False)
    monkeypatch.setattr(module, "requires_backends", lambda *_: None)


def _threshold(gray: np.ndarray, *_: Any) -> tuple[int, np.ndarray]:
    """Otsu's threshold: the greatest variance between the classes."""
    variances = []
    for value in range(256):
        dark, light = gray[gray <= value], gray[gray > value]
        weight = len(dark) * len(light) / gray.size**2
        variances.append(weight * (dark.mean() - light.mean()) ** 2 if weight else 0.0)
    best = int(np.argmax(variances))
    return best, np.where(gray > best, 255, 0)


def _components(mask: np.ndarray, connectivity: int) -> tuple[int, None, list[Box], None]:
    assert connectivity == 8
    boxes = boxes_of(mask)
    background = (0, 0, 0, 0, 0)
    return len(boxes) + 1, None, [background, *boxes], None


def boxes_of(mask: np.ndarray) -> list[Box]:
    """Of each 8-connected component: found by walking from pixel to pixel."""
    left = {(int(y), int(x)) for y, x in np.argwhere(mask)}
    found = []
    while left:
        walk = [left.pop()]
        for y, x in walk:
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            walk.extend(near)
        ys, xs = [y for y, _ in walk], [x for _, x in walk]
        size = max(xs) - min(xs) + 1, max(ys) - min(ys) + 1
        found.append((min(xs), min(ys), *size, len(walk)))
    return found

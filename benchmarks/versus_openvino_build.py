"""Converts the plain PyTorch model for OpenVINO: `python versus_openvino_build.py` as a worker.

NNCF compresses the weights: int4 in groups of 32 for the decoder, including the head. The vision
tower is stored in float16, in int8 (weights only), or in int8 with rows quantized by constants that
NNCF finds from random patches.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino as ov
import torch
from openvino import opset13
from openvino._offline_transformations import apply_make_stateful_transformation
from versus_modules import Decoder, VisionTower, draw
from versus_shape import parameters
from versus_worker import Task, require_memory

GROUP = 32
F32, COPIES = 4, 1.6
"""Bytes of a weight; the memory that converting takes over that of the weights."""
CALIBRATION = 2
"""Random pictures, to find the ranges of rows."""


class Flat(torch.nn.Module):
    """The decoder with keys and values as separate inputs and outputs.

    `beam` gathers from the cache, the pattern that OpenVINO's CPU plugin recognizes as an in-place
    cache.
    """

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(
        self,
        x: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor,
        beam: torch.Tensor,
        past: list[torch.Tensor],
    ) -> Any:
        kept = [tensor.index_select(0, beam) for tensor in past]
        pairs = list(zip(kept[::2], kept[1::2], strict=True))
        logits, new = self.decoder(x, positions, mask, pairs)
        return (logits, *(tensor for pair in new for tensor in pair))


def build_decoder(task: Task, path: Path) -> None:
    """Write the decoder, and its embedding beside it as float16."""
    require_memory(parameters(task.config) * F32 * COPIES, "converting the decoder")
    with torch.no_grad():
        decoder = draw(Decoder(task.config), 0)
        table = decoder.embed_tokens.weight.numpy().astype(np.float16)
        np.save(path.with_suffix(".npy"), table)
        model = stateful(Flat(decoder), task)
    mode = nncf.CompressWeightsMode.INT4_SYM
    model = nncf.compress_weights(model, mode=mode, group_size=GROUP, ratio=1.0, all_layers=True)
    ov.save_model(model, path, compress_to_fp16=False)


def build_vision(task: Task, path: Path, kind: str) -> None:
    values = 3 * task.config["patch_size"] ** 2
    patches = torch.randn(task.patches, values)
    with torch.no_grad():
        tower = draw(VisionTower(task.config, task.patches), 1)
        model = ov.convert_model(tower, example_input=patches)
    if kind == "int8":
        model = nncf.compress_weights(model)
    elif kind == "int8 static":
        random = np.random.default_rng(0)
        shape = (CALIBRATION, *patches.shape)
        calibration = nncf.Dataset(list(random.standard_normal(shape, np.float32)))
        model = nncf.quantize(
            model, calibration, subset_size=CALIBRATION, model_type=nncf.ModelType.TRANSFORMER
        )
    ov.save_model(model, path, compress_to_fp16=kind == "f16")


def stateful(flat: Flat, task: Task) -> ov.Model:
    """A model that takes any number of rows and keeps a past of any length as state."""
    config, heads = task.config, task.config["num_key_value_heads"]
    width, head_dim = config["hidden_size"], flat.decoder.head_dim
    layers = config["num_hidden_layers"]
    past = [torch.zeros(1, heads, 3, head_dim) for _ in range(2 * layers)]
    example = {
        "x": torch.randn(1, 2, width),
        "positions": torch.arange(2),
        "mask": torch.zeros(1, 1, 2, 5),
        "beam": torch.zeros(1, dtype=torch.int32),
        "past": past,
    }
    model = ov.convert_model(flat, example_input=example)
    kinds = [[1, -1, width], [-1], [1, 1, -1, -1], [1], *[[1, heads, -1, head_dim]] * (2 * layers)]
    names = ["x", "positions", "mask", "beam", *(f"past.{i}" for i in range(2 * layers))]
    for place, shape, name in zip(model.inputs, kinds, names, strict=True):
        place.get_node().set_partial_shape(ov.PartialShape(shape))
        place.get_tensor().set_names({name})
    outputs = ["logits", *(f"new.{i}" for i in range(2 * layers))]
    for place, name in zip(model.outputs, outputs, strict=True):
        place.get_tensor().set_names({name})
    model.validate_nodes_and_infer_types()
    pairs = {f"past.{i}": f"new.{i}" for i in range(2 * layers)}
    apply_make_stateful_transformation(model, pairs)
    for node in model.get_ops():
        if node.get_type_name() == "ReadValue":  # the state before the first step: empty
            node.set_arguments([opset13.constant(np.zeros((1, heads, 0, head_dim), np.float32))])
    model.validate_nodes_and_infer_types()
    return model


def main() -> None:
    task = Task.read()
    kind = task.settings["vision"]
    decoder, vision = task.folder / "decoder.xml", task.folder / f"vision-{kind}.xml"
    task.build("decoder", lambda: build_decoder(task, decoder))
    task.build(f"vision-{kind}", lambda: build_vision(task, vision, kind))


if __name__ == "__main__":
    main()

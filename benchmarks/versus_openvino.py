"""OpenVINO as a worker of `versus.py`: the plain PyTorch model, converted, with a stateful cache.

NNCF compresses the weights: int4 in groups of 32 for the decoder, including the head, and int8 for
the vision tower.
"""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nncf
import numpy as np
import openvino as ov
import torch
from openvino import opset13
from openvino._offline_transformations import apply_make_stateful_transformation
from versus_modules import Decoder, VisionTower, draw
from versus_worker import ANSWER_TOKENS, QUESTION_TOKENS, STEPS, Task, serve

GROUP = 32
LOWEST = float(np.finfo(np.float32).min)


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


def build(task: Task, decoder_file: Path, vision_file: Path) -> None:
    """Convert and compress the model; the files are cached."""
    with torch.no_grad():
        decoder = draw(Decoder(task.config), 0)
        table = decoder.embed_tokens.weight.numpy().astype(np.float16)
        np.save(decoder_file.with_suffix(".npy"), table)
        model = stateful(Flat(decoder), task)
    mode = nncf.CompressWeightsMode.INT4_SYM
    model = nncf.compress_weights(model, mode=mode, group_size=GROUP, ratio=1.0, all_layers=True)
    ov.save_model(model, decoder_file, compress_to_fp16=False)
    del model, decoder
    values = 3 * task.config["patch_size"] ** 2
    with torch.no_grad():
        tower = draw(VisionTower(task.config, task.patches), 1)
        eye = ov.convert_model(tower, example_input=torch.randn(task.patches, values))
    ov.save_model(nncf.compress_weights(eye), vision_file, compress_to_fp16=False)


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


class OpenVINO:
    def __init__(self, task: Task) -> None:
        decoder, vision = task.folder / "decoder.xml", task.folder / "vision.xml"
        if not task.built.exists():
            build(task, decoder, vision)
            task.built.touch()
        core = ov.Core()
        options: dict[str, Any] = {"INFERENCE_NUM_THREADS": task.threads, "NUM_STREAMS": 1}
        options |= {"PERFORMANCE_HINT": "LATENCY"}
        self.table = np.load(decoder.with_suffix(".npy"), mmap_mode="r")
        self.scale = np.float32(task.config["scale_emb"])
        self.compiled = core.compile_model(decoder, "CPU", options)
        self.request = self.compiled.create_infer_request()
        self.eye = core.compile_model(vision, "CPU", options).create_infer_request()
        values = 3 * task.config["patch_size"] ** 2
        self.patches = np.random.default_rng(0).standard_normal((task.patches, values), np.float32)
        self.pos = 0

    def encode(self) -> float:
        start = time.perf_counter()
        self._encode()
        return time.perf_counter() - start

    def prefill(self, count: int) -> float:
        self._forget()
        ids = self._ids(count)
        start = time.perf_counter()
        self._step(self._embed(ids))
        return time.perf_counter() - start

    def generate(self, pos: int) -> float:
        self._forget()
        if pos:
            self._step(self._embed(self._ids(pos)))
        start = time.perf_counter()
        self._greedy(0, STEPS)
        return time.perf_counter() - start

    def answer(self) -> float:
        self._forget()
        ids = self._ids(QUESTION_TOKENS)
        start = time.perf_counter()
        x = np.concatenate([self._encode()[None], self._embed(ids)], 1)
        self._greedy(int(self._step(x).argmax()), ANSWER_TOKENS)
        return time.perf_counter() - start

    def _encode(self) -> np.ndarray:
        self.eye.infer([self.patches], share_inputs=True)
        return self.eye.get_output_tensor(0).data

    def _forget(self) -> None:
        self.request.reset_state()
        self.pos = 0

    def _embed(self, ids: np.ndarray) -> np.ndarray:
        return (self.table[ids].astype(np.float32) * self.scale)[None]

    def _step(self, x: np.ndarray) -> np.ndarray:
        s = x.shape[1]
        positions = np.arange(self.pos, self.pos + s)
        hidden = np.arange(self.pos + s)[None] > positions[:, None]
        mask = np.where(hidden, np.float32(LOWEST), np.float32(0))[None, None]
        given = {"x": x, "positions": positions, "mask": mask, "beam": np.zeros(1, np.int32)}
        self.request.infer(given, share_inputs=True)
        self.pos += s
        return self.request.get_tensor("logits").data

    def _greedy(self, token: int, steps: int) -> None:
        for _ in range(steps):
            token = int(self._step(self._embed(np.array([token]))).argmax())

    def _ids(self, count: int) -> np.ndarray:
        return np.random.default_rng(count).integers(0, len(self.table), count)


def main() -> None:
    task = Task.read()
    peer = OpenVINO(task)
    options = ("INFERENCE_NUM_THREADS", "INFERENCE_PRECISION_HINT", "KV_CACHE_PRECISION")
    facts = {name: str(peer.compiled.get_property(name)) for name in options}
    about = {
        "name": "openvino",
        "version": f"openvino {version('openvino')}, nncf {version('nncf')}",
        "weights": f"int4 in groups of {GROUP}, head too; vision int8",
        "cache": facts["KV_CACHE_PRECISION"],
        "threads": int(facts["INFERENCE_NUM_THREADS"]),
        "wait": "TBB: sleeps when there is nothing to do, asleep between two rows",
        "system": f"precision {facts['INFERENCE_PRECISION_HINT']}",
    }
    serve(
        about,
        {
            "encode": peer.encode,
            "pp64": lambda: peer.prefill(64),
            "pp512": lambda: peer.prefill(512),
            "tg64@0": lambda: peer.generate(0),
            "tg64@512": lambda: peer.generate(512),
            "answer": peer.answer,
        },
    )


if __name__ == "__main__":
    main()

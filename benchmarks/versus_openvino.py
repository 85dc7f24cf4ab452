"""OpenVINO as a worker of `versus.py`: the plain PyTorch model, converted, with a stateful cache.

Settings of the decoder: `hint` (the type that it computes in), `cache` (of keys and values),
`group` (rows are quantized in groups of this size; 0: not at all). Of the tower: `vision` (how its
weights are stored) and `vision_hint`. The models are converted by a process of its own, so that
this one needs neither torch nor its memory.
"""

from __future__ import annotations

import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
from versus_shape import refuse_hybrid
from versus_worker import ANSWER_TOKENS, QUESTION_TOKENS, Task, rows_of, serve

BATCH = 512
LOWEST = float(np.finfo(np.float32).min)


class OpenVINO:
    def __init__(self, task: Task) -> None:
        decoder = task.folder / "decoder.xml"
        vision = task.folder / f"vision-{task.settings['vision']}.xml"
        core = ov.Core()
        self.table = np.load(decoder.with_suffix(".npy"), mmap_mode="r")
        self.scale = np.float32(task.config["scale_emb"])
        self.compiled = core.compile_model(decoder, "CPU", decoder_options(task))
        self.request = self.compiled.create_infer_request()
        self.eye = core.compile_model(vision, "CPU", vision_options(task)).create_infer_request()
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

    def generate(self, pos: int, steps: int) -> float:
        self._forget()
        while self.pos < pos:
            self._step(self._embed(self._ids(min(BATCH, pos - self.pos))))
        start = time.perf_counter()
        self._greedy(0, steps)
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


def decoder_options(task: Task) -> dict[str, Any]:
    settings = task.settings
    return {
        **common_options(task.threads),
        "INFERENCE_PRECISION_HINT": settings["hint"],
        "KV_CACHE_PRECISION": settings["cache"],
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": settings["group"],
    }


def vision_options(task: Task) -> dict[str, Any]:
    hint = task.settings["vision_hint"]
    return {**common_options(task.threads), "INFERENCE_PRECISION_HINT": hint}


def common_options(threads: int) -> dict[str, Any]:
    return {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY"}


def main() -> None:
    task = Task.read()
    refuse_hybrid(task.config, "openvino")
    build = Path(__file__).with_name("versus_openvino_build.py")
    subprocess.run([sys.executable, str(build), *sys.argv[1:]], check=True)
    peer = OpenVINO(task)
    options = ("INFERENCE_NUM_THREADS", "INFERENCE_PRECISION_HINT", "KV_CACHE_PRECISION")
    facts = {name: str(peer.compiled.get_property(name)) for name in options}
    about = {
        "name": "openvino",
        "version": f"openvino {version('openvino')}, nncf {version('nncf')}",
        "weights": f"int4 in groups of 32, head too; vision {task.settings['vision']}",
        "cache": facts["KV_CACHE_PRECISION"],
        "threads": int(facts["INFERENCE_NUM_THREADS"]),
        "wait": "TBB: sleeps when there is nothing to do, asleep between two rows",
        "system": f"precision {facts['INFERENCE_PRECISION_HINT']}",
    }
    serve(about, rows_of(peer))


if __name__ == "__main__":
    main()

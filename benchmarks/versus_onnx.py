"""ONNX Runtime GenAI as a worker of `versus.py`: the decoder only.

Its processor for pictures takes models of other families only, so it runs neither a picture nor an
answer about one. Setting `spin`: whether its threads wait for work by spinning.
"""

from __future__ import annotations

import json
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnxruntime_genai as og
from versus_shape import refuse_hybrid
from versus_worker import CONTEXT, FEW_STEPS, POSITIONS, PROMPTS, STEPS, Task, serve

FILLED = POSITIONS[:-1]
"""Not the longest one: a prompt of that length takes minutes, before every sample."""
BATCH = 512


class Onnx:
    def __init__(self, task: Task) -> None:
        folder = task.folder / "decoder"
        task.build("decoder", lambda: write(folder, task))
        set_options(folder / "genai_config.json", task)
        self.model = og.Model(str(folder))
        self.vocab_size = task.config["vocab_size"]
        params = og.GeneratorParams(self.model)
        params.set_search_options(max_length=CONTEXT, min_length=CONTEXT, do_sample=False)
        self.generator = og.Generator(self.model, params)

    def prefill(self, count: int) -> float:
        self.generator.rewind_to(0)
        start = time.perf_counter()
        self.generator.append_tokens(self._tokens(count))
        return time.perf_counter() - start

    def generate(self, pos: int, steps: int) -> float:
        """The first token comes from what precedes it, so at 0 one token does."""
        self.generator.rewind_to(0)
        left = max(pos, 1)
        while left:
            self.generator.append_tokens(self._tokens(min(left, BATCH)))
            left -= min(left, BATCH)
        self.generator.generate_next_token()  # chooses from the logits of the prompt
        start = time.perf_counter()
        for _ in range(steps):
            self.generator.generate_next_token()
        return time.perf_counter() - start

    def _tokens(self, count: int) -> np.ndarray:
        return np.random.default_rng(count).integers(3, self.vocab_size, count, np.int32)


def write(folder: Path, task: Task) -> None:
    from versus_onnx_model import write_decoder

    write_decoder(folder, task.config, CONTEXT)


def set_options(path: Path, task: Task) -> None:
    found = json.loads(path.read_text("utf-8"))
    found["model"]["decoder"]["session_options"] = {
        "intra_op_num_threads": task.threads,
        "session.intra_op.allow_spinning": task.settings["spin"],
        "provider_options": [],
    }
    path.write_text(json.dumps(found), "utf-8")


def main() -> None:
    task = Task.read()
    refuse_hybrid(task.config, "onnxruntime")
    peer = Onnx(task)
    about = {
        "name": "onnxruntime",
        "version": f"onnxruntime-genai {version('onnxruntime-genai')}",
        "weights": "int4 in groups of 32, head too; rows int8",
        "cache": "float32",
        "threads": task.threads,
        "wait": f"spinning {task.settings['spin']}; asleep between two rows",
    }
    rows = {
        **{f"pp{count}": partial(peer.prefill, count) for count in PROMPTS},
        **{f"tg{STEPS}@{pos}": partial(peer.generate, pos, STEPS) for pos in FILLED},
        f"tg{FEW_STEPS}@0": partial(peer.generate, 0, FEW_STEPS),
    }
    serve(about, rows)


if __name__ == "__main__":
    main()

"""llama.cpp as a worker of `versus.py`, through the Python bindings of llama_cpp_python.

Settings: `repack` (weights rewritten for the kernels, or used as stored), `flash` (attention in
tiles), `map` (the file mapped, or read into memory); `vision` (storage of the tower's weights) and
`vision_flash`. The compiled library and its waits are chosen by the environment.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
from llama_cpp import mtmd_cpp
from versus_gguf import resampler_keys, resampler_tensors, write_decoder, write_vision
from versus_gguf_hybrid import merger_keys, merger_tensors, write_hybrid
from versus_shape import is_hybrid
from versus_worker import ANSWER_TOKENS, CONTEXT, QUESTION_TOKENS, Task, rows_of, serve

NO_CALLBACK = ctypes.cast(0, mtmd_cpp.mtmd_helper_post_decode_callback)


WriteText = Callable[[Path, dict[str, Any]], None]
AddKeys = Callable[[gguf.GGUFWriter, dict[str, Any]], None]
Tensors = Callable[[dict[str, Any]], Iterable[tuple[str, np.ndarray]]]
BATCH = 512
FLASH = {"yes": 1, "no": 0}


class Llama:
    def __init__(self, task: Task) -> None:
        settings, kind = task.settings, task.settings["vision"]
        decoder, vision = task.folder / "decoder.gguf", task.folder / f"vision-{kind}.gguf"
        write_models(task, decoder, vision, kind)
        llama_cpp.llama_backend_init()
        self.vocab_size = task.config["vocab_size"]
        self.model = self._load(decoder, settings)
        self.context = self._open(settings, task.threads)
        self.memory = llama_cpp.llama_get_memory(self.context)
        flash = FLASH[settings["vision_flash"]]
        self.eye = self._open_vision(str(vision).encode(), task.threads, flash)
        self.image, self.chunks = self._picture(task.config["image_size"])
        self.filled = 0

    def _load(self, path: Path, settings: dict[str, str]) -> Any:
        params = llama_cpp.llama_model_default_params()
        params.use_extra_bufts = settings["repack"] == "yes"
        params.use_mmap = settings["map"] == "yes"
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        if not model:
            raise SystemExit(f"llama.cpp rejects the decoder {path}")
        return model

    def _open(self, settings: dict[str, str], threads: int) -> Any:
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = CONTEXT, BATCH, BATCH
        params.n_threads = params.n_threads_batch = threads
        params.flash_attn_type = FLASH[settings["flash"]]
        return llama_cpp.llama_init_from_model(self.model, params)

    def encode(self) -> float:
        start = time.perf_counter()
        self._encode()
        return time.perf_counter() - start

    def prefill(self, count: int) -> float:
        self._keep(0)
        tokens = self._tokens(count)
        start = time.perf_counter()
        self._decode(tokens)
        return time.perf_counter() - start

    def generate(self, pos: int, steps: int) -> float:
        self._keep(pos)
        while self.filled < pos:
            self._decode(self._tokens(min(BATCH, pos - self.filled)))
        start = time.perf_counter()
        self._greedy(0, steps)
        return time.perf_counter() - start

    def answer(self) -> float:
        self._keep(0)
        tokens = self._tokens(QUESTION_TOKENS)
        start = time.perf_counter()
        self._encode()
        self._feed_picture()
        self._decode(tokens)
        self._greedy(self._best(), ANSWER_TOKENS)
        return time.perf_counter() - start

    def _open_vision(self, path: bytes, threads: int, flash: int) -> Any:
        params = mtmd_cpp.mtmd_context_params_default()
        params.use_gpu, params.n_threads, params.print_timings = False, threads, False
        params.warmup, params.flash_attn_type = False, flash
        eye = mtmd_cpp.mtmd_init_from_file(path, self.model, params)
        if not eye:
            raise SystemExit(f"llama.cpp rejects the vision tower {path.decode()}")
        return eye

    def _picture(self, side: int) -> tuple[Any, Any]:
        """The preprocessed image chunk of a random picture, and its owner."""
        pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
        data = pixels.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        bitmap = mtmd_cpp.mtmd_bitmap_init(side, side, data)
        mark = mtmd_cpp.mtmd_default_marker()
        text = mtmd_cpp.mtmd_input_text(mark, len(mark), False, True)
        chunks = mtmd_cpp.mtmd_input_chunks_init()
        bitmaps = (mtmd_cpp.mtmd_bitmap_p_ctypes * 1)(bitmap)
        code = mtmd_cpp.mtmd_tokenize(self.eye, chunks, ctypes.byref(text), bitmaps, 1)
        if code:
            raise SystemExit(f"mtmd_tokenize failed with {code}")
        for i in range(mtmd_cpp.mtmd_input_chunks_size(chunks)):
            chunk = mtmd_cpp.mtmd_input_chunks_get(chunks, i)
            if mtmd_cpp.mtmd_input_chunk_get_type(chunk) == mtmd_cpp.MTMD_INPUT_CHUNK_TYPE_IMAGE:
                return chunk, chunks
        raise SystemExit("mtmd_tokenize returned no image chunk")

    def _encode(self) -> None:
        if code := mtmd_cpp.mtmd_encode_chunk(self.eye, self.image):
            raise SystemExit(f"mtmd_encode_chunk failed with {code}")

    def _feed_picture(self) -> None:
        rows = mtmd_cpp.mtmd_get_output_embd(self.eye)
        past = llama_cpp.llama_pos(0)
        code = mtmd_cpp.mtmd_helper_decode_image_chunk(
            *(self.eye, self.context, self.image, rows, self.filled, 0, BATCH, ctypes.byref(past)),
            *(NO_CALLBACK, None),
        )
        if code:
            raise SystemExit(f"mtmd_helper_decode_image_chunk failed with {code}")
        self.filled = past.value

    def _tokens(self, count: int) -> Any:
        drawn = np.random.default_rng(count).integers(300, self.vocab_size, count, np.int32)
        return (llama_cpp.llama_token * count)(*drawn.tolist())

    def _decode(self, tokens: Any) -> None:
        batch = llama_cpp.llama_batch_get_one(tokens, len(tokens))
        if code := llama_cpp.llama_decode(self.context, batch):
            raise SystemExit(f"llama_decode failed with {code}")
        llama_cpp.llama_synchronize(self.context)
        self.filled += len(tokens)

    def _greedy(self, token: int, steps: int) -> None:
        for _ in range(steps):
            self._decode((llama_cpp.llama_token * 1)(token))
            token = self._best()

    def _best(self) -> int:
        logits = llama_cpp.llama_get_logits_ith(self.context, -1)
        return int(np.ctypeslib.as_array(logits, (self.vocab_size,)).argmax())

    def _keep(self, pos: int) -> None:
        """Forget later positions; all of them if the state of linear attention is beyond."""
        kept = llama_cpp.llama_memory_seq_rm(self.memory, 0, pos, -1)
        if not kept:
            llama_cpp.llama_memory_clear(self.memory, False)
        self.filled = min(self.filled, pos) if kept else 0


def write_models(task: Task, decoder: Path, vision: Path, kind: str) -> None:
    """Write the files that are missing."""
    shape, hybrid = task.config, is_hybrid(task.config)
    write_text: WriteText = write_hybrid if hybrid else write_decoder
    keys: AddKeys = merger_keys if hybrid else resampler_keys
    tensors: Tensors = merger_tensors if hybrid else resampler_tensors
    task.build("decoder", lambda: write_text(decoder, shape))
    task.build(f"vision-{kind}", lambda: write_vision(vision, shape, kind, keys, tensors(shape)))


def main() -> None:
    task = Task.read()
    peer = Llama(task)
    about = {
        "name": "llama.cpp",
        "version": f"llama_cpp_python {llama_cpp.__version__}",
        "weights": f"Q4_0, head too; vision {task.settings['vision']}",
        "cache": "float16",
        "threads": task.threads,
        "wait": "OpenMP; asleep between two rows",
        "system": llama_cpp.llama_print_system_info().decode().strip(),
    }
    serve(about, rows_of(peer))


if __name__ == "__main__":
    main()

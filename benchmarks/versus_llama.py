"""llama.cpp as a worker of `versus.py`, through the Python bindings of llama_cpp_python."""

from __future__ import annotations

import ctypes
import time
from importlib.metadata import version
from typing import Any

import llama_cpp
import numpy as np
from llama_cpp import mtmd_cpp
from versus_gguf import write_decoder, write_vision
from versus_worker import ANSWER_TOKENS, CONTEXT, QUESTION_TOKENS, STEPS, Task, serve

NO_CALLBACK = ctypes.cast(0, mtmd_cpp.mtmd_helper_post_decode_callback)


class Llama:
    def __init__(self, task: Task) -> None:
        decoder, vision = task.folder / "decoder.gguf", task.folder / "vision.gguf"
        if not task.built.exists():
            write_decoder(decoder, task.config)
            write_vision(vision, task.config)
            task.built.touch()
        llama_cpp.llama_backend_init()
        self.vocab_size = task.config["vocab_size"]
        self.model = llama_cpp.llama_model_load_from_file(
            str(decoder).encode(), llama_cpp.llama_model_default_params()
        )
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = CONTEXT, 512, 512
        params.n_threads = params.n_threads_batch = task.threads
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.memory = llama_cpp.llama_get_memory(self.context)
        self.eye = self._open_vision(str(vision).encode(), task.threads)
        self.image, self.chunks = self._picture(task.config["image_size"])
        self.filled = 0

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

    def generate(self, pos: int) -> float:
        self._keep(pos)
        if self.filled < pos:
            self._decode(self._tokens(pos - self.filled))
        start = time.perf_counter()
        self._greedy(0, STEPS)
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

    def _open_vision(self, path: bytes, threads: int) -> Any:
        params = mtmd_cpp.mtmd_context_params_default()
        params.use_gpu, params.n_threads, params.print_timings = False, threads, False
        params.warmup = False
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
            *(self.eye, self.context, self.image, rows, self.filled, 0, 512, ctypes.byref(past)),
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
        llama_cpp.llama_memory_seq_rm(self.memory, 0, pos, -1)
        self.filled = min(self.filled, pos)


def main() -> None:
    task = Task.read()
    peer = Llama(task)
    about = {
        "name": "llama.cpp",
        "version": f"llama_cpp_python {version('llama_cpp_python')}",
        "weights": "Q4_0, head too; vision float16",
        "cache": "float16",
        "threads": task.threads,
        "wait": "OpenMP: spins a little after each graph, asleep between two rows",
        "system": llama_cpp.llama_print_system_info().decode().strip(),
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

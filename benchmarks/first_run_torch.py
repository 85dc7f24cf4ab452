"""PyTorch on the same GPU and shape, for `cuda_first_run.py`: prints one JSON object.

    python benchmarks/first_run_torch.py SHAPE.json [--quick] [--cpu]

bfloat16 with random weights, eager and by `torch.compile`: a picture, a prefill of 512 tokens, and
decoding at position 512 with a cache of fixed size. Only shapes of the first releases are built
(versus_modules.py). --cpu is for testing this program.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from versus_modules import Decoder, VisionTower, draw

from handglass.runtime.measure.steps import spread

SAMPLES, PREFILL, TOKENS = 5, 512, 16
QUICK = (1, 16, 2)


class Peer:
    """The model on a device, in bfloat16."""

    def __init__(self, config: dict[str, Any], device: str, prefill: int, tokens: int) -> None:
        torch.set_default_dtype(torch.bfloat16)
        self.device, self.tokens, self.prefilled = device, tokens, prefill
        patches = (config["image_size"] // config["patch_size"]) ** 2
        with torch.device(device):
            self.decoder: Any = Decoder(config)
            self.tower: Any = VisionTower(config, patches)
            self.patches = torch.randn(patches, 3 * config["patch_size"] ** 2)
            shape = (1, config["num_key_value_heads"], 0, self.decoder.head_dim)
            layers = config["num_hidden_layers"]
            self.nothing = [(torch.empty(shape), torch.empty(shape)) for _ in range(layers)]
            self.mask = torch.ones(prefill, prefill, dtype=torch.bool).tril()
            self.rows = torch.arange(prefill)
            self.ids = torch.randint(0, config["vocab_size"], (1, prefill))
        for module in (self.decoder, self.tower):
            draw_on(module)
        with torch.inference_mode():
            self.past = self.decoder(*self._prompt())[1]

    def compile(self) -> None:
        self.decoder, self.tower = torch.compile(self.decoder), torch.compile(self.tower)

    def encode(self) -> None:
        self.tower(self.patches)

    def prefill(self) -> None:
        self.decoder(*self._prompt())

    def decode(self) -> None:
        """Always the token after the prompt: what a cache of fixed size would cost."""
        token = self.ids[:, :1]
        for _ in range(self.tokens):
            x = self._embedded(token)
            logits, _ = self.decoder(x, self.rows[-1:] + 1, None, self.past)
            token = logits[:, -1].argmax(-1, keepdim=True)
            int(token)  # the loop of an answer reads every token

    def _prompt(self) -> tuple[Any, ...]:
        return self._embedded(self.ids), self.rows, self.mask, self.nothing

    def _embedded(self, ids: torch.Tensor) -> torch.Tensor:
        decoder = getattr(self.decoder, "_orig_mod", self.decoder)
        return decoder.embed(ids)

    def seconds(self, row: Callable[[], None]) -> float:
        self._wait()
        start = time.perf_counter()
        row()
        self._wait()
        return time.perf_counter() - start

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()


def draw_on(module: torch.nn.Module) -> None:
    """Random weights, drawn on the device of the module."""
    if next(module.parameters()).device.type == "cpu":
        draw(module, 0)
        return
    with torch.no_grad():
        for name, weight in module.named_parameters():
            is_norm = "norm" in name or "ln_" in name
            weight.normal_(0.0, weight.shape[-1] ** -0.5).add_(1.0 if is_norm else 0.0)


def measure(peer: Peer, samples: int) -> dict[str, Any]:
    rows = {"encode_s": peer.encode, f"prefill_{peer.prefilled}_s": peer.prefill}
    rows[f"decode_{peer.tokens}_s"] = peer.decode
    with torch.inference_mode():
        for row in (*rows.values(), *rows.values()):  # twice: compilation, then lazy set-up
            row()
        taken = [{name: peer.seconds(row) for name, row in rows.items()} for _ in range(samples)]
    return {name: spread([sample[name] for sample in taken]) for name in rows}


def main() -> None:
    parser = argparse.ArgumentParser(description="Time PyTorch on the GPU.")
    parser.add_argument("shape", type=Path, help="written by versus_shape.shape_of")
    parser.add_argument("--quick", action="store_true", help="short rows, once")
    parser.add_argument("--cpu", action="store_true", help="for testing this program")
    given = parser.parse_args()
    if not given.cpu and not torch.cuda.is_available():
        raise SystemExit("PyTorch finds no CUDA device")
    samples, prefill, tokens = QUICK if given.quick else (SAMPLES, PREFILL, TOKENS)
    shape = json.loads(given.shape.read_text("utf-8"))
    peer = Peer(shape, "cpu" if given.cpu else "cuda", prefill, tokens)
    found = {"version": torch.__version__, "eager": measure(peer, samples)}
    peer.compile()
    found["compiled"] = measure(peer, samples)
    print(json.dumps(found))


if __name__ == "__main__":
    main()

"""The functions that every model with a decoder exports; a family adds its vision functions."""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import spec

from handglass.runtime.bundle.entries import (
    AXES,
    FunctionEntry,
    StateTensor,
    TensorEntry,
    WorkEntry,
)

from .language import Decoder, State, placed_rotations, state_tensors
from .storage import Storage
from .work import decode_work, prefill_work

PLACED = {"prefill": "prefill_placed", "decode": "decode_placed"}
"""The methods of a model whose tokens have three positions each."""
MODES = {"$": {"param_mode": "packed", "effect_mode": "none"}}


class DecoderNetwork(nn.Module):
    """Exports `embed`, `prefill` and `decode` of the decoder in the attribute `decoder_name`.

    All parameters belong to one module, so every function takes the same `params` tuple.
    """

    decoder_name = "llm"

    def __init__(self, storage: Storage) -> None:
        super().__init__()
        self.storage = storage

    @property
    def decoder(self) -> Decoder:
        decoder: Decoder = getattr(self, self.decoder_name)
        return decoder

    def embed(self, ids: nn.Tensor) -> nn.Tensor:
        return self.decoder.embed(ids)

    def prefill(self, x: nn.Tensor, pos: tirx.Var, state: State) -> nn.Tensor:
        return self.decoder(x, pos, state)

    def decode(self, ids: nn.Tensor, pos: tirx.Var, state: State) -> nn.Tensor:
        return self.decoder(self.decoder.embed(ids), pos, state)

    def prefill_placed(
        self, x: nn.Tensor, positions: nn.Tensor, pos: tirx.Var, state: State
    ) -> nn.Tensor:
        return self.decoder(x, pos, state, positions)

    def decode_placed(
        self, ids: nn.Tensor, positions: nn.Tensor, pos: tirx.Var, state: State
    ) -> nn.Tensor:
        return self.decoder(self.decoder.embed(ids), pos, state, positions)

    @property
    def has_positions(self) -> bool:
        """Whether tokens have three positions each, which prefill and decode take."""
        return bool(self.decoder.config.rope_sections)

    def export(self) -> tuple[tvm.IRModule, list[tuple[str, nn.Parameter]]]:
        """One module with all functions; parameters in the order of the `params` tuple."""
        methods = PLACED if self.has_positions else {}
        made = {
            name: spec.MethodSpec.from_raw(given | MODES, getattr(self, methods.get(name, name)))
            for name, given in self.specs().items()
        }
        return self.export_tvm(spec=made)

    def specs(self) -> dict[str, dict]:
        """The arguments of each exported function."""
        d = self.decoder.config.hidden_size
        last = {"pos": int, "state": [spec.Tensor(t.shape, t.dtype) for t in self.state()]}
        prefill = {"x": spec.Tensor(["s", d], "float32")} | last
        decode = {"ids": spec.Tensor([1], "int32")} | last
        if self.has_positions:
            prefill["positions"] = spec.Tensor(["s", AXES], "int32")
            decode["positions"] = spec.Tensor([1, AXES], "int32")
        ids = {"ids": spec.Tensor(["s"], "int32")}
        return {"embed": ids, "prefill": prefill, "decode": decode}

    def functions(self) -> dict[str, FunctionEntry]:
        """The signatures of the exported functions as text, for the manifest."""
        config = self.decoder.config
        d, logits = config.hidden_size, f"({config.vocab_size},) float32"

        def step(first: str, count: str) -> FunctionEntry:
            placed = (f"positions ({count}, {AXES}) int32",) if self.has_positions else ()
            return FunctionEntry((first, *placed, "pos", "state", "params"), logits)

        return {
            "embed": FunctionEntry(("ids (s,) int32", "params"), f"(s, {d}) float32"),
            "prefill": step(f"x (s, {d}) float32", "s"),
            "decode": step("ids (1,) int32", "1"),
        }

    def state(self) -> tuple[StateTensor, ...]:
        """The state of all layers."""
        config, storage = self.decoder.config, self.storage
        layers = state_tensors(config, storage.context, storage.cache)
        rotations = placed_rotations(config, storage.context)
        return (*(tensor for layer in layers for tensor in layer), *rotations)

    def work(self, params: tuple[TensorEntry, ...]) -> dict[str, WorkEntry]:
        """The work of one call of each function: operations and bytes."""
        name, untied = self.decoder_name, self.decoder.lm_head is not None
        tables = (f"{name}.rotations.", *((f"{name}.embed_tokens.",) if untied else ()))
        return {
            "prefill": prefill_work(self.decoder.config),
            "decode": decode_work(params, f"{name}.", tables, self.decoder.config.experts),
        }

"""The functions that every model with a decoder exports; a family adds its vision functions."""

from __future__ import annotations

import tvm
from tvm import tirx
from tvm.relax.frontend import nn
from tvm.relax.frontend.nn import spec

from handglass.runtime.bundle.entries import FunctionEntry, StateTensor, TensorEntry, WorkEntry

from .language import Decoder, State, state_tensors
from .storage import Storage
from .work import decode_work, prefill_work

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

    def export(self) -> tuple[tvm.IRModule, list[tuple[str, nn.Parameter]]]:
        """One module with all functions; parameters in the order of the `params` tuple."""
        specs = self.specs()
        return self.export_tvm(spec={name: specs[name] | MODES for name in specs})

    def specs(self) -> dict[str, dict]:
        """The arguments of each exported function."""
        d = self.decoder.config.hidden_size
        state = [spec.Tensor(tensor.shape, tensor.dtype) for tensor in self.state()]
        return {
            "embed": {"ids": spec.Tensor(["s"], "int32")},
            "prefill": {"x": spec.Tensor(["s", d], "float32"), "pos": int, "state": state},
            "decode": {"ids": spec.Tensor([1], "int32"), "pos": int, "state": state},
        }

    def functions(self) -> dict[str, FunctionEntry]:
        """The signatures of the exported functions as text, for the manifest."""
        config = self.decoder.config
        d, logits = config.hidden_size, f"({config.vocab_size},) float32"
        return {
            "embed": FunctionEntry(("ids (s,) int32", "params"), f"(s, {d}) float32"),
            "prefill": FunctionEntry((f"x (s, {d}) float32", "pos", "state", "params"), logits),
            "decode": FunctionEntry(("ids (1,) int32", "pos", "state", "params"), logits),
        }

    def state(self) -> tuple[StateTensor, ...]:
        """The state of all layers."""
        config, storage = self.decoder.config, self.storage
        layers = state_tensors(config, storage.context, storage.cache)
        return tuple(tensor for layer in layers for tensor in layer)

    def work(self, params: tuple[TensorEntry, ...]) -> dict[str, WorkEntry]:
        """The work of one call of each function: operations and bytes."""
        name, untied = self.decoder_name, self.decoder.lm_head is not None
        tables = (f"{name}.rotations.", *((f"{name}.embed_tokens.",) if untied else ()))
        return {
            "prefill": prefill_work(self.decoder.config),
            "decode": decode_work(params, f"{name}.", tables),
        }

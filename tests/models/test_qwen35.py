"""The language model of Qwen3.5 against the class of transformers, with random weights."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import tvm
from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig
from tvm import relax
from tvm.s_tir import Schedule

from handglass.compiler.checkpoints.fields import Fields
from handglass.compiler.lowering.phases import fuse, lower
from handglass.compiler.models.language import Decoder
from handglass.compiler.models.leaves import leaves
from handglass.compiler.models.network import DecoderNetwork
from handglass.compiler.models.qwen35 import qwen35_config
from handglass.compiler.models.storage import choose_storage
from handglass.compiler.ops import rotary
from handglass.errors import InputError
from handglass.schedules.rule import blocks
from handglass.schedules.select import find_units
from handglass.targets import find_target

CONFIG: dict[str, Any] = {
    "vocab_size": 97,
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 5,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "attn_output_gate": True,
    "full_attention_interval": 4,
    "linear_conv_kernel_dim": 4,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 16,
    "linear_num_value_heads": 4,
    "linear_value_head_dim": 24,
    "rms_norm_eps": 1e-6,
    "max_position_embeddings": 64,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 1e7,
        "partial_rotary_factor": 0.25,
    },
    "tie_word_embeddings": True,
    "hidden_act": "silu",
}
IDS = [1, 5, 9, 13, 96, 50, 2, 7, 31, 64, 3]


@dataclass
class TorchWeights:
    """Has the methods of a checkpoint that leaves use."""

    tensors: dict[str, np.ndarray]

    def expect(self, name: str, shape: tuple[int, ...]) -> None:
        assert self.tensors[name].shape == tuple(shape), name

    def read(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        self.expect(name, shape)
        return self.tensors[name].copy()

    def read_rows(self, name: str, start: int, stop: int) -> np.ndarray:
        return self.tensors[name][start:stop].copy()


class TextModel(DecoderNetwork):
    decoder_name = "model"

    def __init__(self, scheme: str = "f32") -> None:
        target = find_target("host")
        config = qwen35_config(Fields(CONFIG, "config.json text_config"), True)
        units = find_units(tvm.target.Target(target.tvm))
        super().__init__(choose_storage(config, units, scheme, None, None, None))
        self.model = Decoder(config, self.storage, "model.embed_tokens.weight", "model")


class Running:
    """A compiled text model with its state."""

    def __init__(self, network: TextModel, weights: TorchWeights) -> None:
        target = find_target("host")
        with tvm.target.Target(target.tvm):
            mod, parameters = network.export()
        built = relax.build(lower(mod, target).mod, tvm.target.Target(target.tvm))
        self.machine = relax.VirtualMachine(built, tvm.cpu())
        arrays = {
            f"{path}.{name}": array
            for path, leaf in leaves(network)
            for name, array in leaf.load(weights).items()  # type: ignore[arg-type]
        }
        self.params = [tvm.runtime.tensor(arrays[name]) for name, _ in parameters]
        self.state = [tvm.runtime.tensor(np.zeros(t.shape, t.dtype)) for t in network.state()]

    def prefill(self, ids: list[int], pos: int) -> np.ndarray:
        tensor = tvm.runtime.tensor(np.array(ids, np.int32))
        x = self.machine["embed"](tensor, self.params)
        return self.step("prefill", x, pos)

    def decode(self, token: int, pos: int) -> np.ndarray:
        return self.step("decode", tvm.runtime.tensor(np.array([token], np.int32)), pos)

    def step(self, name: str, x: Any, pos: int) -> np.ndarray:
        shape = tvm.runtime.ShapeTuple([pos])
        result: np.ndarray = self.machine[name](x, shape, self.state, self.params).numpy()
        return result


def test_the_magnitude_is_that_of_rotated_elements() -> None:
    table = rotary.table(5, 32, 1e4, rotary_dim=8, magnitude=1.5)
    assert np.allclose(np.hypot(table[:, :4], table[:, 16:20]), 1.5)
    assert (table[:, 4:16] == 1).all() and (table[:, 20:] == 0).all()


def blocks_reading(mod: tvm.IRModule, call: relax.Call, argument: int) -> list[str]:
    """Names of the blocks of the called kernel that read the argument."""
    kernel = mod[call.args[0]]
    sch, param = Schedule(kernel), kernel.params[argument]
    found = [sch.get(block) for block in blocks(sch)]
    return [b.name_hint for b in found if any(read.source.same_as(param) for read in b.reads)]


def readers(mod: tvm.IRModule, func: relax.Function, parameters: list[str]) -> dict[str, list[str]]:
    """The blocks that read each parameter of `func`, in all its calls."""
    found: dict[str, list[str]] = {name: [] for name in parameters}
    names: dict[relax.Var, str] = {}
    for binding in (b for block in func.body.blocks for b in block.bindings):
        value = binding.value
        if isinstance(value, relax.TupleGetItem) and value.tuple_value.same_as(func.params[-1]):
            names[binding.var] = parameters[value.index]
        elif isinstance(value, relax.Call) and len(value.args) > 1:
            given = value.args[1]
            for place, argument in enumerate(getattr(given, "fields", [given])):
                if argument in names:
                    found[names[argument]] += blocks_reading(mod, value, place)
    return found


@pytest.mark.parametrize("scheme", ["f32", "w4a8"])
def test_decode_reads_each_matrix_once(scheme: str) -> None:
    """All rows of q, k, v, z, b and a too; the table of a tied head also gives one row."""
    target = find_target("host")
    with tvm.target.Target(target.tvm):
        mod, parameters = TextModel(scheme).export()
    mod = fuse(mod, target)
    found = readers(mod, mod["decode"], [name for name, _ in parameters])
    matrices = {name: used for name, used in found.items() if ".panels." in name}
    assert len(matrices) >= 5 * 5 - 1
    assert {len(used) for used in matrices.values()} == {1}
    table = found["model.embed_tokens.weight"]
    assert len(table) == 2 and "embed" in table


@pytest.fixture(scope="module")
def expected() -> Any:
    torch.manual_seed(0)
    model = Qwen3_5ForCausalLM(Qwen3_5TextConfig(**CONFIG)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight") and "linear_attn" not in name:
                parameter.normal_(0, 0.2)
            elif name.endswith(("A_log", "dt_bias")):
                parameter.normal_(0, 0.5)
            else:
                parameter.normal_(0.0, 0.15)
    return model


@pytest.fixture(scope="module")
def weights(expected: Any) -> TorchWeights:
    return TorchWeights({k: v.detach().numpy() for k, v in expected.state_dict().items()})


@pytest.fixture(scope="module")
def running(weights: TorchWeights) -> Running:
    return Running(TextModel(), weights)


def logits_of(model: Any, ids: list[int]) -> np.ndarray:
    with torch.no_grad():
        result: np.ndarray = model(torch.tensor([ids])).logits[0].numpy()
    return result


def close(actual: np.ndarray, truth: np.ndarray) -> bool:
    return bool(np.abs(actual - truth).max() <= 1e-4 * np.abs(truth).max())


def restart(running: Running) -> None:
    for tensor in running.state:
        tensor.copyfrom(np.zeros(tensor.shape, tensor.dtype))


@pytest.mark.parametrize("first", [1, 2, 3, 10, 11])
def test_prefill_in_two_parts_then_decode(running: Running, expected: Any, first: int) -> None:
    truth = logits_of(expected, [*IDS, 17, 40])
    restart(running)
    assert close(running.prefill(IDS[:first], 0), truth[first - 1])
    if first < len(IDS):
        assert close(running.prefill(IDS[first:], first), truth[len(IDS) - 1])
    assert close(running.decode(17, len(IDS)), truth[-2])
    assert close(running.decode(40, len(IDS) + 1), truth[-1])


def test_greedy_tokens(running: Running, expected: Any) -> None:
    ids = list(IDS)
    restart(running)
    row = running.prefill(ids, 0)
    for _ in range(40):
        assert int(row.argmax()) == int(logits_of(expected, ids)[-1].argmax())
        ids.append(int(row.argmax()))
        row = running.decode(ids[-1], len(ids) - 1)


def test_state_restored_from_a_copy(running: Running) -> None:
    """A copy of the recurrent state is all that continuing from a position needs."""
    restart(running)
    running.prefill(IDS, 0)
    kept = [tensor.numpy().copy() for tensor in running.state]
    first = running.prefill([4, 5, 6], len(IDS))
    for tensor, array in zip(running.state, kept, strict=True):
        tensor.copyfrom(array)
    assert np.array_equal(running.prefill([4, 5, 6], len(IDS)), first)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("layer_types", ["linear_attention"] * 4, "layer_types"),
        ("layer_types", ["sparse"] * 5, "layer_types"),
        ("attn_output_gate", False, "attn_output_gate"),
        ("linear_num_value_heads", 3, "linear_num_value_heads"),
        ("linear_conv_kernel_dim", 1, "linear_conv_kernel_dim"),
        ("partial_rotary_factor", 0.5, "partial_rotary_factor"),
        ("rope_parameters", {"rope_type": "default", "partial_rotary_factor": 0.01}, "rotates 0"),
        ("rope_parameters", {"rope_type": "yarn", "factor": 4}, "rope_parameters"),
    ],
)
def test_refused(key: str, value: Any, named: str) -> None:
    with pytest.raises(InputError, match=named):
        qwen35_config(Fields(CONFIG | {key: value}, "config.json text_config"), True)

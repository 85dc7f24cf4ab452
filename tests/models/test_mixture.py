"""The mixture of experts of MiniCPM-V 4.7 35B-A3B at tiny size, against the classes of transformers
that wrote the checkpoint."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import tvm
from compiled_module import HeldWeights, compile_module, host_scheme
from greedy import QUESTION
from published import PARAMETERS, PUBLISHED
from released46 import EXPERTS, Reference, write_checkpoint
from test_verify_families import STAGES, quieten, rewrite
from thinned import thinned
from transformers import (
    MiniCPMV4_7Config,
    MiniCPMV4_7ForConditionalGeneration,
    Qwen3_5MoeTextConfig,
)
from transformers.models.qwen3_5_moe.modeling_qwen3_5_moe import Qwen3_5MoeSparseMoeBlock
from tvm import relax
from tvm.relax.frontend.nn import spec

import handglass
from handglass.compiler.build import compile_model
from handglass.compiler.checkpoints.checkpoint import Checkpoint
from handglass.compiler.lowering.phases import lower
from handglass.compiler.models import find_family
from handglass.compiler.models.config import ExpertConfig
from handglass.compiler.models.experts import Experts
from handglass.compiler.models.leaves import leaves
from handglass.compiler.models.matching import build_for
from handglass.compiler.models.mixture import Mixture, Schemes
from handglass.compiler.models.mlp import Mlp
from handglass.compiler.models.network import MODES
from handglass.compiler.models.storage import BYTES, choose_storage
from handglass.compiler.plan import plan_model
from handglass.compiler.schemes.quantize import find_scheme
from handglass.compiler.schemes.scheme import Scheme
from handglass.compiler.verify import verify
from handglass.errors import InputError, UsageError
from handglass.schedules.select import ANY_CPU, find_units
from handglass.targets import find_target
from handglass.targets.codegen.build import without_alias

pytestmark = pytest.mark.compiler

PICTURES = "none", "whole", "split", "two"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mixture")


@pytest.fixture(scope="module")
def reference(folder: Path) -> Reference:
    return Reference(write_checkpoint(folder / "checkpoint", "16x", "4.7", False, True))


@pytest.fixture(scope="module")
def model(folder: Path, reference: Reference) -> Any:
    compile_model(folder / "checkpoint", folder / "bundle", quantization="f32", context=2048)
    return handglass.load(folder / "bundle")


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.large
def test_answer(model: Any, reference: Reference, name: str) -> None:
    """Token ids of the prompt, logits after it, and 64 greedy tokens."""
    reference.check(model, name)


@pytest.mark.large
def test_logits_of_prefill_and_decode(model: Any, reference: Reference) -> None:
    asked, session = reference.ask(QUESTION, []), model.session
    truth = reference.logits(asked, [5, 9])
    places = np.repeat(np.arange(len(asked.ids), dtype=np.int32)[:, None], 3, 1)
    session.restore_state(None)
    rows = [session.prefill(session.embed(asked.ids), 0, places).copy()]
    for step, token in enumerate((5, 9)):
        at = len(asked.ids) + step
        rows.append(session.decode(token, at, at).copy())
    assert np.abs(np.stack(rows) - truth).max() <= 1e-4 * np.abs(truth).max()


@pytest.mark.large
def test_decode_reads_the_chosen_experts_only(model: Any) -> None:
    manifest = model.manifest
    stacked = sum(p.nbytes for p in manifest.params if ".experts_" in p.name)
    language = [p for p in manifest.params if p.name.startswith("language_model.")]
    tables = ("language_model.rotations.", "language_model.embed_tokens.")
    every = sum(p.nbytes for p in language if not p.name.startswith(tables))
    assert manifest.work["decode"].bytes == every - stacked * 5 // 8


@pytest.fixture(scope="module")
def quiet(folder: Path, reference: Reference) -> Path:
    """Layers that change their rows less, as trained ones do."""
    rewrite(folder / "checkpoint", folder / "quiet", quieten)
    return folder / "quiet"


def quiet_bundle(folder: Path, quiet: Path, scheme: str) -> Path:
    """Compiled by the first test that asks."""
    bundle = folder / f"quiet-{scheme}"
    if not bundle.exists():
        compile_model(quiet, bundle, quantization=scheme, context=512)
    return bundle


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["f32", "w8a8", "w4a8"])
@pytest.mark.large
def test_verify_holds(folder: Path, quiet: Path, scheme: str) -> None:
    stages = verify(quiet_bundle(folder, quiet, scheme), quiet)
    assert [stage.stage for stage in stages] == STAGES[True]
    assert [stage for stage in stages if not stage.ok] == []


LAYER = "model.language_model.layers.1.mlp"


@pytest.mark.slow
@pytest.mark.large
@pytest.mark.parametrize("name", ["gate.weight", "shared_expert_gate.weight"])
def test_verify_finds_another_router(folder: Path, quiet: Path, name: str) -> None:
    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors[f"{LAYER}.{name}"][0] *= -1

    other = folder / name
    rewrite(quiet, other, change)
    stages = verify(quiet_bundle(folder, quiet, "f32"), other)
    assert next(stage.stage for stage in stages if not stage.ok) == "logits"


def stack(tensors: dict[str, np.ndarray]) -> None:
    """Store the experts of each layer as Qwen3.5 does."""
    count = EXPERTS["num_experts"]
    for layer in range(4):
        name = f"model.language_model.layers.{layer}.mlp.experts"
        take = lambda part, name=name: [  # noqa: E731
            tensors.pop(f"{name}.{e}.{part}_proj.weight") for e in range(count)
        ]
        gate_up = [np.concatenate(pair) for pair in zip(take("gate"), take("up"), strict=True)]
        tensors[f"{name}.gate_up_proj"] = np.stack(gate_up)
        tensors[f"{name}.down_proj"] = np.stack(take("down"))


def packed(folder: Path) -> dict[str, np.ndarray]:
    checkpoint = Checkpoint.open(folder)
    family = find_family(checkpoint.config)
    config = family.configure(checkpoint.config)
    storage = choose_storage(config.language, ANY_CPU, "w4a8", None, 64, None)
    network: Any = build_for(checkpoint, family, config, storage)
    return {
        f"{path}.{name}": array
        for path, leaf in leaves(network)
        if isinstance(leaf, Experts)
        for name, array in leaf.load(checkpoint).items()
    }


def test_stacked_tensors_are_packed_alike(folder: Path, reference: Reference) -> None:
    rewrite(folder / "checkpoint", folder / "stacked", stack)
    single, stacked = packed(folder / "checkpoint"), packed(folder / "stacked")
    assert single.keys() == stacked.keys() and len(single) == 4 * 2 * 2
    assert all(np.array_equal(single[name], stacked[name]) for name in single)


def test_parameters_are_those_of_the_reference() -> None:
    name = "MiniCPM-V 4.7 35B-A3B"
    config = PUBLISHED[name]
    text = config["text_config"] | {"model_type": "qwen3_5_moe_text"}
    with torch.device("meta"):
        made = MiniCPMV4_7ForConditionalGeneration(
            MiniCPMV4_7Config(text_config=text, vision_config=config["vision_config"])
        )
    assert sum(p.numel() for p in made.parameters()) == PARAMETERS[name]


def test_a_gpu_is_refused(reference: Reference, folder: Path) -> None:
    with pytest.raises(UsageError, match="8 experts"):
        plan_model(folder / "checkpoint", target="vulkan")


@pytest.mark.parametrize(
    ("key", "value"),
    [("num_experts_per_tok", 9), ("num_experts", 1 << 20), ("moe_intermediate_size", None)],
)
def test_refused(key: str, value: Any) -> None:
    text = {**PUBLISHED["MiniCPM-V 4.7 35B-A3B"]["text_config"], "num_experts": 8, key: value}
    config = PUBLISHED["MiniCPM-V 4.7 35B-A3B"] | {"text_config": text}
    with pytest.raises(InputError, match=key):
        find_family(config).configure(config)


@dataclass(frozen=True)
class Sizes:
    """Odd ones, so that panels have padding."""

    d: int
    f: int
    shared: int
    experts: int
    chosen: int


SIZES = Sizes(36, 20, 28, 5, 2)


def block(sizes: Sizes) -> tuple[Any, HeldWeights]:
    """The class of transformers with random weights."""
    torch.manual_seed(3)
    made = Qwen3_5MoeSparseMoeBlock(
        Qwen3_5MoeTextConfig(
            hidden_size=sizes.d,
            moe_intermediate_size=sizes.f,
            shared_expert_intermediate_size=sizes.shared,
            num_experts=sizes.experts,
            num_experts_per_tok=sizes.chosen,
        )
    )
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.normal_(0, 0.3)
    arrays = {f"mlp.{name}": p.detach().numpy() for name, p in made.named_parameters()}
    return made, HeldWeights(arrays)


def module(sizes: Sizes, floats: Scheme, experts: Scheme) -> Mixture:
    config = ExpertConfig(sizes.experts, sizes.chosen, sizes.f, are_stacked=True)
    shared = Mlp(floats, "mlp.shared_expert", sizes.d, sizes.shared)
    return Mixture(config, Schemes(floats, floats, experts), "mlp", shared, sizes.d)


def compiled(sizes: Sizes, scheme: Scheme, weights: HeldWeights, rows: Any) -> Any:
    mixture = module(sizes, host_scheme("f32"), scheme)
    return compile_module(mixture, weights, x=spec.Tensor([rows, sizes.d], "float32"))[0]


@pytest.mark.parametrize("rows", [1, "s"], ids=["one", "many"])
def test_block(rows: Any) -> None:
    made, weights = block(SIZES)
    call = compiled(SIZES, host_scheme("f32"), weights, rows)
    rng = np.random.default_rng(5)
    for count in (1,) if rows == 1 else (1, 2, 6, 7, 50):
        x = rng.standard_normal((count, SIZES.d), np.float32)
        with torch.no_grad():
            truth = made(torch.from_numpy(x)[None])[0].numpy()
        assert np.abs(call(x) - truth).max() <= 1e-5 * np.abs(truth).max()


@pytest.mark.parametrize(("name", "rows"), thinned(2, ["f16", "w4", "w8"], [1, "s"]))
def test_weights_are_those_that_are_stored(name: str, rows: Any) -> None:
    """The packed experts unpacked again, in the class of transformers."""
    scheme = BYTES if name == "w8" else host_scheme(name)
    made, weights = block(SIZES)
    call = compiled(SIZES, scheme, weights, rows)
    stored = lambda matrix: scheme.unpack(scheme.pack(matrix), *matrix.shape)  # noqa: E731
    with torch.no_grad():
        for tensor in (made.experts.gate_up_proj, made.experts.down_proj):
            for expert in tensor:
                expert.copy_(torch.from_numpy(stored(expert.numpy().copy())))
        x = np.random.default_rng(6).standard_normal((1 if rows == 1 else 9, SIZES.d), np.float32)
        truth = made(torch.from_numpy(x)[None])[0].numpy()
    assert np.abs(call(x) - truth).max() <= 1e-5 * np.abs(truth).max()


@pytest.mark.parametrize(
    ("name", "operation"), [("raspberry-pi-5", "fmla"), ("x86-64-v4", "vfmadd231ps")]
)
def test_other_targets_have_vector_code(name: str, operation: str) -> None:
    target = find_target(name)
    tvm_target = tvm.target.Target(target.tvm)
    units = find_units(tvm_target)
    mixture = module(SIZES, find_scheme("f32", units), find_scheme("w4", units))
    with tvm_target:
        given = {"x": spec.Tensor(["s", SIZES.d], "float32")}
        mod, _ = mixture.export_tvm(spec={"forward": given | MODES})
    lowered = lower(mod, target)
    rules = {row.function: row.rule for row in lowered.kernels}
    assert rules["expert_matmul"] == rules["sort_choices"] == "cpu-recurrence"
    built = relax.build(lowered.mod, tvm_target, relax_pipeline=without_alias())
    texts = [part.inspect_source("asm") for part in built.mod.imports if part.kind == "llvm"]
    (text,) = [text for text in texts if "expert_matmul" in text]
    assert text.count(operation) > 6 * 4  # a tile of six rows, at least four inputs per iteration


def test_every_token_may_choose_the_same_expert() -> None:
    """Logits that are equal, or not numbers, leave every number of an expert in range."""
    _, weights = block(SIZES)
    weights.arrays["mlp.gate.weight"][:] = 0
    call = compiled(SIZES, host_scheme("f32"), weights, "s")
    x = np.random.default_rng(7).standard_normal((13, SIZES.d), np.float32)
    assert np.isfinite(call(x)).all()
    x[4] = np.nan
    result = call(x)
    assert np.isnan(result[4]).all() and np.isfinite(np.delete(result, 4, 0)).all()

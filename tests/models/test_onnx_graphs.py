"""Graphs from ONNX files: what is recognised, and the results beside onnxruntime's."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import numpy as np
import onnx_graphs as graphs
import pytest
import run_an_onnx_encoder
from deployed import deployed
from tolerance import FLOAT32

from handglass.compiler.build_graph import compile_graph, plan_graph
from handglass.compiler.checkpoints.opening import open_checkpoint
from handglass.compiler.verify import verify
from handglass.errors import DeviceError, InputError, UsageError
from handglass.runtime.bundle.entries import GraphEntry, TensorEntry
from handglass.runtime.bundle.reader import Bundle
from handglass.runtime.engine.encoders import EncoderSession
from handglass.runtime.engine.graph import GraphSession
from handglass.runtime.prompt.tokenizer import tokenizer_of
from handglass.targets.deploy.transport import Done
from handglass.targets.deploy.trial import apply_words, trial

pytestmark = pytest.mark.compiler
SIZES = 1, 20, 2, 8
WITH_INTEGERS = "arm64" if platform.machine() == "aarch64" else "x86-64-v3"
"""A preset for this machine whose attention has integers beside 8-bit weights."""
LAYER = {"matmul": 6, "layer norm": 2, "attention": 1, "gelu": 1}


def inputs(seed: int = 0) -> dict[str, np.ndarray]:
    x = np.random.default_rng(seed).standard_normal((graphs.BATCH, graphs.N, graphs.WIDTH))
    return {"x": x.astype(np.float32)}


def expected(path: Path, given: dict[str, np.ndarray]) -> Any:
    return all_expected(path, given)[0]


def all_expected(path: Path, given: dict[str, np.ndarray]) -> Any:
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return session.run(None, given)


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A file with a mask, and its bundle."""
    folder = tmp_path_factory.mktemp("onnx")
    path = graphs.saved(graphs.encoder(is_masked=True), folder / "layer.onnx")
    compile_graph(path, folder / "bundle", bundle_runtime=False)
    return path, folder / "bundle"


@pytest.mark.parametrize("kind", ["divided", "multiplied", "tanh", "quick"])
@pytest.mark.parametrize("is_written_out", [True, False])
def test_a_layer_is_recognised(kind: str, is_written_out: bool, tmp_path: Path) -> None:
    path = graphs.saved(graphs.encoder(kind, is_written_out), tmp_path / "layer.onnx")
    found = plan_graph(path)
    assert found["recognised"] == LAYER
    assert found["default"] == {"add": 2} and found["share"] > 0.99


def test_a_masked_layer_is_that_of_onnxruntime(masked: tuple[Path, Path]) -> None:
    """Two texts of different lengths: the positions after their ends have no weight."""
    path, bundle = masked
    mask = (np.arange(graphs.N) < [[5], [3]]).astype(np.int64)
    given = inputs() | {"mask": mask}
    session = GraphSession.load(bundle)
    (ours,) = session.apply(given).values()
    FLOAT32.check(ours, expected(path, given))
    other = given["x"].copy()
    other[1, 4] += 1.0
    (again,) = session.apply(given | {"x": other}).values()
    assert np.array_equal(ours[1, :3], again[1, :3])


def test_a_nan_stays_in_its_text(masked: tuple[Path, Path]) -> None:
    given = inputs() | {"mask": np.ones((2, 5), np.int64)}
    given["x"][0, 1, 3] = np.nan
    (ours,) = GraphSession.load(masked[1]).apply(given).values()
    assert np.isnan(ours[0]).all() and np.isfinite(ours[1]).all()


def test_arguments_are_checked(masked: tuple[Path, Path]) -> None:
    session = GraphSession.load(masked[1])
    mask = np.ones((2, 5), np.int64)
    with pytest.raises(InputError, match="the input 'mask' is missing"):
        session.apply(inputs())
    with pytest.raises(InputError, match="'y' is no input of this graph; it has mask, x"):
        session.apply(inputs() | {"y": mask})
    with pytest.raises(InputError, match=r"the input 'mask' is float64 \(2, 5\), expected int64"):
        session.apply(inputs() | {"mask": mask * 1.0})
    with pytest.raises(InputError, match=r"int64 \(1, 5\), expected int64 \(2, 5\)"):
        session.apply(inputs() | {"mask": mask[:1]})


def test_the_command_line(handglass: Any, masked: tuple[Path, Path], tmp_path: Path) -> None:
    path, bundle = masked
    result = handglass("compile", "--dry-run", "-m", path)
    assert result.code == 0 and result.out.startswith("recognised: ")
    assert "6 matmul" in result.out and "1 attention" in result.out
    arrays = inputs() | {"mask": np.ones((2, 5), np.int64)}
    given = []
    for name, array in arrays.items():
        np.save(tmp_path / f"{name}.npy", array)
        given += ["--input", f"{name}={tmp_path / name}.npy"]
    assert handglass("apply", bundle, *given, "-o", tmp_path / "out.npz").code == 0
    with np.load(tmp_path / "out.npz") as results:
        FLOAT32.check(results["output"], expected(path, arrays))
    result = handglass("apply", bundle, "--json", *given)
    assert result.json["outputs"][0]["shape"] == [2, 5, 48]
    shown = handglass("inspect", bundle).out
    assert "x 2x5x48 float32" in shown and "report.json, what was recognised" in shown
    assert handglass("bench", bundle).code == 3 and "bench" not in shown


def test_arrays_and_options_are_checked(
    handglass: Any, masked: tuple[Path, Path], tmp_path: Path
) -> None:
    path, bundle = masked
    result = handglass("apply", bundle, "--input", "y=x.npy")
    assert result.code == 2 and "once for each of x, mask" in result.err
    np.save(tmp_path / "x.npy", np.zeros((1, 5, 48), np.float32))
    result = handglass("apply", bundle, "--input", f"x={tmp_path / 'x.npy'}")
    assert result.code == 3 and "has the shape (1, 5, 48), but the input 'x'" in result.err
    (tmp_path / "x.npy").write_bytes(b"not an array")
    result = handglass("apply", bundle, "--input", f"x={tmp_path / 'x.npy'}")
    assert result.code == 3 and "no .npy file, or a damaged one" in result.err
    result = handglass("compile", "-m", path, "-o", tmp_path / "b", "--context", 5)
    assert result.code == 2 and "an ONNX file has no use for it" in result.err
    with pytest.raises(UsageError, match="an ONNX file can be compiled, applied and verified"):
        open_checkpoint(path)


def test_doctor_applies_the_graph(masked: tuple[Path, Path], handglass: Any) -> None:
    checks = handglass("doctor", masked[1], "--json").json["checks"]
    assert [check["value"] for check in checks if check["name"] == "zeros"] == ["applied"]


@pytest.mark.large
def test_deploy_applies_the_graph(
    masked: tuple[Path, Path], handglass: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On zeros; the command that it prints finds arrays that are called like the inputs."""
    there = tmp_path / "there"
    done = deployed(handglass, monkeypatch, masked[1], there)
    assert done.trial == "tried there: zeros, applied"
    arrays = inputs() | {"mask": np.ones((2, 5), np.int64)}
    for name, array in arrays.items():
        np.save(there / f"{name}.npy", array)
    done.run()
    with np.load(there / "results.npz") as results:
        FLOAT32.check(results["output"], expected(masked[0], arrays))
    for option in ("--prompt", "--image"):
        refused = handglass("deploy", masked[1], "--to", tmp_path / "no", option, __file__)
        assert refused.code == 2 and "takes no" in refused.err
    assert not (tmp_path / "no").exists()


def test_a_deployed_bundle_that_does_not_run(masked: tuple[Path, Path]) -> None:
    """What `doctor` says on the device becomes the error, or what is said in its place."""
    question = trial(Bundle.open(masked[1]).manifest, None, [])
    assert question.script == "./handglass doctor bundle --json"
    checks = [
        {"name": "numpy", "value": "not installed", "ok": False},
        {"name": "threads", "value": "1", "ok": True},
        {"name": "zeros", "value": "not run", "ok": None},
    ]
    said = json.dumps({"ok": False, "checks": checks})
    with pytest.raises(DeviceError, match=r"pi: the bundle does not run there: numpy: not inst"):
        question.read("pi", Done(4, said, ""))
    with pytest.raises(DeviceError, match="pi: no manifest"):
        question.read("pi", Done(3, json.dumps({"error": {"message": "no manifest"}}), ""))
    with pytest.raises(DeviceError, match="pi: trying the bundle failed: no python3"):
        question.read("pi", Done(127, "", "no python3"))
    checks[-1] = {"name": "zeros", "value": "applied", "ok": True}
    assert question.read("pi", Done(4, json.dumps({"checks": checks}), "")) == {"zeros": "applied"}


def test_a_file_is_named_for_each_input() -> None:
    """Names of inputs are free; those of files are not."""
    given = [TensorEntry(name, (1,), "float32") for name in ("x", "in/put:0", "\u00e9")]
    words = apply_words(GraphEntry(tuple(given), ()))
    assert words[3::2][:3] == ["x=x.npy", "in/put:0=in_put_0.npy", "\u00e9=_.npy"]


def test_other_readers_refuse_the_bundle(masked: tuple[Path, Path]) -> None:
    bundle = Bundle.open(masked[1])
    with pytest.raises(InputError, match="answers no questions; give it arrays: handglass apply"):
        tokenizer_of(bundle)
    with pytest.raises(InputError, match="is an imported graph, whose rows cannot be compared"):
        EncoderSession(bundle)


def test_verify_finds_no_fault_and_a_changed_file(
    masked: tuple[Path, Path], tmp_path: Path
) -> None:
    path, bundle = masked
    (stage,) = verify(bundle, path)
    assert stage.ok and stage.snr_db > 100 and stage.stage == "output"
    model = graphs.encoder(is_masked=True)
    for constant in model.graph.initializer:
        if list(constant.dims) == [graphs.WIDTH, 70]:
            values = np.frombuffer(constant.raw_data, np.float32) * 1.01
            constant.raw_data = values.astype(np.float32).tobytes()
    (stage,) = verify(bundle, graphs.saved(model, tmp_path / "changed.onnx"))
    assert not stage.ok


@pytest.mark.large
def test_four_bits(tmp_path: Path) -> None:
    path = graphs.saved(graphs.encoder("divided", False), tmp_path / "layer.onnx")
    compile_graph(path, tmp_path / "bundle", quantization="w4a8", bundle_runtime=False)
    (stage,) = verify(tmp_path / "bundle", path)
    assert stage.ok and stage.snr_db < 40, "no weight was rounded"


def test_the_example_in_eight_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = graphs.saved(graphs.encoder("divided", False), tmp_path / "layer.onnx")
    run_an_onnx_encoder.main(str(path), str(tmp_path / "bundle"))
    printed = capsys.readouterr().out
    assert printed.startswith("100% recognised: {") and "'attention': 1" in printed
    assert "output (2, 5, 48)" in printed
    (stage,) = verify(tmp_path / "bundle", path)
    assert stage.ok and 30 < stage.snr_db < 80, "no weight was rounded"


def test_integers_in_attention_can_be_declined(tmp_path: Path, handglass: Any) -> None:
    path = graphs.saved(graphs.encoder("divided", False), tmp_path / "layer.onnx")
    found = []
    for declined in ([], ["--attention", "f32"]):
        bundle = tmp_path / f"bundle{len(declined)}"
        asked = ("compile", "-m", path, "-o", bundle, "--target", WITH_INTEGERS, *declined)
        result = handglass(*asked, "--quantization", "w8a8")
        assert result.code == 0, result.err
        (stage,) = verify(bundle, path)
        assert stage.ok
        scheme = {"language": "w8a8"} | ({"attention": "f32"} if declined else {})
        assert Bundle.open(bundle).manifest.scheme == scheme
        found.append(GraphSession.load(bundle).apply(inputs())["output"])
    assert not np.array_equal(found[0], found[1])
    result = handglass(*asked, "--quantization", "f32", "--overwrite")
    assert result.code == 2 and "no integers there on this target" in result.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--attention", "f16"], "--attention f16: the only choice is f32"),
        (["--attention", "f32", "--quantization", "f32"], "no integers there on this target"),
        (["--quantization", "w3"], "w3"),
        (["--target", "pdp-11"], "pdp-11"),
    ],
)
def test_a_dry_run_refuses_what_compile_does(
    masked: tuple[Path, Path], handglass: Any, options: list[str], words: str
) -> None:
    result = handglass("compile", "-m", masked[0], "--dry-run", *options)
    assert result.code == 2 and words in result.err


def test_attention_with_a_mask_has_no_integers_to_decline(
    masked: tuple[Path, Path], tmp_path: Path, handglass: Any
) -> None:
    asked = ("compile", "-m", masked[0], "-o", tmp_path / "b", "--attention", "f32")
    result = handglass(*asked, "--quantization", "w8a8", "--target", WITH_INTEGERS)
    assert result.code == 2 and "no integers there on this target" in result.err


def test_ids_beyond_a_table_are_clipped(tmp_path: Path) -> None:
    """Compiled code must not read past its end, whatever the ids are."""
    w = graphs.Writer()
    table = w.constant(np.arange(12).reshape(4, 3))
    w.node("Gather", table, "ids", axis=0, name="rows")
    w.node("GatherElements", table, "places", axis=0, name="elements")
    w.node("GatherND", table, "pairs", name="corners")
    sizes = {"ids": (5,), "places": (2, 3), "pairs": (4, 2)}
    given = {name: (size, graphs.INT64) for name, size in sizes.items()}
    model = w.model(given, outputs=("rows", "elements", "corners"))
    path = graphs.saved(model, tmp_path / "table.onnx")
    compile_graph(path, tmp_path / "bundle", bundle_runtime=False)
    session, far = GraphSession.load(tmp_path / "bundle"), 1 << 40
    arrays = {
        "ids": np.array([0, 3, 4, far, -1]),
        "places": np.array([[0, far, -1], [-far, 2, 3]]),
        "pairs": np.array([[3, 2], [far, 0], [1, -1], [0, -far]]),
    }
    results = session.apply(arrays)
    assert results["rows"][:, 0].tolist() == [0, 9, 9, 9, 9]
    assert results["elements"].tolist() == [[0, 10, 11], [0, 7, 11]]
    assert results["corners"].tolist() == [11, 9, 5, 0]


def test_a_bias_per_pair_is_said(tmp_path: Path) -> None:
    w = graphs.Writer()
    w.attention("x", (1, 4, 2, 8), w.weight(1, 2, 4, 4))
    w.rename("output")
    path = graphs.saved(w.model({"x": ((1, 4, 16), graphs.FLOAT)}), tmp_path / "bias.onnx")
    found = plan_graph(path)
    assert found["recognised"] == {"matmul": 3}
    assert found["reasons"] == {"attention with a bias of its own for each pair of positions": 1}


def test_other_masks_and_tables(tmp_path: Path) -> None:
    """A causal table, scores that are replaced, and a table that is added but is no bias: it has
    several rows, and may be infinite."""
    w = graphs.Writer()
    w.attention("x", SIZES, w.constant(np.triu(np.full((20, 20), -np.inf), 1)[None, None]))
    w.rename("causal")
    sizes = w.constant((1, 1, 1, 20), "int64")
    seen = w.node("Cast", w.node("Reshape", "mask", sizes), to=9)
    w.attention("x", SIZES, filled=seen)
    w.rename("filled")
    product = w.node("MatMul", "x", w.weight(16, 64))
    placed = w.node("Add", product, w.weight(1, 20, 64))
    table = np.where(np.arange(1280).reshape(1, 20, 64) % 7, 0.0, -np.inf)
    w.node("Softmax", w.node("Add", placed, w.constant(table)), axis=-1, name="table")
    given = {"x": ((1, 20, 16), graphs.FLOAT), "mask": ((1, 20), graphs.INT64)}
    model = w.model(given, outputs=("causal", "filled", "table"))
    path = graphs.saved(model, tmp_path / "masks.onnx")
    report = compile_graph(path, tmp_path / "bundle", bundle_runtime=False)
    assert report.graph["recognised"]["attention"] == 2 and not report.graph["reasons"]
    x = np.random.default_rng(0).standard_normal((1, 20, 16)).astype(np.float32)
    arrays: dict[str, np.ndarray] = {"x": x, "mask": np.arange(20)[None] % 3}
    ours = GraphSession.load(tmp_path / "bundle").apply(arrays)
    for result, truth in zip(ours.values(), all_expected(path, arrays), strict=True):
        FLOAT32.check(result, truth)


def test_rows_by_positions(tmp_path: Path) -> None:
    """As torch's MultiheadAttention has them: all first positions of the sequences, all second."""
    w = graphs.Writer()
    rows = w.node("Transpose", "x", perm=(1, 0, 2))
    parts = w.node("Reshape", w.linear(rows, 16, 48), w.constant((5, 3, 3, 16), "int64"))
    whole = w.node("Transpose", parts, perm=(2, 0, 1, 3))
    q, k, v = (w.node("Gather", whole, w.constant(i, "int64"), axis=0) for i in range(3))
    split = [w.node("Reshape", part, w.constant((5, 6, 8), "int64")) for part in (q, k, v)]
    turned = [
        w.node("Transpose", part, perm=order)
        for part, order in zip(split, ((1, 0, 2), (1, 2, 0), (1, 0, 2)), strict=True)
    ]
    scores = w.node("Mul", w.node("MatMul", *turned[:2]), w.constant(8**-0.5))
    mixed = w.node("MatMul", w.node("Softmax", scores, axis=-1), turned[2])
    beside = w.node("Transpose", mixed, perm=(1, 0, 2))
    result = w.linear(w.node("Reshape", beside, w.constant((15, 16), "int64")), 16, 16)
    back = w.node("Reshape", result, w.constant((5, 3, 16), "int64"))
    w.node("Transpose", back, perm=(1, 0, 2), name="output")
    model = w.model({"x": ((3, 5, 16), graphs.FLOAT)})
    path = graphs.saved(model, tmp_path / "positions.onnx")
    report = compile_graph(path, tmp_path / "bundle", bundle_runtime=False)
    assert report.graph["recognised"] == {"matmul": 2, "attention": 1}
    given = {"x": np.random.default_rng(0).standard_normal((3, 5, 16)).astype(np.float32)}
    (ours,) = GraphSession.load(tmp_path / "bundle").apply(given).values()
    FLOAT32.check(ours, expected(path, given))


def test_a_constant_of_another_value_is_no_gelu(tmp_path: Path) -> None:
    w = graphs.Writer()
    inner = w.node("Sigmoid", w.node("Mul", "x", w.constant(1.5)))
    w.node("Mul", "x", inner, name="output")
    path = graphs.saved(w.model({"x": ((2, 16), graphs.FLOAT)}), tmp_path / "steep.onnx")
    assert plan_graph(path)["recognised"] == {}


def test_a_node_that_is_not_known(tmp_path: Path) -> None:
    w = graphs.Writer()
    w.node("StringNormalizer", "x", name="output")
    path = graphs.saved(w.model({"x": ((2,), graphs.FLOAT)}), tmp_path / "odd.onnx")
    with pytest.raises(InputError, match=r"node 0 'StringNormalizer_0' \(StringNormalizer\)"):
        plan_graph(path)

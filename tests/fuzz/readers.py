"""The readers of files and messages, each with good inputs to damage.

A reader does with an input what the product would do, up to the point where compiled code runs.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).parents[2]
CHECKPOINT = ROOT / "examples" / "demo-checkpoint"
QUESTION = "What is this picture?\n12 红色 <image> \U0001f642"


class Reader(NamedTuple):
    """`read` is given an input and a folder for files, which may hold those of earlier inputs."""

    seeds: Callable[[], Sequence[bytes]]
    read: Callable[[bytes, Path], object]
    refusals: tuple[type[Exception], ...] = ()
    """Errors with which it may refuse an input, besides those of handglass.errors."""


def warm_up() -> None:
    """Import everything and make the inputs, before limits are set."""
    import tvm  # noqa: F401

    import handglass.compiler.build
    import handglass.runtime.answer.native_request  # noqa: F401

    for reader in READERS.values():
        reader.seeds()


# --- bundles ---


@cache
def manifests() -> list[bytes]:
    from manifests import seed_prompt, square

    from handglass.runtime.bundle import entries as e
    from handglass.runtime.bundle.manifest import Manifest

    manifest = Manifest(
        e.ModelEntry("MiniCPMV", {"hidden_size": 8}),
        e.TargetEntry("host", "x86_64-linux-gnu", "x86-64-v3", ("avx2",)),
        {"language": "w4", "vision": "f16"},
        {"handglass": "0.1.0", "tvm": "0.27.0"},
        {"decode": e.FunctionEntry(("ids (1,) int32",), "(20,) float32")},
        (e.TensorEntry("a.weight", (20, 8), "float16"), e.TensorEntry("b", (3,), "float32")),
        e.StateEntry(16, (e.StateTensor("layers.0.k_cache", (16, 8), "float32"),)),
        square(28, 14, 64, 2),
        seed_prompt(),
        e.TokenizerEntry("sentencepiece", "tokenizer.model"),
        660,
        8,
        {"decode": e.WorkEntry(1.0, 2.0, 3.0, 4)},
        {name: e.FileEntry("0" * 64, 4) for name in ("lib.so", "tokenizer.model")},
    )
    return [manifest.text().encode()]


def read_manifest(data: bytes, folder: Path) -> None:
    """As `inspect` shows it, and as `run` prepares a picture for it."""
    from handglass.cli import inspect
    from handglass.cli.output import print_json
    from handglass.runtime.bundle.reader import Bundle
    from handglass.runtime.bundle.requirements import check_target
    from handglass.runtime.prompt.preprocess import open_preprocessor

    (folder / "manifest.json").write_bytes(data)
    found = Bundle.inspect(folder)
    with contextlib.redirect_stdout(io.StringIO()) as out:
        print_json(inspect.as_json(found, True))
        print(inspect.as_text(found, True))
    shown = out.getvalue()
    assert all(line.isprintable() for line in shown.splitlines()), "not escaped"
    json.loads(shown.splitlines()[0])
    assert found.manifest.resident_bytes >= 0
    if found.manifest.vision is not None:
        open_preprocessor(found.manifest)(np.zeros((30, 20, 3), np.uint8))
    check_target(found.manifest.target, "x86_64", frozenset({"avx2"}))


@cache
def reports() -> list[bytes]:
    work = {
        "symbols": {"s": [0, 0], "pos": [2]},
        "multiply_adds": [[64, [{"s": 1}, {"pos": 1, "": 15}]]],
        "touched": {"1": [[[1, [{"s": 1}]], [0.5, []]]]},
    }
    kernel = {"function": "f", "rule": "r", "calls": 1, "patterns": ["dot4"], "work": work}
    report = {
        "format": "handglass-report",
        "versions": {"handglass": "0.1.0"},
        "phases": {"lower": 1.5},
        "kernels": [{**kernel, "choices": {"rows": 2}, "record": None}],
        "records": {},
    }
    return [json.dumps(report).encode()]


def read_report(data: bytes, folder: Path) -> None:
    from handglass.runtime.bundle.report import parse_report

    for kernel in parse_report(data, "report.json").values():
        assert kernel.limit
        kernel.flops(((3, 4), (8, 4), 5))
        kernel.bytes(((3, 4), (8, 4), 5), (4, 4, 0))


@cache
def tensor_files() -> list[bytes]:
    made = []
    for shapes in ({"a": (2, 3), "b": (4,)}, {"c": (0, 3), "d": ()}, {"e": (1,)}):
        table: dict[str, Any] = {"__metadata__": {"format": "pt"}}
        end = 0
        for name, shape in shapes.items():
            begin, end = end, end + 4 * int(np.prod(shape))
            table[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
        header = json.dumps(table).encode()
        made.append(len(header).to_bytes(8, "little") + header + bytes(end))
    return made


def read_tensors(data: bytes, folder: Path) -> None:
    from handglass.runtime.bundle.tensors import TensorFile

    file = TensorFile.open(written(folder, "params-1.safetensors", data))
    for name in file.names:
        assert file.array(name).nbytes == file.spec(name).nbytes
        file.drop_cached(name)


def read_cases(data: bytes, folder: Path) -> None:
    from handglass.runtime.execution.known_answers import read_cases

    read_cases(written(folder, "checks.json", data))


@cache
def cases() -> list[bytes]:
    item = {"shape": [2, 3], "dtype": "float32", "fill": {"kind": "uniform", "low": -1, "high": 1}}
    case = {"name": "f", "family": "matmul", "library": "lib.so", "function": "f", "seed": 3}
    case |= {"items": [item, {"int": 5}], "answers": {"0": "a"}, "floor_db": 40.0}
    text = {"format": "handglass-known-answers", "version": 1, "cases": [case]}
    return [json.dumps(text).encode()]


# --- checkpoints ---


def read_config(data: bytes, folder: Path) -> None:
    """The config.json of the demo checkpoint, up to lowering."""
    from handglass.compiler.checkpoints.checkpoint import Checkpoint
    from handglass.compiler.models import find_family
    from handglass.compiler.models.matching import build_for
    from handglass.compiler.models.storage import choose_storage
    from handglass.schedules.select import ANY_CPU

    place = folder / "checkpoint"
    place.mkdir(exist_ok=True)
    weights = place / "model.safetensors"
    if not weights.exists():
        weights.symlink_to(CHECKPOINT / weights.name)
    written(place, "config.json", data)
    checkpoint = Checkpoint.open(place)
    family = find_family(checkpoint.config)
    config = family.configure(checkpoint.config)
    storage = choose_storage(config.language, ANY_CPU, "w4a8", None, None, None)
    build_for(checkpoint, family, config, storage)
    family.prompt(config)
    family.vision(config)


def read_generation(data: bytes, folder: Path) -> None:
    from handglass.compiler.checkpoints.fields import Fields
    from handglass.compiler.checkpoints.shards import read_json

    fields = Fields(read_json(written(folder, "generation_config.json", data)), "generation")
    fields.tokens("eos_token_id", 660)


def read_index(data: bytes, folder: Path) -> None:
    from handglass.compiler.checkpoints.shards import open_shards

    for number, content in enumerate(tensor_files(), 1):
        written(folder, f"{number}.safetensors", content)
    written(folder, "model.safetensors.index.json", data)
    for name, shard in open_shards(folder, False).items():
        shard.shape(name)


@cache
def indexes() -> list[bytes]:
    owner = {"a": "1.safetensors", "b": "1.safetensors", "e": "3.safetensors"}
    return [json.dumps({"metadata": {"total_size": 44}, "weight_map": owner}).encode()]


# --- prompts ---


def read_tokenizer(kind: str) -> Callable[[bytes, Path], None]:
    def read(data: bytes, folder: Path) -> None:
        from handglass.runtime.prompt.tokenizer import open_tokenizer

        tokenizer = open_tokenizer(kind, written(folder, kind, data), ["<image>"])
        tokenizer.decode(tokenizer.encode("What is this? 12 红色 \U0001f642"))
        for token in range(min(tokenizer.vocab_size, 2000)):
            tokenizer.surface(token)
        tokenizer.marker_ids("<image>")

    return read


@cache
def sentencepieces() -> list[bytes]:
    from vocabularies import sentencepiece_model

    return [sentencepiece_model(), (CHECKPOINT / "tokenizer.model").read_bytes()]


@cache
def json_tokenizers() -> list[bytes]:
    from vocabularies import byte_fallback_json, byte_level_json

    return [byte_fallback_json(), byte_level_json()]


@cache
def pictures() -> list[bytes]:
    from PIL import Image

    pixels = np.arange(24 * 20 * 3, dtype=np.uint32).reshape(24, 20, 3) * 37 % 251
    image = Image.fromarray(pixels.astype(np.uint8))
    made = []
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP"):
        image.save(out := io.BytesIO(), kind)
        made.append(out.getvalue())
    return made


def read_picture(data: bytes, folder: Path) -> None:
    preprocessor()(written(folder, "picture", data))


@cache
def preprocessor() -> Callable[[Any], Any]:
    from handglass.runtime.bundle.manifest import Manifest
    from handglass.runtime.prompt.preprocess import open_preprocessor

    return open_preprocessor(Manifest.parse(manifests()[0], "seed"))


@cache
def demo_tokenizer() -> Any:
    from handglass.runtime.prompt.tokenizer import open_tokenizer

    return open_tokenizer("sentencepiece", CHECKPOINT / "tokenizer.model", ["<image>"])


def read_messages(data: bytes, folder: Path) -> None:
    """A conversation, as `Model.chat` and a file of `chat` give it."""
    from handglass.runtime.bundle.manifest import Manifest
    from handglass.runtime.prompt.chat_template import build_prompt
    from handglass.runtime.system.json_text import parse_json

    prompt = Manifest.parse(manifests()[0], "seed").prompt
    messages = parse_json(data, "messages", 1 << 20)
    build_prompt(messages, (), demo_tokenizer(), prompt, preprocessor())


@cache
def messages() -> list[bytes]:
    turns = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi"},
        {"role": "user", "content": [{"type": "text", "text": "What?"}, QUESTION]},
    ]
    return [json.dumps(turns[:1]).encode(), json.dumps(turns).encode()]


def read_template(data: bytes, folder: Path) -> None:
    """The chat template of a manifest, rendered with the demo tokenizer."""
    from handglass.runtime.bundle.manifest import Manifest
    from handglass.runtime.prompt.chat_template import build_prompt

    rest = {**json.loads(manifests()[0])}
    del rest["prompt"]
    text = b'{"prompt": ' + data + b", " + json.dumps(rest).encode()[1:]
    template = Manifest.parse(text, "manifest.json").prompt
    picture = np.zeros((30, 20, 3), np.uint8)
    build_prompt("What is this?", [picture], demo_tokenizer(), template, preprocessor())


@cache
def templates() -> list[bytes]:
    return [json.dumps(json.loads(manifests()[0])["prompt"]).encode()]


# --- records, targets, devices ---


@cache
def records() -> list[bytes]:
    from some_records import RECORD, timed

    lines = [RECORD.text(), timed(1e-3).text()]
    return [(lines[0] + "\n").encode(), "\n".join([*lines, ""]).encode()]


def read_records(data: bytes, folder: Path) -> None:
    from handglass.cli.records import as_json, as_text
    from handglass.compiler.records.journal import read

    journal = read(written(folder, "records.jsonl", data))
    as_text([(record, "own") for record in journal.records])
    for record in journal.records:
        as_json(record)
    assert all(line.reason.isprintable() for line in journal.refused), "not escaped"


def read_trials(data: bytes, folder: Path) -> None:
    from handglass.compiler.tuning.trials import TrialLog

    TrialLog(written(folder, "trials.jsonl", data), "device").of("task")


@cache
def trials() -> list[bytes]:
    head = {"format": "handglass-trial", "version": 1, "device": "device", "task": "task"}
    trial = {"choices": {"rows": 2}, "ratio": 0.5, "seconds": 1e-3, "failure": ""}
    return [json.dumps({**head, **trial}).encode() + b"\n"]


def read_target(data: bytes, folder: Path) -> None:
    from handglass.targets import find_target

    find_target(str(written(folder, "target.json", data)))


@cache
def targets() -> list[bytes]:
    board = {"base": "raspberry-pi-5", "name": "my-board", "cores": 2, "memory_limit": 2000000000}
    more = {"base": "x86-64-v3", "name": "pc", "cpu": "x86-64-v3", "mattr": ["-avx512f"]}
    return [json.dumps(board).encode(), json.dumps({**more, "vector_bits": 256, "l2": 1}).encode()]


def read_frame(data: bytes, folder: Path) -> None:
    """The first frame of a peer, and the arguments of a kernel in it."""
    from handglass.runtime.execution.kernel_arguments import read_items
    from handglass.runtime.remote import frames

    message = frames.take(bytearray(data), 1 << 16)
    items = (message or {}).get("items")
    if isinstance(items, list):
        read_items(items)


@cache
def device_frames() -> list[bytes]:
    from handglass.runtime.remote import frames

    items = json.loads(cases()[0])["cases"][0]["items"]
    hello = {"protocol": "handglass-device", "version": 1, "nonce": "0" * 64}
    return [frames.encode(hello), frames.encode({"do": "measure", "items": items})]


def read_answer(data: bytes, folder: Path) -> None:
    """The output of the program for devices without Python."""
    answer_reader(folder).read(data.decode("utf-8", "surrogateescape").splitlines())


def answer_reader(folder: Path) -> Any:
    from handglass.runtime.answer.native_request import RequestWriter

    writer = RequestWriter.__new__(RequestWriter)  # without a bundle
    writer.tokenizer = demo_tokenizer()
    return writer


@cache
def answers() -> list[bytes]:
    names = ("load_s", "prefill_tokens", "reused_tokens", "prefill_tok_s", "decode_tokens")
    more = ("decode_tok_s", "ttft_ms", "peak_mb")
    timings = {**dict.fromkeys((*names, *more), 3), "encode_ms": [1.5], "image_tokens": [64]}
    return [f"5\n17\n{json.dumps({'finish_reason': 'stop', 'timings': timings})}\n".encode()]


def read_evidence(data: bytes, folder: Path) -> None:
    from handglass.targets.evidence import read_evidence

    written(folder, "board.json", data)
    str(read_evidence("board", folder))


@cache
def evidence() -> list[bytes]:
    from handglass.targets.evidence import FOLDER

    return [min(FOLDER.glob("*.json"), key=lambda path: path.stat().st_size).read_bytes()]


def written(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def frame_refusals() -> tuple[type[Exception], ...]:
    from handglass.runtime.remote.frames import FrameError

    return (FrameError,)


READERS = {
    "manifest": Reader(manifests, read_manifest),
    "report": Reader(reports, read_report),
    "tensors": Reader(tensor_files, read_tensors),
    "known-answers": Reader(cases, read_cases),
    "config": Reader(lambda: [(CHECKPOINT / "config.json").read_bytes()], read_config),
    "generation-config": Reader(lambda: [b'{"eos_token_id": [2, 7]}'], read_generation),
    "index": Reader(indexes, read_index),
    "sentencepiece": Reader(sentencepieces, read_tokenizer("sentencepiece")),
    "tokenizer-json": Reader(json_tokenizers, read_tokenizer("tokenizers")),
    "picture": Reader(pictures, read_picture),
    "messages": Reader(messages, read_messages),
    "template": Reader(templates, read_template),
    "records": Reader(records, read_records),
    "trials": Reader(trials, read_trials),
    "target": Reader(targets, read_target),
    "frame": Reader(device_frames, read_frame, frame_refusals()),
    "native-answer": Reader(answers, read_answer),
    "evidence": Reader(evidence, read_evidence),
}

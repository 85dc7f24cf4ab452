"""Readers of tuning records, targets and evidence, and of what devices send."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

from .bundle_readers import cases
from .reader import Reader, demo_tokenizer, written


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


def read_traces(data: bytes, folder: Path) -> None:
    """The tuning records of a MetaSchedule database, or its workloads."""
    from handglass.compiler.tuning.traces import LARGEST, RECORDS, WORKLOADS, read_database

    if data.startswith(b'["'):
        written(folder, WORKLOADS, data)
        written(folder, RECORDS, traces()[0])
    else:
        written(folder, WORKLOADS, traces()[-1])
        written(folder, RECORDS, data)
    found = read_database(folder)
    assert all(0 <= v <= LARGEST for r in found.records for v in r.choices.values())
    assert all(r.seconds > 0 and r.workload < len(found.workloads) for r in found.records)
    assert all(line.reason.isprintable() for line in found.refused), "not escaped"


@cache
def traces() -> list[bytes]:
    sample = ["SampleCategorical", [], [[1, 2, 4], [0.5, 0.25, 0.25]], ["v1"]]
    note = ["Annotate", ["b0", "v1"], ["handglass.choice.panels"], []]
    trace = [[["GetSBlock", [], ["choices", "main"], ["b0"]], sample, note], [[1, 2]]]
    record = json.dumps([0, [trace, [1e-3], {"kind": "llvm"}, []]]).encode()
    return [record + b"\n", record + b"\n" + record, b'["1525116862","e30="]\n["7","e30="]\n']


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


def frame_refusals() -> tuple[type[Exception], ...]:
    from handglass.runtime.remote.frames import FrameError

    return (FrameError,)


def read_answer(data: bytes, folder: Path) -> None:
    """The output of the program for devices without Python."""
    from manifests import seed_prompt

    from handglass.runtime.answer.native_answer import read_answer as read

    read(data.decode("utf-8", "surrogateescape").splitlines(), demo_tokenizer(), seed_prompt())


@cache
def answers() -> list[bytes]:
    names = ("load_s", "prefill_tokens", "reused_tokens", "prefill_tok_s", "decode_tokens")
    more = ("decode_tok_s", "ttft_ms", "peak_mb")
    timings = {**dict.fromkeys((*names, *more), 3), "encode_ms": [1.5], "image_tokens": [64]}
    last = {"finish_reason": "stop", "thinking": False, "timings": timings}
    return [f"5\n17\n{json.dumps(last)}\n".encode()]


def read_evidence(data: bytes, folder: Path) -> None:
    from handglass.targets.evidence import read_evidence

    written(folder, "board.json", data)
    str(read_evidence("board", folder))


@cache
def evidence() -> list[bytes]:
    from handglass.targets.evidence import FOLDER

    return [min(FOLDER.glob("*.json"), key=lambda path: path.stat().st_size).read_bytes()]


READERS = {
    "records": Reader(records, read_records),
    "trials": Reader(trials, read_trials),
    "traces": Reader(traces, read_traces),
    "target": Reader(targets, read_target),
    "frame": Reader(device_frames, read_frame, frame_refusals()),
    "native-answer": Reader(answers, read_answer),
    "evidence": Reader(evidence, read_evidence),
}
